"""What a model is made of, from its small files and the headers of its weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from mfsynth.models.locations import (
    AUTOENCODER_FILES,
    CONFIG,
    PIPELINE_CLASS,
    RELEASED_SIZE,
    RELEASED_TEXT_ENCODER,
    RELEASED_TEXT_LAYERS,
    RELEASED_TEXT_LENGTH,
    Layout,
    ModelFolder,
    find_model,
    model_licence,
    pipeline_index,
)
from mfsynth.models.tensor_files import TensorHeader, parts_of, read_headers, weight_files

_DTYPE_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


@dataclass(frozen=True, slots=True)
class ComponentSummary:
    """One model of a pipeline.

    Attributes:
        name: Its name in the pipeline.
        kind: Its class, or the hub id of what stands for it.
        parameters: How many numbers its weights hold; None where they are not on this machine.
        dtypes: Types of the weights, the most frequent first.
    """

    name: str
    kind: str
    parameters: int | None
    dtypes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """A pipeline.

    Attributes:
        id: As the user calls it.
        layout: Of its files.
        kind: Class of the pipeline.
        licence: Of its weights.
        height: Native height in pixels.
        width: Native width in pixels.
        text_length: Text tokens, padding included.
        text_layers: Hidden states of the text encoder that are used.
        components: Its models.
    """

    id: str
    layout: Layout
    kind: str
    licence: str
    height: int
    width: int
    text_length: int
    text_layers: tuple[int, ...]
    components: tuple[ComponentSummary, ...]


def summarise(name: str, revision: str | None = None) -> ModelSummary:
    """Summarise a model without loading or fetching weights.

    Args:
        name: `embedded`, a folder, a released `model.safetensors`, or a hub id.
        revision: Of a hub id; None for its newest.

    Raises:
        MfsynthError: There is no such model, or a file of its weights is not whole.
    """
    model = find_model(name, revision, weights=False)
    licence = model_licence(model)
    if model.layout is Layout.RELEASED:
        return ModelSummary(
            name,
            model.layout,
            PIPELINE_CLASS,
            licence,
            RELEASED_SIZE,
            RELEASED_SIZE,
            RELEASED_TEXT_LENGTH,
            RELEASED_TEXT_LAYERS,
            _released_components(model),
        )
    index = pipeline_index(model)
    return ModelSummary(
        name,
        model.layout,
        PIPELINE_CLASS,
        licence,
        index["height"],
        index["width"],
        index["max_text_length"],
        tuple(index["text_encoder_layers"]),
        tuple(
            _component(component, entry[1], _weights_there(model.path / component))
            for component, entry in index.items()
            # Tokenizers have no such file, and components that were left out no folder.
            if isinstance(entry, list) and (model.path / component / CONFIG).is_file()
        ),
    )


def require_whole(name: str, revision: str | None = None) -> None:
    """See from headers that all weights of a model are there, and fit, without loading them.

    Args:
        name: As that of `summarise`.
        revision: Of a hub id; None for its newest.

    Raises:
        MfsynthError: They are not on this machine, not whole, or not of such a model.
    """
    from mfsynth.models.released.checkpoint import open_checkpoint
    from mfsynth.models.released.text_encoders import find_text_encoder
    from mfsynth.models.weights import require_components

    model = find_model(name, revision, local_files_only=True)
    if model.layout is Layout.RELEASED:
        channels = open_checkpoint(model).text_channels
        find_text_encoder(RELEASED_TEXT_ENCODER, channels, local_files_only=True)
    else:
        require_components(model.path)


def _released_components(model: ModelFolder) -> tuple[ComponentSummary, ...]:
    halves = [model.path / name for name in AUTOENCODER_FILES.values()]
    return (
        _component(
            "transformer",
            "ModalityForcingTransformer2DModel",
            parts_of(model.path / model.checkpoint),
        ),
        _component("text_encoder", RELEASED_TEXT_ENCODER, []),
        _component("vae", "AutoencoderKLFlux2", halves),
    )


def _weights_there(folder: Path) -> list[Path]:
    """Files of weights; none where a hub model's were not fetched."""
    has_any = any(folder.glob("*.safetensors*"))
    return weight_files(folder) if has_any else []


def _component(name: str, kind: str, files: list[Path]) -> ComponentSummary:
    if not files or not all(file.is_file() for file in files):
        return ComponentSummary(name, kind, None, ())
    return ComponentSummary(name, kind, *_count(read_headers(file) for file in files))


def _count(files: Iterable[Mapping[str, TensorHeader]]) -> tuple[int, tuple[str, ...]]:
    """Count numbers and their types; what both halves of an autoencoder hold counts once."""
    sizes: dict[str, int] = {}
    shared: set[str] = set()
    for headers in files:
        for key, header in headers.items():
            if key.endswith("num_batches_tracked") or key in shared:
                continue
            if key.startswith("bn."):
                shared.add(key)
            dtype = _DTYPE_NAMES.get(header.dtype, header.dtype)
            sizes[dtype] = sizes.get(dtype, 0) + prod(header.shape)
    return sum(sizes.values()), tuple(sorted(sizes, key=lambda dtype: -sizes[dtype]))
