"""Whether a run's model is there, whole, trained for what is asked, and knows the prompts."""

from __future__ import annotations

from collections.abc import Sequence

from mfsynth.config import ModelConfig, PromptsConfig, SamplerConfig
from mfsynth.config.estimators import DepthEstimatorConfig
from mfsynth.errors import MfsynthError
from mfsynth.models import ModelInfo
from mfsynth.models.estimators.catalogue import EstimatorInfo, find_estimator
from mfsynth.models.estimators.opening import require_estimator
from mfsynth.models.inspection import require_whole
from mfsynth.models.locations import find_model
from mfsynth.runs.doctor.findings import Finding, note, ok, warning
from mfsynth.runs.settings import require_trained_for
from mfsynth.runs.understanding import (
    REMEDY,
    require_understood,
    understanding,
    vocabulary_of,
)


def fits_the_sampler(sampler: SamplerConfig, info: ModelInfo) -> Finding:
    """Whether a model was trained for what the sampler does.

    Raises:
        MfsynthError: It wasn't.
    """
    require_trained_for(sampler, info)
    size = f"{info.width}×{info.height}, " if info.height else ""
    return ok(f"{info.id}, {size}licence {info.licence}")


def has_its_weights(model: ModelConfig) -> Finding:
    """Whether all weights are on this machine, and fit; nothing is fetched.

    Raises:
        MfsynthError: Those of a folder aren't, or don't.
    """
    try:
        require_whole(model.id, model.revision)
    except MfsynthError as problem:
        if find_model(model.id, model.revision, weights=False).commit is None:
            raise
        return warning(
            f"not all on this machine: {problem}", "workers will fetch them, each node by itself"
        )
    return ok("all there, of the right shapes")


def may_be_used(info: EstimatorInfo) -> Finding:
    """What an estimator gives, and whether its licence is clear."""
    gives = info.gives.value.replace("_", " ")
    said = f"{info.id}, gives {gives}, licence {info.licence}"
    if info.warning:
        return warning(said, info.warning)
    return ok(said)


def estimator_has_its_weights(settings: DepthEstimatorConfig) -> Finding:
    """Whether an estimator's weights are on this machine, whole; nothing is fetched.

    Raises:
        MfsynthError: Those of a folder aren't.
    """
    try:
        require_estimator(settings)
    except MfsynthError as problem:
        if find_estimator(settings, weights=False).commit is None:
            raise
        return warning(
            f"not all on this machine: {problem}", "workers will fetch them, each node by itself"
        )
    return ok("all there")


def knows_the_prompts(
    model: ModelConfig, settings: PromptsConfig, prompts: Sequence[str]
) -> Finding:
    """How many prompts have words that the model can't know, or more than it reads.

    Raises:
        MfsynthError: Some have, and that is not allowed.
    """
    found = understanding(vocabulary_of(model), prompts)
    if found is None:
        return note("not compared: the model's tokenizer is not here, or can't be asked")
    require_understood(found, settings)
    if found.trouble:
        return warning(found.trouble, REMEDY)
    return ok(f"all words of {found.prompts} are known, and none is cut")
