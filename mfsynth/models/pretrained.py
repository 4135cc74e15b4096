"""Models of transformers from folders, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoProcessor

from mfsynth.errors import MfsynthError
from mfsynth.models.locations import CONFIG, read_json
from mfsynth.models.tensor_files import read_headers_of, weight_files


def load_whole(kind: Any, folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """A model that has all of its weights from a folder, and no others; on the CPU.

    Not by the headers alone: between versions of transformers names have changed, and it knows how.

    Args:
        kind: Class of transformers.
        folder: With its configuration and safetensors files.
        dtype: Of the weights.

    Raises:
        MfsynthError: The files make no such model, or weights are missing, extra or misshapen.
    """
    # Both libraries would take the last of two values.
    read_json(folder / CONFIG)
    read_headers_of(weight_files(folder))
    try:
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


def load_processor(folder: Path) -> Any:
    """What brings texts and images to a model of transformers, without code of the folder's.

    Raises:
        MfsynthError: The files make none, or what it needs isn't installed.
    """
    try:
        # Of the two ways to resize an image one is always here; results shouldn't depend on it.
        return AutoProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, backend="pil"
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        reason = " ".join(str(error).split())[:300]
        raise MfsynthError(
            f"{folder}: has no processor that can be used ({reason}); fetch it again, or install "
            "what it names"
        ) from error
