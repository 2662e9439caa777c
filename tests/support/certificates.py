"""Certificates for tests: an authority in a folder, and credentials that reading would refuse."""

from __future__ import annotations

from datetime import timedelta

from cryptography import x509

from coordinator.security.authority import Authority
from protos.credentials import (
    CA_FILE,
    CERTIFICATE_FILE,
    COORDINATOR,
    DEVICE,
    KEY_FILE,
    OPERATOR,
    Credentials,
    certificate_of,
    public_key_der,
    read_credentials,
)

HOSTS = ("localhost", "127.0.0.1")


class CertificateFixture:
    """An authority with a coordinator, an operator and a device `ada`."""

    def __init__(self, folder, hosts=HOSTS):
        self.folder = folder
        self.authority = Authority.create(folder)
        self.authority.issue(COORDINATOR, COORDINATOR, hosts=hosts)
        self.authority.issue("operator", OPERATOR)
        self.device("ada")

    def device(self, name, valid=timedelta(days=1), **more):
        """A certificate for a device, and its credentials without a look at their dates."""
        self.authority.issue(name, DEVICE, valid=valid, **more)
        return self.of(name)

    def of(self, name):
        return unchecked(self.folder / name)

    def revoke(self, name):
        self.authority.revoke(self.authority.issued(name))

    @property
    def coordinator(self):
        return read_credentials(self.folder / COORDINATOR)

    @property
    def operator(self):
        return read_credentials(self.folder / "operator")


def unchecked(folder, ca_folder=None):
    """What a folder holds, out of date or not; with the CA of another folder, if there is one."""
    pems = [(place / name).read_bytes() for place, name in
            [(ca_folder or folder, CA_FILE), (folder, CERTIFICATE_FILE), (folder, KEY_FILE)]]  # fmt: skip
    certificate = certificate_of(x509.load_pem_x509_certificate(pems[1]))
    return Credentials(
        name=certificate.name, role=certificate.role, serial=certificate.serial, hosts=certificate.hosts,
        not_before=certificate.not_before, not_after=certificate.not_after,
        folder=folder, ca_pem=pems[0], certificate_pem=pems[1], key_pem=pems[2],
        ca_key=public_key_der(x509.load_pem_x509_certificate(pems[0]).public_key()),
    )  # fmt: skip
