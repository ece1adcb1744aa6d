"""What all tests share: Ray tests stay in one process, and in continuous integration nothing is skipped."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sends every test that starts Ray to the same worker, so that the cores are not fought over."""
    for item in items:
        if item.get_closest_marker("ray"):
            item.add_marker(pytest.mark.xdist_group("ray"))


@pytest.fixture(scope="module")
def one_ray() -> Iterator[Path]:
    """A Ray that the tests of a file share, and its folder; `toys.Deadly` dies and hangs once in it."""
    import ray

    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        os.environ["PHYSAI_TOY_ONCE"] = str(Path(folder) / "once")
        ray.init(
            address="local", num_cpus=2, include_dashboard=False, _temp_dir=folder, log_to_driver=False,
            configure_logging=False, logging_level="error",
        )  # fmt: skip
        yield Path(folder)
        ray.shutdown()
        del os.environ["PHYSAI_TOY_ONCE"]


def _forbid(report: Any) -> Any:
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"skipped, which counts as a failure in continuous integration: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Turns a skipped test into a failed one when CI=true: a missing dependency must not look like success."""
    return _forbid((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    """The same for a test file that skips itself while it is collected."""
    return _forbid((yield))
