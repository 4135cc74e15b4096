"""A released checkpoint on disk, checked from its headers and then read tensor by tensor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLFlux2
from torch import Tensor

from mfsynth.errors import MfsynthError
from mfsynth.models.locations import (
    AUTOENCODER_CONFIG,
    AUTOENCODER_FILES,
    CONFIG,
    RELEASED_SHIFT_MU,
    RELEASED_VARIANTS,
    Layout,
    ModelFolder,
    read_json,
    released_config,
)
from mfsynth.models.released.names import (
    CROSS_STREAM_KEYS,
    autoencoder_config,
    autoencoder_layout,
    autoencoder_places,
    convert_tensor,
    transformer_config,
    transformer_key,
    transformer_layout,
)
from mfsynth.models.tensor_files import (
    TensorHeader,
    discrepancies,
    open_tensors,
    parts_of,
    read_headers,
    read_headers_of,
)
from mfsynth.models.transformer import ModalityForcingTransformer2DModel

_DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
}
# What our depth codec does: divide by the mean of the valid pixels, then contract.
_DEPTH_NORMALISATION = ["unit_mean", "contract"]

Take = Callable[[str, str, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor is: a file, and the key in it."""

    path: Path
    key: str


@dataclass(frozen=True, slots=True)
class Weights:
    """One component: its model without weights, and where in the release each of them is.

    Attributes:
        model: On the meta device.
        places: Of each parameter.
        dtypes: Of each parameter in the release.
        take: Picks a parameter, by its name, out of the key and the tensor of its place.
    """

    model: Any
    places: Mapping[str, Place]
    dtypes: Mapping[str, torch.dtype]
    take: Take

    def dtype(self, name: str) -> torch.dtype:
        """The type that a parameter is read in: as `dtypes`, or float32 where the model says so."""
        kept = self.model._keep_in_fp32_modules or ()
        in_float32 = any(module in name.split(".") for module in kept)
        return torch.float32 if in_float32 else self.dtypes[name]

    def cast(self, dtype: torch.dtype) -> Weights:
        """The same weights in another floating-point type; counters stay integers."""
        dtypes = {
            name: dtype if given.is_floating_point else given for name, given in self.dtypes.items()
        }
        return replace(self, dtypes=dtypes)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all parameters and buffers, by name, in the model's order."""
        return _shapes(self.model)

    def load(self, dtype: torch.dtype) -> Any:
        """Fill the model with its weights, in a type; only once, for the model is this one."""
        state = dict(self.cast(dtype).read(self.places))
        self.model.load_state_dict(state, assign=True)
        return self.model.eval()

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """Read parameters, each in memory of its own, with one released tensor at a time."""
        wanted: dict[Place, list[str]] = defaultdict(list)
        for name in names:
            wanted[self.places[name]].append(name)
        shapes = self.shapes()
        for place, parts in wanted.items():
            # Opened anew for each tensor: what is read of a file stays in memory while it is open.
            with open_tensors(place.path) as file:
                tensor = file.get_tensor(place.key)
                for name in parts:
                    part = self.take(name, place.key, tensor).reshape(shapes[name])
                    yield name, part.to(self.dtype(name), copy=True)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A released checkpoint of which every key is accounted for.

    Attributes:
        folder: Where it is.
        variant: As its `config.json` says.
        rgb_shift_mu: Time shift of RGB.
        depth_shift_mu: Time shift of depth.
        transformer: The joint transformer.
        vae: The autoencoder of both files.
    """

    folder: ModelFolder
    variant: str
    rgb_shift_mu: float
    depth_shift_mu: float
    transformer: Weights
    vae: Weights

    @property
    def text_channels(self) -> int:
        """Channels of a text token, as the transformer expects it."""
        channels: int = self.transformer.model.config.joint_attention_dim
        return channels


def open_checkpoint(folder: ModelFolder) -> Checkpoint:
    """Check a released checkpoint from its small files and headers.

    Raises:
        MfsynthError: The layout or the variant is another one, a file is missing or cut off, or
            the keys, shapes or types of the tensors are not those of the variant.
    """
    if folder.layout is not Layout.RELEASED:
        raise MfsynthError(
            f"{folder.name} is a {folder.layout} folder, which mfsynth opens as it is; a released "
            f"checkpoint has {CONFIG}, {folder.checkpoint}, {', '.join(AUTOENCODER_FILES.values())}"
        )
    config = released_config(folder)
    rgb_shift_mu, depth_shift_mu = _settings(folder, config)
    main = folder.path / folder.checkpoint
    files = {part: folder.path / name for part, name in AUTOENCODER_FILES.items()}
    parts = read_headers_of(parts_of(main))
    headers = {path: read_headers(path) for path in files.values()}
    places = {key: Place(path, key) for path, keys in parts.items() for key in keys}
    headers[main] = {key: parts[place.path][key] for key, place in places.items()}

    transformer = _empty_transformer(folder, config, headers[main])
    vae = _empty_autoencoder(folder)
    stages = len(vae.config.block_out_channels)
    halves = autoencoder_layout(_shapes(vae), stages)
    expected = {main: transformer_layout(_shapes(transformer))}
    expected |= {path: halves[part] for part, path in files.items()}
    differences = [
        f"{path.name}: {', '.join(found)}"
        for path, layout in expected.items()
        if (found := discrepancies(layout, headers[path]))
    ]
    if differences:
        raise MfsynthError(
            f"{folder.path} is not a whole checkpoint of variant {config['variant']}: "
            f"{'; '.join(differences)}"
        )
    _check_statistics(files)

    def half(name: str) -> Place:
        part, key = autoencoder_places(name, stages)[0]
        return Place(files[part], key)

    return Checkpoint(
        folder,
        config["variant"],
        rgb_shift_mu,
        depth_shift_mu,
        transformer=_weights(
            transformer,
            headers | parts,
            lambda name: places[transformer_key(name)],
            lambda name, key, tensor: dict(convert_tensor(key, tensor))[name],
        ),
        vae=_weights(vae, headers, half, lambda _name, _key, tensor: tensor),
    )


def _settings(folder: ModelFolder, config: Mapping[str, Any]) -> tuple[float, float]:
    path = folder.path / CONFIG
    normalisation = config.get("depth_normalize_mode", _DEPTH_NORMALISATION)
    if normalisation != _DEPTH_NORMALISATION:
        raise MfsynthError(
            f"{path}: depth_normalize_mode is {normalisation}; only {_DEPTH_NORMALISATION} is known"
        )
    shifts = []
    for name in ("rgb_shift_mu", "depth_shift_mu"):
        shift = config.get(name, RELEASED_SHIFT_MU)
        if not isinstance(shift, int | float):
            raise MfsynthError(f"{path}: {name} is {shift!r}; give a number")
        shifts.append(float(shift))
    return shifts[0], shifts[1]


def _empty_transformer(
    folder: ModelFolder, config: Mapping[str, Any], headers: Mapping[str, TensorHeader]
) -> ModalityForcingTransformer2DModel:
    with _empty_model(folder.path / CONFIG):
        if "dit" in config:
            sizes = transformer_config(config["dit"])
        else:
            # The defaults of our transformer are the sizes of the release.
            sizes = {"cross_stream_mixing": RELEASED_VARIANTS[config["variant"]]}
        # A checkpoint from before the mixing has none of its keys, whatever its variant is called.
        sizes["cross_stream_mixing"] &= not CROSS_STREAM_KEYS.isdisjoint(headers)
        return ModalityForcingTransformer2DModel(**sizes)


def _empty_autoencoder(folder: ModelFolder) -> AutoencoderKLFlux2:
    path = folder.path / AUTOENCODER_CONFIG
    with _empty_model(path):
        # The release has no such file: its autoencoder is FLUX.2's, which is diffusers' default.
        sizes = autoencoder_config(read_json(path)) if path.is_file() else {}
        return AutoencoderKLFlux2(**sizes)


@contextmanager
def _empty_model(path: Path) -> Iterator[None]:
    """Build on the meta device, and name the file of the sizes where that fails."""
    try:
        with torch.device("meta"):
            yield
    except MfsynthError as error:
        raise MfsynthError(f"{path}: {error}") from error
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        reason = str(error).splitlines()[0]
        raise MfsynthError(f"{path}: its sizes do not make a model ({reason})") from error


def _check_statistics(files: Mapping[str, Path]) -> None:
    """Both halves of an autoencoder hold the statistics of its latents."""
    with open_tensors(files["encoder"]) as encoder, open_tensors(files["decoder"]) as decoder:
        for key in ("bn.running_mean", "bn.running_var"):
            if not torch.equal(encoder.get_tensor(key), decoder.get_tensor(key)):
                raise MfsynthError(
                    f"{files['encoder']} and {files['decoder'].name} differ in {key}; take both "
                    "from one autoencoder"
                )


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def _weights(
    model: Any,
    headers: Mapping[Path, Mapping[str, TensorHeader]],
    place: Callable[[str], Place],
    take: Take,
) -> Weights:
    places = {name: place(name) for name in _shapes(model)}
    dtypes = {name: _DTYPES[headers[at.path][at.key].dtype] for name, at in places.items()}
    return Weights(model, places, dtypes, take)
