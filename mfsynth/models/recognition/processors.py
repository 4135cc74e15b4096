"""What brings texts and images to networks of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoProcessor

from mfsynth.errors import MfsynthError


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
