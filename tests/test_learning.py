"""Learning itself: the shipped configuration of Reach learns it, here and now, on real Ray and real physics."""

import pytest

from physai.cli.find import find_config
from physai.config import RunConfig
from physai.evaluate import evaluate
from physai.export import export
from physai.train.driver import train


@pytest.mark.ray
def test_reach_is_learnt_to_95_percent_and_survives_export(tmp_path):
    config = RunConfig.load(find_config("reach"), [f"storage={tmp_path}", "name=check"])
    run = train(config, quiet=True)
    report = evaluate(run, episodes=100, progress=False)
    assert report.passed(0.95)
    bundle = export(run, tmp_path / "bundle")
    assert evaluate(bundle, episodes=20, progress=False).passed(0.9)
