"""Reading a folder of certificates, what --certs and --insecure say, and a worker's key."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import shutil
from datetime import timedelta

import pytest
from certificates import CertificateFixture
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from coordinator.security.authority import Authority
from coordinator.security.revocation import BadList, Revocation, RevokedList
from edge.worker.identity import Identity
from protos.credentials import BadCredentials, credentials_for, read_credentials


@pytest.fixture
def pki(tmp_path):
    return CertificateFixture(tmp_path / "certs")


def _refused(folder, *words):
    with pytest.raises(BadCredentials) as caught:
        read_credentials(folder)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_folder_says_whose_it_is(pki):
    ada = read_credentials(pki.folder / "ada")
    assert (ada.name, ada.role, ada.hosts) == ("ada", "device", ())
    assert ada.not_before.tzinfo is not None and ada.not_after > ada.not_before
    assert ada.serial == pki.authority.issued("ada")[0].serial
    assert str(ada) == f"certificate of device 'ada' (serial {ada.serial:x})"
    assert "PRIVATE" not in repr(ada) and "BEGIN" not in repr(ada)


@pytest.mark.parametrize("name", ["ca.crt", "tls.crt", "tls.key"])
def test_a_file_that_is_missing_or_damaged_is_named(pki, name):
    path = pki.folder / "ada" / name
    path.write_text("nonsense")
    _refused(path.parent, str(path), "must be a")
    path.unlink()
    _refused(path.parent, f"cannot read {path}: No such file")


def test_files_that_do_not_belong_together_are_refused(pki, tmp_path):
    other = CertificateFixture(tmp_path / "other")
    ada = pki.folder / "ada"
    shutil.copy(other.folder / "ada" / "tls.key", ada / "tls.key")
    _refused(ada, "tls.key is not the key of tls.crt")
    shutil.copy(other.folder / "ada" / "tls.crt", ada / "tls.crt")
    _refused(ada, "tls.crt was not issued by ca.crt")
    shutil.copy(other.folder / "ca.crt", ada / "ca.crt")
    assert read_credentials(ada).name == "ada"


def test_what_is_out_of_date_is_refused(pki):
    pki.device("late", valid=timedelta(seconds=-5))
    _refused(pki.folder / "late", "expired at", "federa-certs issue")


def test_what_is_not_valid_yet_points_at_the_clock(pki, monkeypatch):
    monkeypatch.setattr("coordinator.security.authority._EARLY", timedelta(hours=-1))
    pki.device("early")
    _refused(pki.folder / "early", "is not valid before", "is the clock wrong?")


def test_a_workers_key_follows_from_authority_and_name(pki, tmp_path):
    ada = read_credentials(pki.folder / "ada")
    ca = x509.load_pem_x509_certificate((pki.folder / "ca.crt").read_bytes())
    info = ca.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert ada.worker_key == hashlib.sha256(b"federa worker\0" + info + b"\0ada").hexdigest()[:32]
    assert pki.coordinator.key_of("ada") == ada.worker_key != pki.coordinator.key_of("bob")
    assert CertificateFixture(tmp_path / "other").of("ada").worker_key != ada.worker_key


def test_with_a_certificates_key_no_key_is_kept_but_the_name_is_locked(tmp_path):
    with Identity(tmp_path, "ada", "0" * 32) as identity:
        assert identity.key == "0" * 32
        with pytest.raises(Exception, match="runs here already"), Identity(tmp_path, "ada"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == [".ada.lock"]


def test_plaintext_off_loopback_must_be_asked_for(pki):
    def choose(certs=None, insecure=False, address="10.0.0.5:1", role="device"):
        return credentials_for(certs, insecure=insecure, address=address, option="--coordinator", role=role)

    assert choose(insecure=True) is choose(address="127.0.0.1:1") is None
    assert choose(pki.folder / "ada").name == "ada"
    for given, words in [
        ({}, "--coordinator: 10.0.0.5:1 is not loopback: give --certs DIR"),
        ({"certs": pki.folder / "ada", "insecure": True}, "--insecure: "),
        ({"certs": pki.folder / "operator"}, "must be one of role device"),
        ({"certs": pki.folder / "nobody"}, "--certs: cannot read"),
    ]:
        with pytest.raises(BadCredentials) as caught:
            choose(**given)
        assert words in str(caught.value)


# ---------------------------------------------------------------- the list of what is revoked


def _revocation(pki):
    ca = x509.load_pem_x509_certificate((pki.folder / "ca.crt").read_bytes())
    return Revocation(pki.folder / "coordinator" / "crl.pem", ca)


def test_a_change_of_the_list_is_seen_at_once(pki):
    revocation = _revocation(pki)
    assert revocation.serials() == frozenset()
    pki.revoke("ada")
    assert revocation.serials() == {pki.of("ada").serial}


def test_a_list_that_cannot_be_used_changes_nothing_and_is_said_once(pki, tmp_path, caplog):
    path = pki.folder / "coordinator" / "crl.pem"
    empty = path.read_bytes()
    pki.revoke("ada")
    revocation = _revocation(pki)
    good = revocation.serials()
    other = CertificateFixture(tmp_path / "other")
    foreign = (other.folder / "coordinator" / "crl.pem").read_bytes()
    for content, words in [(b"nonsense", "damaged"), (foreign, "not signed by"), (empty, "older than")]:
        path.write_bytes(content)
        caplog.clear()
        assert revocation.serials() == revocation.serials() == good
        (record,) = caplog.records
        assert words in record.message and "stays in force" in record.message
    path.unlink()
    caplog.clear()
    assert revocation.serials() == revocation.serials() == good
    assert len(caplog.records) == 1
    Authority(pki.folder)._write_list(RevokedList(7, frozenset([1])))
    assert revocation.serials() == {1}


def _flipped(pem):
    """A PEM file with each bit of what it holds turned in turn."""
    first, *middle, last, _ = pem.split(b"\n")
    der = base64.b64decode(b"".join(middle))
    for bit in range(len(der) * 8):
        damaged = bytearray(der)
        damaged[bit // 8] ^= 1 << bit % 8
        yield b"\n".join([first, base64.b64encode(damaged), last, b""])


@pytest.mark.filterwarnings("ignore:Parsed a")
def test_damage_anywhere_is_told_as_such(pki):
    """cryptography raises much else than ValueError: of a list, that would have ended the watch over open calls."""
    ca = x509.load_pem_x509_certificate((pki.folder / "ca.crt").read_bytes())
    path = pki.folder / "coordinator" / "crl.pem"
    for damaged in _flipped(path.read_bytes()):
        path.write_bytes(damaged)
        with contextlib.suppress(BadList):
            RevokedList.read(path, ca)
    for name in ("tls.crt", "ca.crt", "tls.key"):
        path = pki.folder / "ada" / name
        whole = path.read_bytes()
        for damaged in _flipped(whole):
            path.write_bytes(damaged)
            with contextlib.suppress(BadCredentials):
                read_credentials(path.parent)
        path.write_bytes(whole)


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_list_that_cannot_be_used_at_the_start_is_refused(pki, content):
    path = pki.folder / "coordinator" / "crl.pem"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadList, match=r"crl\.pem"):
        _revocation(pki)
