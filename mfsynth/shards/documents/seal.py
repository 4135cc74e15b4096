"""What a `manifest.json` says of itself and of the documents beside it.

Another version of mfsynth says the same in other words: by the seal it knows what an earlier one
wrote of these very shards.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mfsynth.config.documents import json_document, strict_json
from mfsynth.shards.documents.manifest import described
from mfsynth.shards.records import Receipt
from mfsynth.storage.digests import sha256_of_bytes

_SEAL, _OWN, _OTHERS = "seal", "manifest", "documents"


@dataclass(frozen=True, slots=True)
class Sealed:
    """A `manifest.json` that is as it was written.

    Attributes:
        manifest: What it says, without the seal.
        digests: SHA-256 of the documents beside it, by their names, and its own file's.
    """

    manifest: Mapping[str, Any]
    digests: Mapping[str, str]

    def is_of(self, fingerprint: str, receipts: Iterable[Receipt]) -> bool:
        """Whether it is of a run with this fingerprint, and of these shards and no others."""
        shards = json.loads(json_document([described(receipt) for receipt in receipts]))
        said = self.manifest.get("fingerprint"), self.manifest.get("shards")
        return said == (fingerprint, shards)

    def lacking(self, found: Collection[str]) -> list[str]:
        """Names of the documents that were written with it and aren't among those found."""
        return [name for name in self.digests if name not in found]

    def holds(self, name: str, data: bytes) -> bool:
        """Whether the document of that name is the one that was written with it."""
        return self.digests.get(name) == sha256_of_bytes(data)


def seal(manifest: Mapping[str, Any], documents: Mapping[str, bytes]) -> bytes:
    """The file `manifest.json`, with SHA-256 of the others, and of all else that it says.

    Args:
        manifest: As `build_manifest` makes it.
        documents: The others, by their names.
    """
    digests = {name: sha256_of_bytes(data) for name, data in documents.items()}
    own = {_OWN: sha256_of_bytes(_canonical(manifest)), _OTHERS: digests}
    return json_document({**manifest, _SEAL: own})


def open_sealed(name: str, data: bytes) -> Sealed | None:
    """A `manifest.json` of that name; None where it has no seal, or was changed since."""
    try:
        manifest = strict_json(data)
        own = manifest.pop(_SEAL)
        digests = {**own[_OTHERS], name: sha256_of_bytes(data)}
        is_whole = own[_OWN] == sha256_of_bytes(_canonical(manifest))
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return Sealed(manifest, digests) if is_whole else None


def _canonical(manifest: Mapping[str, Any]) -> bytes:
    return json.dumps(manifest, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
