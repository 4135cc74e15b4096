"""Typed configuration, loading, overrides, fingerprint."""

from __future__ import annotations

from mfsynth.config.cameras import CameraConfig
from mfsynth.config.fingerprint import (
    FORMAT_VERSION,
    WRITTEN_VERSIONS,
    Fingerprint,
    differences,
    fingerprint,
    format_version,
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
    "WRITTEN_VERSIONS",
    "CameraConfig",
    "Fingerprint",
    "ModelConfig",
    "PromptsConfig",
    "RunConfig",
    "RuntimeConfig",
    "SamplerConfig",
    "differences",
    "fingerprint",
    "format_version",
    "load_config",
    "load_settings",
    "run_identity",
    "settings_digest",
]
