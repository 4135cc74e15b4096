"""What goes wrong in the soak.

A fault that does not apply to how things stand says nothing, and does not count.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import psutil
from driving import DOWN, IN_VAIN, SCARCE
from machines import NODES, can_mount
from session import Fault, Soak

from mfsynth.shards import layout

AWAY_S = 600.0


def kill_a_worker(soak: Soak) -> str:
    if not (workers := soak.cluster.workers()):
        return ""
    victim = soak.rng.choice(workers)
    with suppress(psutil.Error):
        victim.kill()
    return f"process {victim.pid}"


def hang_a_worker(soak: Soak) -> str:
    if not (workers := soak.cluster.workers()):
        return ""
    victim = soak.rng.choice(workers)
    with suppress(psutil.Error):
        victim.suspend()
    return f"process {victim.pid}, for good"


def kill_a_raylet(soak: Soak) -> str:
    node = soak.rng.choice(soak.cluster.nodes)
    for raylet in (raylets := node.below("raylet")):
        raylet.kill()
    return node.log.stem if raylets else ""


def hang_a_raylet(soak: Soak) -> str:
    """Ray takes the node for dead, while its workers go on: zombies."""
    node, seconds = soak.rng.choice(soak.cluster.nodes), soak.rng.uniform(20, 50)

    def wake(raylets: Sequence[psutil.Process]) -> None:
        for raylet in raylets:
            with suppress(psutil.Error):
                raylet.resume()

    raylets = node.below("raylet")
    for raylet in raylets:
        if raylet.status() == psutil.STATUS_STOPPED:
            return ""
        raylet.suspend()
    soak.after(seconds, partial(wake, raylets))
    return f"{node.log.stem} for {seconds:.0f} s" if raylets else ""


def add_a_node(soak: Soak) -> str:
    if len(soak.cluster.nodes) > NODES:
        return ""
    soak.cluster.add()
    return soak.cluster.nodes[-1].log.stem


def stop_a_node(soak: Soak) -> str:
    """As a machine that is taken away with notice."""
    node = soak.rng.choice(soak.cluster.nodes)
    node.send(signal.SIGTERM)
    return node.log.stem


def join_a_stranger(soak: Soak) -> str:
    """A node to which the output is an empty folder."""
    return _join(soak, "true", soak.rng.uniform(20, 60))


def join_a_copy(soak: Soak) -> str:
    """A node that has the run's own `run.json`, and keeps what it makes for itself."""
    if not (soak.output / layout.RUN_KEY).exists():
        return ""
    copy = soak.folder / "copy.json"
    copy.write_bytes((soak.output / layout.RUN_KEY).read_bytes())
    return _join(soak, f'cp "{copy}" "$1/{layout.RUN_KEY}"', soak.rng.uniform(10, 30))


def _join(soak: Soak, before: str, seconds: float) -> str:
    if not can_mount() or any(node.runs for node in soak.cluster.strangers):
        return ""
    stranger = soak.cluster.add_a_stranger(soak.output, before)
    soak.after(seconds, stranger.kill_all)
    return f"{stranger.log.stem} for {seconds:.0f} s"


def make_links(soak: Soak) -> str:
    """Files move elsewhere and become links to where they went, as if on the way to a tape."""
    changing = (layout.DRIVERS_FOLDER, layout.TOMBSTONES_FOLDER, layout.LOGS_FOLDER)
    keys = [key for key in soak.store.list() if not key.startswith(changing)]
    made = []
    for key in soak.rng.sample(keys, min(len(keys), 20)):
        path, elsewhere = soak.output / key, soak.folder / "elsewhere"
        blob, link = elsewhere / "blobs" / key.replace("/", "-"), elsewhere / "link"
        with suppress(FileNotFoundError):  # gc was faster, or a temporary has its name now
            if not path.is_symlink():
                os.link(path, blob)
                link.symlink_to(blob)
                link.replace(path)
                made.append(key)
    return f"{len(made)} of them, such as {made[0]}" if made else ""


def kill_gc(soak: Soak) -> str:
    soak.collector.send(signal.SIGKILL)
    return soak.collector.log.stem


def kill_a_driver(soak: Soak) -> str:
    if (driver := soak.a_driver()) is None:
        return ""
    soak.killed.add(driver)
    driver.send(signal.SIGKILL)
    return driver.log.stem


def stop_a_driver(number: signal.Signals, soak: Soak, *, group: bool = False) -> str:
    if (driver := soak.a_driver()) is None:
        return ""
    if soak.drivers[driver] is not None or " pairs" not in driver.log.read_text():
        return ""
    if group:
        driver.send(number)  # as `timeout` does, both
        driver.send_to_group(number)
    else:
        driver.send(number)
    soak.drivers[driver] = time.monotonic() + 2 * soak.ends_within_s
    return driver.log.stem


def suspend_a_driver(soak: Soak) -> str:
    if (driver := soak.a_driver()) is None:
        return ""
    seconds = soak.rng.uniform(5, 45)
    driver.send(signal.SIGSTOP)
    soak.after(seconds, partial(driver.send, signal.SIGCONT))
    return f"{driver.log.stem} for {seconds:.0f} s"


def start_a_second_driver(soak: Soak, *, unheard: bool = False) -> str:
    if len(soak.drivers) != 1:
        return ""
    numbers: list[int | str] = [1, "auto"]
    driver = soak.start_driver(soak.rng.choice(numbers), unheard=unheard)
    seconds = soak.rng.uniform(20, 60)

    def stop() -> None:
        driver.send(signal.SIGTERM)
        if driver in soak.drivers:
            soak.drivers[driver] = time.monotonic() + 2 * soak.ends_within_s

    soak.after(seconds, stop)
    return f"for {seconds:.0f} s"


def take_memory(soak: Soak) -> str:
    return _for_a_while(soak, SCARCE, soak.rng.uniform(1, 4))


def take_the_store(soak: Soak) -> str:
    return _for_a_while(soak, DOWN, soak.rng.uniform(3, 25))


def take_the_store_for_long(soak: Soak) -> str:
    return _for_a_while(soak, DOWN, AWAY_S)


def let_uploads_be_in_vain(soak: Soak) -> str:
    """Workers die when they have uploaded a shard, and before they say so."""
    return _for_a_while(soak, IN_VAIN, soak.rng.uniform(2, 6))


def _for_a_while(soak: Soak, name: str, seconds: float) -> str:
    flag = soak.folder / name
    if flag.exists():
        return ""
    flag.touch()
    soak.after(seconds, flag.unlink)
    return f"for {seconds:.0f} s"


def kill_the_head(soak: Soak) -> str:
    """The nodes are left to find out; drivers must end by themselves and say why."""
    soak.cluster.head.kill_all()
    _expect_the_end(soak)
    orphans = [*soak.cluster.nodes, *soak.cluster.strangers]
    soak.cluster.begin()

    def end() -> None:
        for node in orphans:
            node.kill_all()

    soak.after(soak.ends_within_s, end)
    return f"a new one is at {soak.cluster.address}"


def kill_the_cluster(soak: Soak) -> str:
    soak.cluster.kill()
    _expect_the_end(soak)
    soak.cluster.begin()
    return f"a new one is at {soak.cluster.address}"


def _expect_the_end(soak: Soak) -> None:
    for driver in soak.drivers:
        soak.drivers[driver] = time.monotonic() + soak.ends_within_s


FAULTS = (
    Fault("SIGKILL of a worker", 6, kill_a_worker),
    Fault("SIGSTOP of a worker", 2, hang_a_worker),
    Fault("SIGKILL of a node's raylet", 2, kill_a_raylet),
    Fault("a node's raylet hangs, its workers go on", 2, hang_a_raylet),
    Fault("a node is added", 1, add_a_node),
    Fault("a node is stopped", 1, stop_a_node),
    Fault("a node joins to which the output is an empty folder", 2, join_a_stranger),
    Fault("a node joins that keeps what it makes for itself", 1, join_a_copy),
    Fault("files become links to where they went", 3, make_links),
    Fault("workers die between the upload and the receipt", 3, let_uploads_be_in_vain),
    Fault("SIGKILL of gc", 1, kill_gc),
    Fault("SIGKILL of a driver", 3, kill_a_driver),
    Fault("SIGTERM of a driver", 1, partial(stop_a_driver, signal.SIGTERM)),
    Fault("SIGINT of a driver", 1, partial(stop_a_driver, signal.SIGINT)),
    Fault(
        "SIGTERM of a driver's group, twice", 1, partial(stop_a_driver, signal.SIGTERM, group=True)
    ),
    Fault("SIGHUP of a driver's group", 1, partial(stop_a_driver, signal.SIGHUP, group=True)),
    Fault("a driver is suspended, then goes on", 2, suspend_a_driver),
    Fault("a second driver", 2, start_a_second_driver),
    Fault(
        "a second driver that nobody listens to", 1, partial(start_a_second_driver, unheard=True)
    ),
    Fault("out of memory", 2, take_memory),
    Fault("the store refuses writes", 2, take_the_store),
    Fault("the store is away for ten minutes", 1, take_the_store_for_long),
    Fault("SIGKILL of the head", 1, kill_the_head),
    Fault("SIGKILL of the whole cluster", 1, kill_the_cluster),
)
