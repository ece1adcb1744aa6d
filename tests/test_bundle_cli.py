"""The commands about bundles, as a person types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from physai.cli import app
from physai.deploy.bundle import load_bundle
from physai.deploy.files import MANIFEST, canonical_json, describe, read_folder
from physai.deploy.schema import schema
from physai.errors import BundleError, DeployError
from physai.export.migrate import attach, migrate
from physai.policy import shipped_policy


def physai(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(shipped_policy("reach"), tmp_path / "reach"))


def test_from_keys_to_a_registry_and_back(bundle: Path, tmp_path: Path) -> None:
    key, public = tmp_path / "key", tmp_path / "key.pub"
    physai("bundle", "keygen", key)
    physai("bundle", "sign", bundle, "--key", key, "--by", "Ada", "--days", 3)
    assert "signed by 'Ada'" in physai("deploy", "verify", bundle, "--key", public)
    store = ("--registry", tmp_path / "registry")
    digest = physai("bundle", "add", bundle, "--key", key, *store).strip()
    assert digest == load_bundle(bundle).digest
    assert physai("bundle", "promote", digest[:10], "--key", key, *store).strip() == digest
    listed = physai("bundle", "list", "--key", public, *store)
    for word in ("champion", "candidate", "promote", "add"):
        assert word in listed
    with pytest.raises(BundleError, match="no former champion"):
        physai("bundle", "rollback", "--key", key, *store)
    with pytest.raises(BundleError, match="not among those to trust"):
        other = tmp_path / "other"
        physai("bundle", "keygen", other)
        physai("bundle", "verify", bundle, "--key", f"{other}.pub")


def test_show_and_diff(bundle: Path, tmp_path: Path) -> None:
    shown = physai("bundle", "show", bundle)
    for word in ("joint_positions", "tip_velocity", "unsigned", "125 ms", "Workspace of tip_position"):
        assert word in shown
    assert json.loads(physai("bundle", "show", bundle, "--json")) == load_bundle(bundle).manifest
    assert json.loads(physai("bundle", "schema")) == schema("manifest")
    assert "equal" in physai("bundle", "diff", bundle, bundle)
    done = CliRunner().invoke(
        app, ["bundle", "diff", str(bundle), str(shipped_policy("tidy_up"))], env={"COLUMNS": "200"}
    )
    assert done.exit_code == 1
    assert "intended_use" in done.output


def test_running_asks_for_a_key_and_for_a_robot(bundle: Path) -> None:
    with pytest.raises(BundleError, match="nobody was named who signed it"):
        physai("deploy", "run", bundle, "--twin")
    with pytest.raises(DeployError, match="say on what it runs"):
        physai("deploy", "run", bundle, "--unsigned")
    with pytest.raises(DeployError, match="there is no driver 'no_such:Thing'"):
        physai("deploy", "run", bundle, "--unsigned", "--robot", "no_such:Thing")


def older(bundle: Path) -> Path:
    """The same bundle as the format before had it, with the record of its run beside it."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    (bundle / "evidence").rename(bundle / "run")
    for name in ("randomization.json", "sbom.cdx.json"):
        (bundle / "run" / name).unlink()
    (bundle / "safety.json").unlink()
    kept = {
        name: manifest[name] for name in ("name", "task", "policy", "model", "parity", "golden", "lineage", "producer")
    }
    files = {name: (bundle / name).read_bytes() for name in ("policy.onnx", "golden.npz")}
    (bundle / MANIFEST).write_bytes(canonical_json({**kept, "schema": "physai-bundle/1", "files": describe(files)}))
    return bundle


def test_an_older_bundle_is_brought_to_the_present_format(bundle: Path) -> None:
    before = read_folder(bundle)
    old = older(bundle)
    with pytest.raises(BundleError, match="`physai bundle migrate` brings it"):
        load_bundle(old)
    (old / "policy.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"cannot be migrated: policy\.onnx differs from its digest"):
        migrate(old)
    (old / "policy.onnx").write_bytes(before["policy.onnx"])
    assert "migrated" in physai("bundle", "migrate", old)
    after = read_folder(old)
    for name in ("policy.onnx", "golden.npz", "safety.json", "evidence/config.yaml", "evidence/sbom.cdx.json"):
        assert after[name] == before[name], name
    assert load_bundle(old).manifest["parent"] is not None
    assert not migrate(old), "it has the present format"


def test_records_of_this_policy_alone_are_taken_in(bundle: Path, tmp_path: Path) -> None:
    records = tmp_path / "records"
    records.mkdir()
    with pytest.raises(BundleError, match="holds no records"):
        attach(bundle, records)
    report = {"policy": {"sha256": load_bundle(bundle).digest}, "episodes": 7}
    (records / "evaluation.json").write_text(json.dumps(report))
    before = load_bundle(bundle).digest
    physai("bundle", "attach", bundle, records)
    loaded = load_bundle(bundle)
    assert json.loads((bundle / "evidence" / "evaluation.json").read_text())["episodes"] == 7
    assert loaded.manifest["parent"] == before
    with pytest.raises(BundleError, match="the evaluation of another policy"):
        attach(bundle, records)
