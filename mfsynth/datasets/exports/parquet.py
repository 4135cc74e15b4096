"""Parquet with pictures in it, as the Hugging Face's `datasets` and its viewer open it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

import pyarrow as pa
import pyarrow.parquet as pq

from mfsynth.config.base import Count
from mfsynth.datasets.exports.base import Block, Exporter, Facts
from mfsynth.datasets.exports.cards import CARD, card
from mfsynth.datasets.exports.pairs import Frame, Pairs
from mfsynth.datasets.exports.pictures import PICTURE, depth_jpeg
from mfsynth.geometry import DepthKind
from mfsynth.geometry.colour import colour_depth
from mfsynth.shards.quantisation import DepthScale

_PICTURES: Final = ("image", "depth", "preview")
# Of the index: where pairs lie in shards.
_PLACES = ("_offset", "_size", "_crc32")
_NUMBERS: Final = ("depth_unit_per_code", "depth_near", "depth_far")
_ORIGIN: Final = ("model_licence", "estimator", "estimator_licence", "source_licence")
# Of the viewer: a page is a row group.
_ROW_GROUP = 100


class Parquet(Exporter):
    """data/N.parquet: image, depth and a coloured preview of it, with the columns of the index.

    Attributes:
        pairs_per_file: Of each file but the last.
    """

    holds: ClassVar[str] = "the JPEG and the 16-bit PNG as they are, columns of the index, preview"
    means_metres: ClassVar[bool] = False

    pairs_per_file: Count = 256

    @property
    def block_size(self) -> int:
        """See `Exporter`."""
        return self.pairs_per_file

    def encode(self, frames: Iterable[Frame], pairs: Pairs) -> Block:
        """See `Exporter`."""
        rows = [(frame.number, _row(frame, pairs)) for frame in frames]
        schema = _schema(pairs)
        table = pa.Table.from_pylist([row for _, row in rows], schema)
        sink = io.BytesIO()
        # Pictures are compressed already.
        pq.write_table(table, sink, row_group_size=_ROW_GROUP, compression="zstd")
        number = rows[0][0] // self.pairs_per_file
        return Block({f"data/{number:06d}.parquet": sink.getvalue()})

    def documents(self, pairs: Pairs, facts: Sequence[Facts]) -> Mapping[str, bytes]:
        """See `Exporter`."""
        return {CARD: card(pairs).encode()}


def _kept(schema: pa.Schema) -> list[pa.Field]:
    return [
        field.with_nullable(True)
        for field in schema
        if not field.name.endswith(_PLACES) and field.name not in ("shard", "row")
    ]


def _schema(pairs: Pairs) -> pa.Schema:
    pictures = [pa.field(name, PICTURE) for name in _PICTURES]
    more = [pa.field("depth_unit", pa.string()), pa.field("metres_per_unit", pa.float64())]
    more += [pa.field(name, pa.string()) for name in _ORIGIN]
    about = {"info": {"features": {name: {"_type": "Image"} for name in _PICTURES}}}
    kept = _kept(pairs.schema)
    more = [field for field in more if field.name not in {known.name for known in kept}]
    return pa.schema([*pictures, *kept, *more], {"huggingface": json.dumps(about)})


def _row(frame: Frame, pairs: Pairs) -> dict[str, Any]:
    key, factor = frame.sample.sample_id, pairs.factor(frame.number)
    preview = depth_jpeg(colour_depth(frame.depth), frame.row)
    kept = {field.name: frame.row[field.name] for field in _kept(pairs.schema)}
    scaled = {name: kept[name] * factor for name in _NUMBERS}
    if kept["depth_encoding"] == DepthScale.LOG:
        scaled["depth_unit_per_code"] = kept["depth_unit_per_code"]
    camera = frame.camera
    if (k := camera.intrinsics) is not None:
        scaled |= {"fx": k.fx, "fy": k.fy, "cx": k.cx, "cy": k.cy}
    return {
        "image": {"bytes": frame.files["rgb"], "path": f"{key}.rgb.jpg"},
        "depth": {"bytes": frame.files["depth"], "path": f"{key}.depth.png"},
        "preview": {"bytes": preview, "path": f"{key}.preview.jpg"},
        **pairs.origin(frame.number),
        **kept,
        **scaled,
        "intrinsics_source": camera.source,
        "depth_unit": frame.unit,
        # As in a run whose configuration has the number.
        **(
            {}
            if pairs.scale(frame.number) is None
            else {"depth_kind": str(DepthKind.ESTIMATED_METRIC_Z), "metres_per_unit": factor}
        ),
    }
