"""A certificate authority in a folder: who it issued to, and which of that it has revoked."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from coordinator.security.revocation import BadList, RevokedList
from federa.durable import write_file
from federa.errors import BadInput, FederaError
from protos.credentials import (
    CA_FILE,
    CERTIFICATE_FILE,
    COORDINATOR,
    DEVICE,
    KEY_FILE,
    OPERATOR,
    REVOKED_FILE,
    Certificate,
    certificate_of,
)

CA_KEY_FILE = "ca.key"
ISSUED_FILE = "issued.pem"
CA_VALID_DAYS = 3650
VALID_DAYS = 730
_EARLY = timedelta(hours=1)
"""A certificate counts from so long before it was made: clocks differ."""
_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)  # X.509 bounds a common name to 64 characters
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*", re.ASCII)
_USES = {
    DEVICE: [ExtendedKeyUsageOID.CLIENT_AUTH],
    OPERATOR: [ExtendedKeyUsageOID.CLIENT_AUTH],
    # The second for its own health check.
    COORDINATOR: [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
}


class Authority:
    """A CA kept in a folder: ca.crt, ca.key, all that was issued in issued.pem, what is revoked of it in crl.pem
    (copied to the coordinator's folder), and a folder a name. One process at a time."""

    def __init__(self, folder: Path) -> None:
        """The one that is in the folder. Raises BadInput where there is none, or a damaged one."""
        self._folder = folder
        try:
            self._certificate = x509.load_pem_x509_certificate(_read(folder / CA_FILE))
            key = load_pem_private_key(_read(folder / CA_KEY_FILE), password=None)
            self._issued = x509.load_pem_x509_certificates(_read(folder / ISSUED_FILE))
            self.issued()  # what is damaged further in shows only when it is asked for
        except (FederaError, OSError):
            raise
        except Exception:  # cryptography has many kinds, not all of them ValueErrors
            raise BadInput(f"--dir: a file of the authority in {folder} is damaged") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != self._certificate.public_key():
            raise BadInput(f"--dir: {folder / CA_KEY_FILE} is not the key of {CA_FILE} beside it")
        self._key = key

    @classmethod
    def create(cls, folder: Path) -> Authority:
        """A new one, in a folder that has none."""
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(timezone.utc)
        serial = x509.random_serial_number()
        # A name of its own, so that certificates of two authorities cannot be taken for one another's.
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"federa CA {serial:x}"[:26])])
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), serial)
            .not_valid_before(now - _EARLY)
            .not_valid_after(now + timedelta(days=CA_VALID_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = certificate.public_bytes(Encoding.PEM)
        # The certificate last: with it the authority is there. It stands first in the record of what was issued.
        _write(folder / CA_KEY_FILE, _private(key), mode=0o600)
        _write(folder / ISSUED_FILE, pem)
        _write(folder / REVOKED_FILE, _signed_list(certificate, key, RevokedList(number=0, serials=frozenset())))
        _write(folder / CA_FILE, pem)
        return cls(folder)

    def issue(
        self, name: str, role: str, *, hosts: Sequence[str] = (), valid: timedelta = timedelta(days=VALID_DAYS)
    ) -> Certificate:
        """A new certificate and its key, in the folder of that name, in place of what is there. Raises BadInput."""
        check_name(name)
        if (self._folder / name).exists() and not (self._folder / name).is_dir():
            raise BadInput(f"NAME: {name} is a file of the authority itself")
        for other in self.issued(name):
            if other.role != role:
                raise BadInput(f"{name}: has certificates as {other.role} already, and a name keeps its role")
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(timezone.utc)
        units = [(NameOID.ORGANIZATIONAL_UNIT_NAME, role), (NameOID.COMMON_NAME, name)]
        builder = (
            x509.CertificateBuilder(
                self._certificate.subject,
                x509.Name([x509.NameAttribute(oid, value) for oid, value in units]),
                key.public_key(),
                x509.random_serial_number(),
            )
            .not_valid_before(now - _EARLY)
            .not_valid_after(min(now + valid, self._certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(_USES[role]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if hosts:
            names = x509.SubjectAlternativeName([_host(host) for host in dict.fromkeys(hosts)])
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        # Recorded before anybody can have it: what is not on record could not be revoked by name.
        self._issued.append(certificate)
        _write(self._folder / ISSUED_FILE, b"".join(known.public_bytes(Encoding.PEM) for known in self._issued))
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        _write(folder / CA_FILE, self._certificate.public_bytes(Encoding.PEM))
        _write(folder / KEY_FILE, _private(key), mode=0o600)
        _write(folder / CERTIFICATE_FILE, certificate.public_bytes(Encoding.PEM))
        if role == COORDINATOR:
            # Its folder may be new while the authority is not: what was revoked stays so.
            _write(folder / REVOKED_FILE, _read(self._folder / REVOKED_FILE))
        return certificate_of(certificate)

    def has(self, name: str) -> bool:
        """Whether the folder of that name is whole, and this authority's: it may have outlived another, on a volume."""
        folder = self._folder / name
        try:
            files = [(folder / file).read_bytes() for file in (CA_FILE, CERTIFICATE_FILE, KEY_FILE)]
            ca, leaf = map(x509.load_pem_x509_certificate, files[:2])
            fits = load_pem_private_key(files[2], password=None).public_key() == leaf.public_key()
        except PermissionError:
            raise
        except Exception:  # not there, or damaged in one of many ways
            return False
        listed = name != COORDINATOR or (folder / REVOKED_FILE).is_file()
        return fits and listed and ca == self._certificate and leaf in self._issued

    def issued(self, name: str | None = None) -> list[Certificate]:
        """All certificates that were ever issued, or those of one name, oldest first."""
        known = (certificate_of(certificate) for certificate in self._issued[1:])
        return [certificate for certificate in known if name in (None, certificate.name)]

    def revoked(self) -> frozenset[int]:
        """The serials of those that do not count any more. Raises BadInput."""
        return self._list().serials

    def revoke(self, certificates: Sequence[Certificate]) -> None:
        """Let these not count from now on."""
        known = self._list()
        serials = known.serials | {certificate.serial for certificate in certificates}
        self._write_list(RevokedList(number=known.number + 1, serials=serials))

    def _list(self) -> RevokedList:
        try:
            return RevokedList.read(self._folder / REVOKED_FILE, self._certificate)
        except BadList as error:
            raise BadInput(f"--dir: {error}") from None

    def _write_list(self, revoked: RevokedList) -> None:
        pem = _signed_list(self._certificate, self._key, revoked)
        _write(self._folder / REVOKED_FILE, pem)
        if (self._folder / COORDINATOR).is_dir():  # or it is where the coordinator runs
            _write(self._folder / COORDINATOR / REVOKED_FILE, pem)


def check_name(name: str) -> None:
    """Raises BadInput for a name that no certificate can have, or no folder."""
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"NAME: must be 1 to 64 letters, digits, dots, hyphens or underscores (the first a letter or digit), "
            f"not {name!r}"
        )


def check_host(host: str) -> None:
    """Raises BadInput for what is neither an IP address nor a host's name."""
    try:
        _host(host)
    except ValueError:
        raise BadInput(f"--host: must be a host name or an IP address without a port, not {host!r}") from None


def _write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace a file: whatever the umask, nobody else may write what the others trust."""
    write_file(path, content, mode=mode)


def _host(host: str) -> x509.GeneralName:
    """Raises ValueError."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
    except ValueError:
        if not _HOST.fullmatch(host) or host.rpartition(".")[2].isdigit():
            raise
        return x509.DNSName(host)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority, key_cert_sign=authority, crl_sign=authority,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _signed_list(authority: x509.Certificate, key: ec.EllipticCurvePrivateKey, revoked: RevokedList) -> bytes:
    now = datetime.now(timezone.utc)
    builder = (
        x509.CertificateRevocationListBuilder(authority.subject)
        .last_update(now)
        # It stays in force until there is another.
        .next_update(max(authority.not_valid_after_utc, now + timedelta(days=1)))
        .add_extension(x509.CRLNumber(revoked.number), critical=False)
    )
    for serial in sorted(revoked.serials):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"--dir: there is no {path}; federa-certs init makes an authority") from None
