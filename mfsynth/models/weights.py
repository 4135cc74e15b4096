"""Weights of a folder, compared with what a model's class expects before any of them is loaded.

diffusers and transformers give random values to weights that a file lacks, and leave out what it
has too much; a warning is all that is said.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging as of_diffusers
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import AutoConfig, AutoModel
from transformers.utils import logging as of_transformers

from mfsynth.errors import MfsynthError
from mfsynth.models.locations import CONFIG, INDEX, read_json
from mfsynth.models.tensor_files import TensorHeader, discrepancies, read_headers_of, weight_files

_LIBRARIES = ("diffusers", "transformers", "mfsynth")
_LANGUAGE_HEAD = "lm_head."
_REMEDY = "fetch or convert the model again"
_DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_ADAPTER = re.compile(
    r"transformer\.(?P<layer>.+?)\.(?:(?P<half>lora_A|lora_B)\.weight|(?:lora|lokr)_\w+(?:\.\w+)?)"
)


def require_weights(kind: type, folder: Path) -> Any:
    """See from headers that a folder has the weights of a model, all of them and no others.

    Args:
        kind: Class of diffusers or transformers, or an auto class.
        folder: With its configuration and safetensors files.

    Returns:
        The model without weights, on the meta device.

    Raises:
        MfsynthError: The configuration makes no such model, there are no weights, or their keys,
            shapes or types are others: lists them, with folder and remedy.
    """
    model = _hollow(kind, folder)
    require_weights_of(model, folder)
    return model


def require_weights_of(model: Any, folder: Path) -> None:
    """As `require_weights`, of a model that was made without weights already.

    Raises:
        MfsynthError: There are no weights, their headers can't be read, or their keys, shapes or
            types are others: lists them, with folder and remedy.
    """
    found: dict[str, TensorHeader] = {}
    for headers in read_headers_of(weight_files(folder)).values():
        found |= headers
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = _as_named(model, expected, found)
    # The same tensor under two names is in a file under one.
    for tied, source in (getattr(model, "all_tied_weights_keys", None) or {}).items():
        if source in found:
            found.setdefault(tied, found[source])
    if differences := discrepancies(expected, found):
        raise MfsynthError(
            f"{folder}: not the weights of a {type(model).__name__}: {'; '.join(differences)}; "
            f"{_REMEDY}"
        )


@contextmanager
def without_bars() -> Iterator[None]:
    """While it is entered, diffusers and transformers show no progress of what they load."""
    shown = [of for of in (of_diffusers, of_transformers) if of.is_progress_bar_enabled()]
    for each in shown:
        each.disable_progress_bar()
    try:
        yield
    finally:
        for each in shown:
            each.enable_progress_bar()


def load_whole(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Load a model of transformers that has all of its weights from a folder, and no others.

    Not by the headers alone: between versions of transformers names have changed, and it knows how.

    Args:
        kind: Class of the model.
        folder: With its configuration and safetensors files.
        dtype: Of the weights.

    Raises:
        MfsynthError: The configuration makes no such model, there are no weights, or they are not
            the model's.
    """
    # Both libraries would take the last of two values.
    read_json(folder / CONFIG)
    read_headers_of(weight_files(folder))
    try:
        with without_bars():
            model, said = kind.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=dtype,
                output_loading_info=True,
            )
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError, ImportError),
        *(RuntimeError, ArithmeticError, StrictDataclassError),
    ) as error:
        reason = " ".join(str(error).split())[:300]
        raise MfsynthError(
            f"{folder}: makes no {kind.__name__} ({reason}); fetch it again"
        ) from error
    kinds = {"missing": "missing_keys", "extra": "unexpected_keys", "misshapen": "mismatched_keys"}
    wrong = [
        f"{len(said[key])} {word} ({min(map(str, said[key]))} …)"
        for word, key in kinds.items()
        if said[key]
    ]
    if wrong:
        raise MfsynthError(
            f"{folder}: not the weights of a {kind.__name__}: {'; '.join(wrong)}; fetch it again"
        )
    return model.eval()


def require_components(folder: Path, given: Collection[str] = ()) -> None:
    """See that every model of a pipeline's folder has its weights.

    Args:
        folder: In diffusers' layout.
        given: Components that are not loaded from it.

    Raises:
        MfsynthError: See `require_weights`; also for a component of another library.
    """
    for name, entry in read_json(folder / INDEX).items():
        if name in given or not isinstance(entry, list) or None in entry:
            continue
        library, class_name, *_ = map(str, (*entry, "", ""))
        if library.partition(".")[0] not in _LIBRARIES:
            # Lists may be settings of the pipeline, too.
            if (folder / name).is_dir():
                raise MfsynthError(
                    f"{folder / INDEX}: {name} is of {library}, not of {', '.join(_LIBRARIES)}"
                )
            continue
        kind = getattr(importlib.import_module(library), class_name, None)
        if isinstance(kind, type) and issubclass(kind, nn.Module):
            require_weights(kind, folder / name)


def require_adapters(
    state: Mapping[str, torch.Tensor], transformer: nn.Module, ignored: Collection[str] = ()
) -> None:
    """See that adapters fit the layers of a transformer that they name.

    Args:
        state: As diffusers gives it to `load_lora_into_transformer`.
        transformer: That takes them.
        ignored: Keys that are no adapter's, and may be there.

    Raises:
        MfsynthError: They are of layers that it has not or of other sizes, or lack a half; lists
            them.
    """
    found = {
        key: TensorHeader(_DTYPES.get(value.dtype, str(value.dtype)), tuple(value.shape))
        for key, value in state.items()
        if key not in ignored
    }
    expected: dict[str, tuple[int, ...]] = {}
    for key, header in found.items():
        match = _ADAPTER.fullmatch(key)
        layer = _linear(transformer, match["layer"]) if match else None
        if match is None or layer is None:
            continue
        if match["half"] is None:
            expected[key] = header.shape
            continue
        down, up = (f"transformer.{match['layer']}.lora_{half}.weight" for half in "AB")
        rank = found[down].shape[0] if down in found else header.shape[-1]
        expected[down], expected[up] = (rank, layer.in_features), (layer.out_features, rank)
    differences = discrepancies(expected, found)
    if differences or not found:
        raise MfsynthError(
            f"these are no adapters of this transformer: {'; '.join(differences) or 'none there'}; "
            "load those of the model that it was trained from"
        )


def _linear(transformer: nn.Module, name: str) -> Any:
    """A linear layer, with or without adapters; None where there is none of that name."""
    try:
        layer = transformer.get_submodule(name)
    except AttributeError:
        return None
    return layer if hasattr(layer, "in_features") else None


def _hollow(kind: Any, folder: Path) -> Any:
    # Both libraries would take the last of two values.
    read_json(folder / CONFIG)
    try:
        with torch.device("meta"):
            if hasattr(kind, "load_config"):
                return kind.from_config(kind.load_config(folder, local_files_only=True))
            if kind is AutoModel:
                return kind.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))
            return kind(kind.config_class.from_pretrained(folder, local_files_only=True))
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError),
        *(RuntimeError, ArithmeticError, StrictDataclassError),
    ) as error:
        reason = " ".join(str(error).split())
        raise MfsynthError(
            f"{folder}: its {CONFIG} makes no {kind.__name__} ({reason}); {_REMEDY}"
        ) from error


def _as_named(
    model: Any, expected: Collection[str], found: dict[str, TensorHeader]
) -> dict[str, TensorHeader]:
    """Tensors by the names that transformers will find them under.

    A language model's file has the base model's names behind a prefix. Where one is read for the
    other, the prefix comes or goes, and the head of words is left out.
    """
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    if prefix == ".":
        return found
    is_prefixed = any(key.startswith(prefix) for key in found)
    if is_prefixed and not any(key.startswith(prefix) for key in expected):
        found = {
            key.removeprefix(prefix): header
            for key, header in found.items()
            if not key.startswith(_LANGUAGE_HEAD)
        }
    elif not is_prefixed and any(key.startswith(prefix) for key in expected):
        found = {
            key if key.startswith(_LANGUAGE_HEAD) else f"{prefix}{key}": header
            for key, header in found.items()
        }
    left_out = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
    return {
        key: header
        for key, header in found.items()
        if key in expected or not any(re.search(pattern, key) for pattern in left_out)
    }
