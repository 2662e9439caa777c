"""The ledger: one SQLite file a run, from which everything that is shown comes and from which a run is recovered.

Each step of a run is one transaction. UNIQUE(round, client) makes the first durable update win.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from coordinator.storage.schema import SCHEMA, SCHEMA_VERSION
from federa.errors import BadInput, FederaError, one_line

ClientFailure = Literal["failed", "refused", "late", "missing"]
"""A training that failed, an update that was refused for what it held, one that came after its round was closed, and
one that had not come when the round was closed."""

Rows = list[dict[str, Any]]
Statement = tuple[str, tuple[object, ...]]

# max() and + of SQLite are NULL where one side is: what was not measured adds nothing, and takes nothing away.
_ADD_PIECE = """
INSERT INTO phase VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (round, device, client, phase) DO UPDATE SET
  seconds = seconds + excluded.seconds,
  joules = coalesce(joules + excluded.joules, joules, excluded.joules),
  covered_s = covered_s + excluded.covered_s,
  largest_gap_s = max(largest_gap_s, excluded.largest_gap_s),
  peak_mw = coalesce(max(peak_mw, excluded.peak_mw), peak_mw, excluded.peak_mw)
"""
_ADD_READINGS = """
INSERT INTO sensor VALUES (?, ?, ?, ?, ?) ON CONFLICT (device, name) DO UPDATE SET
  count = count + excluded.count, sum = sum + excluded.sum, high = max(high, excluded.high)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseEnergy:
    """Of a device's time line. `joules` are those of `covered_s` of its seconds, None where nothing was measured."""

    round: int
    client: int
    phase: str
    seconds: float
    joules: float | None = None
    covered_s: float = 0.0
    largest_gap_s: float = 0.0
    peak_mw: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Readings:
    """Of one sensor."""

    count: int
    sum: float
    high: float


class LedgerFailure(FederaError):
    """The ledger cannot be written or read any more."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What is made of a ledger's content inside raises LedgerFailure where that is damaged: bits can flip where SQLite
    does not see it."""
    try:
        yield
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError) as error:
        raise LedgerFailure(f"the ledger {path} is damaged: {type(error).__name__}: {one_line(error)}") from error


class Ledger:
    """Thread-safe. Every method that writes is one transaction, durable when it returns; what can wait goes with the
    next transaction or `flush`. `bytes_down` and `bytes_up` are all wire bytes so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock, self._read_lock = threading.Lock(), threading.Lock()
        self._later: deque[tuple[Statement, ...]] = deque()
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0 and not self._db.execute("SELECT 1 FROM sqlite_master").fetchone():
                self._db.executescript(SCHEMA)
            elif version != SCHEMA_VERSION:
                self._db.close()
                raise BadInput(
                    f"{path} has ledger schema {version}, this federa reads {SCHEMA_VERSION}: go on with the federa "
                    "that began the run, or name another --out"
                )
            # Reports read a lot: no acknowledgement waits for them.
            self._reader = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            totals = {row["direction"]: int(row["total"]) for row in self._totals()}
        except (sqlite3.Error, ValueError, TypeError, LookupError) as error:
            # Not sqlite3.Error alone: of a damaged schema its text may be no UTF-8, of damaged rows the sum no number.
            raise BadInput(f"{path} cannot be used as a ledger: {one_line(error)}; name another --out") from None
        self.bytes_down, self.bytes_up = totals.get("down", 0), totals.get("up", 0)

    def close(self) -> None:
        """Write what waits, and close."""
        try:
            self.flush()
        finally:
            with self._lock, self._read_lock:
                self._db.close()
                self._reader.close()

    # ---- writing

    def note(self, **facts: object) -> None:
        """Facts about the run itself, by name; a later value replaces an earlier one."""
        self._write(*(("INSERT OR REPLACE INTO run VALUES (?, ?)", (key, json.dumps(v))) for key, v in facts.items()))

    def hosted(self, keys: Mapping[str, str], hosts: Mapping[int, str]) -> None:
        """These devices, each with its key, take part, and host these clients."""
        self._write(
            *(("INSERT OR IGNORE INTO device VALUES (?, ?, '{}', '{}')", entry) for entry in keys.items()),
            *(("INSERT OR IGNORE INTO host VALUES (?, ?, NULL)", entry) for entry in hosts.items()),
        )

    def selected(self, round_: int, attempt: int, clients: Iterable[int], broadcast_sha256: str) -> None:
        self._write(
            ("INSERT OR IGNORE INTO round (round, broadcast_sha256, spent_s) VALUES (?, ?, 0)",
             (round_, broadcast_sha256)),
            ("INSERT INTO attempt VALUES (?, ?, ?)", (round_, attempt, json.dumps(list(clients)))),
        )  # fmt: skip

    def alive(self, round_: int, spent_s: float, at: float) -> None:
        """At this wall-clock time the round, if one is open, had taken so long: what a restart goes on from."""
        self._write(
            ("UPDATE round SET spent_s = ? WHERE round = ? AND seconds IS NULL", (spent_s, round_)),
            ("INSERT OR REPLACE INTO run VALUES ('alive_at', ?)", (json.dumps(at),)),
        )

    def accepted(
        self, *, round_: int, client: int, device: str, examples: int, loss: float, sha256: str,
        step_ms: Iterable[float], distance: float, after_s: float, wire_bytes: int, state_bytes: int,
        micro_batch: int = 0,
    ) -> bool:  # fmt: skip
        """Record an update and its transfer. False when one of that round and client stands there already: the
        bytes of the second are counted, the update is not."""
        times = array("f", step_ms).tobytes()
        row = (round_, client, device, examples, loss, sha256, times, distance, after_s, micro_batch)
        fresh = self._write(
            ("INSERT INTO contribution VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row),
            self._transfer(round_, device, "up", client, wire_bytes, state_bytes),
        )
        return fresh == 1

    def setback(self, kind: ClientFailure, *, round_: int, attempt: int, client: int, device: str, reason: str) -> None:
        row = (round_, attempt, client, device, kind, reason)
        self._write(("INSERT INTO setback VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row))

    def folded(self, round_: int, seconds: float, state_sha256: str) -> None:
        self._write(("UPDATE round SET seconds = ?, state_sha256 = ? WHERE round = ?", (seconds, state_sha256, round_)))

    def evaluated(self, round_: int, value: float, examples: int | None = None) -> None:
        """The round's state has this metric, and so many examples stand behind it."""
        row = (value, examples, round_)
        self._write(("UPDATE round SET value = ?, value_examples = ? WHERE round = ?", row))

    # ---- writing that can wait

    def prepared(self, device: str, facts: Mapping[str, str], examples: Mapping[int, int]) -> None:
        """What a device is, and how many examples it has of each of its clients. It says so again after a restart."""
        self._write_later(
            ("UPDATE device SET facts = ? WHERE name = ?", (json.dumps(dict(facts)), device)),
            *(("UPDATE host SET examples = ? WHERE client = ? AND device = ?", (count, client, device))
              for client, count in examples.items()),
        )  # fmt: skip

    def powered(self, device: str, facts: Mapping[str, object]) -> None:
        """What a device measures its power with."""
        self._write_later(("UPDATE device SET power = ? WHERE name = ?", (json.dumps(dict(facts)), device)))

    def counted(self, *, round_: int, part: str, client: int, device: str, correct: int, examples: int) -> None:
        """What a client's held-out part says of a round's state; the first word stands."""
        row = (round_, part, client, device, correct, examples)
        self._write_later(("INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row))

    def downloaded(self, *, round_: int, device: str, wire_bytes: int, state_bytes: int) -> None:
        self._write_later(self._transfer(round_, device, "down", None, wire_bytes, state_bytes))

    def uploaded_in_vain(self, *, round_: int, device: str, client: int, wire_bytes: int) -> None:
        """Bytes of an upload that broke off or was refused."""
        self._write_later(self._transfer(round_, device, "up", client, wire_bytes, 0))

    def measured(
        self, device: str, epoch: str, sequence: int, pieces: Iterable[PhaseEnergy], sensors: Mapping[str, Readings]
    ) -> None:
        """Add a batch of a device's time line and sensors to what there is. The batch's number is recorded with it in
        one transaction: after a restart `sequences` says which are in."""
        self._write_later(
            *((_ADD_PIECE, (piece.round, device, piece.client, piece.phase, piece.seconds, piece.joules,
                            piece.covered_s, piece.largest_gap_s, piece.peak_mw)) for piece in pieces),
            *((_ADD_READINGS, (device, name, tally.count, tally.sum, tally.high)) for name, tally in sensors.items()),
            ("INSERT OR REPLACE INTO telemetry VALUES (?, ?, ?)", (device, epoch, sequence)),
        )  # fmt: skip

    def flush(self) -> None:
        """Write what waits."""
        if self._later:
            self._write()

    # ---- reading

    def facts(self) -> dict[str, Any]:
        rows = self._read("SELECT * FROM run")
        with reading(self.path):
            return {row["key"]: json.loads(row["value"]) for row in rows}

    def devices(self) -> dict[str, dict[str, str]]:
        rows = self._read("SELECT * FROM device ORDER BY name")
        with reading(self.path):
            return {row["name"]: json.loads(row["facts"]) for row in rows}

    def keys(self) -> dict[str, str]:
        """The devices' keys by name."""
        return {row["name"]: row["key"] for row in self._read("SELECT name, key FROM device")}

    def clients(self) -> Rows:
        """Every hosted client: client, device, examples."""
        return self._read("SELECT * FROM host ORDER BY client")

    def rounds(self) -> Rows:
        """Every folded round in order, with the wire bytes moved in it."""
        return self._read(
            """SELECT round, seconds, state_sha256, value, value_examples,
                 (SELECT coalesce(sum(wire_bytes), 0) FROM transfer t
                  WHERE t.round = r.round AND direction = 'down') AS bytes_down,
                 (SELECT coalesce(sum(wire_bytes), 0) FROM transfer t
                  WHERE t.round = r.round AND direction = 'up') AS bytes_up
               FROM round r WHERE seconds IS NOT NULL ORDER BY round"""
        )

    def last_round(self) -> dict[str, Any] | None:
        """The newest round, folded or open."""
        rows = self._read("SELECT * FROM round ORDER BY round DESC LIMIT 1")
        return rows[0] if rows else None

    def attempts(self, round_: int) -> dict[int, list[int]]:
        """The clients drawn in each attempt of a round."""
        rows = self._read("SELECT * FROM attempt WHERE round = ? ORDER BY attempt", round_)
        with reading(self.path):
            return {row["attempt"]: json.loads(row["clients"]) for row in rows}

    def has_accepted(self, round_: int, client: int) -> bool:
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

    def counts(self, round_: int, part: str) -> Rows:
        """What the clients counted of a round's state, by client."""
        query = "SELECT client, device, correct, examples FROM counts WHERE round = ? AND part = ? ORDER BY client"
        return self._read(query, round_, part)

    def setbacks(self) -> Rows:
        """Everything that went wrong with a client, in the order it happened."""
        return self._read("SELECT * FROM setback ORDER BY rowid")

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

    def step_ms(self) -> dict[tuple[str, int], array[float]]:
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

    def _totals(self) -> Rows:
        return self._read("SELECT direction, sum(wire_bytes) AS total FROM transfer GROUP BY direction")

    # ---- transactions

    def _write_later(self, *statements: Statement) -> None:
        """All of these go into the same transaction: one entry of the queue, however many threads write."""
        self._later.append(statements)

    def _transfer(
        self, round_: int, device: str, direction: str, client: int | None, wire_bytes: int, state_bytes: int
    ) -> Statement:
        if direction == "down":
            self.bytes_down += wire_bytes
        else:
            self.bytes_up += wire_bytes
        row = (round_, device, direction, client, wire_bytes, state_bytes)
        return "INSERT INTO transfer VALUES (?, ?, ?, ?, ?, ?)", row

    def _write(self, *statements: Statement) -> int:
        """One transaction with these statements and all that waited; how many rows the first one changed."""
        changed = 0
        try:
            with self._lock, self._db:
                self._db.execute("BEGIN IMMEDIATE")
                for position, (statement, row) in enumerate(statements):
                    cursor = self._db.execute(statement, row)
                    changed = cursor.rowcount if position == 0 else changed
                while self._later:
                    for statement, row in self._later.popleft():
                        self._db.execute(statement, row)
            return changed
        except (sqlite3.Error, UnicodeError) as error:
            raise LedgerFailure(f"the ledger {self.path} cannot be written: {one_line(error)}") from None

    def _read(self, query: str, *values: object) -> Rows:
        try:
            with self._read_lock:
                cursor = self._reader.execute(query, values)
                names = [column[0] for column in cursor.description]
                return [dict(zip(names, row, strict=True)) for row in cursor]
        except (sqlite3.Error, UnicodeError) as error:
            raise LedgerFailure(f"the ledger {self.path} cannot be read: {one_line(error)}") from None
