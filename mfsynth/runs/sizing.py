"""How many workers a run has, and what each one has for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mfsynth.config import RuntimeConfig
from mfsynth.errors import MfsynthError

# On a CPU more threads than this a worker bring little at the sizes of small models.
THREADS_PER_WORKER = 2
# More leave its caches: 16 pairs of the embedded model take a third more time each.
CPU_BATCH_SIZE = 4
# Halved until it fits, so it may be generous.
CUDA_BATCH_SIZE = 32

# What a node has to give, by Ray's names: `CPU`, `GPU`.
NodeResources = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class WorkerResources:
    """How many workers there are and what each one has.

    Attributes:
        workers: Workers alive at a time; None = as many as the nodes have room for.
        device: `cpu` or `cuda`; a `cuda` worker has one GPU for itself.
        threads: CPU cores, and threads, a worker.
        batch_size: Candidates made together, to begin with.
    """

    workers: int | None
    device: str
    threads: int
    batch_size: int

    @classmethod
    def of(cls, runtime: RuntimeConfig, nodes: Sequence[NodeResources]) -> WorkerResources:
        """Fill in what the configuration leaves to `auto`.

        Args:
            runtime: The configuration.
            nodes: What each node has.

        Raises:
            MfsynthError: `cuda` is asked for and there is no GPU.
        """
        joins = runtime.ray_address is not None
        gpus = sum(int(node.get("GPU", 0)) for node in nodes)
        device = runtime.device
        if device == "auto":
            device = "cuda" if gpus else "cpu"
        if device == "cuda" and not gpus:
            raise MfsynthError(
                "runtime.device: cuda, but Ray sees no GPU; set it to cpu, mend the driver, or "
                "give the cluster its first GPU node"
            )
        on_gpu = device == "cuda"
        # The head of a cluster often has no cores to give, and may be all there is yet.
        cpus = max((int(node.get("CPU", 0)) for node in nodes), default=0) or THREADS_PER_WORKER
        if joins:
            threads = 1 if on_gpu else THREADS_PER_WORKER
        else:
            here = gpus if on_gpu else cpus // THREADS_PER_WORKER
            workers = here if runtime.workers == "auto" else runtime.workers
            threads = cpus // max(1, workers)
        batch_size = CUDA_BATCH_SIZE if on_gpu else CPU_BATCH_SIZE
        return cls(
            workers=None if runtime.workers == "auto" else runtime.workers,
            device=device,
            threads=max(1, min(threads, cpus)),
            batch_size=batch_size if runtime.batch_size == "auto" else runtime.batch_size,
        )

    @property
    def bundle(self) -> dict[str, float]:
        """What Ray must reserve for a worker."""
        return {"CPU": self.threads, "GPU": 1} if self.device == "cuda" else {"CPU": self.threads}

    def places(self, nodes: Sequence[NodeResources]) -> int:
        """How many workers there may be on these nodes; a worker is never spread over two."""
        if self.workers is not None:
            return self.workers
        return sum(
            min(int(node.get(name, 0) // amount) for name, amount in self.bundle.items())
            for node in nodes
        )
