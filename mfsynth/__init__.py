"""Verified synthetic RGB-D data sets from prompts, with Modality Forcing."""

from __future__ import annotations

import importlib
import logging
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mfsynth.api import annotate, generate, load_pipeline, retexture, status, verify
    from mfsynth.datasets import open_dataset

__all__ = [
    "__version__",
    "annotate",
    "generate",
    "load_pipeline",
    "open_dataset",
    "retexture",
    "status",
    "verify",
]

__version__ = "0.2.0.dev0"

# What `mfsynth.NAME` is imported from, when it is first asked for: nothing of it is light.
_OFFERED = {
    "annotate": "mfsynth.api",
    "generate": "mfsynth.api",
    "load_pipeline": "mfsynth.api",
    "open_dataset": "mfsynth.datasets",
    "retexture": "mfsynth.api",
    "status": "mfsynth.api",
    "verify": "mfsynth.api",
}

# What torchao says when it is imported, and torch and diffusers because of it, and diffusers of our
# pipeline's annotations, by logger: nothing that a user could mend.
_NOISE = {
    "torchao": "Failed to load",
    "torch.utils._pytree": "%s is an Enum subclass",
    "diffusers.quantizers.torchao.torchao_quantizer": "Unable to import `torchao`",
    "diffusers.pipelines.pipeline_utils": "cannot get type annotation",
}


# What dependencies would tell their makers is off unless somebody asks for it.
for _name, _off in {"RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}.items():
    os.environ.setdefault(_name, _off)


def _is_heard(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_NOISE[record.name])


for _logger in _NOISE:
    logging.getLogger(_logger).addFilter(_is_heard)


def __getattr__(name: str) -> Any:
    if name not in _OFFERED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_OFFERED[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
