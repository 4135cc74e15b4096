"""Parquet with pictures in it, as the Hugging Face's `datasets` and its viewer open it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, ClassVar, Final

import cv2
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

from mfsynth import __version__
from mfsynth.config.base import Count
from mfsynth.datasets.exports.base import Block, Content, Exporter, Facts
from mfsynth.datasets.exports.cards import CARD, card
from mfsynth.datasets.exports.pairs import Frame, Pairs, labels_in
from mfsynth.datasets.exports.pictures import PICTURE, depth_jpeg
from mfsynth.geometry import DepthKind
from mfsynth.geometry.colour import colour_depth
from mfsynth.shards.layout import MEMBERS, members_of
from mfsynth.shards.quantisation import DepthScale

_PICTURES: Final = ("image", "depth", "preview")
# Columns of members; of files that only their source understands, `file_` and the member's name.
_LABELS: Final = {"mask": "mask", "sensor": "sensor_depth", "poses": "poses"}
_LABEL_PICTURES: Final = ("mask", "sensor")
# Of the index: where pairs lie in shards.
_PLACES: Final = ("offset", "size", "crc32")
_NUMBERS: Final = ("depth_unit_per_code", "depth_near", "depth_far")
_ORIGIN: Final = ("model_licence", "estimator", "estimator_licence", "source_licence")
ENCODERS: Final = {
    "mfsynth": __version__,
    "opencv": cv2.__version__,
    "pyarrow": pa.__version__,
    "simplejpeg": simplejpeg.__version__,
}
"""Versions of what makes files of pairs and options."""
# Of the viewer: a page is a row group.
_ROW_GROUP = 100


class Parquet(Exporter):
    """data/N.parquet: image, depth, its preview in colours, labels, and columns of the index.

    Attributes:
        pairs_per_file: Of each file but the last.
    """

    holds: ClassVar[str] = (
        "the JPEG, the 16-bit PNG and files of labels as they are, columns of the index, preview"
    )
    keeps: ClassVar[Set[Content]] = frozenset(Content)
    means_metres: ClassVar[bool] = False
    wants_labels: ClassVar[bool] = True

    pairs_per_file: Count = 256

    @property
    def block_size(self) -> int:
        """See `Exporter`."""
        return self.pairs_per_file

    def encode(self, frames: Iterable[Frame], pairs: Pairs) -> Block:
        """See `Exporter`."""
        rows = [(frame.number, _row(frame, pairs)) for frame in frames]
        schema = schema_of(pairs)
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
    members = members_of(schema.names)
    places = {f"{member}_{place}" for member in members for place in _PLACES}
    return [
        field.with_nullable(True) for field in schema if field.name not in places | {"shard", "row"}
    ]


def _column(label: str) -> str:
    return _LABELS.get(label, f"file_{label}")


def schema_of(pairs: Pairs) -> pa.Schema:
    """Columns of the files."""
    labels = labels_in(pairs.schema.names)
    names = [*_PICTURES, *(_column(name) for name in labels if name in _LABEL_PICTURES)]
    pictures = [pa.field(name, PICTURE) for name in names]
    whole = [name for name in labels if name not in _LABEL_PICTURES]
    pictures += [pa.field(_column(name), pa.binary()) for name in whole]
    more = [pa.field("depth_unit", pa.string()), pa.field("metres_per_unit", pa.float64())]
    more += [pa.field(name, pa.string()) for name in _ORIGIN]
    about = {"info": {"features": {name: {"_type": "Image"} for name in names}}}
    kept = _kept(pairs.schema)
    more = [field for field in more if field.name not in {known.name for known in kept}]
    return pa.schema([*pictures, *kept, *more], {"huggingface": json.dumps(about)})


def _labels(frame: Frame) -> dict[str, Any]:
    """Files of a pair's labels by their columns; null without."""
    key = frame.sample.sample_id
    members = members_of(frame.row)
    return {
        _column(name): {"bytes": data, "path": f"{key}.{members[name].suffix}"}
        if name in _LABEL_PICTURES
        else data
        for name, data in frame.files.items()
        if name not in MEMBERS
    }


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
        **_labels(frame),
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
