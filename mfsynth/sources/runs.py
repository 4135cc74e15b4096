"""The pairs of an mfsynth run as training data."""

from __future__ import annotations

from collections.abc import Iterator

from mfsynth.datasets import RGBDDataset
from mfsynth.errors import MfsynthError
from mfsynth.geometry import DepthKind
from mfsynth.sources.base import TrainingSample
from mfsynth.storage.credentials import without_credentials


class RunSource:
    """Implements `Source`; the caption is the prompt.

    Args:
        url: A local path or fsspec URL of a run.

    Raises:
        MfsynthError: There is no run, it has no pairs, or its depth has an unknown shift, which
            no scale makes z-depth.
    """

    def __init__(self, url: str) -> None:
        self._pairs = RGBDDataset(url)
        shown = without_credentials(url)
        if not len(self._pairs):
            raise MfsynthError(f"{shown}: the run has no committed pairs; generate some")
        if DepthKind.AFFINE_INVARIANT_Z in self._pairs.index.column("depth_kind").to_pylist():
            raise MfsynthError(
                f"{shown}: depth of the kind {DepthKind.AFFINE_INVARIANT_Z} is z-depth but for an "
                "unknown shift; use a run of another kind"
            )

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> TrainingSample:
        pair = self._pairs[index]
        return TrainingSample(pair.rgb, pair.depth, pair.prompt)

    def captions(self) -> Iterator[str]:
        """See `Source`."""
        return iter(self._pairs.index.column("prompt").to_pylist())
