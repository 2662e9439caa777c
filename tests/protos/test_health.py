"""gRPC's health protocol, as the health checks of the containers ask for it."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from fault_injection import free_port
from processes import NOOP, Process, until

from edge.worker.health import HealthServer, check_address
from federa.errors import BadInput
from protos.health import probe


def asked(address: str, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "protos.health", address, *more], capture_output=True, text=True)


def test_a_worker_is_healthy_while_a_coordinator_has_it(tmp_path):
    port, health = free_port(), f"127.0.0.1:{free_port()}"
    worker = Process(
        [*NOOP, "worker", "--coordinator", f"127.0.0.1:{port}", "--name", "w", "--health", health], tmp_path
    )
    serve = ["-m", "coordinator.main", "--serve", "--out", str(tmp_path / "out"), "--listen", f"127.0.0.1:{port}"]
    try:
        until(lambda: probe(health) == f"{health}: NOT_SERVING", "the health of it")
        assert asked(health).returncode == 1
        coordinator = Process(serve, tmp_path)
        try:
            until(lambda: probe(health) is None, "the health of it")
            assert asked(health).returncode == 0
            assert probe(f"127.0.0.1:{port}") is None
        finally:
            coordinator.popen.kill()
            coordinator.wait()
        until(lambda: probe(health) == f"{health}: NOT_SERVING", "the health of it")
    finally:
        worker.popen.terminate()
        assert worker.wait() == 0
    assert "UNAVAILABLE" in probe(health)


def test_only_loopback_is_told(tmp_path):
    with pytest.raises(BadInput, match="--health: must be a loopback address"):
        check_address("0.0.0.0:50052")
    with pytest.raises(BadInput, match="--health: must be HOST:PORT, not 'nonsense'"):
        check_address("nonsense")


def test_a_port_in_use_is_named():
    async def twice() -> None:
        address = f"127.0.0.1:{free_port()}"
        async with HealthServer(address), HealthServer(address):
            pass

    with pytest.raises(BadInput, match="--health: cannot listen on"):
        asyncio.run(twice())


def test_bad_arguments_are_named(tmp_path):
    done = asked("nowhere")
    assert (done.returncode, done.stderr) == (
        2,
        "federa-health: must be HOST:PORT, not 'nowhere': write nowhere:PORT\n",
    )
    done = asked("127.0.0.1:1", "--certs", str(tmp_path))
    assert done.returncode == 2 and done.stderr.startswith("federa-health: --certs: ")
