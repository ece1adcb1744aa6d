"""The files of `configs/cluster/` are valid for the tools that read them, and do what their how-to says."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.util import prepare_config, validate_config

FOLDER = Path(__file__).resolve().parent.parent / "configs" / "cluster"
SLURM = FOLDER / "slurm.sbatch"


def loaded(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / name).read_text())


# ---- Ray's cluster launcher: its own schema and its own completion of a file ----------------------------------------


@pytest.mark.parametrize("name", ["ray-onprem.yaml", "ray-aws.yaml"])
def test_rays_launcher_accepts_the_file(name):
    config = prepare_config(loaded(name))
    validate_config(config)
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        (start,) = [command for command in config[key] if "ray start" in command]
        assert "RAY_AUTH_MODE=token" in start
    assert "~/.ray/auth_token" in config["file_mounts"]
    with pytest.raises(Exception, match="unexpected"):
        validate_config({**config, "head_nodes": 2})


# ---- KubeRay: Ray's own reader of a RayCluster, and the fields of the ray.io/v1 API ----------------------------------

# https://ray-project.github.io/kuberay/reference/api/ (v1.5.1); the API server drops or refuses what is not there.
FIELDS = {
    "RayJob": "activeDeadlineSeconds backoffLimit clusterSelector deletionStrategy entrypoint entrypointNumCpus "
    "entrypointNumGpus entrypointResources jobId managedBy metadata rayClusterSpec runtimeEnvYAML "
    "shutdownAfterJobFinishes submissionMode submitterConfig submitterPodTemplate suspend ttlSecondsAfterFinished",
    "RayCluster": "authOptions autoscalerOptions enableInTreeAutoscaling gcsFaultToleranceOptions headGroupSpec "
    "headServiceAnnotations managedBy rayVersion suspend upgradeStrategy workerGroupSpecs",
    "head": "enableIngress headService labels rayStartParams resources serviceType template",
    "worker": "groupName idleTimeoutSeconds labels maxReplicas minReplicas numOfHosts rayStartParams replicas "
    "resources scaleStrategy suspend template",
    "autoscaler": "env envFrom idleTimeoutSeconds image imagePullPolicy resources securityContext upscalingMode "
    "version volumeMounts",
    "pod": "affinity containers initContainers nodeSelector priorityClassName serviceAccountName "
    "terminationGracePeriodSeconds tolerations volumes",
    "container": "args command env envFrom image imagePullPolicy lifecycle name ports resources "
    "securityContext volumeMounts",
}


def within(what: str, given: dict[str, Any]) -> dict[str, Any]:
    assert set(given) <= set(FIELDS[what].split()), what
    return given


def check_cluster(spec: dict[str, Any]) -> None:
    within("RayCluster", spec)
    within("autoscaler", spec["autoscalerOptions"])
    within("head", spec["headGroupSpec"])
    for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        if group is not spec["headGroupSpec"]:
            within("worker", group)
            assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = within("pod", group["template"]["spec"])
        (container,) = pod["containers"]
        within("container", container)
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        assert mounts == {volume["name"] for volume in pod["volumes"]}
        assert container["resources"]["limits"] == container["resources"]["requests"]


def test_the_raycluster_is_what_rays_autoscaler_reads():
    manifest = loaded("kuberay-raycluster.yaml")
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayCluster")
    check_cluster(manifest["spec"])
    assert manifest["spec"]["rayVersion"] == ray.__version__
    assert manifest["spec"]["authOptions"] == {"mode": "token"}
    manifest["metadata"]["namespace"] = "default"  # the API server adds it
    kinds = _derive_autoscaling_config_from_ray_cr(manifest)["available_node_types"]
    limits = {name: (kind["min_workers"], kind["max_workers"]) for name, kind in kinds.items()}
    assert limits == {"headgroup": (0, 0), "learner": (0, 1), "actor": (2, 16)}
    assert kinds["headgroup"]["resources"]["CPU"] == 0
    assert (kinds["learner"]["resources"]["GPU"], kinds["learner"]["resources"]["CPU"]) == (1, 8)
    assert (kinds["actor"]["resources"].get("GPU"), kinds["actor"]["resources"]["CPU"]) == (None, 16)


def test_the_rayjob_runs_the_same_cluster_and_can_be_tried_again():
    manifest = loaded("kuberay-rayjob.yaml")
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    spec = within("RayJob", manifest["spec"])
    assert spec["rayClusterSpec"] == loaded("kuberay-raycluster.yaml")["spec"]
    assert spec["submissionMode"] in ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
    assert {"--continue", "name=night", "storage=/mnt/runs"} <= set(spec["entrypoint"].split())


# ---- Slurm: bash, the options of sbatch (22.05), and the script itself with a Slurm that is played ------------------

OPTIONS = (
    "account array chdir comment constraint cpus-per-gpu cpus-per-task deadline dependency error exclude exclusive "
    "gpus gpus-per-node gpus-per-task gres job-name kill-on-invalid-dep licenses mail-type mail-user mem mem-per-cpu "
    "mem-per-gpu no-requeue nodelist nodes ntasks ntasks-per-node open-mode output partition qos requeue reservation "
    "signal switches time time-min"
)


def test_bash_and_sbatch_can_read_the_slurm_script(tmp_path):
    subprocess.run(["bash", "-n", str(SLURM)], check=True)
    given = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", SLURM.read_text(), re.MULTILINE))
    assert len(given) == SLURM.read_text().count("#SBATCH")
    assert set(given) <= set(OPTIONS.split())
    assert given["ntasks-per-node"] == "1", "symmetric-run starts one Ray a node"
    assert re.fullmatch(r"B:TERM@\d+", given["signal"])
    if shutil.which("sbatch"):  # its own parser, where there is one; it stops where it would ask the controller
        (tmp_path / "slurm.conf").write_text("ClusterName=a\nSlurmctldHost=localhost\nNodeName=localhost\n")
        environment = {**os.environ, "SLURM_CONF": str(tmp_path / "slurm.conf")}
        command = ["sbatch", "--test-only", str(SLURM)]
        said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60).stderr
        assert "Unable to contact slurm controller" in said


PLAYED = {
    "srun": 'while [[ "$1" != -- ]]; do echo "$1" >> "$PLAY/srun"; shift; done; shift; exec "$@"',
    "scontrol": '[[ "$1" == show ]] || exec echo "$@" >> "$PLAY/scontrol"; echo localhost; sleep 0.2; echo other',
    "physai": 'echo "$@" > "$PLAY/physai"; stat -c %a "$RAY_AUTH_TOKEN_PATH" >> "$PLAY/physai"\n'
    'trap "exit 143" TERM; [[ "$1" == train && "$2" == quick ]] || while :; do sleep 0.1; done',
}


@pytest.fixture
def played(tmp_path):
    """A folder in which a job runs with an `srun`, `scontrol` and `physai` that only write down what they were told."""
    commands = tmp_path / ".venv" / "bin"
    commands.mkdir(parents=True)
    for name, text in PLAYED.items():
        (commands / name).write_text(f"#!/bin/bash\n{text}\n")
        (commands / name).chmod(stat.S_IRWXU)
    (commands / "activate").write_text(f'PATH="{commands}:$PATH"\n')
    return tmp_path


def submit(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    slurm = {"SUBMIT_DIR": str(folder), "JOB_ID": "4711", "JOB_NODELIST": "n[1-4]", "JOB_NUM_NODES": "4"}
    environment = {f"SLURM_{key}": value for key, value in {**slurm, "CPUS_PER_TASK": "16"}.items()}
    return subprocess.Popen(
        ["bash", str(SLURM), *arguments], env={**os.environ, **environment, "PLAY": str(folder)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_a_slurm_job_trains_and_leaves_no_token_behind(played):
    job = submit(played, "quick", "seed=1")
    _, said = job.communicate(timeout=60)
    assert job.returncode == 0, said
    told, mode = (played / "physai").read_text().splitlines()
    assert told == "train quick seed=1 name=slurm-4711 --continue --address auto"
    assert mode == "600"
    words = (played / "srun").read_text().splitlines()
    assert words[1:3] == ["ray", "symmetric-run"]
    assert words[words.index("--min-nodes") + 1] == "4"
    assert words[words.index("--address") + 1].endswith(":7090")
    assert sorted(path.name for path in played.iterdir() if path.name.startswith(".")) == [".venv"]
    assert not (played / "scontrol").exists()
    assert submit(played).wait(timeout=60) == 2


def test_a_slurm_job_that_must_go_saves_and_is_queued_again(played):
    job = submit(played, "long")
    ends = time.monotonic() + 60
    while not (played / "physai").exists() or len((played / "physai").read_text().splitlines()) < 2:
        assert time.monotonic() < ends and job.poll() is None
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    _, said = job.communicate(timeout=60)
    assert job.returncode == 143, said
    assert (played / "scontrol").read_text() == "requeue 4711\n"
