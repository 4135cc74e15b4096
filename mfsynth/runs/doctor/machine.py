"""What this machine has for a run: room to spool, open files, GPUs."""

from __future__ import annotations

import fcntl
import resource
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mfsynth.config import RunConfig
from mfsynth.formatting import size
from mfsynth.models import require_gpu
from mfsynth.runs.doctor.findings import Finding, error, note, ok, warning
from mfsynth.runs.doctor.space import SPOOLED_SHARDS, Demand, free_in
from mfsynth.shards.tables import Declared
from mfsynth.shards.writer import ShardSpool

# A driver has 128 connections to an object store at most, a socket or two to each worker, and its
# libraries' files.
_FILES = 300
_FILES_A_WORKER = 3
_SMI = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
_SMI_LIMIT_S = 20


def spools(wanted: Demand | None) -> Finding:
    """Whether shards can be spooled in the temporary folder, with room and locks."""
    parent = Path(tempfile.gettempdir())
    # As a worker does.
    with ShardSpool(
        run="probe",
        shard=0,
        attempt="probe",
        first_candidate=0,
        candidates=1,
        declared=Declared((), ()),
        run_sha256="",
    ):
        pass
    free, _ = free_in(parent)
    seen = f"{parent}: {size(free)} free"
    if wanted is not None and free < SPOOLED_SHARDS * wanted.shard:
        return warning(
            f"{seen}, a worker may need {size(SPOOLED_SHARDS * wanted.shard)}",
            "free some, set TMPDIR to a larger disk, or make shard_size smaller",
        )
    return _locks(parent) or ok(f"{seen}, and it has locks")


def _locks(parent: Path) -> Finding | None:
    """What is wrong with locks there; nothing if one keeps others out."""
    try:
        with tempfile.NamedTemporaryFile(dir=parent) as file, Path(file.name).open() as again:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
    except OSError as problem:
        return note(
            f"{parent} has no locks ({problem.strerror or problem}): folders of killed workers may "
            "stay",
            "set TMPDIR to a local disk",
        )
    return warning(
        f"in {parent} a lock keeps nobody out: workers may remove each other's folders",
        "set TMPDIR to a local disk",
    )


def open_files(workers: int) -> Finding:
    """Whether the driver may open as many files as it will."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES + _FILES_A_WORKER * workers
    if limit == resource.RLIM_INFINITY:
        return ok("no limit")
    if limit < wanted:
        return warning(
            f"a limit of {limit}, a driver may open {wanted}",
            f"ulimit -n {max(wanted, 4096)} before it starts",
        )
    return ok(f"a limit of {limit}, a driver may open {wanted}")


@dataclass(frozen=True, slots=True)
class Gpu:
    """What the driver says of a GPU.

    Attributes:
        name: Its model.
        memory: As `nvidia-smi` writes it: `81559 MiB`.
        driver: Its version.
    """

    name: str
    memory: str
    driver: str


def visible_gpus() -> list[Gpu]:
    """What `nvidia-smi` lists, whatever torch or Ray make of it; nothing where it isn't there."""
    if shutil.which(_SMI[0]) is None:
        return []
    try:
        listed = subprocess.run(_SMI, capture_output=True, text=True, timeout=_SMI_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return []
    fields = [line.split(", ") for line in listed.stdout.splitlines()]
    return [Gpu(*values) for values in fields if len(values) == 3 and not listed.returncode]


def gpus_here(config: RunConfig) -> Finding:
    """Whether the device of the configuration is there, as torch sees it.

    Raises:
        MfsynthError: It isn't.
    """
    import torch

    wanted, visible = config.runtime.device, visible_gpus()
    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    if wanted == "cpu":
        seen = "runtime.device is cpu"
        return note(f"{seen}; {len(found)} GPUs are left alone") if found else ok(seen)
    if found:
        names = ", ".join(f"{gpu.name} with {size(gpu.total_memory)}" for gpu in found)
        driver = f", driver {visible[0].driver}" if visible else ""
        return ok(f"{names}{driver}, CUDA {torch.version.cuda}")
    if visible:
        seen = f"{visible[0].name}, driver {visible[0].driver}, but torch {torch.__version__}"
        remedy = "install a torch that fits the driver; see CUDA_VISIBLE_DEVICES, too"
        return (error if wanted == "cuda" else warning)(f"{seen} sees no GPU", remedy)
    if wanted == "cuda":
        require_gpu("runtime.device")
    return ok("no GPU: the model runs on the CPU")
