"""Typed configuration, loading, overrides, fingerprint."""

from __future__ import annotations

from mfsynth.config.fingerprint import (
    FORMAT_VERSION,
    Fingerprint,
    differences,
    fingerprint,
    run_identity,
    settings_digest,
)
from mfsynth.config.loading import load_config, load_settings
from mfsynth.config.schema import (
    ModelConfig,
    PromptsConfig,
    RunConfig,
    RuntimeConfig,
    SamplerConfig,
)

__all__ = [
    "FORMAT_VERSION",
    "Fingerprint",
    "ModelConfig",
    "PromptsConfig",
    "RunConfig",
    "RuntimeConfig",
    "SamplerConfig",
    "differences",
    "fingerprint",
    "load_config",
    "load_settings",
    "run_identity",
    "settings_digest",
]
