"""What `import mfsynth` offers: a run from Python, as the commands of the same names do it.

```python
import mfsynth

result = mfsynth.generate("local", output="out/mine", pairs=256)
print(result.outcome, result.status.pairs, mfsynth.verify(result.url).problems)
dataset = mfsynth.open_dataset(result.url)
```

Each function imports what it needs when it is called. Errors that a user can mend are
`mfsynth.errors.MfsynthError`, one line each.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mfsynth.errors import MfsynthError

if TYPE_CHECKING:
    from mfsynth.config import ModelConfig, RunConfig
    from mfsynth.models.pipeline import ModalityForcingPipeline
    from mfsynth.runs.result import RunResult
    from mfsynth.runs.watching.notices import Notice, Observer
    from mfsynth.runs.watching.snapshot import Snapshot
    from mfsynth.shards.status import RunStatus
    from mfsynth.shards.verify import VerifyReport

    Config = str | os.PathLike[str] | Mapping[str, Any] | RunConfig
    Url = str | os.PathLike[str]
    Job = Callable[..., RunResult]


def generate(
    config: Config = "local",
    *,
    output: Url | None = None,
    pairs: int | None = None,
    overrides: Sequence[str] = (),
    on_progress: Callable[[Snapshot], None] | None = None,
    on_notice: Callable[[Notice], None] | None = None,
    quiet: bool = False,
    display: Observer | None = None,
) -> RunResult:
    """Start or resume a run: RGB-D pairs from prompts. The same call resumes it.

    Returns when the run has reached its target or failed, or when SIGINT, SIGTERM or SIGHUP have
    asked it to finish the shards in work (in the main thread; elsewhere Python hears no signals).

    Args:
        config: Name of a configuration in `configs/`, path or URL of a YAML file, its content as a
            mapping, or a `RunConfig`.
        output: Replaces `output` of the configuration: a folder or an fsspec URL.
        pairs: Replaces its target: accepted pairs that end the run.
        overrides: Each `"a.b=c"`, `c` in YAML, as of `--set`.
        on_progress: Called with a `Snapshot` twice a second and at the end.
        on_notice: Called with what happens: `Committed` shards, a `FailureNotice` of what is done
            again, an `Announcement`, all of `mfsynth.runs.watching.notices`.
        quiet: Show nothing. Else progress is shown as the command shows it.
        display: What shows it instead.

    Both callbacks are called by the driver itself, between two looks at its workers: a slow one
    holds the run up, and what one raises ends it; what is committed stays, as always.

    Returns:
        How the session ended: `outcome` is finished, drained or failed, then with its `reason`;
        `totals` and `status` are of the whole run.

    Raises:
        MfsynthError: The run can't begin; nothing was made.
    """
    watched = _watched(on_progress, on_notice, quiet, display)
    return _run("generate", config, output, pairs, overrides, watched)


def annotate(
    config: Config = "annotate",
    *,
    output: Url | None = None,
    pairs: int | None = None,
    overrides: Sequence[str] = (),
    on_progress: Callable[[Snapshot], None] | None = None,
    on_notice: Callable[[Notice], None] | None = None,
    quiet: bool = False,
    display: Observer | None = None,
) -> RunResult:
    """Start or resume a run that gives the images of a source depth; all else as of `generate`."""
    watched = _watched(on_progress, on_notice, quiet, display)
    return _run("annotate", config, output, pairs, overrides, watched)


def retexture(
    config: Config = "retexture",
    *,
    output: Url | None = None,
    pairs: int | None = None,
    overrides: Sequence[str] = (),
    on_progress: Callable[[Snapshot], None] | None = None,
    on_notice: Callable[[Notice], None] | None = None,
    quiet: bool = False,
    display: Observer | None = None,
) -> RunResult:
    """Start or resume a run that gives depth of a source images; all else as of `generate`."""
    watched = _watched(on_progress, on_notice, quiet, display)
    return _run("retexture", config, output, pairs, overrides, watched)


JOBS: Mapping[str, Job] = {"generate": generate, "annotate": annotate, "retexture": retexture}
"""The functions that start or resume a run, by the commands of their names."""


def status(url: Url) -> RunStatus:
    """How far the run at a URL is, from its storage alone; asks no running job.

    Raises:
        MfsynthError: There is no run, or its store can't be read.
    """
    from mfsynth.shards.status import run_status
    from mfsynth.storage.store import ObjectStore

    return run_status(ObjectStore.open(os.fspath(url)))


def verify(
    url: Url, *, deep: bool = True, on_progress: Callable[[int, int], None] | None = None
) -> VerifyReport:
    """Compare the run at a URL with its commits. Changes nothing; safe beside a run in progress.

    Args:
        url: Local path or fsspec URL of the run.
        deep: Whether to read all contents, not presence and sizes alone.
        on_progress: Called with (shards done, shards) after each shard.

    Returns:
        `problems`, one line each, is empty for a sound run. What is wrong with the data is there,
        and isn't raised.

    Raises:
        MfsynthError: There is no run, or its store can't be read.
    """
    from mfsynth.shards.verify import verify_run
    from mfsynth.storage.store import ObjectStore

    return verify_run(ObjectStore.open(os.fspath(url)), deep=deep, on_shard=on_progress)


def load_pipeline(
    model: str | os.PathLike[str] | ModelConfig = "embedded", device: str = "auto"
) -> ModalityForcingPipeline:
    """Load a model to sample it without a run.

    ```python
    pipeline = mfsynth.load_pipeline()
    made = pipeline(["a red mug on a wooden table"], seeds=[0], depth_start=0.0, refine_steps=1)
    made.rgb, made.depth  # (1, H, W, 3) uint8 and (1, H, W) float32
    ```

    Args:
        model: `embedded`, a folder, a hub id, or a `ModelConfig` with revision, precision and more.
        device: `cpu`, `cuda`, or `auto` for CUDA where there is one.

    Raises:
        MfsynthError: There is no such model or device, or its files are not what they should be.
    """
    from mfsynth.config import ModelConfig
    from mfsynth.models.registry import load_pipeline as load

    named = model if isinstance(model, ModelConfig) else ModelConfig(id=os.fspath(model))
    if device not in ("auto", "cpu", "cuda") and not re.fullmatch(r"cuda:\d+", device):
        raise MfsynthError(f"device: must be auto, cpu, cuda or cuda:N, not {device!r:.100}")
    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    return load(named, device)


def _run(
    job: str,
    config: Config,
    output: Url | None,
    pairs: int | None,
    overrides: Sequence[str],
    display: Observer | None,
) -> RunResult:
    from mfsynth.runs.settings import load_run_config

    place = None if output is None else os.fspath(output)
    settings = load_run_config(config, overrides, output=place, pairs=pairs)

    # After the configuration, so that its errors don't wait for torch.
    from mfsynth.runs.driver import generate as drive

    return drive(settings, job=job, display=display)


def _watched(
    on_progress: Callable[[Snapshot], None] | None,
    on_notice: Callable[[Notice], None] | None,
    quiet: bool,
    display: Observer | None,
) -> Observer | None:
    """An observer for the driver; None for its own display alone."""
    if on_progress is None and on_notice is None and not quiet:
        return display
    from mfsynth.runs.watching.callbacks import Callbacks
    from mfsynth.runs.watching.terminal import default_display

    shown = None if quiet else display or default_display()
    return Callbacks(on_progress, on_notice, shown)
