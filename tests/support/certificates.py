"""Certificates for content credentials, made here and worth nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SIGNER = "Robots of Nobody"


@dataclass(frozen=True)
class Credentials:
    """A chain of a certificate and its issuer, as files."""

    certificate: Path
    key: Path

    @property
    def options(self) -> tuple[str, ...]:
        return ("--c2pa-certificate", str(self.certificate), "--c2pa-key", str(self.key))


def certificate(
    subject: str,
    key: Any,
    issuer: str,
    issuer_key: Any,
    *,
    is_issuer: bool = False,
    purpose: bool = True,
) -> bytes:
    """A certificate in PEM; without `purpose` it is for nothing in particular."""

    def named(name: str) -> x509.Name:
        parts = [(NameOID.COMMON_NAME, name), (NameOID.ORGANIZATION_NAME, name)]
        return x509.Name([x509.NameAttribute(*part) for part in parts])

    now = datetime.now(UTC)
    names = "content_commitment key_encipherment data_encipherment key_agreement encipher_only"
    use = dict.fromkeys([*names.split(), "decipher_only"], False)
    use |= {"digital_signature": not is_issuer, "key_cert_sign": is_issuer, "crl_sign": is_issuer}
    above = issuer_key.public_key()
    builder = (
        x509.CertificateBuilder(named(issuer), named(subject), key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_issuer, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above), critical=False)
        .add_extension(x509.KeyUsage(**use), critical=True)
    )
    if purpose and not is_issuer:
        use_of = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(use_of, critical=False)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def write_credentials(folder: Path, key: Any, *, purpose: bool = True) -> Credentials:
    """A chain of two, whose first is made for signing, or for nothing in particular."""
    root = ec.generate_private_key(ec.SECP256R1())
    chain = certificate(SIGNER, key, "Root", root, purpose=purpose)
    chain += certificate("Root", root, "Root", root, is_issuer=True)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    found = Credentials(folder / "chain.pem", folder / "key.pem")
    found.certificate.write_bytes(chain)
    found.key.write_bytes(pem)
    return found
