"""The certificates that do not count any more: an X.509 list (RFC 5280) in a file that may change at any time."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

log = logging.getLogger("federa.coordinator")


class BadList(Exception):
    """A list that cannot be used. The message is one line that names its file."""


@dataclass(frozen=True, slots=True)
class RevokedList:
    """Serials, and a number that grows with every new list of an authority."""

    number: int
    serials: frozenset[int]

    @classmethod
    def read(cls, path: Path, authority: x509.Certificate) -> RevokedList:
        """What a file holds. Raises BadList, also where that authority did not sign it."""
        try:
            found = x509.load_pem_x509_crl(path.read_bytes())
            number = found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
            serials = frozenset(entry.serial_number for entry in found)
            signed = found.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
        except OSError as error:
            raise BadList(f"cannot read {path}: {error.strerror}") from None
        except Exception:  # cryptography has many kinds, not all of them ValueErrors
            raise BadList(
                f"{path} must be a list of revoked certificates in PEM with a number, and is damaged"
            ) from None
        if not signed:
            raise BadList(f"{path} was not signed by the authority of these certificates")
        return cls(number, serials)


class Revocation:
    """The list that is in force. A change of the file is seen by the next `serials`; one that cannot be used, or that
    is older than the one in force, is said once and changes nothing."""

    def __init__(self, path: Path, authority: x509.Certificate) -> None:
        """Raises BadList."""
        self._path, self._authority = path, authority
        self._seen = self._mark()
        self._list = RevokedList.read(path, authority)

    def serials(self) -> frozenset[int]:
        """The serial numbers of the certificates that are revoked now."""
        if (mark := self._mark()) != self._seen:
            self._seen = mark
            self._read_again()
        return self._list.serials

    def _read_again(self) -> None:
        try:
            fresh = RevokedList.read(self._path, self._authority)
            if fresh.number < self._list.number:
                raise BadList(f"{self._path} is older than the list in force")
        except BadList as error:
            log.error("%s; the list of before stays in force", error)
            return
        log.info("%s: %d certificates are revoked", self._path, len(fresh.serials))
        self._list = fresh

    def _mark(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size
