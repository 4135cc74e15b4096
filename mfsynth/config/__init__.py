"""Typed configuration, loading, overrides, fingerprint."""

from __future__ import annotations

from mfsynth.config.fingerprint import FORMAT_VERSION, Fingerprint, differences, fingerprint
from mfsynth.config.loading import load_config, load_settings
from mfsynth.config.schema import (
    ChecksConfig,
    FlyingPixelsConfig,
    ModelConfig,
    PromptsConfig,
    RegistrationConfig,
    RunConfig,
    RuntimeConfig,
    SamplerConfig,
    SelfAgreementConfig,
    TargetConfig,
    ValidityConfig,
)

__all__ = [
    "FORMAT_VERSION",
    "ChecksConfig",
    "Fingerprint",
    "FlyingPixelsConfig",
    "ModelConfig",
    "PromptsConfig",
    "RegistrationConfig",
    "RunConfig",
    "RuntimeConfig",
    "SamplerConfig",
    "SelfAgreementConfig",
    "TargetConfig",
    "ValidityConfig",
    "differences",
    "fingerprint",
    "load_config",
    "load_settings",
]
