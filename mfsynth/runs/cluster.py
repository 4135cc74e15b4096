"""The Ray that a run's workers live in: one that is started for it, or one that it joins."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence

from mfsynth.config import RuntimeConfig
from mfsynth.errors import MfsynthError
from mfsynth.processes import usable_cores
from mfsynth.runs import local_ray
from mfsynth.runs.events import WaitCause
from mfsynth.runs.patience import Patience
from mfsynth.runs.ray_errors import RayTrouble, explained, unanswered
from mfsynth.runs.sizing import NodeResources

# Pixels never pass through Ray's object store: the smallest one it allows is plenty.
OBJECT_STORE_BYTES = 80 * 2**20
# A head may be started again. Ray itself ends the driver in mid-call when it has lost sight of it
# for so long as is set here; by then we must be through, and leaving such a cluster takes time.
HEAD_PATIENCE_S = 30.0
RAYS_PATIENCE_S = 180
# Nobody starts again what was started here.
LOCAL_PATIENCE_S = 5.0
PROBE_S = 1.0


class ClusterLostError(MfsynthError):
    """The cluster went away under a run; the same command goes on, on any other one."""


class RayCluster:
    """A connection of this process to Ray, until `disconnect`.

    Args:
        runtime: Which cluster to join; without an address one is started here.
        patience: With what may pass: a head that does not answer yet, a machine that is slow.

    Attributes:
        is_local: Whether it was started here.

    Raises:
        MfsynthError: Ray cannot be reached or started.
    """

    def __init__(self, runtime: RuntimeConfig, patience: Patience | None = None) -> None:
        _quieten_ray()
        self.is_local = runtime.ray_address is None
        local_ray.keep_token_private(needs_one=self.is_local)
        folder = local_ray.prepare() if self.is_local else None
        if not self.is_local:
            os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(RAYS_PATIENCE_S))
        import ray

        self._ray = ray
        patience = patience or Patience(0.0)
        while (trouble := self._connect(runtime, folder)) is not None:
            if not trouble.may_pass:
                raise MfsynthError(trouble.text)
            patience.wait(WaitCause.RAY, trouble.text)
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
            raise self._lost(
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
            ClusterLostError: It does not for long enough.
        """
        patience_s = LOCAL_PATIENCE_S if self.is_local else HEAD_PATIENCE_S
        gone_since = time.monotonic()
        while not self.head_answers():
            if time.monotonic() >= gone_since + patience_s:
                raise self._lost(
                    f"the head of the Ray cluster ({self._head}) has not answered for "
                    f"{patience_s:g} s; start a cluster, then run the same command again"
                )
            time.sleep(PROBE_S)

    def head_answers(self) -> bool:
        """Whether the head can be reached now."""
        # Asking Ray would block until the head is back, or end the process.
        return _refusal(self._head) is None

    def _lost(self, text: str) -> ClusterLostError:
        if not self.is_local:
            return ClusterLostError(text)
        return ClusterLostError(
            "the Ray that was started for this run is gone, and what its workers had in work (a "
            "service manager may send its signals to all processes: KillMode=mixed spares them); "
            "run the same command again"
        )

    def _connect(self, runtime: RuntimeConfig, folder: str | None) -> RayTrouble | None:
        """Start Ray or join it; what is in the way, if something is."""
        address = runtime.ray_address
        if address is not None and (refusal := _refusal(address)) is not None:
            return unanswered(refusal, address)
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            with local_ray.signals_left_alone():
                if address is not None:
                    self._ray.init(address=address, **quiet)
                    return None
                with local_ray.started_apart():
                    self._ray.init(
                        address="local",
                        num_cpus=_cores_for(runtime.workers),
                        include_dashboard=False,
                        object_store_memory=OBJECT_STORE_BYTES,
                        _temp_dir=folder,
                        **quiet,
                    )
        # Exception: see `explained`.
        except Exception as error:
            self._ray.shutdown()
            return explained(error, address, f"{folder or '$RAY_TMPDIR/ray'}/session_latest/logs")
        return None


def _refusal(address: str) -> OSError | None:
    """Why there is no connection to `HOST:PORT` now; None of an address of another kind."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        return None
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_S).close()
    except OSError as error:
        return error
    return None


def _cores_for(workers: int | str) -> int:
    """How many Ray gives out: more workers than cores is the user's choice, and not queued."""
    return max(usable_cores(), workers) if isinstance(workers, int) else usable_cores()


def _quieten_ray() -> None:
    """Ray reads these when it is imported. The user's own values stay."""
    # The driver says itself, in one line, when a worker dies; Ray says it in twelve.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "A worker died or was killed")
    logging.getLogger("ray").setLevel(logging.ERROR)
