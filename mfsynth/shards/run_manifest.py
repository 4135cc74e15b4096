"""What a run is: `run.json`, nothing else.

The first of any number of drivers creates it (`ObjectStore.create_if_absent`); the others resume
the run that it describes, or are told how theirs differs.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mfsynth.config import differences, settings_digest
from mfsynth.config.documents import strict_json
from mfsynth.errors import MfsynthError
from mfsynth.shards import layout
from mfsynth.shards.run_types import require_types
from mfsynth.storage.digests import sha256_of_bytes
from mfsynth.storage.exclusive import is_part
from mfsynth.storage.store import ObjectStore


@dataclass(frozen=True, slots=True)
class ScoreInfo:
    """What a run says of one of its scores, for whoever shows it.

    Attributes:
        label: A word or two for people.
        direction: Which values are the better ones: `higher` or `lower`.
        unit: Of the values; "" for none.
        note: What is measured, in a line.
        limit: The worst value that passes; None where all do.
        default_limit: What the check takes where nothing is set; None where that is not known.
    """

    label: str
    direction: str = "higher"
    unit: str = ""
    note: str = ""
    limit: float | None = None
    default_limit: float | None = None

    @property
    def is_minimum(self) -> bool:
        """Whether values must be at least, rather than at most, the limit."""
        return self.direction == "higher"

    def fails(self, value: float) -> bool:
        """Whether a value is worse than the limit; nan is not."""
        if self.limit is None:
            return False
        return value < self.limit if self.is_minimum else value > self.limit

    def bound(self, limit: float) -> str:
        """A limit in words: `at least 0.5 px`."""
        return f"at {'least' if self.is_minimum else 'most'} {self.with_unit(f'{limit:g}')}"

    def with_unit(self, value: str) -> str:
        """A value that has been made text, with the unit if there is one."""
        return f"{value} {self.unit}" if self.unit else value


@dataclass(frozen=True, slots=True)
class RunManifest:
    """`run.json`: what a run is. Written once, never changed.

    Attributes:
        format_version: Version of what is on disk.
        run: Name of the run; `run_id` is that of its samples.
        fingerprint: Digest over `settings`; equal digests may resume each other.
        settings: The semantic settings.
        config: The whole resolved configuration of the first start.
        versions: Versions of the packages that decide the output.
        created: ISO 8601, UTC.
        nonce: Random digits: no other run, in whatever store, has this `run.json`.
        model: `id`, `revision` and `licence` of the model, for the data card.
        estimator: The same of the depth estimator that looked at its pairs; empty where none did.
        scores: By name, what its checks measure; empty for runs of earlier versions.
        members: Of a sample, in order: `name`, `suffix`, `meaning`. Of this and the next two,
            runs of format version 1 say nothing.
        columns: Of the index, in order: `name`, `type`, `nullable`, `meaning`.
        reject_columns: Of the rejects.
    """

    format_version: int | str
    run: str
    fingerprint: str
    settings: Mapping[str, Any]
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    created: str
    nonce: str = ""
    model: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, ScoreInfo] = field(default_factory=dict)
    members: Sequence[Mapping[str, Any]] = field(default_factory=list)
    columns: Sequence[Mapping[str, Any]] = field(default_factory=list)
    reject_columns: Sequence[Mapping[str, Any]] = field(default_factory=list)
    estimator: Mapping[str, str] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        """What the names of its samples and objects begin with."""
        return layout.run_id(self.run, self.fingerprint, self.format_version)

    def score(self, name: str) -> ScoreInfo:
        """What is known of a score; for a run that says nothing of it, its name."""
        return self.scores.get(name) or ScoreInfo(name)

    @property
    def candidates_in_all(self) -> int | None:
        """How many a run with a source has; None for one without end."""
        source = self.settings.get("source") or {}
        items, copies = source.get("items"), self.settings.get("copies") or 1
        if type(items) is not int or type(copies) is not int:
            return None
        return items * copies

    def to_json(self) -> str:
        """Indented JSON with a final newline; `from_json` gives an equal manifest back."""
        values = asdict(self)
        if not self.estimator:
            del values["estimator"]
        return json.dumps(values, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> RunManifest:
        """Read what `to_json` wrote; keys of later versions are ignored.

        Raises:
            MfsynthError: The text is not a run's description.
        """
        try:
            values = strict_json(text)
            scores = values.pop("scores", {})
            manifest = cls(
                **_known_to(cls, values),
                scores={name: ScoreInfo(**_known_to(ScoreInfo, scores[name])) for name in scores},
            )
            require_types(manifest)
        except (ValueError, TypeError, AttributeError) as error:
            raise MfsynthError(f"not the description of a run ({error})") from error
        return manifest


def open_run(store: ObjectStore, manifest: RunManifest) -> RunManifest:
    """Start or resume the run `manifest` in `store`; returns the manifest that is stored there.

    Visible: a new run's `run.json` at once. Idempotent: a retry, another driver or a later
    start finds the same fingerprint and resumes.

    Raises:
        MfsynthError: Something else than a run lies there, or a run with another fingerprint
            (the message names the settings that differ); nothing was changed.
    """
    stored = run_to_resume(store, manifest.fingerprint, manifest.settings)
    if stored is None:
        if store.create_if_absent(layout.RUN_KEY, manifest.to_json().encode()):
            return manifest
        stored = read_run(store)
        _require_same(store, stored, manifest.fingerprint, manifest.settings)
    return stored


def run_to_resume(
    store: ObjectStore, fingerprint: str, settings: Mapping[str, Any]
) -> RunManifest | None:
    """The run in `store` that these settings resume; None where they may begin one.

    Raises:
        MfsynthError: As `open_run`.
    """
    stored = _stored_manifest(store)
    if stored is None:
        _require_empty(store)
    else:
        _require_same(store, stored, fingerprint, settings)
    return stored


def open_copy(store: ObjectStore, run_json: bytes) -> None:
    """Start or resume, in `store`, a copy of the run that has this `run.json`.

    Visible: a new copy's `run.json` at once, byte for byte. Idempotent.

    Raises:
        MfsynthError: Something else than a run lies there, or another run; nothing was changed.
    """
    _require_folder(store)
    if not store.exists(layout.RUN_KEY):
        _require_empty(store)
        if store.create_if_absent(layout.RUN_KEY, run_json):
            return
    if store.read_bytes(layout.RUN_KEY) != run_json:
        raise MfsynthError(
            f"{store.url} holds another run, or another {layout.RUN_KEY}, than the one to copy; "
            "give another place"
        )


def require_this_format(store: ObjectStore, stored: RunManifest) -> None:
    """Refuse to make samples for a run that names them, or draws their noise, otherwise.

    Raises:
        MfsynthError: The run is of another format version.
    """
    if stored.format_version not in layout.WRITTEN_VERSIONS:
        raise MfsynthError(
            f"{store.url} holds run {stored.run!r} of format version {stored.format_version}; this "
            f"mfsynth makes noise and keys of version {layout.FORMAT_VERSION}, so that the run can "
            "be read, verified and exported, but not resumed; give another output"
        )


def read_run(store: ObjectStore) -> RunManifest:
    """The manifest of the run in `store`.

    Raises:
        MfsynthError: There is no run, or one of a later version of mfsynth.
    """
    manifest = _stored_manifest(store)
    if manifest is None:
        root = store.local_root
        if root is not None and not root.exists():
            raise MfsynthError(f"{store.url} is not a run: no such folder; check the path")
        raise MfsynthError(f"{store.url} is not a run: it has no {layout.RUN_KEY}")
    return manifest


def run_sha256(store: ObjectStore) -> str:
    """SHA-256 of `run.json`, as every receipt has it; tells one run's store from any other.

    Raises:
        MfsynthError: There is no run.
    """
    try:
        return sha256_of_bytes(store.read_bytes(layout.RUN_KEY))
    except FileNotFoundError:
        raise MfsynthError(
            f"{store.url} has no {layout.RUN_KEY} as it is seen from {socket.gethostname()}: give "
            "an output that all nodes share"
        ) from None


def require_store_of(store: ObjectStore, sha256: str) -> None:
    """Prove that this process sees the store that another one means.

    Args:
        store: As it is seen here.
        sha256: `run_sha256` of the store that is meant.

    Raises:
        MfsynthError: Another run lies here, or none; the message names this machine.
    """
    if run_sha256(store) != sha256:
        raise MfsynthError(
            f"{store.url} holds another {layout.RUN_KEY} as it is seen from "
            f"{socket.gethostname()} than as the driver sees it: give an output that all nodes "
            "share"
        )


def _known_to(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    known = {f.name for f in fields(kind)}
    return {name: value for name, value in values.items() if name in known}


def _require_folder(store: ObjectStore) -> None:
    root = store.local_root
    if root is not None and root.exists() and not root.is_dir():
        raise MfsynthError(f"{store.url} is a file, not a run; give the folder of a run")


def _require_same(
    store: ObjectStore, stored: RunManifest, fingerprint: str, settings: Mapping[str, Any]
) -> None:
    require_this_format(store, stored)
    if settings_digest(stored.settings) != stored.fingerprint:
        raise MfsynthError(
            f"{store.url}/{layout.RUN_KEY}: its settings are not those of its fingerprint; bring "
            "back the one that was written first"
        )
    if stored.fingerprint != fingerprint:
        changed = differences(stored.settings, settings)
        raise MfsynthError(
            f"{store.url} holds run {stored.run!r} with other settings "
            f"({'; '.join(changed) or 'fingerprint'}); give another output, "
            "or use the settings of that run to resume it"
        )


def _stored_manifest(store: ObjectStore) -> RunManifest | None:
    _require_folder(store)
    try:
        data = store.read_bytes(layout.RUN_KEY)
    except FileNotFoundError:
        return None
    try:
        manifest = RunManifest.from_json(data)
    except MfsynthError as error:
        raise MfsynthError(f"{store.url}/{layout.RUN_KEY}: {error}") from error
    if manifest.format_version not in layout.READABLE_VERSIONS:
        readable = " and ".join(map(str, layout.READABLE_VERSIONS))
        raise MfsynthError(
            f"{store.url} has format version {manifest.format_version}, this mfsynth reads "
            f"{readable}; use the mfsynth that made it"
        )
    return manifest


def _require_empty(store: ObjectStore) -> None:
    # A start that was killed while it wrote run.json leaves a temporary, which is no one's data.
    # Another driver may write run.json while we look: then create_if_absent decides.
    other = store.any_key(ignoring=lambda key: is_part(key) or key == layout.RUN_KEY)
    if other is not None and not store.exists(layout.RUN_KEY):
        raise MfsynthError(
            f"{store.url} is not a run: it has files (such as {other}) but no "
            f"{layout.RUN_KEY}; give an empty or new folder"
        )
