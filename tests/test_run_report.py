"""The report of runs: what is in it, what it shows in a real browser, and that it asks for nothing."""

from __future__ import annotations

import base64
import re
import shutil
from pathlib import Path

import chromium
import numpy as np
import pytest
import yaml

from physai.catalog import shipped_policies
from physai.errors import CheckpointError
from physai.train import costs, run_report
from physai.train.history import History, groups
from physai.train.usage import Usage

SHIPPED = shipped_policies() / "peg_insertion" / "evidence"
BLUE = (0x44, 0x77, 0xAA)  # of the first curve


def copied(folder: Path, name: str, **changes: object) -> Path:
    """A run like the one that made the shipped policy."""
    run = folder / name
    run.mkdir()
    for file in ("progress.csv", "versions.json", "evaluation.json"):
        shutil.copy(SHIPPED / file, run / file)
    config = yaml.safe_load((SHIPPED / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "name": name, **changes}))
    return run


def test_the_page_shows_its_curves_and_asks_for_nothing(tmp_path: Path) -> None:
    run = copied(tmp_path, "one")
    (run / "rollout.mp4").write_bytes(b"film" * 100)
    page = Path(run_report.write([run]))
    assert page == run / "report.html"
    dom, asked = chromium.requests(tmp_path, page)
    assert asked == []
    words = ("success on held-out episodes", "reward terms", "share of wall time", "100.0% of 200 episodes", "torch")
    for shown in (*words, "train task=assembly/PegInsertion", "batch_size: 512", "estimate", "data:video/mp4"):
        assert shown in dom
    for width in (1000, 420):
        picture = chromium.screenshot(tmp_path, page, width).astype(int)
        near = (np.abs(picture - BLUE).sum(axis=2) < 30).sum()
        assert near > 300, f"no curves at {width} pixels: {near} blue ones"


def test_a_recording_is_an_attachment(tmp_path: Path) -> None:
    run = copied(tmp_path, "one")
    (run / "rollout.html").write_text("<html>a scene</html>")
    dom, asked = chromium.requests(tmp_path, Path(run_report.write([run])))
    assert asked == []
    (kept,) = re.findall(r'<a download="rollout.html" href="data:text/html;base64,([\w+/=]+)"', dom)
    assert base64.b64decode(kept) == b"<html>a scene</html>"
    (run / "rollout.html").write_bytes(b"x" * (run_report.LARGEST_FILM + 1))
    assert "rollout.html is too large to be in here" in Path(run_report.write([run])).read_text()


def test_a_page_that_asks_for_something_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text('<html><img src="http://127.0.0.1:9/x.png"></html>')
    assert chromium.requests(tmp_path, page)[1] == ["http://127.0.0.1:9/x.png"]


def test_seeds_of_one_run_are_a_band(tmp_path: Path) -> None:
    one, two = copied(tmp_path, "one"), copied(tmp_path, "two", seed=1)
    other = copied(tmp_path, "other", reset_options={"difficulty": 0.5})
    together = groups([History.read(run) for run in (one, other, two)])
    assert [[run.name for run in group] for group in together] == [["one", "two"], ["other"]]
    text = Path(run_report.write([one, two], tmp_path / "both.html")).read_text()
    assert "from the lowest to the highest" in text
    assert "http-equiv" in text and "<script" not in text


def test_names_cannot_become_markup(tmp_path: Path) -> None:
    run = copied(tmp_path, "one").rename(tmp_path / "<b>bold")
    assert "<b>bold" not in Path(run_report.write([run], tmp_path / "x.html")).read_text()


def test_a_run_without_figures_has_a_report(tmp_path: Path) -> None:
    run = copied(tmp_path, "one")
    (run / "progress.csv").write_text("")
    (run / "evaluation.json").unlink()
    text = Path(run_report.write([run])).read_text()
    assert "none recorded" in text and "not evaluated yet" in text


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no run folder"):
        run_report.write([tmp_path])
    run = copied(tmp_path, "one")
    (run / "evaluation.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        run_report.write([run])


def test_runs_are_compared(tmp_path: Path) -> None:
    runs = [History.read(copied(tmp_path, "one")), History.read(copied(tmp_path, "two", seed=7))]
    different, results = run_report.compared(runs)
    assert different.rows == (("seed", "0", "7"),)
    assert results.head == ("", "one", "two")
    assert "95 % interval" in results.rows[0][1]


def test_shares_of_time_add_up(tmp_path: Path) -> None:
    for _, shares in costs.time_shares(History.read(copied(tmp_path, "one"))):
        assert sum(value for _, value in shares) == pytest.approx(1.0, abs=0.02)


def test_energy_says_where_it_comes_from(tmp_path: Path) -> None:
    run = copied(tmp_path, "one")
    (run / "progress.csv").write_text("iteration,steps,seconds,cpu,energy_j\n1,10,36,0.5,\n2,20,36,0.5,\n")
    # 72 s x 0.5 x 2 cores x 5 W = 360 J = 0.1 Wh
    assert costs.energy(History.read(run)).startswith("about 0.1 Wh: an estimate")
    (run / "progress.csv").write_text("iteration,steps,seconds,cpu,energy_j\n1,10,36,0.5,3600\n2,20,36,0.5,3600\n")
    assert costs.energy(History.read(run)).startswith("2 Wh, by the counters")


def test_usage_reads_the_counters_of_the_system(tmp_path: Path) -> None:
    stat, counter = tmp_path / "stat", tmp_path / "intel-rapl:0" / "energy_uj"
    counter.parent.mkdir()
    stat.write_text("cpu 100 0 0 900 0 0 0 0 0 0\n")
    counter.write_text("1000000\n")
    usage = Usage(stat, tmp_path)
    stat.write_text("cpu 130 0 0 960 10 0 0 0 0 0\n")
    counter.write_text("3500000\n")
    read = usage.read()
    assert (read["cpu"], read["energy_j"]) == (pytest.approx(0.3), pytest.approx(2.5))
    counter.write_text("10\n")  # it began anew
    assert usage.read() == {"cpu": None, "gpu": read["gpu"], "energy_j": None}
    assert Usage(tmp_path / "none", tmp_path / "none").read()["cpu"] is None
