"""Where an estimator is, whose files they are, what it gives, and its licence; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from mfsynth.config.estimators import DepthEstimatorConfig
from mfsynth.errors import MfsynthError
from mfsynth.geometry import EstimateKind
from mfsynth.models.estimators.files import PREPROCESSOR, read_model_file, read_preprocessing
from mfsynth.models.locations import (
    CARD,
    CONFIG,
    UNKNOWN_LICENCE,
    card_licence,
    digest_of,
    download,
)

EMBEDDED_ESTIMATOR = "embedded"
_EMBEDDED_FOLDER = Path(__file__).parents[1] / "embedded_estimator"

# A checkpoint of MoGe or of others that is a pickle is not among them.
_FILES = ["*.safetensors", "*.safetensors.index.json", CONFIG, PREPROCESSOR, CARD]
_SMALL_FILES = [CONFIG, PREPROCESSOR, CARD]

NONE_STATED = "none stated"
"""Licence of weights whose publisher states none."""

# As their publishers state them. A card with a licence beside the weights counts more.
_LICENCES = {
    "depth-anything/depth-anything-v2-small-hf": "apache-2.0",
    "depth-anything/depth-anything-v2-base-hf": "cc-by-nc-4.0",
    "depth-anything/depth-anything-v2-large-hf": "cc-by-nc-4.0",
    "depth-anything/depth-anything-v2-metric-indoor-small-hf": NONE_STATED,
    "depth-anything/depth-anything-v2-metric-indoor-base-hf": NONE_STATED,
    "depth-anything/depth-anything-v2-metric-indoor-large-hf": NONE_STATED,
    "depth-anything/depth-anything-v2-metric-outdoor-small-hf": NONE_STATED,
    "depth-anything/depth-anything-v2-metric-outdoor-base-hf": NONE_STATED,
    "depth-anything/depth-anything-v2-metric-outdoor-large-hf": NONE_STATED,
    "intel/dpt-large": "apache-2.0",
    "intel/zoedepth-nyu": "mit",
    "intel/zoedepth-kitti": "mit",
    "intel/zoedepth-nyu-kitti": "mit",
    "ruicheng/moge-2-vits-normal": "mit",
    "ruicheng/moge-2-vitb-normal": "mit",
    "ruicheng/moge-2-vitl-normal": "mit",
    "ruicheng/moge-2-vitl": "mit",
    "depth-anything/da3mono-large": "apache-2.0",
    "depth-anything/da3metric-large": "apache-2.0",
}

# The dense prediction transformers of MiDaS, which give disparity. With other backbones the same
# architecture was published for metric depth, and its files don't say so.
_DISPARITY_BACKBONES = ("vit", "beit", "swinv2", "bit")


class EstimatorKind(StrEnum):
    """Whose files an estimator's are."""

    EMBEDDED = "embedded"
    TRANSFORMERS = "transformers"
    MOGE = "moge"
    DEPTH_ANYTHING_3 = "depth_anything_3"


@dataclass(frozen=True, slots=True)
class EstimatorFolder:
    """An estimator's files on this machine.

    Attributes:
        name: As the user calls it.
        path: The folder.
        kind: Whose files they are.
        config: Its `config.json`.
        commit: Of a hub repository; None of a local folder.
    """

    name: str
    path: Path
    kind: EstimatorKind
    config: Mapping[str, Any]
    commit: str | None = None


@dataclass(frozen=True, slots=True)
class EstimatorInfo:
    """What a run must know of an estimator before any weight is loaded.

    Attributes:
        id: As the configuration gives it.
        revision: Commit of a hub repository; SHA-256 of a local folder's files.
        licence: Its card's, or the one that its publisher states elsewhere; `none stated` where he
            states none; `unknown` otherwise.
        gives: What its numbers are where no camera is known.
        metric_with_camera: Whether they are metres where one is.
        gives_camera: Whether it says what camera it sees.
        warning: What to know before use; empty for nothing.
    """

    id: str
    revision: str
    licence: str
    gives: EstimateKind
    metric_with_camera: bool = False
    gives_camera: bool = False
    warning: str = ""

    def gives_with(self, camera: bool) -> EstimateKind:
        """What its numbers are where the camera is known, or isn't."""
        return EstimateKind.METRIC_Z if camera and self.metric_with_camera else self.gives


def find_estimator(
    config: DepthEstimatorConfig, *, weights: bool = True, local_files_only: bool = False
) -> EstimatorFolder:
    """Find an estimator's files.

    Args:
        config: Which.
        weights: Whether a hub repository's weights are fetched, or only the small files about them.
        local_files_only: Whether a hub repository must already be on this machine.

    Raises:
        MfsynthError: There is no such folder or repository, or it holds no depth estimator, or its
            configuration has a value that is none.
    """
    name = config.id
    folder = _EMBEDDED_FOLDER if name == EMBEDDED_ESTIMATOR else Path(name).expanduser()
    commit = None
    if not folder.is_dir():
        patterns = _FILES if weights else _SMALL_FILES
        folder = download(name, config.revision, patterns, local_files_only)
        commit = folder.name
    if not (folder / CONFIG).is_file():
        if (folder / "model" / CONFIG).is_file():
            raise MfsynthError(
                f"{name} is what a training wrote; its estimator is in it: name {folder / 'model'}"
            )
        raise MfsynthError(
            f"{name} is no depth estimator: name {EMBEDDED_ESTIMATOR}, a folder or hub id of a "
            "depth model of transformers, MoGe or Depth Anything 3, or the model folder that "
            "`mfsynth train estimator` wrote"
        )
    found = read_model_file(folder)
    kind = _kind(found, name)
    if config.kind not in ("auto", kind):
        raise MfsynthError(f"{name} is of {kind}, not of {config.kind}; set kind to auto")
    return EstimatorFolder(name, folder, kind, found, commit)


def estimator_info(config: DepthEstimatorConfig) -> EstimatorInfo:
    """Look an estimator up without loading it.

    Raises:
        MfsynthError: There is no such estimator, it isn't known what its numbers are, or a file
            beside its weights has a value that is none.
    """
    try:
        folder = find_estimator(config, weights=False)
        gives, metric_with_camera, gives_camera = _gives(folder)
        if folder.kind is EstimatorKind.TRANSFORMERS:
            read_preprocessing(folder.path, architecture(folder))
        licence = card_licence(folder.path).get("license") or _LICENCES.get(
            config.id.lower(), UNKNOWN_LICENCE
        )
    except MfsynthError as error:
        raise MfsynthError(f"estimator.id: {error}") from error
    return EstimatorInfo(
        id=config.id,
        revision=folder.commit or digest_of(folder.path, folder.path.rglob("*")),
        licence=licence,
        gives=gives,
        metric_with_camera=metric_with_camera,
        gives_camera=gives_camera,
        warning=_warning(folder, licence),
    )


def architecture(folder: EstimatorFolder) -> str:
    """Class of a model of transformers."""
    return str([*(folder.config.get("architectures") or []), "?"][0])


def _kind(config: Mapping[str, Any], name: str) -> EstimatorKind:
    if config.get("_class_name") == "DepthEstimator":
        return EstimatorKind.EMBEDDED
    if config.get("architectures") and config.get("model_type"):
        return EstimatorKind.TRANSFORMERS
    if str(config.get("model_name", "")).startswith("da3"):
        return EstimatorKind.DEPTH_ANYTHING_3
    if {"encoder", "neck", "points_head"} <= config.keys():
        return EstimatorKind.MOGE
    raise MfsynthError(
        f"{name} is no depth estimator: its {CONFIG} is of none of {', '.join(EstimatorKind)}"
    )


def _gives(folder: EstimatorFolder) -> tuple[EstimateKind, bool, bool]:
    """What the numbers are; whether a camera makes them metres; whether a camera is given."""
    config = folder.config
    match folder.kind:
        case EstimatorKind.EMBEDDED:
            metric = config.get("focal") is not None
            kind = EstimateKind.METRIC_Z if metric else EstimateKind.SCALE_INVARIANT_Z
            return kind, False, False
        case EstimatorKind.MOGE:
            metric = config.get("scale_head") is not None
            kind = EstimateKind.METRIC_Z if metric else EstimateKind.SCALE_INVARIANT_Z
            return kind, False, True
        case EstimatorKind.DEPTH_ANYTHING_3:
            model = str(config["model_name"])
            if model.startswith("da3nested"):
                return EstimateKind.METRIC_Z, False, True
            alone = model.startswith(("da3mono", "da3metric"))
            return EstimateKind.SCALE_INVARIANT_Z, model.startswith("da3metric"), not alone
    match architecture(folder):
        case "DepthAnythingForDepthEstimation":
            metric = config.get("depth_estimation_type") == "metric"
            kind = EstimateKind.METRIC_Z if metric else EstimateKind.AFFINE_INVARIANT_DISPARITY
            return kind, False, False
        case "ZoeDepthForDepthEstimation":
            return EstimateKind.METRIC_Z, False, False
        case "DepthProForDepthEstimation":
            sees = config.get("use_fov_model", True)
            kind = EstimateKind.METRIC_Z if sees else EstimateKind.SCALE_INVARIANT_Z
            return kind, True, bool(sees)
        case "DPTForDepthEstimation":
            backbone = (config.get("backbone_config") or {}).get("model_type", "vit")
            if backbone in _DISPARITY_BACKBONES:
                return EstimateKind.AFFINE_INVARIANT_DISPARITY, False, False
            raise MfsynthError(
                f"{folder.name} is a DPT on {backbone}, and its files don't say whether it gives "
                f"disparity or depth; take one on {', '.join(_DISPARITY_BACKBONES)}"
            )
        case other:
            raise MfsynthError(
                f"{folder.name} is a {other}, of which it isn't known here what its numbers are; "
                "take Depth Anything, ZoeDepth, Depth Pro or DPT"
            )


def _warning(folder: EstimatorFolder, licence: str) -> str:
    if architecture(folder) == "DepthProForDepthEstimation":
        return (
            "the files that Depth Pro's weights come with state licences that contradict each "
            "other: have it clarified before you give away what it had a part in"
        )
    if licence in (NONE_STATED, UNKNOWN_LICENCE):
        return f"the licence of its weights is {licence}: ask whoever made them"
    return ""
