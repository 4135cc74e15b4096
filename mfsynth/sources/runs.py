"""The pairs of an mfsynth run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from mfsynth.config.base import NonEmpty, Unset
from mfsynth.errors import MfsynthError
from mfsynth.geometry import DepthKind, Intrinsics
from mfsynth.sources.base import DepthFacts, Item, unit_of
from mfsynth.sources.settings import SourceSettings
from mfsynth.storage.credentials import without_credentials


class RunSettings(SourceSettings):
    """The pairs of an mfsynth run.

    Attributes:
        url: A local path or fsspec URL of the run.
        view: Name of a view of it (`mfsynth refilter`); unset, all pairs that it accepted.
    """

    kind: Literal["mfsynth"]
    url: NonEmpty
    view: Unset[NonEmpty] = None

    def open(self) -> RunSource:
        """See `RunSource`."""
        return RunSource(self.url, self.view)


class RunSource:
    """Implements `FiniteSource`: pairs in the order of their candidates, with their prompts.

    Args:
        url: A local path or fsspec URL of a run.
        view: Name of a view of it; None for all pairs that it accepted.

    Raises:
        MfsynthError: There is no run or view, it has no pairs, or its depth has an unknown shift,
            which no scale makes z-depth.
    """

    def __init__(self, url: str, view: str | None = None) -> None:
        # Here, so that reading settings doesn't wait for what reading pairs takes.
        from mfsynth.datasets import RGBDDataset

        self._pairs = RGBDDataset(url, view=view)
        self._shown = without_credentials(url)
        if not len(self._pairs):
            raise MfsynthError(f"{self._shown}: the run has no committed pairs; generate some")
        if DepthKind.AFFINE_INVARIANT_Z in self._pairs.index.column("depth_kind").to_pylist():
            raise MfsynthError(
                f"{self._shown}: depth of the kind {DepthKind.AFFINE_INVARIANT_Z} has an unknown "
                "shift, which no scale makes z-depth; use a run of another kind"
            )

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Item:
        pair = self._pairs[index]
        camera = pair.intrinsics
        return Item(
            rgb=pair.rgb,
            depth=pair.depth,
            text=pair.prompt,
            intrinsics=None if camera is None else Intrinsics.from_matrix(camera),
            name=f"{self._shown}: {pair.sample_id}",
            camera_from=pair.intrinsics_source or "",
            facts=DepthFacts(unit_of(pair.depth_kind)),
        )

    def texts(self) -> Iterator[str]:
        """See `FiniteSource`."""
        return iter(self._pairs.index.column("prompt").to_pylist())
