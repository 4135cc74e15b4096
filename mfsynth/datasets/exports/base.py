"""What a format is to an export.

    class Plain(Exporter):
        holds = "an image a pair, and no depth"
        cuts = "depth"
        keeps = IN_METADATA
        means_metres = False

        def encode(self, frames, pairs):
            return Block({f"{frame.number:09d}.jpg": frame.files["rgb"] for frame in frames})

        def documents(self, pairs, facts):
            return {"metadata.jsonl": described(pairs, lambda number: f"{number:09d}.jpg")}

Fields are options, which `--set` gives. `registry` knows it by its name.
"""

from __future__ import annotations

import importlib.util
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum
from math import isnan
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from mfsynth.config.base import Settings
from mfsynth.datasets.exports.episodes import COLUMNS
from mfsynth.datasets.exports.pairs import Frame, Pairs
from mfsynth.errors import MfsynthError
from mfsynth.geometry.rgbd import DepthMap
from mfsynth.shards.tables import SCORE_PREFIX, SLOT_PREFIX, scores_of, slots_of

Facts = Mapping[str, Any]


class Content(StrEnum):
    """What a run may have beside image, depth, K, prompt and licences; as people are told of it."""

    SCORES = "scores"
    SLOTS = "slots of prompts"
    TIMES = "episodes and times"
    CAMERAS = "poses of cameras"
    MASKS = "masks of instances"
    OBJECTS = "names and poses of objects"
    SENSOR = "a sensor's depth"
    OTHERS = "other files of the source"


IN_METADATA: Final = frozenset(
    {Content.SCORES, Content.SLOTS, Content.TIMES, Content.CAMERAS},
)
"""What `described` writes of each pair."""

_BLOCK = 16
_MOMENTS: Final = (*COLUMNS, "camera_to_world")
HIGHEST_CODE = 65534
"""Of 16 bits: readers of many formats take 65535 for the background."""


@dataclass(frozen=True, slots=True)
class Block:
    """What some pairs come to.

    Attributes:
        files: By path in the export, with `/`.
        lost: How many pixels with depth have none in these, because the format ends before.
        facts: What documents need of them, as JSON has it.
        photographs: Paths of images that came with a source: only their depth was made here.
    """

    files: Mapping[str, bytes]
    lost: int = 0
    facts: Facts = field(default_factory=dict)
    photographs: Sequence[str] = ()


class Exporter(Settings, ABC):
    """A format, with its options.

    Files and documents are functions of the pairs and the options and nothing else, so that an
    export that was killed ends with the bytes of one that was not.

    Attributes:
        holds: What is in it, in a line.
        keeps: What of a run is in it beside image, depth, K, prompt and licences.
        cuts: What is lost of what is in it, in a line; "" for nothing.
        reach: Nearest and furthest depth that it has codes for, in metres; None for all.
        means_metres: Whether its readers take depth for metres.
        has_pictures: Whether images and depth are files of their own that show pictures.
        wants_labels: Whether it is written of what a source knows of its views, too.
        needs_camera: Whether a pair without intrinsics can't be written.
        needs_module: Imported to write it, beside what mfsynth always has.
        extra: Of mfsynth's, that installs the module.
    """

    holds: ClassVar[str]
    keeps: ClassVar[Set[Content]] = IN_METADATA
    cuts: ClassVar[str] = ""
    reach: ClassVar[tuple[float, float] | None] = None
    means_metres: ClassVar[bool] = True
    has_pictures: ClassVar[bool] = False
    wants_labels: ClassVar[bool] = False
    needs_camera: ClassVar[bool] = False
    needs_module: ClassVar[str | None] = None
    extra: ClassVar[str | None] = None

    @classmethod
    def loses(cls) -> str:
        """What of a run is not in it, in a line; "" for nothing."""
        lacking = ", ".join(content for content in Content if content not in cls.keeps)
        return "; ".join(filter(None, [cls.cuts, lacking]))

    def left_out(self, pairs: Pairs) -> str:
        """What of these pairs is not in it though it could be, in a line; "" for nothing."""
        return ""

    @property
    def block_size(self) -> int:
        """How many pairs are encoded and marked as done at a time."""
        return _BLOCK

    def arranged(self, pairs: Pairs) -> Pairs:
        """The pairs in the order in which the format has them."""
        return pairs

    def blocks(self, pairs: Pairs) -> Sequence[range]:
        """Numbers of the pairs that are encoded and marked as done at a time, in order."""
        starts = range(0, len(pairs), self.block_size)
        return [range(start, min(start + self.block_size, len(pairs))) for start in starts]

    @property
    def module(self) -> str | None:
        """Imported to write it with these options, beside what mfsynth always has."""
        return self.needs_module

    def require(self, pairs: Pairs) -> None:
        """Refuse what can't be written, before anything is.

        Raises:
            MfsynthError: It says what is lacking, and how it can be given.
        """
        if (module := self.module) and importlib.util.find_spec(module) is None:
            raise MfsynthError(
                f"this format is written with {module}, which isn't here; pip install "
                f"'mfsynth[{self.extra}]'"
            )
        if self.means_metres and pairs.relative:
            raise MfsynthError(
                f"{pairs.relative} of {len(pairs)} pairs have relative depth, and this format "
                "means metres; give --metres-per-unit if you know it, or a format that says its "
                "unit (folder, parquet, ply)"
            )
        if self.reach is not None and not pairs.within(*self.reach):
            nearest, furthest = self.reach
            raise MfsynthError(
                f"none of {len(pairs)} pairs has depth between {nearest:.3g} m and {furthest:.5g} "
                "m, where this format has codes; take one that holds all depth (folder, hdf5, "
                "parquet), or another --metres-per-unit if that is wrong"
            )
        unknown = sum(pairs.camera(i).intrinsics is None for i in range(len(pairs)))
        if self.needs_camera and unknown:
            raise MfsynthError(
                f"{unknown} of {len(pairs)} pairs have no camera, and this format needs one; give "
                "--assume-fov with the horizontal angle to assume"
            )

    @abstractmethod
    def encode(self, frames: Iterable[Frame], pairs: Pairs) -> Block:
        """Files of the pairs of a block.

        Args:
            frames: Of the block, read as they are taken.
            pairs: All of the export.
        """

    @abstractmethod
    def documents(self, pairs: Pairs, facts: Sequence[Facts]) -> Mapping[str, bytes]:
        """Files of the whole, which are written last.

        Args:
            pairs: All of the export.
            facts: Of each block, in order.
        """


def described(pairs: Pairs, image: Callable[[int], str]) -> bytes:
    """`metadata.jsonl`: a line a pair with its prompt, and what the format has no place for.

    Episodes and poses are there of runs that have them, null of pairs that don't.

    Args:
        pairs: All of the export.
        image: Path of the image of a pair by its number.
    """
    names = pairs.schema.names
    own = ["model_id", "licence", "digital_source_type"]
    moments = [name for name in _MOMENTS if name in names]
    scored = [name for name in names if name.startswith((SCORE_PREFIX, SLOT_PREFIX))]
    lines = []
    for number, row in enumerate(pairs.rows(["sample_id", "prompt", *own, *moments, *scored])):
        about = {
            "file_name": image(number),
            "text": row["prompt"],
            "sample_id": row["sample_id"],
            "intrinsics_source": pairs.camera(number).source,
            **{name: row[name] for name in own},
            **pairs.origin(number),
            "depth_unit": pairs.unit(number),
            **{name: row[name] for name in moments},
            # As `KEY.json` has them.
            "slots": slots_of(row),
            "scores": {name: None if isnan(of) else of for name, of in scores_of(row).items()},
        }
        lines.append(json.dumps(about, ensure_ascii=False))
    return "".join(f"{line}\n" for line in lines).encode()


def npy(array: DepthMap) -> bytes:
    """As `numpy.save` writes it."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def whole_codes(depth: DepthMap, per_unit: float) -> tuple[NDArray[np.uint16], int]:
    """Depth in steps, as 16-bit codes, and how many pixels are too near or too far for them.

    Args:
        depth: float32 (H, W), 0 = invalid.
        per_unit: Codes a unit.

    Returns:
        uint16 (H, W), 0 where there is no depth or no code for it.
    """
    exact = np.rint(np.multiply(depth, per_unit, dtype=np.float64))
    fits = (exact >= 1) & (exact <= HIGHEST_CODE)
    lost = int(np.count_nonzero((depth > 0) & ~fits))
    return np.where(fits, exact, 0).astype(np.uint16), lost


def reach_of(per_metre: float) -> tuple[float, float]:
    """Nearest and furthest depth that `whole_codes` has codes for, in metres.

    Args:
        per_metre: Codes a metre.
    """
    return 0.5 / per_metre, (HIGHEST_CODE + 0.5) / per_metre
