"""The certificate that the control plane makes for itself, where none is set."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inferno.web.listener import Certificate

if TYPE_CHECKING:  # it is loaded only where a certificate is made
    from cryptography.x509 import GeneralName

YEARS = 10
RENEWED_AFTER = 9 * 365 * 86400  # seconds
LOOPBACK = ("localhost", "127.0.0.1", "::1")
EVERY_ADDRESS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - these are told apart from names


def own_certificate(folder: Path, host: str) -> Certificate:
    """Return a certificate for this machine, made at the first start and kept.

    Args:
        folder: where it is kept, for its owner only.
        host: that the platform listens on.

    Returns:
        A certificate that is its own authority: clients are told to trust this one alone.
    """
    names = [*LOOPBACK, socket.gethostname()]
    if host not in EVERY_ADDRESS:
        names.append(host)
    names = list(dict.fromkeys(names))
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]
    found = Certificate(folder / f"{digest}.crt", folder / f"{digest}.key")
    if not (_is_fresh(found.chain) and found.key.is_file()):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(found, names)
    return found


def _is_fresh(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime < RENEWED_AFTER
    except OSError:
        return False


def _make(certificate: Certificate, names: Sequence[str]) -> None:
    """Make a key and sign its certificate with it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "inferno")])
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=False, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(certificate.key, private)
    _write(certificate.chain, signed.public_bytes(pem))


def _alternative(name: str) -> GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    partial.replace(path)
