"""Content credentials (C2PA, https://c2pa.org) in pictures that a model made.

The manifest, signed by a user's certificate, says that mfsynth made the picture, and how: the
digital source type of its mark. No time stamp is asked for, so nothing leaves the machine.
"""

from __future__ import annotations

import io
import json
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np

from mfsynth import __version__
from mfsynth.errors import MfsynthError
from mfsynth.formatting import one_line
from mfsynth.shards.codecs import encode_jpeg
from mfsynth.shards.marks import mark_jpeg, source_type
from mfsynth.shards.records import COMPOSITE_SOURCE_TYPE, DIGITAL_SOURCE_TYPE
from mfsynth.storage.digests import sha256_of_bytes

_MEDIA: Final = {".jpg": "image/jpeg", ".png": "image/png"}
# By size of a curve's key; C2PA knows no others.
_CURVES: Final = {256: "es256", 384: "es384", 521: "es512"}
# A preview of each picture in itself would be most of what a manifest takes.
_SETTINGS: Final = {"builder": {"thumbnail": {"enabled": False}}}


class PictureSigner:
    """Signs pictures whose mark says that a model made them; others stay as they are.

    Pictures that somebody else's model made have such a mark, too: they are not to be given here.

    Args:
        certificate: PEM file with the certificate and those above it, its own first.
        key: PEM file with its private key, which is read and kept nowhere else.

    Raises:
        MfsynthError: c2pa isn't installed, a file can't be read, or what is signed with them isn't
            valid.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._where = certificate
        self._chain = _read(certificate)
        private = _read(key)
        try:
            import c2pa

            info = c2pa.C2paSignerInfo(_algorithm(private), self._chain, private, None)
            self._c2pa: Any = c2pa
            self._context = c2pa.Context(
                c2pa.Settings.from_dict(_SETTINGS), c2pa.Signer.from_info(info)
            )
        except ImportError as error:
            raise MfsynthError(
                "content credentials are written with c2pa-python, which isn't here; pip install "
                "'mfsynth[c2pa]'"
            ) from error
        except _errors() as error:
            raise self._refused(error) from error
        self._require_valid()

    @cached_property
    def identity(self) -> str:
        """SHA-256 of the certificates, which anybody may know."""
        return sha256_of_bytes(self._chain)

    def signed(self, path: str, data: bytes) -> bytes:
        """A file with its manifest, or as it is if no model made it.

        Args:
            path: Of the file; its suffix says what it is.
            data: JPEG or PNG with its mark, or anything else.

        Raises:
            MfsynthError: c2pa refuses the certificate.
        """
        media, kind = _MEDIA.get(PurePosixPath(path).suffix), source_type(data)
        if media is None or kind not in (DIGITAL_SOURCE_TYPE, COMPOSITE_SOURCE_TYPE):
            return data
        made = {"action": "c2pa.created", "digitalSourceType": kind}
        manifest = {
            "claim_generator_info": [{"name": "mfsynth", "version": __version__}],
            "format": media,
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [made]}}],
        }
        stream = io.BytesIO()
        try:
            with self._c2pa.Builder(manifest, context=self._context) as builder:
                builder.sign(media, io.BytesIO(data), stream)
        except _errors() as error:
            raise self._refused(error) from error
        return stream.getvalue()

    def _require_valid(self) -> None:
        """Sign something and read it back: c2pa signs with a key of another certificate, too."""
        probe = mark_jpeg(encode_jpeg(np.zeros((16, 16, 3), np.uint8)), DIGITAL_SOURCE_TYPE)
        signed = io.BytesIO(self.signed("probe.jpg", probe))
        with self._c2pa.Reader(_MEDIA[".jpg"], signed) as reader:
            state, found = reader.get_validation_state(), json.loads(reader.json())
        if state == "Invalid":
            faults = found.get("validation_results", {}).get("activeManifest", {})
            codes = [str(fault.get("code")) for fault in faults.get("failure", [])]
            raise self._refused(", ".join(codes) or state)

    def _refused(self, why: object) -> MfsynthError:
        return MfsynthError(
            f"{self._where}: can't sign with it and its key ({one_line(str(why), 200)}); C2PA "
            "wants the signer's certificate first, made for signing (emailProtection or "
            "documentSigning), and its own key without a password"
        )


def _errors() -> tuple[type[Exception], ...]:
    from c2pa import C2paError

    return (C2paError, ValueError, TypeError)


def _algorithm(private: bytes) -> str:
    """How C2PA calls what a key signs with."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(private, None)
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size in _CURVES:
        return _CURVES[key.key_size]
    if isinstance(key, rsa.RSAPrivateKey):
        return "ps256"
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    raise ValueError("a key of another kind than C2PA knows")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MfsynthError(f"{path}: {error.strerror or error}; check the path") from error
