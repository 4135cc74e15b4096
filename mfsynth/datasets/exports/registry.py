"""The formats that there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from mfsynth.config.loading import read_overrides
from mfsynth.config.suggestions import did_you_mean
from mfsynth.datasets.exports.base import Exporter
from mfsynth.datasets.exports.bop import Bop
from mfsynth.datasets.exports.coco import Coco
from mfsynth.datasets.exports.folder import PlainFolder
from mfsynth.datasets.exports.hdf5 import Hdf5
from mfsynth.datasets.exports.lerobot import LeRobot
from mfsynth.datasets.exports.mcap import Mcap
from mfsynth.datasets.exports.parquet import Parquet
from mfsynth.datasets.exports.points import Glb, Ply
from mfsynth.datasets.exports.scannet import ScanNet
from mfsynth.datasets.exports.tum import Tum
from mfsynth.errors import MfsynthError

FORMATS: Mapping[str, type[Exporter]] = MappingProxyType(
    {
        "tum": Tum,
        "scannet": ScanNet,
        "bop": Bop,
        "coco": Coco,
        "folder": PlainFolder,
        "hdf5": Hdf5,
        "parquet": Parquet,
        "ply": Ply,
        "glb": Glb,
        "lerobot": LeRobot,
        "mcap": Mcap,
    }
)
"""By name, in the order in which they are shown."""


def open_exporter(name: str, overrides: Sequence[str] = ()) -> Exporter:
    """The format of a name.

    Args:
        name: Of it.
        overrides: Its options, each `"name=value"` in YAML.

    Raises:
        MfsynthError: There is no such format, or an option of it is unknown or wrong.
    """
    if name not in FORMATS:
        raise MfsynthError(f"--format {name}: no such format; {did_you_mean(name, FORMATS)}")
    return read_overrides({}, overrides).validate(FORMATS[name])
