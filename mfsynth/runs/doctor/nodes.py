"""The nodes of a Ray cluster: what they have installed, and whether they see the driver's store."""

from __future__ import annotations

import platform
import secrets
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mfsynth.config import RunConfig
from mfsynth.errors import MfsynthError
from mfsynth.formatting import counts, duration, size
from mfsynth.runs.cluster import RayCluster
from mfsynth.runs.doctor.findings import Finding, error, note, ok, warning
from mfsynth.runs.doctor.machine import visible_gpus
from mfsynth.runs.doctor.scratch import Scratch
from mfsynth.runs.doctor.space import SPOOLED_SHARDS, Demand, free_in
from mfsynth.runs.sizing import WorkerResources
from mfsynth.storage.store import ObjectStore

# A node starts a process for the question, and imports what it needs there.
ANSWER_LIMIT_S = 90.0
_PACKAGES = ("mfsynth", "torch", "ray")
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Node:
    """What a node says.

    Attributes:
        name: Host name and address.
        versions: Of Python and of packages; "none" of one that it lacks.
        problem: Why it doesn't see the driver's store; "" if it does.
        spool_free: Bytes free in its temporary folder.
        gpus: Each in words.
        silent: Why there is no answer, and nothing else is known; "" if there is one.
    """

    name: str
    versions: Mapping[str, str]
    problem: str = ""
    spool_free: int = 0
    gpus: Sequence[str] = ()
    silent: str = ""


@dataclass(frozen=True, slots=True)
class Nodes:
    """A cluster that was asked.

    Attributes:
        answers: Of the nodes that could have a worker.
        places: How many workers there is room for.
        device: Where the model will run there.
    """

    answers: Sequence[Node]
    places: int
    device: str


def ask_nodes(config: RunConfig, scratch: Scratch) -> Nodes:
    """Join a cluster, or start one as a run does, and ask each node that could have a worker.

    Raises:
        MfsynthError: It can't be joined or started, or lacks the device of the configuration.
    """
    cluster = RayCluster(config.runtime)
    try:
        resources = WorkerResources.of(config.runtime, nodes := cluster.nodes())
        nonce = secrets.token_bytes(16)
        with scratch.key() as key:
            scratch.store.put_bytes(key, nonce)
            answers = _ask(resources.bundle, (_PACKAGES, scratch.store.location, key, nonce))
        return Nodes(answers, resources.places(nodes), resources.device)
    finally:
        cluster.disconnect()


def _ask(bundle: Mapping[str, float], question: tuple[Any, ...]) -> list[Node]:
    import ray
    from ray.exceptions import GetTimeoutError, RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # Nothing is taken of what a node has, so that one that is at work answers, too.
    remote = ray.remote(num_cpus=0, max_retries=0)(_teller())
    asked = {}
    for node in ray.nodes():
        if node["Alive"] and all(node["Resources"].get(n, 0) >= a for n, a in bundle.items()):
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            asked[remote.options(scheduling_strategy=here).remote(*question)] = name
    if asked:
        ray.wait([*asked], num_returns=len(asked), timeout=ANSWER_LIMIT_S)
    answers = []
    for ref, name in asked.items():
        try:
            answers.append(Node(name, **ray.get(ref, timeout=0)))
        except GetTimeoutError:
            answers.append(Node(name, {}, silent=f"{duration(ANSWER_LIMIT_S)} were not enough"))
        except RayError as problem:
            reason = " ".join(str(problem).split())[-200:] or type(problem).__name__
            answers.append(Node(name, {}, silent=reason))
    return answers


def _teller() -> Callable[..., dict[str, Any]]:
    """What runs on a node. It goes there by value: the node's mfsynth may be another one."""

    def tell(packages: Sequence[str], url: str, key: str, nonce: bytes) -> dict[str, Any]:
        import platform
        from importlib.metadata import PackageNotFoundError, version

        versions = {"python": platform.python_version()}
        for package in packages:
            try:
                versions[package] = version(package)
            except PackageNotFoundError:
                versions[package] = "none"
        try:
            from mfsynth.runs.doctor.nodes import look_from_here

            return {"versions": versions, **look_from_here(url, key, nonce)}
        except Exception as problem:
            return {"versions": versions, "problem": f"{type(problem).__name__}: {problem}"}

    return tell


def look_from_here(url: str, key: str, nonce: bytes) -> dict[str, Any]:
    """What a node says of itself, versions left out.

    Args:
        url: Of the store, as the driver means it.
        key: Of what the driver has written there.
        nonce: What that was.
    """
    problem = ""
    try:
        if ObjectStore.open(url).read_bytes(key) != nonce:
            problem = "other bytes are there"
    except FileNotFoundError:
        problem = "what the driver has written there isn't"
    except MfsynthError as refused:
        problem = str(refused)
    return {
        "problem": problem,
        "spool_free": free_in(Path(tempfile.gettempdir()))[0],
        "gpus": [f"{gpu.name} {gpu.memory}, driver {gpu.driver}" for gpu in visible_gpus()],
    }


def versions_here() -> Mapping[str, str]:
    """Of Python and of packages on this machine."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found


def all_answer(nodes: Nodes) -> Finding:
    """Whether nodes answer, and how many workers they have room for."""
    seen = f"nodes: {len(nodes.answers)}, workers: {nodes.places}, each on {nodes.device}"
    if silent := [node for node in nodes.answers if node.silent]:
        return error(
            f"{seen}; no answer from {_some(silent)}: {silent[0].silent}",
            "mend them, or take them out",
        )
    if not nodes.answers:
        return warning(f"{seen}: none yet", "a run waits for one; start it, or the autoscaler")
    return ok(seen)


def same_versions(nodes: Nodes) -> Finding:
    """Whether all nodes have what the driver has."""
    here = versions_here()
    others: defaultdict[str, list[Node]] = defaultdict(list)
    for node in nodes.answers:
        for what, there in node.versions.items():
            if there != here[what]:
                others[f"{what} {there}, not {here[what]}"].append(node)
    if not others:
        return ok(in_words(here) + ", on every node")
    seen = "; ".join(f"{what}: {_some(names)}" for what, names in others.items())
    problem = error if any(what.startswith("mfsynth ") for what in others) else warning
    return problem(seen, "install on every node what the driver has")


def same_store(nodes: Nodes, url: str) -> Finding:
    """Whether all nodes see what the driver has written."""
    if blind := [node for node in nodes.answers if node.problem]:
        return error(
            f"{url} is another place, or none, on {_some(blind)}: {blind[0].problem}",
            "give an output that all nodes share",
        )
    return ok("every node sees what the driver writes")


def have_room(nodes: Nodes, wanted: Demand) -> Finding:
    """What the nodes have for a worker: GPUs, room to spool."""
    spooled = SPOOLED_SHARDS * wanted.shard
    full = [n for n in nodes.answers if not n.silent and n.spool_free < spooled]
    if full:
        return warning(
            f"a worker may need {size(spooled)} in the temporary folder: not free on {_some(full)}",
            "free some there, or set TMPDIR to a larger disk",
        )
    gpus: defaultdict[str, int] = defaultdict(int)
    for node in nodes.answers:
        for gpu in node.gpus:
            gpus[gpu] += 1
    seen = f"room to spool, {counts(gpus) or 'no GPU'}"
    if gpus and nodes.device != "cuda":
        return note(f"{seen}, left alone: runtime.device is cpu")
    return ok(seen)


def in_words(versions: Mapping[str, str]) -> str:
    """`python 3.11.2, torch 2.9.0`."""
    return ", ".join(f"{what} {number}" for what, number in versions.items())


def _some(nodes: Sequence[Node]) -> str:
    more = f" and {len(nodes) - _SHOWN} more" if len(nodes) > _SHOWN else ""
    return ", ".join(node.name for node in nodes[:_SHOWN]) + more
