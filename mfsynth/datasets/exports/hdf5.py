"""A file a pair, with the names that BlenderProc's have (dlr-rm.github.io/BlenderProc)."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mfsynth.datasets.exports.base import Block, Content, Exporter, Facts, described
from mfsynth.datasets.exports.pairs import Frame, Pairs


class Hdf5(Exporter):
    """N.hdf5 with `colors`, `depth`, and attributes: K, size, unit, prompt, licence, pose.

    Of pairs that have them `instance_segmaps` and `instance_attribute_maps` as BlenderProc writes
    them, with `object_to_camera` of each object, and `sensor_depth`.
    """

    holds: ClassVar[str] = (
        "`colors` uint8, `depth` float32 with 0 for invalid; K and pose of the camera as "
        "attributes; masks, objects and a sensor's depth where a source has them"
    )
    keeps: ClassVar[Set[Content]] = frozenset(Content) - {Content.OTHERS}
    cuts: ClassVar[str] = "NUL in texts (becomes U+FFFD; `metadata.jsonl` has it)"
    wants_labels: ClassVar[bool] = True
    needs_module: ClassVar[str | None] = "h5py"
    extra: ClassVar[str | None] = "hdf5"

    def encode(self, frames: Iterable[Frame], pairs: Pairs) -> Block:
        """See `Exporter`."""
        return Block({f"{frame.number}.hdf5": _file(frame, pairs) for frame in frames})

    def documents(self, pairs: Pairs, facts: Sequence[Facts]) -> Mapping[str, bytes]:
        """See `Exporter`."""
        return {"metadata.jsonl": described(pairs, "{}.hdf5".format)}


def _file(frame: Frame, pairs: Pairs) -> bytes:
    import h5py

    stream = io.BytesIO()
    # Without times, so that the same pair has the same bytes.
    with h5py.File(stream, "w", track_order=True) as file:
        for name, array in _arrays(frame).items():
            file.create_dataset(
                name, data=array, compression="gzip", shuffle=True, track_times=False
            )
        if (objects := _objects(frame)) is not None:
            # Bytes of a fixed length, as BlenderProc has them; NUL is escaped there.
            file.create_dataset(
                "instance_attribute_maps", data=np.bytes_(objects.encode()), track_times=False
            )
        for name, value in _attributes(frame, pairs).items():
            if isinstance(value, str):
                # Texts of HDF5 end at the first one.
                value = value.replace("\0", "\N{REPLACEMENT CHARACTER}")
            if value is not None:
                file.attrs[name] = value
    return stream.getvalue()


def _arrays(frame: Frame) -> dict[str, NDArray[Any]]:
    sample = frame.sample
    arrays: dict[str, NDArray[Any] | None] = {
        "colors": sample.rgb,
        "depth": frame.depth,
        "sensor_depth": sample.sensor,
        "instance_segmaps": sample.mask,
    }
    return {name: array for name, array in arrays.items() if array is not None}


def _objects(frame: Frame) -> str | None:
    objects = [
        {"idx": one.id, "name": one.name, "object_to_camera": one.object_to_camera}
        for one in frame.sample.objects
    ]
    return json.dumps(objects) if objects else None


def _attributes(frame: Frame, pairs: Pairs) -> dict[str, object]:
    camera, row = frame.camera, frame.row
    return {
        "sample_id": frame.sample.sample_id,
        "prompt": frame.sample.prompt,
        "width": camera.width,
        "height": camera.height,
        "K": None if camera.intrinsics is None else camera.intrinsics.matrix(),
        "intrinsics_source": camera.source,
        "camera_to_world": frame.sample.camera_to_world,
        "pixel_centres": "integer",
        "depth_unit": frame.unit,
        "depth_invalid": 0.0,
        "model_id": frame.sample.model_id,
        "licence": row.get("licence"),
        **pairs.origin(frame.number),
        "digital_source_type": row.get("digital_source_type"),
    }
