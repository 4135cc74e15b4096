"""One function that opens whatever a training is to read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

from mfsynth.datasets.mixture import MixedDataset
from mfsynth.datasets.rgbd import RGBDDataset
from mfsynth.datasets.samples import RGBDSample
from mfsynth.errors import MfsynthError

Url = str | os.PathLike[str]
Transform = Callable[[RGBDSample], Any]


@overload
def open_dataset(
    source: Url | Sequence[Url],
    *,
    view: str | None = None,
    transform: Transform | None = None,
    cache_bytes: int = 0,
    labels: bool = False,
) -> RGBDDataset: ...


@overload
def open_dataset(
    source: Mapping[Url, float],
    *,
    view: str | None = None,
    cache_bytes: int = 0,
    labels: bool = False,
) -> MixedDataset: ...


def open_dataset(
    source: Url | Sequence[Url] | Mapping[Url, float],
    *,
    view: str | None = None,
    transform: Transform | None = None,
    cache_bytes: int = 0,
    labels: bool = False,
) -> RGBDDataset | MixedDataset:
    """Open the committed pairs of runs.

    ```python
    dataset = mfsynth.open_dataset("s3://bucket/kitchen", cache_bytes=50 * 10**9)
    good = dataset.filter("registration > 2 and 'mug' in objects")
    for batch in good.loader(batch_size=32): ...
    ```

    Args:
        source: Local path or fsspec URL of a run; a list of them, which follow each other; or a
            weight for each, by which the loader takes from them. None of them twice.
        view: As of `RGBDDataset`.
        transform: As of `RGBDDataset`; not for a mixture.
        cache_bytes: As of `RGBDDataset`; all runs share the room.
        labels: As of `RGBDDataset`.

    Raises:
        MfsynthError: See `RGBDDataset` and `MixedDataset`.
    """
    if isinstance(source, Mapping):
        if transform is not None:
            raise MfsynthError("a mixture has no transform; give its loader augment and fields")
        datasets = [
            RGBDDataset(url, view=view, cache_bytes=cache_bytes, labels=labels) for url in source
        ]
        _require_different_runs(datasets)
        return MixedDataset(datasets, [*source.values()])
    return RGBDDataset(
        source, view=view, transform=transform, cache_bytes=cache_bytes, labels=labels
    )


def _require_different_runs(datasets: Sequence[RGBDDataset]) -> None:
    """As of a list: two URLs of one run are a mistake. Whoever means it makes a `MixedDataset`."""
    known: dict[tuple[str, str], RGBDDataset] = {}
    for dataset in datasets:
        [run] = dataset.runs
        first = known.setdefault((run.run_id, run.fingerprint), dataset)
        if first is not dataset:
            raise MfsynthError(
                f"a mixture: {first!r} and {dataset!r} are the same run, a copy, or make the same "
                "samples; give one of them, with a greater weight"
            )
