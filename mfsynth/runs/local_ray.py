"""A Ray that is started for a run: what it needs of this machine, and what it is kept away from."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mfsynth.errors import MfsynthError

# Whoever has a cluster's token can run code on it.
TOKEN_VARIABLE = "RAY_AUTH_TOKEN"
TOKEN_PATH_VARIABLE = "RAY_AUTH_TOKEN_PATH"
# Off, Ray takes the loopback address for the node's, and its services listen on nothing else. It
# is off by default on the systems that Ray names it after.
NETWORK_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
FOLDER_VARIABLE = "RAY_TMPDIR"
# The path of a socket has 107 bytes at most (103 on macOS), and Ray's names take 68.
_LONGEST_FOLDER = 35
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def prepare() -> str | None:
    """Give Ray's processes, by their environment, what they can't do without.

    A home, where the user id has none; and no proxy for loopback.

    Returns:
        The folder for Ray's files; None if the environment names one.

    Raises:
        MfsynthError: There is no folder that would do.
    """
    folder = _folder()
    _give_a_home(str(Path(folder).parent) if folder else os.environ[FOLDER_VARIABLE])
    _keep_proxies_away()
    return folder


def keep_token_private(*, needs_one: bool) -> None:
    """Ray writes its token for everybody on the machine to read; here it needs no file.

    Args:
        needs_one: Whether a cluster is to be started, which gets a token of its own.
    """
    with contextlib.suppress(OSError, RuntimeError):  # no home, or somebody else's file
        given = os.environ.get(TOKEN_PATH_VARIABLE)
        path = Path(given) if given else Path.home() / ".ray" / "auth_token"
        if path.is_file() and path.stat().st_mode & 0o077:
            path.chmod(0o600)
    if needs_one:
        # Of processes that start here, which nobody else can look at.
        os.environ.setdefault(TOKEN_VARIABLE, secrets.token_hex(32))


@contextlib.contextmanager
def started_apart() -> Iterator[None]:
    """While it is entered, a Ray that is started is nobody else's, and out of reach of signals.

    It can be reached from this machine alone. Its processes are in sessions of their own: a signal
    to the driver's group, or the end of its terminal, is the driver's to deal with. They end with
    the driver all the same, however that ends: the kernel sees to it. Where it can't (macOS) they
    stay in the driver's group, as Ray's own watcher over them wants it. If the start fails, what
    was started is ended.
    """
    from ray._private import ray_constants, services
    from ray._private.utils import detect_fate_sharing_support

    popen: Callable[..., subprocess.Popen[bytes]] = services.ConsolePopen
    apart = sys.platform == "linux" and detect_fate_sharing_support()
    started = []

    def start(*args: Any, **kwargs: Any) -> subprocess.Popen[bytes]:
        process = popen(*args, start_new_session=apart, **kwargs)
        started.append(process)
        return process

    before = os.environ.get(NETWORK_VARIABLE)
    # Ray reads the variable when it is imported, which may have been before; its processes will.
    networked, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    os.environ[NETWORK_VARIABLE] = "0"
    services.ConsolePopen = start
    try:
        yield
    except BaseException:
        for process in started:
            process.kill()
            process.wait()
        raise
    finally:
        services.ConsolePopen = popen
        ray_constants.ENABLE_RAY_CLUSTER = networked
        if before is None:
            del os.environ[NETWORK_VARIABLE]
        else:
            os.environ[NETWORK_VARIABLE] = before


@contextlib.contextmanager
def signals_left_alone() -> Iterator[None]:
    """While it is entered, Ray takes no signal: its handlers end the process in mid-start."""
    from ray._private import utils

    take = utils.set_sigterm_handler
    utils.set_sigterm_handler = lambda _handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = take


def _folder() -> str | None:
    if os.environ.get(FOLDER_VARIABLE):
        return None
    tried = dict.fromkeys([tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"])
    for base in tried:
        folder = Path(base) / f"mfsynth-{os.getuid()}"
        if len(os.fsencode(folder)) <= _LONGEST_FOLDER and _is_ours(folder):
            # Ray gives everybody all rights to its own folder; to ours nobody else has any.
            return str(folder / "ray")
    raise MfsynthError(
        f"Ray does not start: no folder for its files and sockets (tried {', '.join(tried)}); set "
        f"{FOLDER_VARIABLE} to one that can be written and whose path has at most "
        f"{_LONGEST_FOLDER} characters"
    )


def _is_ours(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            return False
        folder.chmod(0o700)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def _give_a_home(folder: str) -> None:
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        # Of a container's arbitrary user id; libraries look for both, and fail or write to `./~`.
        os.environ.setdefault("HOME", folder)
        if not any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
            os.environ["USER"] = f"user-{os.getuid()}"


def _keep_proxies_away() -> None:
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return
    # Where there are both, some libraries read this one and some the other.
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if given.strip() != "*":
        named = [*filter(None, given.split(","))]
        together = ",".join(dict.fromkeys([*named, *_LOOPBACK]))
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = together
