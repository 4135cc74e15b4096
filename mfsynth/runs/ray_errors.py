"""Why Ray does not start or can't be joined, and what helps: each cause with its own remedy."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

_LONGEST_TEXT = 200
_SAME_VERSIONS = "give the driver and all nodes the same versions of Ray and Python"
_TOKEN = (
    "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) to what the cluster's "
    "nodes have, or RAY_AUTH_MODE=disabled if they have none"
)
_ADDRESS = (
    "start a cluster (`ray start --head`), mend runtime.ray_address, or leave it out to run on "
    "this machine alone"
)
_FOLDER = "set RAY_TMPDIR to a short path of a folder that can be written"


@dataclass(frozen=True, slots=True)
class RayTrouble:
    """What keeps Ray from starting.

    Attributes:
        text: In one line, with the remedy.
        may_pass: Whether waiting may help.
    """

    text: str
    may_pass: bool


@dataclass(frozen=True, slots=True)
class _Cause:
    pattern: str
    remedy: str
    may_pass: bool = False


_CAUSES = (
    _Cause(r"AF_UNIX|path too long|file name too long", _FOLDER),
    _Cause(r"home directory|getpwuid|uid not found", "set HOME to a folder that can be written"),
    _Cause(r"version mismatch", _SAME_VERSIONS),
    _Cause(r"auth\w* token|token auth|unauthenticated|authenticat", _TOKEN),
    _Cause(r"no space left|quota exceeded", "free some space there, or set RAY_TMPDIR", True),
    _Cause(r"permission denied|read-only file system", _FOLDER),
    _Cause(
        r"cannot allocate memory|too many open files|resource temporarily unavailable",
        "free memory or raise the limits (`ulimit -n`, `ulimit -u`)",
        True,
    ),
    _Cause(
        r"timed out|timeout|failed to get node info|deadline exceeded|overloaded",
        "the machine is slow or short of memory: take load off it",
        True,
    ),
)


def unanswered(error: OSError, address: str) -> RayTrouble:
    """What it means that nobody listens there; a name that nobody has is a wrong one."""
    said = error.strerror or str(error) or type(error).__name__
    text = f"Ray does not start ({address}): no answer ({said}); {_ADDRESS}"
    return RayTrouble(text, may_pass=not isinstance(error, socket.gaierror))


def explained(error: BaseException, address: str | None, logs: str) -> RayTrouble:
    """What an error of `ray.init` means.

    `ray.init` has no exception type of its own: ConnectionError, RuntimeError, ValueError and
    others, all for "no cluster there" or "could not start one".

    Args:
        error: What it raised.
        address: Of the cluster to join; None for one to start here.
        logs: Where a Ray that is started here has its logs.
    """
    said = " ".join(str(error).split()) or type(error).__name__
    where = "on this machine" if address is None else address
    for cause in _CAUSES:
        if re.search(cause.pattern, said, re.IGNORECASE):
            remedy, may_pass = cause.remedy, cause.may_pass
            break
    else:
        may_pass = False
        remedy = f"see {logs}"
        if address is not None:
            remedy = _ADDRESS
    return RayTrouble(f"Ray does not start ({where}): {said[:_LONGEST_TEXT]}; {remedy}", may_pass)
