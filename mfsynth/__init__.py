"""Verified synthetic RGB-D data sets from prompts, with Modality Forcing."""

from __future__ import annotations

import logging

__version__ = "0.1.0"

# What torchao says when it is imported, and torch and diffusers because of it, by logger: of their
# own files and versions, nothing that a user could mend.
_NOISE = {
    "torchao": "Failed to load",
    "torch.utils._pytree": "%s is an Enum subclass",
    "diffusers.quantizers.torchao.torchao_quantizer": "Unable to import `torchao`",
}


def _is_heard(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_NOISE[record.name])


for _logger in _NOISE:
    logging.getLogger(_logger).addFilter(_is_heard)
