"""What the linter does not look at: lengths, forgotten prints, large files, private keys, skipped tests."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ("physai", "envs", "docs", "benchmarks", "tests", "assets", "configs")
PYTHON = sorted(path for folder in SOURCE for path in (ROOT / folder).rglob("*.py"))
LIBRARY = [path for path in PYTHON if path.relative_to(ROOT).parts[0] in ("physai", "envs")]
MAX_LINES, MAX_FUNCTION_LINES = 400, 60
MAX_BYTES = 5_000_000


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its signature and docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MAX_LINES
    nodes = ast.walk(ast.parse(text))
    functions = [node for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    assert {f.name: body_lines(f) for f in functions if body_lines(f) > MAX_FUNCTION_LINES} == {}


@pytest.mark.parametrize("path", LIBRARY, ids=name)
def test_the_library_raises_and_does_not_print_or_assert(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: raise an error of physai.errors instead"
        assert not (isinstance(node, ast.Call) and ast.unparse(node.func) == "print"), f"line {node.lineno}: print"


def test_nothing_large_and_no_private_key_is_in_the_tree() -> None:
    key = b"PRIVATE" + b" KEY-----"
    for folder in (*SOURCE, ".ci"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert path.stat().st_size <= MAX_BYTES, f"{name(path)} is larger than {MAX_BYTES / 1e6:g} MB"
                assert key not in path.read_bytes(), f"{name(path)} holds a private key"


SKIPPING = {
    "a_test": "import pytest\ndef test_one(): pytest.skip('no wheel')\n",
    "a_file": "import pytest\npytest.importorskip('no_wheel', reason='no wheel')\n",
}


@pytest.mark.parametrize("ci", ["true", ""])
@pytest.mark.parametrize("what", SKIPPING)
def test_a_skipped_test_fails_in_continuous_integration(tmp_path: Path, what: str, ci: str) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "test_runs.py").write_text("def test_runs(): pass\n")
    (tmp_path / "test_skips.py").write_text(SKIPPING[what])
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-q", str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, "CI": ci}, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode != 0) == bool(ci), done.stdout
    assert ("no wheel" in done.stdout) == bool(ci)
