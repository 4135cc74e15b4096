"""The Ray that a run's workers live in: one that is started for it, or one that it joins."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mfsynth.config import RuntimeConfig
from mfsynth.errors import MfsynthError
from mfsynth.runs.sizing import NodeResources

# Pixels never pass through Ray's object store: the smallest one it allows is plenty.
OBJECT_STORE_BYTES = 80 * 2**20
# A head may be started again. Ray itself ends the driver in mid-call when it has lost sight of it
# for so long as is set here; by then we must be through, and leaving such a cluster takes time.
HEAD_PATIENCE_S = 30.0
RAYS_PATIENCE_S = 180
PROBE_S = 1.0
# Whoever has a cluster's token can run code on it.
TOKEN_VARIABLE = "RAY_AUTH_TOKEN"
TOKEN_PATH_VARIABLE = "RAY_AUTH_TOKEN_PATH"
# Off, Ray takes the loopback address for the node's, and its services listen on nothing else. It
# is off by default on the systems that Ray names it after.
NETWORK_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


class ClusterLostError(MfsynthError):
    """The cluster went away under a run; the same command goes on, on any other one."""


class RayCluster:
    """A connection of this process to Ray, until `disconnect`.

    Args:
        runtime: Which cluster to join; without an address one is started here.

    Raises:
        MfsynthError: Ray cannot be reached or started.
    """

    def __init__(self, runtime: RuntimeConfig) -> None:
        _quieten_ray()
        _keep_token_private(needs_one=runtime.ray_address is None)
        if runtime.ray_address is not None:
            os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(RAYS_PATIENCE_S))
        import ray

        self._ray = ray
        self._connect(runtime)
        context = ray.get_runtime_context()
        self._head, self._own_node = context.gcs_address, context.get_node_id()

    def disconnect(self) -> None:
        """Leave the cluster, and end it if it was started here."""
        self._ray.shutdown()

    def nodes(self) -> list[NodeResources]:
        """What each node that is alive has.

        Raises:
            ClusterLostError: The head is gone, or the node that the driver is on.
        """
        self.await_head()
        nodes = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}
        if self._own_node not in nodes:
            raise ClusterLostError(
                "the Ray node that the driver is on is gone, and its workers with it; "
                "mend the node, then run the same command again"
            )
        return [node["Resources"] for node in nodes.values()]

    def request(self, bundles: Sequence[Mapping[str, float]]) -> None:
        """Tell the autoscaler, if there is one, what there should be room for.

        The wish outlives a driver that is killed, until the next one's.

        Raises:
            ClusterLostError: The head is gone.
        """
        from ray.autoscaler.sdk import request_resources

        self.await_head()
        request_resources(bundles=list(bundles))

    def await_head(self) -> None:
        """Return once the head answers; to be called before whatever Ray asks the head for.

        Raises:
            ClusterLostError: It does not in `HEAD_PATIENCE_S`.
        """
        gone_since = time.monotonic()
        while not self.head_answers():
            if time.monotonic() >= gone_since + HEAD_PATIENCE_S:
                raise ClusterLostError(
                    f"the head of the Ray cluster ({self._head}) has not answered for "
                    f"{HEAD_PATIENCE_S:g} s; start a cluster, then run the same command again"
                )
            time.sleep(PROBE_S)

    def head_answers(self) -> bool:
        """Whether the head can be reached now."""
        # Asking Ray would block until the head is back, or end the process.
        host, _, port = self._head.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_S).close()
        except OSError:
            return False
        return True

    def _connect(self, runtime: RuntimeConfig) -> None:
        try:
            if runtime.ray_address is not None:
                self._ray.init(
                    address=runtime.ray_address, log_to_driver=False, logging_level=logging.ERROR
                )
                return
            cpus = _cores()
            if isinstance(runtime.workers, int):
                # More workers than cores is the user's choice, and Ray must not queue them.
                cpus = max(cpus, runtime.workers)
            with _on_loopback():
                self._ray.init(
                    address="local",
                    num_cpus=cpus,
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
        # ray.init has no exception type of its own: ConnectionError, RuntimeError, ValueError
        # and others, all for "no cluster there" or "could not start one".
        except Exception as error:
            where = runtime.ray_address or "on this machine"
            raise MfsynthError(
                f"Ray does not start ({where}): {' '.join(str(error).split())[:200]}; "
                "see runtime.ray_address, and RAY_AUTH_MODE if the cluster asks for a token"
            ) from error


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quieten_ray() -> None:
    """Ray reads these when it is imported. The user's own values stay."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # The driver says itself, in one line, when a worker dies; Ray says it in twelve.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "A worker died or was killed")
    logging.getLogger("ray").setLevel(logging.ERROR)


def _keep_token_private(*, needs_one: bool) -> None:
    """Ray writes its token for everybody on the machine to read; here it needs no file.

    Args:
        needs_one: Whether a cluster is to be started, which makes a token where there is none.
    """
    try:
        given = os.environ.get(TOKEN_PATH_VARIABLE)
        path = Path(given) if given else Path.home() / ".ray" / "auth_token"
        if path.is_file():
            if path.stat().st_mode & 0o077:
                path.chmod(0o600)
            return
    except (OSError, RuntimeError):
        # No home, or somebody else's file: Ray says what it makes of that.
        pass
    if needs_one:
        # Of processes that start here, which nobody else can look at.
        os.environ.setdefault(TOKEN_VARIABLE, secrets.token_hex(32))


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """While it is entered, a Ray that is started can be reached from this machine alone."""
    from ray._private import ray_constants

    before = os.environ.get(NETWORK_VARIABLE)
    # Ray reads the variable when it is imported, which may have been before; its processes will.
    networked, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    os.environ[NETWORK_VARIABLE] = "0"
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = networked
        if before is None:
            del os.environ[NETWORK_VARIABLE]
        else:
            os.environ[NETWORK_VARIABLE] = before
