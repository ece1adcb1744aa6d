"""Which renderer draws, by a stub of the plugin: no GPU is needed, and none was at hand when this was written."""

import logging
import os
import subprocess
import sys

import pytest

from physai.errors import ConfigError
from physai_envs import renderer
from physai_envs.engine import bullet

HAS_GPU, TROUBLE = renderer.has_gpu, renderer.trouble


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.delenv(renderer.VARIABLE, raising=False)
    monkeypatch.setattr(renderer, "trouble", lambda library: "")
    monkeypatch.setattr(renderer, "has_gpu", lambda: True)
    renderer.egl.cache_clear()
    yield
    renderer.egl.cache_clear()


@pytest.fixture
def loaded(monkeypatch):
    calls = []
    monkeypatch.setattr(bullet, "loadPlugin", lambda *given: calls.append(given) or 7)
    return calls


def test_a_gpu_draws_by_egl(loaded):
    assert renderer.renderer(3) == bullet.ER_BULLET_HARDWARE_OPENGL
    [(library, entry, client)] = loaded
    assert "eglRenderer" in library
    assert (entry, client) == ("_eglRendererPlugin", 3)


def test_without_a_gpu_nothing_is_tried(loaded, monkeypatch):
    monkeypatch.setattr(renderer, "has_gpu", lambda: False)
    assert renderer.renderer(3) == bullet.ER_TINY_RENDERER
    assert loaded == []


def test_where_egl_does_not_start_it_says_so_once_and_draws_in_software(loaded, monkeypatch, caplog):
    monkeypatch.setattr(renderer, "trouble", lambda library: "failed to EGL with glad.")
    with caplog.at_level(logging.WARNING):
        assert [renderer.renderer(client) for client in (3, 4)] == [bullet.ER_TINY_RENDERER] * 2
    assert loaded == []
    [said] = [record.getMessage() for record in caplog.records]
    assert said == "EGL does not start here (failed to EGL with glad.), so pictures are drawn in software"


def test_a_plugin_that_refuses_leaves_software(monkeypatch):
    monkeypatch.setattr(bullet, "loadPlugin", lambda *given: -1)
    assert renderer.renderer(3) == bullet.ER_TINY_RENDERER


def test_a_person_may_choose(loaded, monkeypatch):
    monkeypatch.setenv(renderer.VARIABLE, "software")
    assert renderer.renderer(3) == bullet.ER_TINY_RENDERER
    renderer.egl.cache_clear()
    monkeypatch.setenv(renderer.VARIABLE, "egl")
    monkeypatch.setattr(renderer, "has_gpu", lambda: False)
    assert renderer.renderer(3) == bullet.ER_BULLET_HARDWARE_OPENGL, "such as Mesa's, which needs no GPU"
    renderer.egl.cache_clear()
    monkeypatch.setenv(renderer.VARIABLE, "vulkan")
    with pytest.raises(ConfigError, match="'vulkan'; allowed: auto, egl, software"):
        renderer.renderer(3)


@pytest.mark.parametrize("device", ["dri/renderD128", "nvidia0"])
def test_devices_tell_whether_there_is_a_gpu(tmp_path, device):
    (tmp_path / "dri").mkdir()
    (tmp_path / "nvidiactl").touch()  # the driver's, which is there without a card, too
    assert not HAS_GPU(tmp_path)
    (tmp_path / device).touch()
    assert HAS_GPU(tmp_path)


def test_a_process_that_ends_or_hangs_is_a_reason(tmp_path, monkeypatch):
    assert TROUBLE(str(tmp_path / "no plugin"))
    monkeypatch.setattr(renderer, "PROBE_S", 0.01)
    assert TROUBLE("") == "no answer within 0.01 s"


def test_pictures_of_either_choice_show_the_scene(tmp_path):
    """In a process of its own, as a person calls it; without EGL, the pictures are those of the software."""
    code = (
        "import numpy as np; from physai_envs import registry; env = registry.make('reach', visual=True);"
        "env.reset(seed=0); assert np.ptp(env.render()) > 100"
    )
    for choice in ("egl", "software"):
        environment = {**os.environ, renderer.VARIABLE: choice}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
