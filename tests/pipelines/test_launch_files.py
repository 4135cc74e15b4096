"""The files that launch a run elsewhere, checked as far as can be without that elsewhere."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mfsynth.runs.settings import load_run_config

PIPELINES = Path(__file__).parents[2] / "pipelines"
RAY_CLUSTER = PIPELINES / "ray_cluster.yaml"
RAYJOB = PIPELINES / "rayjob.yaml"
SLURM = PIPELINES / "slurm.sh"
RAY = Path(sys.executable).with_name("ray")


def rayjob() -> dict:
    return yaml.safe_load(RAYJOB.read_text())


def documented(path: Path) -> str:
    """The `mfsynth generate …` in a file's comments, in one line."""
    text = re.sub(r"\s*\\\n#\s*", " ", path.read_text())
    return re.search(r'mfsynth generate [^"\n]*', text)[0]


@pytest.mark.parametrize(
    "command", [rayjob()["spec"]["entrypoint"], documented(RAY_CLUSTER)], ids=["rayjob", "cluster"]
)
def test_the_commands_are_ones_that_mfsynth_takes(command):
    from mfsynth.cli.generate import generate

    program, verb, *arguments = shlex.split(command)
    assert (program, verb) == ("mfsynth", "generate")
    given = generate.make_context(verb, arguments).params
    config = load_run_config(
        given["config"], given["overrides"], output=given["out"], pairs=given["pairs"]
    )
    assert config.runtime.ray_address == "auto"
    assert config.runtime.device == "cuda"
    assert config.output.startswith("s3://")


def test_the_cluster_is_one_that_ray_takes():
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load(RAY_CLUSTER.read_text()))
    validate_config(config)
    kinds = config["available_node_types"]
    head, spot = kinds[config["head_node_type"]], kinds["spot_gpu"]
    assert head["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    assert spot["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert 1 <= spot["min_workers"] < spot["max_workers"] <= config["max_workers"]
    assert spot["resources"]["GPU"] == 1


def test_the_rayjob_has_one_image_a_gpu_a_worker_and_no_secret():
    import ray

    cluster = rayjob()["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    groups = [cluster["headGroupSpec"], workers]
    containers = [group["template"]["spec"]["containers"][0] for group in groups]
    assert len({container["image"] for container in containers}) == 1
    assert containers[1]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert 1 <= workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    assert cluster["rayVersion"] == ray.__version__
    for group, container in zip(groups, containers, strict=True):
        volumes = {volume["name"] for volume in group["template"]["spec"]["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        assert "env" not in container  # credentials come from a secret, by name


def stub(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def run_on_slurm(tmp_path: Path, *arguments: str, names: str, node_address: str, own: str):
    """Run the script as Slurm would on its first node, with stand-ins for Slurm's commands.

    `names` is what resolves, a line `NAME ADDRESS` each; `node_address` is Slurm's of a node; `own`
    are the addresses that the first node has.
    """
    commands = tmp_path / "bin"
    commands.mkdir()
    (tmp_path / "names").write_text(names)
    stub(
        commands,
        "scontrol",
        f"""case "$2" in
hostnames) printf 'node1\\nnode2\\n' ;;
node) echo "NodeName=$3 Arch=x86_64"; echo "   NodeAddr={node_address} NodeHostName=$3" ;;
esac""",
    )
    stub(
        commands,
        "getent",
        f"""[ "$1" = ahostsv4 ] || exit 2
awk -v name="$2" '$1 == name {{ print $2 "  STREAM"; found = 1 }} END {{ exit !found * 2 }}' \\
  {tmp_path}/names""",
    )
    stub(
        commands,
        "srun",
        f"""case "$*" in
*"hostname -I") echo "{own}" ;;
*) printf '%s\\n' "$@" ;;
esac""",
    )
    slurm = {
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_ON_NODE": "2",
        "PATH": f"{commands}:{os.environ['PATH']}",
    }
    return subprocess.run(
        ["bash", SLURM, *arguments],
        env={**os.environ, **slurm},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_slurm_script_starts_ray_on_every_node_and_the_run_on_the_first(tmp_path):
    arguments = ("released", "--out", "/scratch/my run")
    there = {"names": "node1 10.0.0.1", "node_address": "node1", "own": ""}
    done = run_on_slurm(tmp_path, *arguments, **there)
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()
    assert words[:2] == ["--nodes=2", "--ntasks=2"]
    split = words.index("--")
    ray = words[words.index("ray") : split]
    assert ray[1:6] == ["symmetric-run", "--address", "10.0.0.1:6379", "--min-nodes", "2"]
    assert ray[6:] == ["--num-cpus", "2", "--num-gpus", "0"]
    assert words[split + 1 :] == [
        *("mfsynth", "generate", "released", "--out", "/scratch/my run"),
        *("--set", "runtime.ray_address=auto"),
    ]


@pytest.mark.parametrize(
    ("names", "node_address", "own", "address"),
    [
        ("node1 127.0.1.1\nnode1 10.0.0.1\n", "node1", "", "10.0.0.1"),
        ("node1 127.0.1.1\nnode1-ib 10.1.0.1\n", "node1-ib", "", "10.1.0.1"),
        ("node1 127.0.1.1\n10.2.0.1 10.2.0.1\n", "10.2.0.1", "", "10.2.0.1"),
        ("node1 127.0.1.1\n", "node1", "10.3.0.1 172.17.0.1 fe80::1", "10.3.0.1"),
        ("", "node1", "10.4.0.1", "10.4.0.1"),
    ],
)
def test_the_slurm_script_gives_an_address_by_which_all_nodes_find_the_head(
    tmp_path, names, node_address, own, address
):
    done = run_on_slurm(tmp_path, "local", names=names, node_address=node_address, own=own)
    assert done.returncode == 0, done.stderr
    assert f"{address}:6379" in done.stdout.splitlines()


def test_the_slurm_script_says_when_the_head_has_no_address_but_loopback(tmp_path):
    there = {"names": "node1 127.0.1.1\n", "node_address": "node1", "own": "127.0.1.1"}
    done = run_on_slurm(tmp_path, "local", **there)
    assert done.returncode == 1
    assert "node1 has no address but loopback" in done.stderr
    assert done.stdout == ""
