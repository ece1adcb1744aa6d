"""Damaged on purpose: made-up manifests, limits and archives end in one sentence, never in a traceback."""

from __future__ import annotations

import copy
import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from evaluation_policies import one_sentence, save_bundle

from physai.deploy.archive import pack, unpack
from physai.deploy.bundle import load_bundle
from physai.deploy.files import MANIFEST, canonical_json, describe, read_arrays, read_folder
from physai.deploy.safety import SAFETY
from physai.deploy.schema import check, schema
from physai.errors import BundleError

ODD = (None, True, False, -1, 0, 1, 2, 10**30, 1e308, -0.5, 1e-320, "", "x", "../x", "/etc/passwd", "a" * 1000, [], {},
       [[]], [1] * 9, {"a": 1}, "\u0000", "é")  # fmt: skip
FEW, MANY = 300, 10_000


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return read_folder(save_bundle(tmp_path_factory.mktemp("fuzz") / "bundle"))


def mutate(document: Any, rng: random.Random) -> Any:
    """Changes one to three places of a JSON document: another value, one less, one more, one twice."""
    document = copy.deepcopy(document)
    for _ in range(rng.randint(1, 3)):
        node = document
        while isinstance(node, (dict, list)) and node:
            where = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
            if not isinstance(node[where], (dict, list)) or not node[where] or rng.random() < 0.2:
                kind = rng.randrange(4)
                if kind == 0 and isinstance(node, dict):
                    del node[where]
                elif kind == 1 and isinstance(node, dict):
                    node[rng.choice(("new", "", "a/b", "../up"))] = copy.deepcopy(node[where])
                elif kind == 2 and isinstance(node, list):
                    node.append(copy.deepcopy(node[where]))
                else:
                    node[where] = copy.deepcopy(rng.choice(ODD))
                break
            node = node[where]
    return document


def garble(data: bytes, rng: random.Random) -> bytes:
    """Changes bytes anywhere: flips some, cuts, doubles, or puts in others."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(changed) + 1)
        kind = rng.randrange(4)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and len(changed) > 40:
            del changed[at : at + rng.randrange(1, 40)]
        elif kind == 2:
            changed[at:at] = changed[at : at + rng.randrange(1, 40)]
        else:
            changed[at:at] = rng.randbytes(rng.randrange(1, 8))
    return bytes(changed)


def opened(folder: Path) -> bool:
    """Whether a bundle loads; if not, it must say so in one sentence."""
    try:
        load_bundle(folder)
    except BundleError as refusal:
        assert one_sentence(str(refusal)) or len(str(refusal)) < 1000, refusal
        assert "\n" not in str(refusal)
        return False
    return True


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_made_up_manifests(tmp_path: Path, intact: dict[str, bytes], count: int) -> None:
    rng, folder, loaded = random.Random(count), tmp_path / "bundle", 0
    for name, data in intact.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    manifest, limits = json.loads(intact[MANIFEST]), json.loads(intact[SAFETY])
    for case in range(count):
        if case % 4 == 0:
            (folder / MANIFEST).write_bytes(garble(intact[MANIFEST], rng))
        elif case % 4 == 1:  # limits that somebody changed together with their digest
            text = json.dumps(mutate(limits, rng)).encode()
            (folder / SAFETY).write_bytes(text)
            files = {**manifest["files"], **describe({SAFETY: text})}
            (folder / MANIFEST).write_bytes(canonical_json({**manifest, "files": files}))
        else:
            (folder / MANIFEST).write_text(json.dumps(mutate(manifest, rng)))
        loaded += opened(folder)
        (folder / SAFETY).write_bytes(intact[SAFETY])
    assert loaded < 0.5 * count
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_made_up_archives(tmp_path: Path, intact: dict[str, bytes], count: int) -> None:
    rng, home = random.Random(count), tmp_path / "home"
    home.mkdir()
    small = {name: data[:300] for name, data in intact.items()}  # what is in them does not matter here
    names = [*small, "../up", "/tmp/up", "a/../../up", "a\\..\\up", "C:up", "a//b", "", ".", "a/", "policy.onnx/x", "é"]
    for _ in range(count):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
            for name in rng.sample(names, rng.randint(1, 6)) + [MANIFEST]:
                entry = zipfile.ZipInfo(name)
                entry.external_attr = rng.choice((0, 0, 0o100644 << 16, 0o120777 << 16, 0o040755 << 16))
                archive.writestr(entry, small.get(name, b"/etc/passwd"))
        data = stream.getvalue()
        (home / "b.zip").write_bytes(garble(data, rng) if rng.random() < 0.7 else data)
        try:
            unpack(home / "b.zip", home / "out")
        except BundleError as refusal:
            assert "\n" not in str(refusal)
            assert not (home / "out").exists()
        else:
            for path in (home / "out").rglob("*"):
                assert not path.is_symlink()
                path.unlink() if path.is_file() else None
            for path in sorted((home / "out").rglob("*"), reverse=True):
                path.rmdir()
            (home / "out").rmdir()
        assert sorted(path.name for path in home.iterdir()) == ["b.zip"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]


def test_an_archive_is_the_bundle(tmp_path: Path, intact: dict[str, bytes]) -> None:
    bundle = save_bundle(tmp_path / "bundle")
    archive = pack(bundle, tmp_path / "bundle.zip")
    assert read_folder(unpack(archive, tmp_path / "again")) == intact
    assert pack(tmp_path / "again", tmp_path / "second.zip").read_bytes() == archive.read_bytes()
    for words, call in (("exists", unpack), ("cannot be written", lambda a, b: pack(b, a))):
        with pytest.raises(BundleError, match=words):
            call(archive, bundle)


def test_a_bomb_does_not_go_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("physai.deploy.archive.LARGEST_FOLDER", 100_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, bytes(10_000_000))
    with pytest.raises(BundleError, match="unpacks to more than 100000 bytes"):
        unpack(tmp_path / "bomb.zip", tmp_path / "out")


def test_arrays_that_claim_to_be_larger_than_they_are() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117) + b"\n"
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(8))
    with pytest.raises(ValueError, match="does not have 8 bytes"):
        read_arrays(stream.getvalue(), "golden.npz")


@pytest.mark.parametrize("name", ["manifest", "safety"])
def test_the_schemas_mean_what_jsonschema_makes_of_them(intact: dict[str, bytes], name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(name))
    validator, rng, agreed = jsonschema.Draft202012Validator(schema(name)), random.Random(1), set()
    document = json.loads(intact[f"{name}.json"])
    assert validator.is_valid(document)
    for _ in range(300):
        changed = mutate(document, rng)
        try:
            check(changed, name)
            ours = True
        except ValueError:
            ours = False
        assert ours == validator.is_valid(changed)
        agreed.add(ours)
    assert agreed == {True, False}
