"""Which kind of training a configuration describes; known before torch is imported."""

from __future__ import annotations

from mfsynth.config.documents import read_yaml
from mfsynth.config.resources import resolve_resource


def describes_estimator(name_or_path: str) -> bool:
    """Whether a training configuration is that of an estimator: it has a part of that name.

    Raises:
        MfsynthError: There is no such file, or it is no YAML.
    """
    values = read_yaml(resolve_resource("configs/train", name_or_path), "configuration")
    return isinstance(values, dict) and "estimator" in values
