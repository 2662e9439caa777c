"""A folder of certificates as this process's credentials. Both ends show one of the same CA, and demand the other's."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from protos.address import is_loopback

CA_FILE, CERTIFICATE_FILE, KEY_FILE, REVOKED_FILE = "ca.crt", "tls.crt", "tls.key", "crl.pem"
"""What a folder holds, all PEM; the last one only the coordinator's."""

DEVICE, OPERATOR, COORDINATOR = "device", "operator", "coordinator"
ROLES = (DEVICE, OPERATOR, COORDINATOR)
"""What a certificate's OU may say: who trains, who submits experiments, and who serves both."""

_MAX_BYTES = 1 << 20


class BadCredentials(Exception):
    """A folder that cannot be used. The message is one line that names the file and what is wrong with it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Certificate:
    """What a certificate says of its holder. The times are aware."""

    name: str
    role: str
    serial: int
    not_before: datetime
    not_after: datetime
    hosts: tuple[str, ...] = ()
    """Names and addresses under which a server may be reached."""

    def __str__(self) -> str:
        return f"certificate of {self.role or 'no role'} {self.name!r} (serial {self.serial:x})"

    def untimely(self, now: datetime) -> str:
        """Why it does not count at this time, in words; empty where it does."""
        if now > self.not_after:
            return f"expired at {_date(self.not_after)}"
        if now < self.not_before:
            return f"is not valid before {_date(self.not_before)}, and it is {_date(now)} here"
        return ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials(Certificate):
    """A certificate with its key and the CA's certificate."""

    folder: Path
    ca_pem: bytes = field(repr=False)
    certificate_pem: bytes = field(repr=False)
    key_pem: bytes = field(repr=False)
    ca_key: bytes = field(repr=False)
    """DER of the CA's SubjectPublicKeyInfo."""

    def key_of(self, name: str) -> str:
        """The worker's key that goes with a certificate of this CA to that name, so that a new certificate, or a board
        that was flashed again, is the same worker."""
        return hashlib.sha256(b"federa worker\0" + self.ca_key + b"\0" + name.encode()).hexdigest()[:32]

    @property
    def worker_key(self) -> str:
        """This certificate's own."""
        return self.key_of(self.name)

    def channel(self) -> grpc.ChannelCredentials:
        """For a client: it shows the certificate and demands a server's of the same CA."""
        return grpc.ssl_channel_credentials(self.ca_pem, self.key_pem, self.certificate_pem)

    def server(self) -> grpc.ServerCredentials:
        """For a server: it shows the certificate and demands a client's of the same CA. gRPC takes TLS 1.2 and up."""
        pair = [(self.key_pem, self.certificate_pem)]
        return grpc.ssl_server_credentials(pair, root_certificates=self.ca_pem, require_client_auth=True)


def read_credentials(folder: Path) -> Credentials:
    """What a folder holds. Raises BadCredentials for files that are missing, damaged, of two minds or out of date."""
    ca_pem, certificate_pem, key_pem = (_read(folder / name) for name in (CA_FILE, CERTIFICATE_FILE, KEY_FILE))
    ca, leaf = _certificate(folder / CA_FILE, ca_pem), _certificate(folder / CERTIFICATE_FILE, certificate_pem)
    try:
        key = load_pem_private_key(key_pem, password=None)
    except Exception:  # damaged, in one of many ways, or it has a password
        raise BadCredentials(f"{folder / KEY_FILE} must be a private key in PEM, without a password") from None
    if public_key_der(key.public_key()) != public_key_der(leaf.public_key()):
        raise BadCredentials(f"{folder / KEY_FILE} is not the key of {CERTIFICATE_FILE} beside it")
    try:
        leaf.verify_directly_issued_by(ca)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        raise BadCredentials(f"{folder / CERTIFICATE_FILE} was not issued by {CA_FILE} beside it") from None
    own = certificate_of(leaf)
    if not own.name or own.role not in ROLES:
        raise BadCredentials(
            f"{folder / CERTIFICATE_FILE} must have a name (CN) and a role (OU {', '.join(ROLES)}): "
            "make it with federa-certs issue"
        )
    now = datetime.now(timezone.utc)
    for name, certificate in ((CA_FILE, certificate_of(ca)), (CERTIFICATE_FILE, own)):
        if why := certificate.untimely(now):
            mend = "is the clock wrong?" if now < certificate.not_before else "federa-certs issue makes another"
            raise BadCredentials(f"{folder / name} {why}: {mend}")
    return Credentials(
        name=own.name, role=own.role, serial=own.serial, hosts=own.hosts,
        not_before=own.not_before, not_after=own.not_after,
        folder=folder, ca_pem=ca_pem, certificate_pem=certificate_pem, key_pem=key_pem,
        ca_key=public_key_der(ca.public_key()),
    )  # fmt: skip


def credentials_for(certs: Path | None, *, insecure: bool, address: str, option: str, role: str) -> Credentials | None:
    """What --certs and --insecure say for an address that `option` gave: credentials of that role, or None for
    plaintext. Raises BadCredentials, naming the option; so it does for plaintext that would leave this machine."""
    if certs is not None and insecure:
        raise BadCredentials("--insecure: is for plaintext; with --certs there is none")
    if certs is None:
        if not insecure and not is_loopback(address):
            raise BadCredentials(
                f"{option}: {address} is not loopback: give --certs DIR (federa-certs makes one), "
                "or --insecure for plaintext in a network that you trust"
            )
        return None
    try:
        credentials = read_credentials(certs)
    except BadCredentials as error:
        raise BadCredentials(f"--certs: {error}") from None
    if credentials.role != role:
        raise BadCredentials(
            f"--certs: {certs} is of {credentials.role} {credentials.name!r}, must be one of role {role}"
        )
    return credentials


def certificate_of(certificate: x509.Certificate) -> Certificate:
    """What it says of its holder; a name or role that is not there once is empty."""

    def subject(oid: x509.ObjectIdentifier) -> str:
        values = [str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(oid)]
        return values[0] if len(values) == 1 else ""

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = (*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress)))
    except x509.ExtensionNotFound:
        hosts = ()
    return Certificate(
        name=subject(NameOID.COMMON_NAME),
        role=subject(NameOID.ORGANIZATIONAL_UNIT_NAME),
        serial=certificate.serial_number,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        hosts=hosts,
    )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise BadCredentials(f"cannot read {path}: {error.strerror}") from None


def _certificate(path: Path, pem: bytes) -> x509.Certificate:
    try:
        found = x509.load_pem_x509_certificate(pem)
        # What is damaged further in shows only when it is asked for.
        certificate_of(found), found.public_key()
        return found
    except Exception:  # cryptography has many kinds, not all of them ValueErrors
        raise BadCredentials(f"{path} must be a certificate in PEM, and is damaged or another file") from None


def public_key_der(key: object) -> bytes:
    """A public key as DER, the same bytes for the same key."""
    der: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return der


def _date(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
