"""Signatures and the registry: whatever is changed, by whomever, is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from evaluation_policies import edit_manifest, flip_a_byte, one_sentence, save_bundle

from physai.deploy.bundle import load_bundle, sign_bundle
from physai.deploy.files import MANIFEST, canonical_json, describe, read_folder
from physai.deploy.registry import Registry
from physai.deploy.signature import (
    SIGNATURE,
    Approval,
    Trust,
    key_id,
    read_private_key,
    read_public_key,
    sign_files,
    write_keys,
)
from physai.errors import BundleError

FOREVER = Approval("Ada", "2026-01-01T00:00:00+00:00")


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def trust(key: Ed25519PrivateKey) -> Trust:
    return Trust({key_id(key.public_key()): key.public_key()})


@pytest.fixture
def bundle(tmp_path: Path, key: Ed25519PrivateKey) -> Path:
    folder = save_bundle(tmp_path / "bundle")
    sign_bundle(folder, FOREVER, key)
    return folder


def refused(folder: Path, words: str, trust: Trust | None) -> None:
    with pytest.raises(BundleError, match=words) as failure:
        load_bundle(folder, trust)
    assert one_sentence(str(failure.value)), failure.value


def test_a_signed_bundle_says_who_stands_for_it(bundle: Path, trust: Trust, key: Ed25519PrivateKey) -> None:
    loaded = load_bundle(bundle, trust)
    assert loaded.approval == FOREVER
    assert loaded.standing == f"signed by 'Ada' with the key {key_id(key.public_key())}"
    assert "not checked" in load_bundle(bundle).standing
    (bundle / SIGNATURE).unlink()
    assert load_bundle(bundle).standing == "unsigned"
    refused(bundle, "it is unsigned", trust)


def test_every_byte_of_every_file_counts(bundle: Path, trust: Trust) -> None:
    for name, data in read_folder(bundle).items():
        for where in range(0, len(data), max(1, len(data) // 23)):
            flip_a_byte(bundle / name, where)
            refused(bundle, ".", trust)
            (bundle / name).write_bytes(data)
    load_bundle(bundle, trust)


@pytest.mark.parametrize("name", ["policy.onnx", "safety.json", MANIFEST])
def test_a_swapped_file_is_named_even_with_right_digests(bundle: Path, trust: Trust, tmp_path: Path, name: str) -> None:
    other = save_bundle(tmp_path / "other", "sac")
    (bundle / name).write_bytes((other / name).read_bytes() + b" " * (name != "policy.onnx"))
    if name != MANIFEST:
        files = {n: d for n, d in read_folder(bundle).items() if n not in (MANIFEST, SIGNATURE)}
        edit_manifest(bundle, lambda manifest: manifest.update(files=describe(files)))
    refused(bundle, "(policy.onnx|safety.json|manifest.json) is not as it was when SIGNATURE.json was made", trust)
    refused(bundle, "is not as it was", None)


def test_missing_and_extra_files_are_named(bundle: Path, trust: Trust) -> None:
    (bundle / "safety.json").rename(bundle / "notes.txt")
    refused(bundle, "notes.txt was not there when", trust)
    (bundle / "notes.txt").unlink()
    refused(bundle, "safety.json was signed and is missing", trust)


def test_another_key_is_refused(bundle: Path) -> None:
    other = Ed25519PrivateKey.generate().public_key()
    refused(bundle, "which is not among those to trust", Trust({key_id(other): other}))
    refused(bundle, "not among", Trust({}))


def test_a_signature_under_a_borrowed_name_is_wrong(bundle: Path, trust: Trust, key: Ed25519PrivateKey) -> None:
    files = {name: data for name, data in read_folder(bundle).items() if name != SIGNATURE}
    forged = json.loads(sign_files(files, FOREVER, Ed25519PrivateKey.generate()))
    forged["signatures"][0]["keyid"] = key_id(key.public_key())
    (bundle / SIGNATURE).write_bytes(canonical_json(forged))
    refused(bundle, "its signature by the key [0-9a-f]{16} is wrong", trust)
    mine = json.loads(sign_files(files, FOREVER, key))
    mine["payloadType"] = "text/plain"
    (bundle / SIGNATURE).write_bytes(canonical_json(mine))
    refused(bundle, "it signs 'text/plain'", trust)
    (bundle / SIGNATURE).write_bytes(b"{}")
    refused(bundle, "it is no DSSE envelope", trust)


def test_an_approval_ends(bundle: Path, key: Ed25519PrivateKey, trust: Trust) -> None:
    sign_bundle(bundle, Approval("Ada", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"), key)
    load_bundle(bundle, Trust(trust.keys, datetime(2026, 1, 31, tzinfo=timezone.utc)))
    refused(bundle, "the approval by 'Ada' expired", Trust(trust.keys, datetime(2026, 2, 1, tzinfo=timezone.utc)))
    assert load_bundle(bundle).approval is not None, "evaluation may go on"


def test_a_downgrade_is_refused(bundle: Path, key: Ed25519PrivateKey, trust: Trust) -> None:
    edit_manifest(bundle, lambda manifest: manifest.update(schema="physai-bundle/1"))
    files = {name: data for name, data in read_folder(bundle).items() if name != SIGNATURE}
    (bundle / SIGNATURE).write_bytes(sign_files(files, FOREVER, key))
    refused(bundle, "'physai-bundle/1', which has no limits", trust)


def loosen(field: str, value: float | None) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        limits = json.loads((folder / "safety.json").read_text())
        limits["commands"]["velocity"][field][0] = value
        (folder / "safety.json").write_bytes(canonical_json(limits))
        edit_manifest(
            folder, lambda manifest: manifest["files"].update(describe({"safety.json": canonical_json(limits)}))
        )

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (loosen("low", -0.6), "allows low -0.6 for velocity.x, more than the policy's -0.5"),
        (loosen("high", 0.6), "allows high 0.6 for velocity.x"),
        (loosen("high", None), "allows high inf for velocity.x"),
        (loosen("low", 0.6), "a lower limit lies above the upper one"),
        (loosen("low", 0.1), "does not allow the robot to be at rest"),
    ],
)
def test_limits_looser_than_the_policys_are_refused(bundle: Path, change: Callable[[Path], None], words: str) -> None:
    (bundle / SIGNATURE).unlink()
    change(bundle)
    refused(bundle, words, None)


def test_keys_are_made_once_and_kept_private(tmp_path: Path) -> None:
    public, name = write_keys(tmp_path / "keys" / "mine")
    assert (tmp_path / "keys" / "mine").stat().st_mode & 0o777 == 0o600
    assert key_id(read_public_key(public)) == name == key_id(read_private_key(tmp_path / "keys" / "mine").public_key())
    with pytest.raises(BundleError, match="cannot be written"):
        write_keys(tmp_path / "keys" / "mine")
    (tmp_path / "keys" / "mine").chmod(0o644)
    with pytest.raises(BundleError, match="others can read the private key"):
        read_private_key(tmp_path / "keys" / "mine")
    with pytest.raises(BundleError, match="holds no public key"):
        read_public_key(tmp_path / "nothing")


@pytest.fixture
def registry(tmp_path: Path, bundle: Path, key: Ed25519PrivateKey) -> Registry:
    store = Registry(tmp_path / "registry")
    store.promote(store.add(bundle, key), key)
    store.add(save_bundle(tmp_path / "next", "a2c"), key)
    return store


def test_champion_candidate_and_the_way_back(registry: Registry, bundle: Path, key: Ed25519PrivateKey) -> None:
    first, second = load_bundle(bundle).digest, load_bundle(registry.find("candidate")).digest
    assert registry.promote("candidate", key) == second
    assert registry.aliases() == {"candidate": second, "champion": second, "rollback": first}
    assert registry.rollback(key) == first
    assert registry.aliases()["champion"] == first
    assert load_bundle(registry.find(first[:8])).approval is not None, "with its signature"
    events = registry.events({key_id(key.public_key()): key.public_key()})
    assert [event["event"] for event in events] == ["add", "promote", "add", "promote", "rollback"]
    with pytest.raises(BundleError, match=r"no bundle .* is called 'abcdef'"):
        registry.find("abcdef")


def test_a_bundle_that_was_signed_later_is_signed_in_the_registry(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    store, folder = Registry(tmp_path / "registry"), save_bundle(tmp_path / "unsigned")
    digest = store.add(folder, key)
    assert load_bundle(store.find(digest)).approval is None
    sign_bundle(folder, FOREVER, key)
    assert store.add(folder, key) == digest
    assert load_bundle(store.find(digest)).approval == FOREVER


def test_the_log_of_the_registry_cannot_be_rewritten(registry: Registry, key: Ed25519PrivateKey) -> None:
    keys = {key_id(key.public_key()): key.public_key()}
    log = registry.folder / "log.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    for damaged in (
        [lines[0], lines[2]],
        lines[1:],
        [lines[0], lines[0]],
        [lines[0].replace(b'"sig": "', b'"sig": "A')],
    ):
        log.write_bytes(b"".join(damaged))
        with pytest.raises(BundleError, match=r"line \d of .* is refused"):
            registry.events(keys)
    log.write_bytes(b"".join(lines[:2]))
    with pytest.raises(BundleError, match="is not what"):
        registry.events(keys)
    with pytest.raises(BundleError, match="not among those to trust"):
        registry.events({})


def test_a_damaged_bundle_does_not_get_in_or_up(registry: Registry, tmp_path: Path, key: Ed25519PrivateKey) -> None:
    flip_a_byte(registry.find("candidate") / "policy.onnx")
    with pytest.raises(BundleError, match=r"policy.onnx differs"):
        registry.promote("candidate", key)
    broken = save_bundle(tmp_path / "broken")
    flip_a_byte(broken / "golden.npz")
    before = registry.aliases()
    with pytest.raises(BundleError, match=r"golden.npz differs"):
        registry.add(broken, key)
    assert registry.aliases() == before
