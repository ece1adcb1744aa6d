"""Which renderer draws, by a stub of the plugin: no GPU is needed, and none was at hand when this was written."""

import logging

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
    monkeypatch.setenv(renderer.VARIABLE, "vulkan")
    with pytest.raises(ConfigError, match="'vulkan'; allowed: auto, egl, software"):
        renderer.renderer(3)


def test_devices_tell_whether_there_is_a_gpu(tmp_path):
    assert not HAS_GPU(tmp_path)
    (tmp_path / "dri").mkdir()
    (tmp_path / "dri" / "renderD128").touch()
    assert HAS_GPU(tmp_path)


def test_a_process_that_ends_is_a_reason(tmp_path):
    assert TROUBLE(str(tmp_path / "no plugin"))
