"""Reading a ledger: beside its writer, after a kill, in a folder that takes no file; never writing, never waiting."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from coordinator.storage.ledger import Ledger
from coordinator.storage.ledger_reader import LedgerReader
from coordinator.storage.ledger_types import LedgerFailure
from coordinator.storage.schema import SCHEMA_VERSION
from federa.errors import BadInput


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path):
    ledger = Ledger(path)
    ledger.note(state="running")
    yield ledger
    ledger.close()


def accept(ledger, client):
    ledger.accepted(
        round_=1, client=client, device="ada", examples=1, loss=0.0, sha256="d", step_ms=[], distance=1.0, after_s=1.0,
        wire_bytes=7, state_bytes=1,
    )  # fmt: skip


def test_a_reader_sees_what_is_written_beside_it_and_only_that(ledger, path):
    reader = LedgerReader(path)
    accept(ledger, 3)
    assert (reader.facts(), reader.has_accepted(1, 3)) == ({"state": "running"}, True)
    ledger.downloaded(round_=1, device="ada", wire_bytes=5, state_bytes=4)
    assert (reader.bytes_down, reader.bytes_up) == (0, 7), "what waits is in nobody's file"
    ledger.flush()
    assert (reader.bytes_down, reader.bytes_up) == (5, 7) == (ledger.bytes_down, ledger.bytes_up)
    reader.close()
    with pytest.raises(LedgerFailure, match="cannot be read"):
        reader.facts()
    assert ledger.facts() == {"state": "running"}, "the writer reads over a connection of its own"


def test_a_reader_cannot_write(ledger, path):
    reader = LedgerReader(path)
    with pytest.raises(LedgerFailure, match="readonly"):
        reader._read("INSERT INTO run VALUES ('a', '1') RETURNING key")
    reader.close()


def test_a_ledger_of_a_process_that_was_killed_is_read_and_left_as_it_is(path):
    code = (
        "import os, sys; from pathlib import Path; from coordinator.storage.ledger import Ledger\n"
        "Ledger(Path(sys.argv[1])).note(state='running'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], timeout=60).returncode == 9
    log = path.with_name(path.name + "-wal")
    before = path.read_bytes(), log.read_bytes()
    assert len(before[1]) > 0, "what it wrote is in the log alone"
    reader = LedgerReader(path)
    assert reader.facts() == {"state": "running"}
    reader.close()
    assert (path.read_bytes(), log.read_bytes()) == before


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


KILLED = """
import os, sys
from pathlib import Path
from coordinator.storage.ledger import Ledger
Ledger(Path(sys.argv[1])).note(state="running")
os._exit(9)
"""


@pytest.mark.parametrize(
    "how",
    [
        "closed",
        "killed",
        "killed, and copied without its index",
        "killed, and its index is empty",
        "killed, and its index is blank",
        "killed, and its index is damaged",
    ],
)
def test_reading_leaves_the_folder_as_it_is(how, path):
    if how == "closed":
        ledger = Ledger(path)
        ledger.note(state="running")
        ledger.close()
    else:
        assert subprocess.run([sys.executable, "-c", KILLED, str(path)], timeout=60).returncode == 9
    index = path.with_name(path.name + "-shm")
    if "copied" in how:
        index.unlink()
    elif "index" in how:
        index.write_bytes({"empty": b"", "blank": bytes(32768), "damaged": b"\xa5" * 32768}[how.split()[-1]])
    before = contents(path.parent)
    reader = LedgerReader(path)
    assert reader.facts() == {"state": "running"}
    assert contents(path.parent) == before
    reader.close()
    assert contents(path.parent) == before


WRITER = """
import sys
from pathlib import Path
from coordinator.storage.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
for line in sys.stdin:
    for number in range(int(line)):
        ledger.note(state=number, padding="x" * 2000)
    print(number, flush=True)
ledger.close()
"""


@pytest.mark.parametrize("begun", [False, True])
def test_a_reader_beside_a_writer_in_another_process_is_current_and_changes_nothing(path, begun):
    if begun:
        ledger = Ledger(path)
        ledger.note(state="running")
        ledger.close()
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:

        def write(count):
            writer.stdin.write(f"{count}\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == f"{count - 1}\n"

        write(1)
        before = contents(path.parent)
        reader = LedgerReader(path)
        assert reader.facts()["state"] == 0
        assert contents(path.parent) == before
        for count in (3, 1500, 2):  # the second goes through checkpoints
            write(count)
            assert reader.facts()["state"] == count - 1
        writer.stdin.close()
        assert writer.wait(30) == 0
        assert reader.facts()["state"] == 1
        reader.close()


def test_a_ledger_is_read_in_a_folder_where_nothing_can_be_made(tmp_path):
    # As nobody where the tests are root's, whom no mode stops.
    folder = tmp_path / "run"
    folder.mkdir()
    ledger = Ledger(folder / "ledger.sqlite")
    ledger.note(state="finished")
    ledger.close()
    for part in (folder, *folder.parents):
        if part == Path(tempfile.gettempdir()):
            break
        part.chmod(part.stat().st_mode | 0o055)
    folder.chmod(0o555)
    code = (
        "import os, sys; from pathlib import Path; from coordinator.storage.ledger_reader import LedgerReader\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "print(LedgerReader(Path(sys.argv[1]) / 'ledger.sqlite').facts()['state'])"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=60, env={**os.environ}
        )
        assert done.stdout == "finished\n", done.stderr
        assert [path.name for path in folder.iterdir()] == ["ledger.sqlite"]
    finally:
        folder.chmod(0o755)


@pytest.mark.parametrize("version", [4, SCHEMA_VERSION + 1, 0])
def test_a_ledger_of_another_schema_is_refused_in_one_line_that_says_what_to_do(path, version):
    Ledger(path).close()
    with sqlite3.connect(path) as other:
        other.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    with pytest.raises(BadInput) as caught:
        LedgerReader(path)
    assert str(caught.value) == (
        f"{path} has ledger schema {version}, this federa reads {SCHEMA_VERSION}: read it with the federa that wrote it"
    )
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: the run has not begun"),
        (b"x", "cannot be read as a ledger: it is damaged: of its beginning there is 1 byte"),
        (b"\0", "cannot be read as a ledger: it is damaged"),
        (b"SQLite format 3\0", "cannot be read as a ledger: it is damaged: of its beginning there are 16 bytes"),
        (b"SQLite format 3\0" + bytes(495), "cannot be read as a ledger: it is damaged"),
        (b"no database, but as long as a header" * 20, "cannot be read as a ledger"),
    ],
)
def test_what_is_no_ledger_is_refused_in_one_line_and_not_made_one(path, content, message):
    path.write_bytes(content)
    with pytest.raises(BadInput, match=message) as caught:
        LedgerReader(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: path.mkdir(), "it is a folder, and must be a file"),
        (os.mkfifo, "it is a pipe, and must be a file"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device, and must be a file"),
    ],
)
def test_what_is_no_file_is_told_and_not_waited_for(path, make, why):
    make(path)
    with pytest.raises(BadInput, match=f"cannot be read as a ledger: {why}"):
        LedgerReader(path)


def test_a_reader_in_the_writers_process_takes_no_lock_from_it(path):
    """POSIX locks end when any descriptor of the file is closed."""
    ledger = Ledger(path)
    ledger.note(state="running")
    held = [line for line in Path("/proc/locks").read_text().splitlines() if f" {os.getpid()} " in line]
    LedgerReader(path).close()
    after = [line for line in Path("/proc/locks").read_text().splitlines() if f" {os.getpid()} " in line]
    inode = f":{path.stat().st_ino} "
    assert sum(inode in line for line in held) == sum(inode in line for line in after)
    ledger.close()


def test_a_file_that_is_not_there_is_refused_and_not_made(path):
    with pytest.raises(BadInput, match="cannot be read as a ledger: No such file"):
        LedgerReader(path)
    assert not path.exists()


def test_a_query_of_one_reader_does_not_wait_for_a_long_one_of_another(ledger, path):
    # As an acknowledgement does not wait for a report.
    accept(ledger, 0)
    report, began, over = LedgerReader(path), threading.Event(), threading.Event()

    def until_over():
        began.set()
        over.wait(30)
        return 1

    report._reader.create_function("until_over", 0, until_over)
    reading = threading.Thread(target=lambda: report._read("SELECT until_over() FROM contribution"))
    reading.start()
    assert began.wait(10)
    try:
        assert ledger.has_accepted(1, 0)
        accept(ledger, 1)
        assert ledger.has_accepted(1, 1)
        assert reading.is_alive()
    finally:
        over.set()
        reading.join()
    report.close()
