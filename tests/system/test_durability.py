"""Accepted means durable: the order of system calls before an acknowledgement, and disks that are full."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import yaml
from fault_injection import RestartedProcesses, free_port
from live_coordinator import LiveCoordinator, averaged
from processes import NOOP, Process, ended, listening
from update_fixtures import GOOD, UpdateFixture

from coordinator.clients import update_spool as receiver
from federa import durable
from federa.tensors.state import digest_of
from protos.channel import client_options

# ---------------------------------------------------------------- in this process


class Journal:
    """What `fixture` does for its disk, in order: (what, on which file)."""

    def __init__(self, fixture: UpdateFixture, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[tuple[str, str]] = []
        self._calls = {"fsync": os.fsync, "replace": os.replace}
        monkeypatch.setattr(os, "fsync", self._fsync)
        monkeypatch.setattr(os, "replace", self._replace)
        # The statements that SQLite itself carries out, COMMIT among them.
        fixture.ledger._db.set_trace_callback(self._statement)

    def _fsync(self, descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        # Nothing of it waits in a buffer of ours, or the disk would not have it.
        assert path.is_dir() or path.read_bytes() == GOOD
        self._calls["fsync"](descriptor)
        self.steps.append(("fsync", path.name.partition("-")[0]))

    def _replace(self, source: Path, target: Path) -> None:
        self._calls["replace"](source, target)
        self.steps.append(("replace", target.name.partition("-")[0]))

    def _statement(self, text: str) -> None:
        if text.startswith(("INSERT INTO contribution", "COMMIT")):
            self.steps.append(("ledger", text.split()[0]))


ORDER = [
    ("fsync", "partial"),
    ("replace", "round"),
    ("fsync", "spool"),
    ("ledger", "INSERT"),
    ("ledger", "COMMIT"),
    ("reply", ""),
]


def _steps(fixture: UpdateFixture, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    journal = Journal(fixture, monkeypatch)
    assert fixture.upload().already_accepted is False
    return [*journal.steps, ("reply", "")]


@pytest.fixture
def fixture(tmp_path: Path) -> Iterator[UpdateFixture]:
    fixture = UpdateFixture(tmp_path)
    yield fixture
    fixture.ledger.close()


def test_the_disk_has_it_before_the_ledger_and_the_ledger_before_the_worker_hears(
    fixture: UpdateFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _steps(fixture, monkeypatch) == ORDER


@pytest.mark.parametrize("without", ["partial", "spool"])
def test_an_fsync_that_is_taken_out_is_missed(
    fixture: UpdateFixture, monkeypatch: pytest.MonkeyPatch, without: str
) -> None:
    # kill -9 loses nothing that the kernel has: only the order of calls shows this one.
    original = receiver.sync
    for module in (receiver, durable):
        monkeypatch.setattr(module, "sync", lambda path: None if path.name.startswith(without) else original(path))
    assert _steps(fixture, monkeypatch) == [step for step in ORDER if step != ("fsync", without)]


def test_a_transaction_of_the_ledger_is_on_the_disk_when_it_is_over(fixture: UpdateFixture) -> None:
    pragma = {
        name: fixture.ledger._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")
    }
    assert pragma == {"synchronous": 2, "journal_mode": "wal"}  # 2 is FULL: an fsync of the WAL at every commit


# ---------------------------------------------------------------- a real process, and what it asks of the kernel

CALLS = "fsync,fdatasync,rename,renameat,renameat2,sendmsg,write,writev"
# An empty UploadReply on a connection's first call: a DATA frame of 5 bytes of stream 1, and a message of length 0.
REPLY = bytes([0, 0, 5, 0, 0, 0, 0, 0, 1]) + bytes(5)


def _unescaped(text: str) -> bytes:
    return text.encode().decode("unicode_escape").encode("latin-1")


def _kernel_order(trace: str, spooled: str) -> list[str]:
    """What was done for one update, in order: the calls that returned, by name."""
    order, begun = [], {}
    for line in trace.splitlines():
        pid, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            begun[pid] = call.removesuffix("<unfinished ...>")
            continue
        if resumed := re.match(r"<\.\.\. \w+ resumed>(.*)", call):
            call = begun.pop(pid, "") + resumed[1]
        if re.match(rf"fsync\(\d+<.*/spool/partial-[^>]*{spooled}>", call):
            order.append("fsync the update")
        elif call.startswith("rename") and f"/spool/round-00001-client-00000-{spooled}" in call:
            order.append("rename it")
        elif re.match(r"fsync\(\d+<[^>]*/spool>", call):
            order.append("fsync its folder")
        elif re.match(r"f(data)?sync\(\d+<[^>]*/ledger\.sqlite-wal>", call):
            order.append("sync the ledger")
        elif call.startswith(("sendmsg", "write")):
            sent = b"".join(_unescaped(text) for text in re.findall(r'(?:iov_base=|, )"((?:[^"\\]|\\.)*)"', call))
            if REPLY in sent:
                order.append("reply")
    return order


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_kernel_is_asked_in_that_order_before_the_reply_goes_out(tmp_path: Path) -> None:
    experiment = tmp_path / "experiment.yaml"
    federation = {"devices": 1, "clients": 1, "clients_per_round": 1, "rounds": 1}
    experiment.write_text(yaml.safe_dump({"federation": federation}))
    trace = tmp_path / "trace"
    traced = [shutil.which("strace"), "-f", "-y", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(trace)]
    command = [*NOOP, "coordinator", "--experiment", str(experiment), "--out", str(tmp_path / "out")]
    # Process starts Python, and this one becomes strace.
    start = ["-c", "import os, sys; os.execv(sys.argv[1], sys.argv[1:])", *map(str, traced)]
    process = Process([*start, sys.executable, *command, "--listen", "127.0.0.1:0"], tmp_path)

    async def work(address: str) -> str:
        async with grpc.aio.insecure_channel(address) as control:
            worker = await LiveCoordinator(address, control).training()
            # A connection of its own, as the real worker has: the upload is its first call.
            async with grpc.aio.insecure_channel(address, options=client_options()) as data:
                worker.live = LiveCoordinator(address, data)
                assert (await worker.upload(0)).already_accepted is False
            await worker.released()
            return digest_of(worker.trained(0))

    with ended(process):
        spooled = asyncio.run(asyncio.wait_for(work(listening(process)), 30))
        assert process.wait(30) == 0, process.err
    order = _kernel_order(trace.read_text(), spooled)
    first = order.index("fsync the update")
    assert order[first : first + 5] == [
        "fsync the update", "rename it", "fsync its folder", "sync the ledger", "reply",
    ]  # fmt: skip
    assert order.count("reply") == 1


# ---------------------------------------------------------------- disks that are full

# 400 kB a state.
ENV = {"NOOP_SCORES": "0", "NOOP_TENSORS": "4", "NOOP_TENSOR_VALUES": "25000"}
EXPERIMENT = {
    "federation": {"devices": 2, "clients": 4, "clients_per_round": 4, "rounds": 3},
    "target": {"value": 1.0},
}


@contextmanager
def _small_disk(path: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A file system of that size at `path`; yields a function that makes it another one."""
    path.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", str(path)], check=True) and None
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


WAY_OUT = ("nothing lost that was acknowledged", "start again with the same --out")


def _one_clear_line(process: Process, *words: str) -> None:
    assert process.wait(30) == 1, process.err
    # gRPC tells of calls that a server's end cuts off in a way of its own.
    assert "/coordinator/" not in process.err
    # gRPC's lines and the log's have a time in front; this one is for the person.
    (line,) = [line for line in process.err.splitlines() if line.startswith("federa-coordinator:")]
    for word in words:
        assert word in line, line


def _acknowledged(federation: RestartedProcesses) -> set[tuple[int, int]]:
    with sqlite3.connect(f"file:{federation.folder}/out/ledger.sqlite?mode=ro", uri=True) as ledger:
        return set(ledger.execute("SELECT round, client FROM contribution"))


def test_a_full_disk_stops_the_run_with_one_line_and_it_goes_on_when_there_is_space(tmp_path: Path) -> None:
    # Room for the start and some updates, and not for a round.
    with (
        _small_disk(tmp_path / "run" / "out", "1800k") as resize,
        RestartedProcesses(tmp_path / "run", EXPERIMENT, ENV) as federation,
    ):
        _one_clear_line(federation.processes["coordinator"], str(tmp_path / "run" / "out"), *WAY_OUT)
        before = _acknowledged(federation)
        # Still full: it says so again.
        federation.start("coordinator")
        _one_clear_line(federation.processes["coordinator"], str(tmp_path / "run" / "out"))
        resize("64m")
        federation.start("coordinator")
        assert federation.finish() == 3, federation.words()
        assert federation.final_state() == averaged(3, range(4), 4, 25_000)
        assert before and before <= _acknowledged(federation)
        # Not one of them was trained or sent again.
        assert len(_acknowledged(federation)) == 12


LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
sys.argv = sys.argv[1:]
runpy.run_module("tests.doubles.noop", run_name="__main__")
"""


def test_a_ledger_that_cannot_be_written_stops_the_run_and_loses_nothing(tmp_path: Path) -> None:
    # Small states and many rounds: the ledger's log is the first file that grows beyond what a file may.
    env = {**os.environ, **ENV, "NOOP_TENSOR_VALUES": "16"}
    experiment = {**EXPERIMENT, "federation": {**EXPERIMENT["federation"], "rounds": 12}}
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    address = f"127.0.0.1:{free_port()}"

    def coordinator(limit_bytes: int) -> Process:
        out = ["--experiment", str(tmp_path / "experiment.yaml"), "--out", str(tmp_path / "out"), "--listen", address]
        return Process(["-c", LIMITED, str(limit_bytes), "coordinator", *out], tmp_path, env)

    def worker(name: str) -> Process:
        words = ["worker", "--coordinator", address, "--name", name, "--state", str(tmp_path / "keys")]
        return Process([*NOOP, *words], tmp_path, env)

    with ended(worker("a"), worker("b")):
        disturbed = coordinator(400_000)
        with ended(disturbed):
            ledger = f"the ledger {tmp_path / 'out' / 'ledger.sqlite'} cannot be written"
            _one_clear_line(disturbed, ledger, *WAY_OUT)
        process = coordinator(resource.RLIM_INFINITY)
        with ended(process):
            assert process.wait(60) == 3, process.err
    assert (tmp_path / "out" / "final" / "state.safetensors").read_bytes() == averaged(12, range(4))
