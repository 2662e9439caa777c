"""federa-certs: what it makes, what it refuses, and that nobody gets at a key."""

from __future__ import annotations

import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from coordinator.security import certs
from coordinator.security.authority import Authority
from coordinator.security.revocation import RevokedList
from protos.credentials import COORDINATOR, read_credentials


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the command in a folder; returns its exit code and what it printed."""

    def run(*words):
        code = certs.main(["--dir", str(tmp_path / "certs"), *words])
        return code, capsys.readouterr()

    return run


def _refused(done, *words):
    code, printed = done
    assert code == 2
    (line,) = printed.err.splitlines()
    assert line.startswith("federa-certs: ")
    for word in words:
        assert word in line


def _loaded(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def _uses(certificate):
    return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_init_makes_all_that_a_coordinator_and_an_operator_need(run, tmp_path):
    code, printed = run("init", "--host", "orin.local", "--host", "10.0.0.5", "--host", "fd00::5")
    assert code == 0
    folder = tmp_path / "certs"
    coordinator = read_credentials(folder / "coordinator")
    assert (coordinator.name, coordinator.role) == (COORDINATOR, COORDINATOR)
    expected = {"localhost", "127.0.0.1", "::1", "coordinator", "orin.local", "10.0.0.5", "fd00::5"}
    assert expected <= set(coordinator.hosts)
    assert read_credentials(folder / "operator").role == "operator"
    assert RevokedList.read(folder / "coordinator" / "crl.pem", _loaded(folder / "ca.crt")).serials == frozenset()
    # The health check in its own container calls the coordinator with the coordinator's certificate.
    both = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert _uses(_loaded(folder / "coordinator" / "tls.crt")) == both
    assert _uses(_loaded(folder / "operator" / "tls.crt")) == {ExtendedKeyUsageOID.CLIENT_AUTH}
    ca = _loaded(folder / "ca.crt")
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert ca.not_valid_after_utc - datetime.now(timezone.utc) > timedelta(days=3649)
    assert "PRIVATE" not in printed.out + printed.err


def test_keys_are_for_their_owner_alone_whatever_the_umask(run, tmp_path):
    before = os.umask(0)
    try:
        run("init")
        run("issue", "orin-1")
    finally:
        os.umask(before)
    keys = [*(tmp_path / "certs").glob("*.key"), *(tmp_path / "certs").glob("*/*.key")]
    assert len(keys) == 4
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


def test_a_second_init_refuses_and_changes_nothing(run, tmp_path):
    run("init")
    before = {path: path.read_bytes() for path in (tmp_path / "certs").rglob("*") if path.is_file()}
    _refused(run("init"), "has an authority already", str(tmp_path / "certs"))
    code, printed = run("init", "--if-missing")
    assert (code, printed.out, printed.err) == (0, "", "")
    assert {path: path.read_bytes() for path in (tmp_path / "certs").rglob("*") if path.is_file()} == before


def test_an_init_that_was_cut_short_is_finished_by_the_next(run, tmp_path):
    run("init")
    folder = tmp_path / "certs"
    (folder / "operator" / "tls.crt").unlink()
    assert run("init", "--if-missing")[0] == 0
    assert read_credentials(folder / "operator").role == "operator"


def test_an_authority_that_was_cut_short_is_made_anew_also_among_volumes(run, tmp_path):
    folder = tmp_path / "certs"
    (folder / COORDINATOR).mkdir(parents=True)
    (folder / "ca.key").write_text("half of a k")
    assert run("init", "--if-missing")[0] == 0
    assert read_credentials(folder / COORDINATOR).role == COORDINATOR


def test_a_device_gets_a_certificate_of_its_own_for_clients_alone(run, tmp_path):
    run("init")
    assert run("issue", "orin-1", "--days", "30")[0] == 0
    device = read_credentials(tmp_path / "certs" / "orin-1")
    assert (device.name, device.role, device.hosts) == ("orin-1", "device", ())
    assert timedelta(days=29) < device.not_after - datetime.now(timezone.utc) < timedelta(days=30)
    assert _uses(_loaded(tmp_path / "certs" / "orin-1" / "tls.crt")) == {ExtendedKeyUsageOID.CLIENT_AUTH}


def test_a_device_that_has_one_can_have_another_and_the_old_one_is_named(run, tmp_path):
    run("init")
    run("issue", "orin-1")
    old = read_credentials(tmp_path / "certs" / "orin-1")
    code, printed = run("issue", "orin-1", "--if-missing")
    assert (code, printed.out) == (0, "")
    code, printed = run("issue", "orin-1")
    new = read_credentials(tmp_path / "certs" / "orin-1")
    assert code == 0 and f"--serial {old.serial:x}" in printed.out
    assert new.serial != old.serial and new.worker_key == old.worker_key


def test_the_coordinators_is_issued_again_with_its_hosts_and_more(run, tmp_path):
    run("init", "--host", "one.example")
    assert run("issue", COORDINATOR, "--host", "two.example")[0] == 0
    hosts = read_credentials(tmp_path / "certs" / COORDINATOR).hosts
    assert {"one.example", "two.example", "localhost"} <= set(hosts)


def test_all_of_a_name_are_revoked_and_stay_so(run, tmp_path):
    run("init")
    for name in ("orin-1", "orin-1", "orin-2", "orin-3"):
        run("issue", name)
    assert run("revoke", "orin-1")[0] == 0
    third = read_credentials(tmp_path / "certs" / "orin-3")
    assert run("revoke", "--serial", f"{third.serial:X}")[0] == 0
    authority = Authority(tmp_path / "certs")
    assert authority.revoked() == {*(one.serial for one in authority.issued("orin-1")), third.serial}
    lines = run("list")[1].out.splitlines()
    assert [line.split()[-1] for line in lines[3:]] == ["revoked", "revoked", "valid", "revoked"]


def test_what_was_revoked_stays_so_when_the_coordinators_folder_is_lost(run, tmp_path):
    """As with `docker volume rm` of it, or where it was moved to the coordinator's machine."""
    run("init")
    for name in ("orin-1", "orin-2"):
        run("issue", name)
    run("revoke", "orin-1")
    shutil.rmtree(tmp_path / "certs" / COORDINATOR)
    code, printed = run("revoke", "orin-2")
    assert code == 0 and f"copy {tmp_path / 'certs' / 'crl.pem'} to where the coordinator runs" in printed.out
    assert run("init", "--if-missing")[0] == 0
    ca = _loaded(tmp_path / "certs" / "ca.crt")
    in_force = RevokedList.read(tmp_path / "certs" / COORDINATOR / "crl.pem", ca)
    authority = Authority(tmp_path / "certs")
    assert in_force.serials == {one.serial for name in ("orin-1", "orin-2") for one in authority.issued(name)}
    assert in_force.number == 2


def test_folders_that_outlived_their_authority_are_made_again(run, tmp_path):
    """Each is a volume of its own, and the authority's may be removed alone."""
    run("init", "--device", "orin-1")
    for path in (tmp_path / "certs").glob("*.*"):
        path.unlink()
    assert run("init", "--if-missing", "--device", "orin-1")[0] == 0
    ca = (tmp_path / "certs" / "ca.crt").read_bytes()
    for name in (COORDINATOR, "operator", "orin-1"):
        assert read_credentials(tmp_path / "certs" / name).ca_pem == ca
    assert run("revoke", "orin-1")[0] == 0


def test_a_key_that_does_not_fit_is_no_certificate(run, tmp_path):
    """An issue that was cut short between the two files."""
    run("init", "--device", "orin-1")
    folder = tmp_path / "certs" / "orin-1"
    (folder / "tls.key").write_bytes((tmp_path / "certs" / "operator" / "tls.key").read_bytes())
    assert run("init", "--if-missing", "--device", "orin-1")[0] == 0
    assert read_credentials(folder).name == "orin-1"


def test_empty_names_and_hosts_say_nothing(run, tmp_path):
    """A compose file passes variables on that may be empty, or end in a comma."""
    assert run("init", "--host", "", "--host", "a.lan, ,", "--device", "", "--device", "orin-1,")[0] == 0
    assert "a.lan" in read_credentials(tmp_path / "certs" / COORDINATOR).hosts
    assert {one.name for one in Authority(tmp_path / "certs").issued()} == {COORDINATOR, "operator", "orin-1"}
    _refused(run("init", "--if-missing", "--device", "operator"), "--device: operator is no device's name")


def test_what_cannot_be_done_is_said_in_a_line(run, tmp_path):
    _refused(run("list"), "federa-certs init makes")
    run("init")
    for name in ("", ".", "../x", "a/b", "-x", "é", "a b", "x" * 65):
        _refused(run("issue", "--", name), "NAME: must be 1 to 64")
    _refused(run("issue", "ca.crt"), "ca.crt is a file of the authority")
    _refused(run("issue", "operator", "--role", "device"), "operator", "keeps its role")
    _refused(run("issue", "orin", "--days", "0"), "--days: must be from 1 to 3650")
    _refused(run("issue", "orin", "--host", "x"), "--host: is for coordinator")
    _refused(run("issue", "coordinator", "--host", "x:5"), "--host: must be a host name or an IP address")
    _refused(run("revoke", "orin"), "nothing was issued to 'orin'")
    _refused(run("revoke", "--serial", "1f"), "nothing was issued to --serial 1f")
    _refused(run("revoke"), "either a NAME or --serial")
    _refused(run("revoke", "coordinator"), "cannot be revoked")
    (tmp_path / "certs" / "ca.key").write_bytes(b"nonsense")
    _refused(run("issue", "orin"), "damaged")


def test_two_at_once_lose_nothing(run, tmp_path):
    run("init")
    with ThreadPoolExecutor(4) as threads:
        names = [f"orin-{number}" for number in range(8)]
        codes = threads.map(lambda name: certs.main(["--dir", str(tmp_path / "certs"), "issue", name]), names)
    assert set(codes) == {0}
    assert {one.name for one in Authority(tmp_path / "certs").issued()} == {"coordinator", "operator", *names}
