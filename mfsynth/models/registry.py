"""Model ids to pipelines: `embedded`, a local folder or checkpoint, or a hub id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mfsynth.config import ModelConfig, RuntimeConfig
from mfsynth.errors import MfsynthError
from mfsynth.models.few_steps.files import FewSteps, find_few_steps, read_few_steps
from mfsynth.models.image_pipelines import find_image_pipeline
from mfsynth.models.locations import (
    AUTOENCODER_CONFIG,
    AUTOENCODER_FILES,
    CONFIG,
    RELEASED_SIZE,
    Layout,
    ModelFolder,
    digest_of,
    find_model,
    model_licence,
    pipeline_index,
)
from mfsynth.models.tensor_files import parts_of
from mfsynth.storage.digests import sha256_of_file

if TYPE_CHECKING:
    from mfsynth.models.pipeline import ModalityForcingPipeline


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a run and its data set must know of the model before any weight is loaded.

    Attributes:
        id: As the configuration gives it.
        revision: Commit of a hub model; SHA-256 of a local folder's files. With few-step weights,
            also the SHA-256 of theirs.
        licence: The licence that the model's card names, or that of the release for a released
            variant without a card; "unknown" otherwise.
        height: Native height in pixels; 0 of a text-to-image pipeline, whose files don't say it.
        width: Native width in pixels, likewise.
        needs_depth_tokens: Whether its files say that depth tokens were there throughout its
            training, as in the release.
        few_steps: Of the few-step weights that it samples by; None without.
    """

    id: str
    revision: str
    licence: str
    height: int
    width: int
    needs_depth_tokens: bool = False
    few_steps: FewSteps | None = None


def model_info(model: ModelConfig) -> ModelInfo:
    """Look a model up without loading it.

    Raises:
        MfsynthError: There is no such model, or it is not a Modality Forcing pipeline.
    """
    if model.kind is not None:
        return _image_pipeline_info(model)
    try:
        folder = find_model(model.id, model.revision, weights=False)
        height = width = RELEASED_SIZE
        needs_depth_tokens = folder.layout is Layout.RELEASED
        if folder.layout is Layout.DIFFUSERS:
            index = pipeline_index(folder)
            height, width = index["height"], index["width"]
            needs_depth_tokens = index.get("mixes_without_depth", False)
        licence = model_licence(folder)
    except MfsynthError as error:
        raise MfsynthError(f"model.id: {error}") from error
    revision = folder.commit or _hash(folder)
    few_steps = None
    if model.few_steps is not None:
        path = find_few_steps(folder, model.few_steps)
        few_steps = read_few_steps(path)
        revision = f"{revision}+{sha256_of_file(path)}"
    return ModelInfo(model.id, revision, licence, height, width, needs_depth_tokens, few_steps)


def _image_pipeline_info(model: ModelConfig) -> ModelInfo:
    try:
        folder = find_image_pipeline(model)
        licence = model_licence(folder)
    except MfsynthError as error:
        raise MfsynthError(f"model.image: {error}") from error
    # The size is the sampler's: what a pipeline was trained on its files don't say.
    return ModelInfo(model.id, folder.commit or _hash(folder), licence, 0, 0)


def load_pipeline(
    model: ModelConfig, device: str, runtime: RuntimeConfig | None = None
) -> ModalityForcingPipeline:
    """Load a model's weights on a device, ready to sample without progress bars.

    A checkpoint in the released layout is opened as it is, with the release's text encoder. The
    text encoder is on the device only while it encodes.

    Args:
        model: Which model, in what precision.
        device: `cpu` or `cuda`.
        runtime: Attention, compilation and offloading, as a run has them; none of it if None.

    Raises:
        MfsynthError: There is no such model, its files are not what they should be, or it can't be
            run in that way on that device.
    """
    import torch

    if device.startswith("cuda"):
        require_gpu("device")
    from mfsynth.models.acceleration.accelerate import Acceleration, accelerate
    from mfsynth.models.pipeline import ModalityForcingPipeline
    from mfsynth.models.released.components import released_components
    from mfsynth.models.weights import without_bars

    dtype = getattr(torch, model.dtype)
    try:
        folder = find_model(model.id, model.revision)
        if folder.layout is Layout.RELEASED:
            components = released_components(model.id, dtype=dtype, revision=model.revision)
            pipeline = ModalityForcingPipeline(**components)
        else:
            pipeline_index(folder)
            with without_bars():
                pipeline = ModalityForcingPipeline.from_pretrained(
                    folder.path, dtype=dtype, local_files_only=True
                )
    except MfsynthError as error:
        raise MfsynthError(f"model.id: {error}") from error
    if model.few_steps is not None:
        from mfsynth.models.few_steps.pipeline import FewStepPipeline

        pipeline = FewStepPipeline.around(pipeline)
        pipeline.adopt(find_few_steps(folder, model.few_steps))
    runtime = runtime or RuntimeConfig(compile=False)
    settings = Acceleration(
        attention=runtime.attention,
        compile=runtime.compile,
        offload=runtime.offload,
        quantization=model.quantization,
    )
    accelerate(pipeline, settings, device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def require_gpu(setting: str) -> None:
    """Refuse to run on a GPU where there is none.

    Args:
        setting: That asks for one.

    Raises:
        MfsynthError: There is none, or none that this torch can use.
    """
    import torch

    if not torch.cuda.is_available():
        raise MfsynthError(
            f"{setting}: cuda, but torch {torch.__version__} sees no GPU here; set it to cpu, or "
            "install a torch that fits your driver"
        )


def _hash(folder: ModelFolder) -> str:
    root = folder.path
    if folder.layout is Layout.RELEASED:
        names = (CONFIG, *AUTOENCODER_FILES.values(), AUTOENCODER_CONFIG)
        paths = [*parts_of(root / folder.checkpoint), *(root / name for name in names)]
    else:
        paths = [*root.rglob("*")]
    return digest_of(root, paths)
