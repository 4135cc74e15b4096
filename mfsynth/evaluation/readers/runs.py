"""The committed pairs of an mfsynth run as ground truth."""

from __future__ import annotations

from mfsynth.datasets import RGBDDataset
from mfsynth.errors import MfsynthError
from mfsynth.evaluation.frames import EvaluationSet, Frame
from mfsynth.evaluation.protocols import PLAIN
from mfsynth.geometry import DepthKind
from mfsynth.storage.credentials import without_credentials


class RunFrames:
    """Implements `Frames`: the pairs of a run, in the order of their candidates.

    Args:
        url: A local path or fsspec URL of a run.
        limit: How many pairs at most, the first ones; None for all.

    Raises:
        MfsynthError: There is no run, it has no pairs, or its depth has an unknown shift: errors
            relative to such depth mean nothing.
    """

    def __init__(self, url: str, limit: int | None = None) -> None:
        self._pairs = RGBDDataset(url)
        self._shown = without_credentials(url)
        self._length = min(len(self._pairs), limit or len(self._pairs))
        if not self._length:
            raise MfsynthError(f"{self._shown}: the run has no committed pairs; generate some")
        if DepthKind.AFFINE_INVARIANT_Z in self._pairs.index.column("depth_kind").to_pylist():
            raise MfsynthError(
                f"{self._shown}: depth of the kind {DepthKind.AFFINE_INVARIANT_Z} can't be ground "
                "truth, its shift is unknown; use a run of another kind"
            )

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Frame:
        pair = self._pairs[index]
        return Frame(f"{self._shown}: {pair.sample_id}", pair.rgb, pair.depth)


def open_run(url: str, limit: int | None = None) -> EvaluationSet:
    """Open a run; see `RunFrames`."""
    return EvaluationSet(without_credentials(url), PLAIN, RunFrames(url, limit))
