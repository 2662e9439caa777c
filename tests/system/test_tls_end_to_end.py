"""Real processes over mutual TLS: who is let in, what both sides say of who is not, and a whole run."""

from __future__ import annotations

import urllib.error
import urllib.request
from base64 import b64encode
from datetime import timedelta

import pytest
import yaml
from certificates import CertificateFixture
from processes import NOOP, Process, bench, ended, listening, result_of, until

from coordinator import main as coordinator_main
from edge import main as edge_main
from protos.credentials import CERTIFICATE_FILE

SMALL = {"federation": {"devices": 1, "clients": 1, "clients_per_round": 1, "rounds": 1}, "target": {"value": 1.0}}


def _worker(folder, address, *words):
    common = ["worker", "--coordinator", address, "--state", str(folder / "keys"), "--power", "none"]
    return Process([*NOOP, *common, "--give-up-after", "60", *words], folder)


def _coordinator(folder, pki, *words):
    common = ["coordinator", "--out", str(folder / "out"), "--listen", "127.0.0.1:0", "--certs"]
    return Process([*NOOP, *common, str(pki.folder / "coordinator"), *words], folder)


def _ended_with_2(worker, *words):
    assert worker.wait() == 2
    line = worker.err.splitlines()[-1]
    assert line.startswith("federa-worker: ")
    for word in words:
        assert word in line
    return line


def test_a_run_over_mutual_tls_with_an_operator_who_submits_it(tmp_path):
    pki = CertificateFixture(tmp_path / "certs")
    coordinator = _coordinator(tmp_path, pki, "--serve")
    with ended(coordinator):
        address = listening(coordinator)
        worker = _worker(tmp_path, address, "--certs", str(pki.folder / "ada"))
        (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
        common = ["--experiment", str(tmp_path / "small.yaml"), "--coordinator", address]
        denied = bench(tmp_path / "denied" / "run", *common, "--certs", str(pki.folder / "ada"))
        plain = bench(tmp_path / "plain" / "run", *common)
        allowed = bench(tmp_path / "bench" / "run", *common, "--certs", str(pki.folder / "operator"))
        with ended(worker, denied, plain, allowed):
            assert allowed.wait() == 0, allowed.err
            (device,) = result_of(tmp_path / "bench" / "run")["runs"][0]["devices"]
            assert device["name"] == "ada"  # no --name was given
            assert not (tmp_path / "keys" / "ada").exists()
            assert denied.wait() == plain.wait() == 2
            assert "must be one of role operator" in denied.err
            assert "takes TLS connections only: give --certs" in plain.err.splitlines()[-1]
            assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in coordinator.err  # in gRPC's own words


def test_a_worker_that_may_not_come_ends_with_2_and_both_sides_say_why(tmp_path):
    pki, other = CertificateFixture(tmp_path / "certs"), CertificateFixture(tmp_path / "other")
    pki.device("gone")
    pki.revoke("gone")
    coordinator = _coordinator(tmp_path, pki, "--serve")
    with ended(coordinator):
        address = listening(coordinator)
        good = _worker(tmp_path, address, "--certs", str(pki.folder / "ada"))
        plain = _worker(tmp_path, address, "--name", "bob")
        foreign = _worker(tmp_path / "other", address, "--certs", str(other.folder / "ada"))
        gone = _worker(tmp_path, address, "--certs", str(pki.folder / "gone"))
        with ended(good, plain, foreign, gone):
            _ended_with_2(plain, "takes TLS connections only: give --certs DIR")
            _ended_with_2(foreign, "does not fit the authority in", "take the certificates of the authority")
            line = _ended_with_2(gone, "certificate of device 'gone'", "is revoked")
            assert line.removeprefix("federa-worker: ") in coordinator.err
            assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in coordinator.err
            assert "CERTIFICATE_VERIFY_FAILED" in coordinator.err
            until(lambda: "worker ada joined" in coordinator.err, "ada joins")
            pki.revoke("ada")
            _ended_with_2(good, "certificate of device 'ada'", "is revoked")
            until(lambda: "worker ada left" in coordinator.err, "ada is gone")


def test_a_worker_waits_for_a_coordinator_that_is_away_and_comes_when_it_is_there(tmp_path):
    pki = CertificateFixture(tmp_path / "certs")
    worker = _worker(tmp_path, "127.0.0.1:1", "--certs", str(pki.folder / "ada"), "--give-up-after", "0.5")
    assert worker.wait() == 1
    assert "gave up" in worker.err.splitlines()[-1]


# ---------------------------------------------------------------- command lines


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--coordinator", "10.0.0.5:1", "--name", "ada"], "--coordinator: 10.0.0.5:1 is not loopback: give --certs"),
        (["--coordinator", "127.0.0.1:1"], "--name: must be given, unless a certificate"),
        (["--coordinator", "10.0.0.5:1", "--certs", "ada", "--insecure"], "--insecure: "),
        (["--coordinator", "10.0.0.5:1", "--certs", "ada", "--name", "bob"], "--name: must be what the certificate in"),
        (["--coordinator", "10.0.0.5:1", "--certs", "operator"], "must be one of role device"),
        (["--coordinator", "10.0.0.5:1", "--certs", "late"], "tls.crt expired at"),
        (["--coordinator", "10.0.0.5:1", "--certs", "none"], "--certs: cannot read none/ca.crt: No such file"),
    ],
)
def test_a_worker_refuses_what_is_not_safe(tmp_path, monkeypatch, capsys, words, expected):
    CertificateFixture(tmp_path / "certs").device("late", valid=timedelta(seconds=-1))
    monkeypatch.chdir(tmp_path / "certs")
    code = edge_main.main(
        [*words, "--state", str(tmp_path)], lambda options, threads: pytest.fail("an engine was made")
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert code == 2 and line.startswith("federa-worker: ") and expected in line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--listen", "0.0.0.0:0"], "--listen: 0.0.0.0:0 is not loopback: give --certs DIR"),
        (["--listen", "[::]:0"], "--listen: [::]:0 is not loopback"),
        (["--certs", "certs/ada"], "must be one of role coordinator"),
        (["--certs", "certs/coordinator", "--insecure"], "--insecure: "),
        (["--certs", "certs/unlisted"], "crl.pem: No such file"),
        (["--http", "0.0.0.0:0"], "--http: 0.0.0.0:0 is not loopback: give --http-token FILE, or --http-open"),
        (["--http", "0.0.0.0:0", "--http-token", "no-such"], "--http-token: cannot read no-such: No such file"),
        (["--http", "0.0.0.0:0", "--http-token", "short"], "--http-token: short must hold 16 to"),
        (["--http-token", "token"], "--http-token: goes with --http"),
        (["--http-open"], "--http-open: goes with --http"),
    ],
)
def test_a_coordinator_refuses_what_is_not_safe(tmp_path, monkeypatch, capsys, words, expected):
    pki = CertificateFixture(tmp_path / "certs")
    unlisted = tmp_path / "certs" / "unlisted"
    unlisted.mkdir()
    for path in (pki.folder / "coordinator").glob("[ct][al]*"):
        (unlisted / path.name).write_bytes(path.read_bytes())
    assert (unlisted / CERTIFICATE_FILE).exists()
    (tmp_path / "short").write_text("x" * 15 + "\n")
    (tmp_path / "token").write_text("x" * 16 + "\n")
    monkeypatch.chdir(tmp_path)
    code = coordinator_main.main(["--serve", "--out", str(tmp_path / "out"), *words])
    (line,) = capsys.readouterr().err.splitlines()
    assert code == 2 and line.startswith("federa-coordinator: ") and expected in line


def test_insecure_is_for_whoever_asks_for_it(tmp_path):
    arguments = [*NOOP, "coordinator", "--serve", "--out", str(tmp_path / "out"), "--listen", "0.0.0.0:0", "--insecure"]
    token = "a long secret: of sixteen and more"
    (tmp_path / "token").write_text(token + "\n")
    web = ["--http", "0.0.0.0:0", "--http-token", str(tmp_path / "token")]
    coordinator = Process([*arguments, *web], tmp_path)
    with ended(coordinator):
        listening(coordinator)
        until(lambda: "serving http on" in coordinator.err, "http")
        port = coordinator.err.split("serving http on 0.0.0.0:")[1].split()[0]

        def get(path, authorization=None):
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
            if authorization is not None:
                request.add_header("Authorization", authorization)
            try:
                with urllib.request.urlopen(request, timeout=10) as reply:
                    return reply.status, reply.headers
            except urllib.error.HTTPError as error:
                return error.code, error.headers

        def basic(words):
            return "Basic " + b64encode(words.encode()).decode()

        for path in ("/", "/metrics", "/result.json", "/nothing"):
            for wrong in (
                None,
                "",
                "Bearer",
                f"Bearer {token}x",
                basic(f"me:x{token}"),
                basic(token),
                "Basic é",
                token,
            ):
                status, headers = get(path, wrong)
                assert status == 401, (path, wrong)
            assert headers.get_all("WWW-Authenticate") == ['Basic realm="federa", charset="UTF-8"', "Bearer"]
        assert get("/healthz")[0] == 200
        for right in (f"Bearer {token}", basic(f"anybody:{token}"), basic(f":{token}")):
            assert get("/metrics", right)[0] == 200
    assert token not in coordinator.err + coordinator.out
