"""Films: the right length, size and pictures, without a screen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from evaluation_policies import save_bundle, save_run, save_zip
from evaluation_toys import BROKEN, STEPS, TASK
from numpy.typing import NDArray
from PIL import Image

from physai.errors import CheckpointError, ConfigError, PhysaiError, TaskError
from physai.policy import load_policy
from physai.view.pick import Pick, picked
from physai.view.record import record
from physai.view.stage import Stage


def frames(path: Path) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """Decodes a video to (frames, height, width, 3)."""
    reader = imageio_ffmpeg.read_frames(str(path))
    facts = next(reader)
    width, height = facts["size"]
    return facts, np.array([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader])


def redness(picture: NDArray[np.uint8]) -> float:
    """Share of the toy's bar in a row above the caption."""
    return float((picture[picture.shape[0] // 2, :, 0] > 128).mean())


def test_a_policy_is_filmed_in_real_time(tmp_path: Path) -> None:
    out = record(save_bundle(tmp_path / "bundle"), tmp_path / "new" / "film.mp4", episodes=2, width=320, height=180)
    facts, pictures = frames(out)
    assert (facts["size"], facts["fps"], facts["codec"]) == ((320, 180), 10.0, "h264")
    assert facts["pix_fmt"].startswith("yuv420p")
    assert len(pictures) == 2 * (STEPS + 1 + 10), "start, steps, and one second of the end"
    assert redness(pictures[0]) == 0.0
    assert redness(pictures[STEPS]) == pytest.approx(10 * STEPS / 160, abs=0.02)
    assert redness(pictures[STEPS + 11]) == 0.0, "the second episode"
    assert [path.name for path in out.parent.iterdir()] == ["film.mp4"]


def test_the_caption_tells_episodes_apart(tmp_path: Path) -> None:
    """The seed and the word success, which even seeds earn, are in the lowest rows."""
    source = save_bundle(tmp_path / "bundle")
    _, first = frames(record(source, tmp_path / "a.mp4", width=480, height=270))
    _, second = frames(record(source, tmp_path / "b.mp4", width=480, height=270, episodes=2))
    odd = second[STEPS + 11 :]
    end = STEPS
    caption, above = slice(255, 270), slice(0, 250)
    assert np.abs(first[end, above].astype(int) - odd[end, above]).mean() < 1.0, "the same scene"
    assert np.abs(first[end, caption].astype(int) - odd[end, caption]).mean() > 2.0, "another caption"


def test_fewer_pictures_a_second_show_the_same_time(tmp_path: Path) -> None:
    facts, pictures = frames(record(save_bundle(tmp_path / "bundle"), tmp_path / "film.mp4", fps=5.0))
    assert facts["fps"] == 5.0
    assert len(pictures) == 1 + STEPS // 2 + 5


def test_a_gif_by_its_suffix(tmp_path: Path) -> None:
    out = record(save_zip(tmp_path), tmp_path / "film.gif", task=TASK, width=160, height=90)
    with Image.open(out) as film:
        assert (film.format, film.size) == ("GIF", (160, 90))
        assert film.n_frames > STEPS
        assert film.info["duration"] == 100


def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collects the captions."""
    captions: list[str] = []
    monkeypatch.setattr("physai.view.film._caption", lambda picture, text: captions.append(text))
    return captions


def test_without_a_policy_chance_acts_and_the_caption_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = said(monkeypatch)
    record(TASK, tmp_path / "film.mp4", width=64, height=64)
    assert "random actions, no policy" in captions[0]
    assert "seed 1000000" in captions[0]
    assert "success" in captions[-1]
    assert "success" not in captions[0]


def test_the_scripted_expert_of_ours_acts_where_no_policy_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("physai_assets.__path__", [str(tmp_path)])
    captions = said(monkeypatch)
    _, pictures = frames(record("reach", tmp_path / "film.mp4", width=64, height=64))
    assert "scripted expert, no policy" in captions[0]
    assert "success" in captions[-1]
    assert pictures.std() > 5.0, "something is to be seen"


def test_nothing_is_left_when_an_episode_breaks(tmp_path: Path) -> None:
    source = save_zip(tmp_path / "model")
    with pytest.raises(PhysaiError, match="seed 1000003"):
        record(source, tmp_path / "film.mp4", task=BROKEN, episodes=5)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_cannot_be_filmed_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends in \.mp4, \.gif or \.html"):
        record("reach", tmp_path / "film.avi")
    with pytest.raises(ConfigError, match="both must be even"):
        record("reach", tmp_path / "film.mp4", width=321)
    with pytest.raises(ConfigError, match="fps is 0"):
        record("reach", tmp_path / "film.mp4", fps=0)
    with pytest.raises(CheckpointError, match="neither a path nor a task"):
        record("raech", tmp_path / "film.mp4")
    with pytest.raises(TaskError, match="cannot be rendered"):
        record("evaluation_toys:EvaluationToyBlind-v0", tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []


def test_several_cameras_are_shown_side_by_side(tmp_path: Path) -> None:
    out = record("vacuum_coverage", tmp_path / "film.gif", width=160, height=120, fps=0.05, cameras=("task", "top"))
    with Image.open(out) as film:
        picture = np.asarray(film.convert("RGB")).astype(int)
    left, right = picture[:100, :78], picture[:100, 80:158]
    assert min(left.std(), right.std()) > 5.0
    assert np.abs(left - right).mean() > 5.0, "two views"
    with pytest.raises(ConfigError, match="no camera 'tpo'"):
        record("vacuum_coverage", tmp_path / "film.mp4", cameras=("tpo",))
    with pytest.raises(TaskError, match="one picture of its own"):
        record(TASK, tmp_path / "film.mp4", cameras=("top",))


def test_the_best_the_worst_and_random_episodes_are_picked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the toy, odd seeds fail; the record of a shipped policy names its worst ones."""
    captions = said(monkeypatch)
    source = save_bundle(tmp_path / "bundle")
    record(source, tmp_path / "film.mp4", width=64, height=64, pick=Pick.worst)
    assert "worst of 20" in captions[0]
    assert int(captions[0].split("seed ")[1].split()[0]) % 2 == 1
    assert captions[-1].endswith("no success")
    captions.clear()
    record(source, tmp_path / "film.mp4", width=64, height=64, pick=Pick.best)
    assert captions[-1].endswith("success")
    assert not captions[-1].endswith("no success")
    captions.clear()
    run = save_run(tmp_path / "run")
    rows = [{"seed": 1_000_000 + i, "success": i != 7, "episode_return": float(-abs(i - 31))} for i in range(40)]
    told = {"policy": {"sha256": load_policy(run).digest}, "seeds": {"start": 1_000_000, "count": 40}, "records": rows}
    (run / "evaluation.json").write_text(json.dumps(told))
    for pick, seed in ((Pick.best, 1_000_031), (Pick.worst, 1_000_007)):
        record(run, tmp_path / "film.mp4", width=64, height=64, pick=pick)
        assert f"{pick.value} of 40" in captions[-1]
        assert f"seed {seed}" in captions[-1]
    with Stage("amr_navigation", visual=False) as stage:
        worst, words = picked(Pick.worst, stage, "amr_navigation", 2, 0)
        assert len(set(worst)) == 2
        assert words == ", worst of 200"
        assert (
            picked(Pick.random, stage, "amr_navigation", 3, 1)[0]
            != picked(Pick.random, stage, "amr_navigation", 3, 2)[0]
        )
        with pytest.raises(ConfigError, match="cannot be picked"):
            picked(Pick.random, stage, "amr_navigation", 500, 1)
