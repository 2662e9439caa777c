"""Reading a run's ledger: every query, over a connection that cannot write, and that leaves its folder as it is."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import threading
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coordinator.storage.ledger_types import LedgerFailure, Readings, Rows, reading
from coordinator.storage.schema import SCHEMA_VERSION
from federa.errors import BadInput, one_line
from federa.regular_file import size_of_regular

DAMAGE = (sqlite3.Error, ValueError, TypeError, LookupError)
"""What opening a file that is no ledger can raise. Not sqlite3.Error alone: of a damaged schema the text may be no
UTF-8, of damaged rows the sum no number."""

_LEAST_BYTES = 512
"""The smallest page, and with it the smallest file, of a database of SQLite's."""


class LedgerReader:
    """Reads one run's ledger, beside its writer or without one, in whatever process. Thread-safe: one query at a time.
    Who must not wait for another's long queries has a reader of its own."""

    def __init__(self, path: Path) -> None:
        """Raises BadInput for what is no ledger, or one of another version."""
        self.path = path
        self._read_lock = threading.Lock()
        try:
            look_at(path)
            self._reader, version, tables = _open(path)
        except OSError as error:
            raise BadInput(f"{path} cannot be read as a ledger: {error.strerror or one_line(error)}") from None
        except DAMAGE as error:
            raise BadInput(f"{path} cannot be read as a ledger: {one_line(error)}") from None
        if version == SCHEMA_VERSION:
            return
        self._reader.close()
        if version == 0 and not tables:
            raise BadInput(f"{path} is empty: the run has not begun")
        raise BadInput(
            f"{path} has ledger schema {version}, this federa reads {SCHEMA_VERSION}: read it with the federa that "
            "wrote it"
        )

    def close(self) -> None:
        """Close the connection. Reading raises LedgerFailure from then on."""
        with self._read_lock:
            self._reader.close()

    # ---- the run

    def facts(self) -> dict[str, Any]:
        """What was noted about the run itself, by name."""
        rows = self._read("SELECT * FROM run")
        with reading(self.path):
            return {row["key"]: json.loads(row["value"]) for row in rows}

    @property
    def bytes_down(self) -> int:
        """All wire bytes that went to devices so far."""
        return self._moved().get("down", 0)

    @property
    def bytes_up(self) -> int:
        """All wire bytes that came from devices so far."""
        return self._moved().get("up", 0)

    def _moved(self) -> dict[str, int]:
        rows = self._read("SELECT direction, sum(wire_bytes) AS total FROM transfer GROUP BY direction")
        with reading(self.path):
            return {row["direction"]: int(row["total"]) for row in rows}

    # ---- devices and clients

    def devices(self) -> dict[str, dict[str, str]]:
        """What each device is, by name."""
        rows = self._read("SELECT * FROM device ORDER BY name")
        with reading(self.path):
            return {row["name"]: json.loads(row["facts"]) for row in rows}

    def keys(self) -> dict[str, str]:
        """The devices' keys by name."""
        return {row["name"]: row["key"] for row in self._read("SELECT name, key FROM device")}

    def clients(self) -> Rows:
        """Every hosted client: client, device, examples, and how many of its records were cut."""
        return self._read("SELECT * FROM host ORDER BY client")

    def client_failures(self) -> Rows:
        """Everything that went wrong with a client, in the order it happened."""
        return self._read("SELECT * FROM client_failure ORDER BY rowid")

    # ---- rounds

    def rounds(self) -> Rows:
        """Every aggregated round in order, with the wire bytes moved in it."""
        return self._read(
            """SELECT round, seconds, state_sha256, server_sha256, value, value_examples,
                 (SELECT coalesce(sum(wire_bytes), 0) FROM transfer t
                  WHERE t.round = r.round AND direction = 'down') AS bytes_down,
                 (SELECT coalesce(sum(wire_bytes), 0) FROM transfer t
                  WHERE t.round = r.round AND direction = 'up') AS bytes_up
               FROM round r WHERE seconds IS NOT NULL ORDER BY round"""
        )

    def curve(self) -> Rows:
        """Every round whose state was evaluated: round, value and examples, with elapsed_s, bytes_down and bytes_up of
        all rounds until then."""
        points, elapsed_s, down, up = [], 0.0, 0, 0
        for row in self.rounds():
            elapsed_s, down, up = elapsed_s + row["seconds"], down + row["bytes_down"], up + row["bytes_up"]
            if row["value"] is not None:
                moved = {"bytes_down": down, "bytes_up": up}
                point = {"round": row["round"], "elapsed_s": elapsed_s, "value": row["value"], **moved}
                points.append({**point, "examples": row["value_examples"]})
        return points

    def round_counters(self) -> dict[int, dict[str, float]]:
        """What was counted in all over the validation part, by round; without the rounds of which that is not known."""
        rows = self._read("SELECT round, value_counters FROM round WHERE value_counters IS NOT NULL ORDER BY round")
        with reading(self.path):
            return {row["round"]: json.loads(row["value_counters"]) for row in rows}

    def last_round(self) -> dict[str, Any] | None:
        """The newest round, aggregated or open."""
        rows = self._read("SELECT * FROM round ORDER BY round DESC LIMIT 1")
        return rows[0] if rows else None

    def attempts(self, round_: int) -> dict[int, list[int]]:
        """The clients drawn in each attempt of a round."""
        rows = self._read("SELECT * FROM attempt WHERE round = ? ORDER BY attempt", round_)
        with reading(self.path):
            return {row["attempt"]: json.loads(row["clients"]) for row in rows}

    def has_accepted(self, round_: int, client: int) -> bool:
        """Whether an update of that round and client is in."""
        return bool(self._read("SELECT 1 FROM contribution WHERE round = ? AND client = ?", round_, client))

    def contributions(self, round_: int) -> Rows:
        """The accepted updates of a round, by client."""
        return self._read("SELECT * FROM contribution WHERE round = ? ORDER BY client", round_)

    def distances(self, before: int) -> list[float]:
        """How far every update of the rounds before this one was from its broadcast."""
        return [row["distance"] for row in self._read("SELECT distance FROM contribution WHERE round < ?", before)]

    def paces(self) -> Rows:
        """Seconds into the round, examples, device and round of every update, in the order they came."""
        return self._read("SELECT round, device, client, examples, after_s FROM contribution ORDER BY rowid")

    def counters(self, round_: int, part: str) -> Rows:
        """What the clients counted of a round's state, by client: client, device, counters."""
        query = "SELECT client, device, counters FROM counters WHERE round = ? AND part = ? ORDER BY client"
        rows = self._read(query, round_, part)
        with reading(self.path):
            return [{**row, "counters": dict(json.loads(row["counters"]))} for row in rows]

    # ---- time and energy

    def powers(self) -> dict[str, dict[str, Any]]:
        """What each device measures its power with."""
        rows = self._read("SELECT name, power FROM device ORDER BY name")
        with reading(self.path):
            return {row["name"]: dict(json.loads(row["power"])) for row in rows}

    def phases(self) -> Rows:
        """Time and energy by device, round and phase; joules of what was measured, None of nothing."""
        return self._read(
            """SELECT device, round, phase, sum(seconds) AS seconds, sum(joules) AS joules, sum(covered_s) AS covered_s,
                 max(largest_gap_s) AS largest_gap_s, max(peak_mw) AS peak_mw
               FROM phase GROUP BY device, round, phase ORDER BY device, round, phase"""
        )

    def sensors(self) -> dict[str, dict[str, Readings]]:
        """Every sensor's readings by device and name."""
        found: dict[str, dict[str, Readings]] = {}
        for row in self._read("SELECT * FROM sensor ORDER BY device, name"):
            tally = Readings(count=row["count"], sum=row["sum"], high=row["high"])
            found.setdefault(row["device"], {})[row["name"]] = tally
        return found

    def sequences(self) -> dict[str, dict[str, int]]:
        """The last batch of telemetry that is in, by device and epoch."""
        found: dict[str, dict[str, int]] = {}
        for row in self._read("SELECT * FROM telemetry"):
            found.setdefault(row["device"], {})[row["epoch"]] = row["sequence"]
        return found

    # ---- training

    def step_ms(self) -> Mapping[tuple[str, int], array[float]]:
        """The times of all optimizer steps by device and round."""
        times: dict[tuple[str, int], array[float]] = {}
        rows = self._read("SELECT device, round, step_ms FROM contribution")
        with reading(self.path):
            for row in rows:
                times.setdefault((row["device"], row["round"]), array("f")).frombytes(row["step_ms"])
        return times

    def micro_batches(self) -> dict[str, int]:
        """The smallest micro-batch by device, of those whose memory was too short for the experiment's."""
        rows = self._read(
            "SELECT device, min(micro_batch) AS least FROM contribution WHERE micro_batch > 0 GROUP BY device"
        )
        return {row["device"]: row["least"] for row in rows}

    def updates(self) -> dict[str, int]:
        """How many were accepted, by device."""
        rows = self._read("SELECT device, count(*) AS count FROM contribution GROUP BY device")
        return {row["device"]: row["count"] for row in rows}

    def _read(self, query: str, *values: object) -> Rows:
        try:
            with self._read_lock:
                cursor = self._reader.execute(query, values)
                names = [column[0] for column in cursor.description]
                return [dict(zip(names, row, strict=True)) for row in cursor]
        except (sqlite3.Error, UnicodeError) as error:
            raise LedgerFailure(f"the ledger {self.path} cannot be read: {one_line(error)}") from None


def look_at(path: Path) -> None:
    """Raises OSError for what is no file, and ValueError for one that is too short, which SQLite takes for an empty one
    and makes a database of."""
    size = size_of_regular(path)
    if 0 < size < _LEAST_BYTES:
        raise ValueError(f"it is damaged: of its beginning there {'is 1 byte' if size == 1 else f'are {size} bytes'}")


def _open(path: Path) -> tuple[sqlite3.Connection, int, bool]:
    """A connection that only reads and makes no file, the schema's version, and whether there are tables."""
    log = path.with_name(f"{path.name}-wal")
    if not log.exists():
        # Nobody has it open: the last who closes it removes the log.
        return _connect(path, "immutable=1")
    try:
        return _connect(path, "readonly_shm=1")
    except sqlite3.OperationalError:
        # A log without the index beside it, as in a folder that was copied: SQLite would make one.
        if not log.is_file() or path.with_name(f"{path.name}-shm").exists():
            raise
    with tempfile.TemporaryDirectory(prefix="federa-ledger-") as folder:
        copy = Path(shutil.copy(path, folder))
        shutil.copy(log, folder)
        return _connect(copy)  # a file that is open outlives its name


def _connect(path: Path, *options: str) -> tuple[sqlite3.Connection, int, bool]:
    address = f"{path.absolute().as_uri()}?{'&'.join(('mode=ro', *options))}"
    db = sqlite3.connect(address, uri=True, check_same_thread=False, isolation_level=None)
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        return db, version, db.execute("SELECT 1 FROM sqlite_master").fetchone() is not None
    except BaseException:
        db.close()
        raise
