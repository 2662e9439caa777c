"""How many threads a worker computes with: its share of the machine's cores among workers in real processes."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import pytest

from edge.worker import host_workers
from edge.worker.host_workers import HostWorker, HostWorkers, default_runtime_folder, fair_share
from edge.worker.run_threads import RunThreads, parse_threads
from federa.cores import Cores, count_cores
from federa.errors import BadInput


def worker(cpus: int | Sequence[int] = 8, *, threads: int = 0, quota: float | None = None, cgroup: str = "/a"):
    chosen = range(cpus) if isinstance(cpus, int) else cpus
    limit = None if quota is None else Fraction(quota)
    cores = Cores(cpus=frozenset(chosen), quota=limit, cgroup=cgroup if limit is not None else "")
    return HostWorker(name="ada", cores=cores, threads=threads)


@pytest.mark.parametrize(
    ("own", "others", "threads"),
    [
        (worker(), [], 8),
        (worker(), [worker()], 4),
        (worker(), [worker(), worker()], 2),
        (worker(2), [worker(2)], 1),
        (worker(2), [worker(2), worker(2)], 1),  # one at least
        # A worker with a number of its own takes that, the others share the rest.
        (worker(), [worker(threads=6)], 2),
        (worker(), [worker(threads=6), worker()], 1),
        (worker(), [worker(threads=20)], 1),
        # Each has CPUs of its own.
        (worker(range(4)), [worker(range(4, 8))], 4),
        (worker(range(4)), [worker(range(2, 8))], 3),
        (worker(8), [worker([0], threads=1)], 7),
        # Quotas, of one cgroup and of two.
        (worker(quota=4), [], 4),
        (worker(quota=4), [worker(quota=4)], 2),
        (worker(quota=4), [worker(quota=2, cgroup="/b")], 4),
        (worker(quota=4), [worker(quota=4, threads=3)], 1),
        (worker(quota=0.5), [], 1),
    ],
)
def test_the_share_of_a_worker(own: HostWorker, others: list[HostWorker], threads: int) -> None:
    assert fair_share(own, others) == threads


def test_what_threads_may_be() -> None:
    assert [parse_threads(text) for text in ("auto", "", "1", "1024")] == [0, 0, 1, 1024]
    for text in ("0", "1025", "-1", "1.5", "many", "²", "Auto"):
        with pytest.raises(BadInput, match="--threads: must be auto, or a number from 1 to 1024, not "):
            parse_threads(text)


# ---------------------------------------------------------------- the machine's workers


@pytest.fixture
def runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime folder of this test's, in an environment that says no number of threads."""
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.delenv("OMP_NUM_THREADS")
    return folder


def eight_cores() -> Cores:
    return Cores(cpus=frozenset(range(8)))


REGISTERED = """
import sys
from pathlib import Path
from edge.worker.run_threads import RunThreads
with RunThreads(int(sys.argv[3]), Path(sys.argv[1]), sys.argv[2]) as threads:
    print(*threads.now(), flush=True)
    for line in sys.stdin:
        print(threads.of(line.strip()), flush=True)
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, runtime_folder: Path) -> Iterator[Start]:
    """Starts a process that counts as a worker; its first line says for how many threads, and why."""
    started: list[subprocess.Popen[str]] = []

    def call(name: str, threads: int = 0) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", REGISTERED, str(tmp_path), name, str(threads)]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield call
    for process in started:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str], line: str = "") -> str:
    if line:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    return process.stdout.readline().strip()


def test_two_worker_processes_share_the_cores_and_one_that_is_killed_counts_no_more(
    start: Start, runtime_folder: Path
) -> None:
    cores = count_cores()
    first = start("ada")
    assert said(first) == f"{cores.count} {cores}"
    second = start("bob")
    half = max(1, cores.count // 2)
    assert said(second) == f"{half} {cores}, shared with 1 other worker on this machine: ada"
    assert said(first, "run-1") == str(half)
    second.send_signal(signal.SIGKILL)
    second.wait()
    assert len(list(runtime_folder.rglob("*.json"))) == 2
    assert said(first, "run-2") == str(cores.count)
    assert len(list(runtime_folder.rglob("*.json"))) == 1, "what a killed worker leaves is removed"


def test_a_runs_number_stays_when_a_worker_joins_or_is_started_again(start: Start) -> None:
    cores = count_cores()
    first = start("ada")
    said(first)
    assert said(first, "run-1") == str(cores.count)
    second = start("bob")
    said(second)
    assert said(first, "run-1") == str(cores.count)
    first.send_signal(signal.SIGKILL)
    first.wait()
    again = start("ada")
    assert said(again).startswith(f"{max(1, cores.count // 2)} ")
    assert said(again, "run-1") == str(cores.count), "as when the run began"
    assert said(again, "run-2") == str(max(1, cores.count // 2))


def test_a_number_of_its_own_is_taken_as_it_is_and_left_to_it_by_others(start: Start) -> None:
    cores = count_cores()
    first = start("ada", cores.count + 3)
    assert said(first) == f"{cores.count + 3} as asked, on {cores}"
    assert said(first, "run-1") == str(cores.count + 3)
    assert said(start("bob")).startswith("1 ")


def test_the_environments_number_is_respected(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    first = start("ada")
    assert said(first) == "1 as OMP_NUM_THREADS says"
    assert said(first, "run-1") == "1"


def test_the_files_are_for_this_user_alone_and_others_in_the_folder_do_no_harm(runtime_folder: Path) -> None:
    workers = HostWorkers("ada", cores=eight_cores)
    own = workers.register()
    folder = runtime_folder / "federa"
    (path,) = folder.glob("*.json")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    other = HostWorkers("bob", cores=eight_cores)
    other.register()
    with (folder / "nonsense.json").open("w") as file:
        host_workers.fcntl.flock(file, host_workers.fcntl.LOCK_EX)
        for text in ("", "[]", "null", "{", '{"name": "eve", "cpus": 1}', "\0" * 100_000):
            file.seek(0)
            file.truncate()
            file.write(text)
            file.flush()
            assert [each.name for each in workers.others()] == ["bob"]
    assert own.cores.count == 8
    other.leave()
    assert workers.others() == []
    workers.leave()
    assert list(folder.iterdir()) == []


def test_a_worker_whose_file_was_removed_is_known_again_from_its_next_run_on(runtime_folder: Path) -> None:
    # As systemd does with the folder of a user who logged off.
    first, second = HostWorkers("ada", cores=eight_cores), HostWorkers("bob", cores=eight_cores)
    first.register()
    for path in (runtime_folder / "federa").iterdir():
        path.unlink()
    (runtime_folder / "federa").rmdir()
    second.register()
    assert second.others() == []
    first.register()
    assert [each.name for each in second.others()] == ["ada"]
    first.leave()
    second.leave()


def test_without_a_folder_of_its_own_a_worker_works_all_the_same(tmp_path: Path, runtime_folder: Path) -> None:
    (runtime_folder / "federa").write_text("a file")
    with RunThreads(0, tmp_path, "ada") as threads:
        count, why = threads.now()
    assert count == count_cores().count
    assert "other workers on this machine do not know of this one" in why
    assert threads.of("run-1") == count


def test_the_runtime_folder_without_a_variable_is_this_users_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    folder = default_runtime_folder()
    assert folder.name == "federa"
    assert str(os.getuid()) in str(folder.parent)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"run-1": 0}', '{"run-1": "many"}', '{"run-1": 1025}'])
def test_a_damaged_file_of_runs_counts_for_nothing(
    tmp_path: Path, runtime_folder: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    with RunThreads(0, tmp_path, "ada") as threads:
        (tmp_path / ".ada.threads.json").write_text(content)
        assert threads.of("run-1") == threads.now()[0]
        assert not caplog.records
        (tmp_path / ".ada.threads.json").unlink()
        (tmp_path / ".ada.threads.json").mkdir()
        threads.of("run-2")
    assert "after a restart of this worker it may be another" in caplog.text
