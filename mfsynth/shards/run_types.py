"""Whether `run.json` is of the types that readers take it for, whoever wrote it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mfsynth.shards import layout
from mfsynth.shards.records import is_utc

if TYPE_CHECKING:
    from mfsynth.shards.run_manifest import RunManifest, ScoreInfo


def require_types(manifest: RunManifest) -> None:
    """Refuse a description of a run that some reader would stumble over.

    Raises:
        ValueError: Says what is wrong.
    """
    # The name becomes part of paths.
    if not isinstance(manifest.run, str) or not layout.RUN_NAME.fullmatch(manifest.run):
        raise ValueError(f"{manifest.run!r:.80} is no name of a run")
    for name in ("fingerprint", "nonce"):
        if not isinstance(getattr(manifest, name), str):
            raise ValueError(f"{name} is not a text")
    if not is_utc(manifest.created):
        raise ValueError("created is no time of UTC")
    for name in ("settings", "config", "versions", "model", "estimator"):
        _require_object(name, getattr(manifest, name))
    for name in ("sampler", "checks", "source"):
        _require_object(f"settings.{name}", manifest.settings.get(name) or {})
    for name in ("versions", "model", "estimator"):
        if not _are_texts(getattr(manifest, name).values()):
            raise ValueError(f"{name} has what is not a text")
    _require_object("config.target", target := manifest.config.get("target") or {})
    if not all(number in (None, True) or type(number) is int for number in target.values()):
        raise ValueError("config.target is not a number")
    for score in manifest.scores.values():
        _require_score(score)
    for name, texts in (
        ("members", ("name", "suffix")),
        ("columns", ("name", "type")),
        ("reject_columns", ("name", "type")),
    ):
        _require_entries(name, getattr(manifest, name), texts)
        # Where there is nothing, those of this version would be taken.
        if manifest.format_version != layout.FIRST_VERSION and not getattr(manifest, name):
            raise ValueError(f"{name} says nothing")


def _require_object(name: str, value: object) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not an object")


def _require_score(score: ScoreInfo) -> None:
    if not _are_texts((score.label, score.unit, score.note)):
        raise ValueError("a score has what is not a text")
    if score.direction not in ("higher", "lower"):
        raise ValueError("the direction of a score is neither higher nor lower")
    for limit in (score.limit, score.default_limit):
        if limit is not None and (type(limit) not in (int, float) or not abs(limit) < math.inf):
            raise ValueError("the limit of a score is not a number")


def _require_entries(name: str, entries: Any, texts: tuple[str, ...]) -> None:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{name} is not a list of objects")
    if not all(_are_texts(map(entry.get, texts)) for entry in entries):
        raise ValueError(f"an entry of {name} lacks {' or '.join(texts)}")


def _are_texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)
