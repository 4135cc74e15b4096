"""A file a pair, with the names that BlenderProc's have (dlr-rm.github.io/BlenderProc)."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from mfsynth.datasets.exports.base import Block, Exporter, Facts, described
from mfsynth.datasets.exports.pairs import Frame, Pairs


class Hdf5(Exporter):
    """N.hdf5 with `colors`, `depth`, and attributes: K, size, unit, prompt, licence."""

    holds: ClassVar[str] = "`colors` uint8, `depth` float32 with 0 for invalid; K as attribute"
    loses: ClassVar[str] = "NUL in texts (becomes U+FFFD; `metadata.jsonl` has it)"
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
        for name, array in (("colors", frame.sample.rgb), ("depth", frame.depth)):
            file.create_dataset(
                name, data=array, compression="gzip", shuffle=True, track_times=False
            )
        for name, value in _attributes(frame, pairs).items():
            if isinstance(value, str):
                # Texts of HDF5 end at the first one.
                value = value.replace("\0", "\N{REPLACEMENT CHARACTER}")
            if value is not None:
                file.attrs[name] = value
    return stream.getvalue()


def _attributes(frame: Frame, pairs: Pairs) -> dict[str, object]:
    camera, row = frame.camera, frame.row
    return {
        "sample_id": frame.sample.sample_id,
        "prompt": frame.sample.prompt,
        "width": camera.width,
        "height": camera.height,
        "K": None if camera.intrinsics is None else camera.intrinsics.matrix(),
        "intrinsics_source": camera.source,
        "pixel_centres": "integer",
        "depth_unit": frame.unit,
        "depth_invalid": 0.0,
        "model_id": frame.sample.model_id,
        "licence": row.get("licence"),
        **pairs.origin(frame.number),
        "digital_source_type": row.get("digital_source_type"),
    }
