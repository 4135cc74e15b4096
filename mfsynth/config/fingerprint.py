"""What a run is: its semantic settings and their fingerprint."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from mfsynth.config.schema import RunConfig
from mfsynth.storage.digests import sha256_of_bytes

FORMAT_VERSION = "2-draft.3"
"""Of what a run stores that begins now."""
WRITTEN_VERSIONS = ("2-draft.2", FORMAT_VERSION)
"""Those that runs are continued in. The second adds members and columns to the first, which a run
of the first doesn't have; its fingerprint is that of equal settings now."""
# Settings, of the run itself, that add some.
_ADDING = ("camera", "metres_per_unit", "source", "sensor")

_OPERATIONAL = {"target", "output", "runtime"}
_NOT_SET = "not set"
_IDENTITY_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Identifies what a run makes.

    Attributes:
        digest: SHA-256 (hexadecimal) over the settings as canonical JSON.
        settings: The semantic settings, nested, JSON values only.
    """

    digest: str
    settings: dict[str, Any]

    @property
    def identity(self) -> str:
        """Short form of the digest, for names: two runs with one are the same run."""
        return run_identity(self.digest)


def run_identity(digest: str) -> str:
    """The short form of a fingerprint's digest."""
    return digest[:_IDENTITY_DIGITS]


def fingerprint(
    config: RunConfig,
    prompts_digest: str | None,
    model_revision: str,
    beside: Mapping[str, Any] = MappingProxyType({}),
) -> Fingerprint:
    """The fingerprint of a run.

    Args:
        config: The configuration, its defaults filled in; `target`, `output` and `runtime` do
            not count.
        prompts_digest: The digest of the prompt source. It stands for `config.prompts`, so
            that a file may move but must not change. None of a run without.
        model_revision: The revision that was loaded, which may be newer knowledge than
            `config.model.revision`.
        beside: What else decides a run's samples, as JSON values; it stands beside the settings.

    Returns:
        Digest and settings; equal settings give equal digests on every machine.
    """
    settings: dict[str, Any] = _without_unset(config.model_dump(mode="json", exclude=_OPERATIONAL))
    # What is the default in other words, or by an earlier name, is the same run.
    if config.copies == 1:
        del settings["copies"]
    if config.rejects_kept != "all":
        settings.pop("keep_rejects", None)
        settings["keep_reject_thumbnails"] = config.rejects_kept == "thumbnails"
    if prompts_digest is not None:
        settings["prompts"] = {"digest": prompts_digest}
    settings["model"]["revision"] = model_revision
    settings["format_version"] = format_version(config)
    settings |= beside
    return Fingerprint(settings_digest(settings), settings)


def format_version(config: RunConfig) -> str:
    """The first format that has all that a run asks for: a later one doesn't change what it is."""
    added = any(getattr(config, name) is not None for name in _ADDING)
    return WRITTEN_VERSIONS[added]


def settings_digest(settings: Mapping[str, Any]) -> str:
    """SHA-256 (hexadecimal) over semantic settings as canonical JSON."""
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return sha256_of_bytes(canonical.encode())


def _without_unset(value: Any) -> Any:
    """Settings that are set: one that a later version adds must not change older runs' digests."""
    if isinstance(value, dict):
        return {key: _without_unset(part) for key, part in value.items() if part is not None}
    return [*map(_without_unset, value)] if isinstance(value, list) else value


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What changed between the settings of two fingerprints.

    Returns:
        Lines such as `"sampler.steps: 30 -> 50"`, sorted by key path.
    """
    before, after = dict(_flatten(old)), dict(_flatten(new))
    return [
        f"{path}: {_shown(before, path)} -> {_shown(after, path)}"
        for path in sorted({*before, *after})
        if before.get(path, _NOT_SET) != after.get(path, _NOT_SET)
    ]


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        elif value is not None:
            # None means "not set" everywhere, and must not hide a section that was switched on.
            yield f"{prefix}{key}", value


def _shown(flat: Mapping[str, Any], path: str) -> str:
    value = flat.get(path, _NOT_SET)
    if isinstance(value, str):
        # Digests are told apart by their beginning.
        return f"{value[:12]}…" if path.endswith("digest") and value != _NOT_SET else value
    return json.dumps(value)
