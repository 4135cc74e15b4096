"""Settings of an estimator to a loaded one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mfsynth.config.estimators import DepthEstimatorConfig
from mfsynth.errors import MfsynthError
from mfsynth.models.estimators.catalogue import (
    EstimatorFolder,
    EstimatorKind,
    estimator_info,
    find_estimator,
)

if TYPE_CHECKING:
    from mfsynth.models.estimators.base import Estimator


def open_estimator(config: DepthEstimatorConfig, device: str) -> Estimator:
    """Load an estimator's weights on a device.

    Args:
        config: Which estimator, in what precision.
        device: `cpu` or `cuda`.

    Raises:
        MfsynthError: There is no such estimator, its package isn't installed, or its files are not
            what they should be.
    """
    import torch

    gives = estimator_info(config).gives
    dtype = getattr(torch, config.dtype)
    try:
        folder = find_estimator(config)
        match folder.kind:
            case EstimatorKind.EMBEDDED:
                from mfsynth.models.estimators.embedded import EmbeddedEstimator, load_estimator

                # Its own `to` warns of types, which it has no layers to keep from.
                model = torch.nn.Module.to(load_estimator(str(folder.path)), device, dtype)
                return EmbeddedEstimator(model)
            case EstimatorKind.TRANSFORMERS:
                from mfsynth.models.estimators.transformers_depth import (
                    load_transformers_estimator as load,
                )
            case EstimatorKind.MOGE:
                from mfsynth.models.estimators.moge import load_moge as load
            case EstimatorKind.DEPTH_ANYTHING_3:
                from mfsynth.models.estimators.depth_anything_3 import (
                    load_depth_anything_3 as load,
                )
        return load(folder, gives, device, dtype)
    except MfsynthError as error:
        raise MfsynthError(f"estimator.id: {error}") from error


def require_estimator(config: DepthEstimatorConfig) -> EstimatorFolder:
    """See that an estimator's weights are on this machine, and fit, where that is cheap to see.

    Raises:
        MfsynthError: They are not, or don't.
    """
    from mfsynth.models.estimators.embedded import DepthEstimator
    from mfsynth.models.tensor_files import read_headers_of, weight_files
    from mfsynth.models.weights import require_weights

    folder = find_estimator(config, local_files_only=True)
    if folder.kind is EstimatorKind.EMBEDDED:
        require_weights(DepthEstimator, folder.path)
    else:
        read_headers_of(weight_files(folder.path))
    return folder
