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
from pathlib import Path
from typing import Any, Literal

from federa.errors import BadInput, FederaError, one_line

SCHEMA_VERSION = 2

_SCHEMA = f"""
BEGIN;
CREATE TABLE run (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE device (
  name TEXT PRIMARY KEY,
  key TEXT NOT NULL,             -- the worker's own: another one under the name is refused
  facts TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE host (
  client INTEGER PRIMARY KEY, device TEXT NOT NULL,
  examples INTEGER               -- that the device announced for this client
);
CREATE TABLE round (
  round INTEGER PRIMARY KEY,
  broadcast_sha256 TEXT NOT NULL,
  spent_s REAL NOT NULL,         -- while the round is open: seconds since its announcement, downtime apart
  seconds REAL,                  -- from the announcement until the new state was folded, downtime apart
  state_sha256 TEXT,             -- of the state that the round made
  value REAL                     -- its validation metric
);
CREATE TABLE attempt (
  round INTEGER NOT NULL, attempt INTEGER NOT NULL,
  clients TEXT NOT NULL,         -- drawn in this attempt: JSON list, ascending
  PRIMARY KEY (round, attempt)
) WITHOUT ROWID;
CREATE TABLE contribution (
  round INTEGER NOT NULL, client INTEGER NOT NULL, device TEXT NOT NULL,
  examples INTEGER NOT NULL, loss REAL, sha256 TEXT NOT NULL, step_ms BLOB NOT NULL,
  distance REAL NOT NULL,        -- the 2-norm of update minus broadcast
  after_s REAL NOT NULL,         -- seconds into the round
  UNIQUE (round, client)
);
CREATE TABLE setback (
  round INTEGER NOT NULL, attempt INTEGER NOT NULL, client INTEGER NOT NULL, device TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('failed', 'refused', 'late', 'missing')),
  reason TEXT NOT NULL,
  UNIQUE (round, attempt, client, kind)  -- a round that is closed again after a restart says the same again
);
CREATE TABLE transfer (
  round INTEGER NOT NULL, device TEXT NOT NULL, direction TEXT NOT NULL CHECK (direction IN ('down', 'up')),
  client INTEGER, wire_bytes INTEGER NOT NULL, state_bytes INTEGER NOT NULL
);
CREATE INDEX transfer_round ON transfer (round, direction, wire_bytes);
CREATE TABLE phase (
  round INTEGER NOT NULL, device TEXT NOT NULL, client INTEGER, phase TEXT NOT NULL, seconds REAL NOT NULL,
  -- A worker reports again what a broken stream may have taken along.
  UNIQUE (round, device, client, phase, seconds)
);
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""

Setback = Literal["failed", "refused", "late", "missing"]
"""A training that failed, an update that was refused for what it held, one that came after its round was closed, and
one that had not come when the round was closed."""

Rows = list[dict[str, Any]]
Statement = tuple[str, tuple[object, ...]]


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
        self._later: deque[Statement] = deque()
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0 and not self._db.execute("SELECT 1 FROM sqlite_master").fetchone():
                self._db.executescript(_SCHEMA)
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
            *(("INSERT OR IGNORE INTO device VALUES (?, ?, '{}')", entry) for entry in keys.items()),
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
    ) -> bool:  # fmt: skip
        """Record an update and its transfer. False when one of that round and client stands there already: the
        bytes of the second are counted, the update is not."""
        times = array("f", step_ms).tobytes()
        row = (round_, client, device, examples, loss, sha256, times, distance, after_s)
        fresh = self._write(
            ("INSERT INTO contribution VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row),
            self._transfer(round_, device, "up", client, wire_bytes, state_bytes),
        )
        return fresh == 1

    def setback(self, kind: Setback, *, round_: int, attempt: int, client: int, device: str, reason: str) -> None:
        row = (round_, attempt, client, device, kind, reason)
        self._write(("INSERT INTO setback VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row))

    def folded(self, round_: int, seconds: float, state_sha256: str) -> None:
        self._write(("UPDATE round SET seconds = ?, state_sha256 = ? WHERE round = ?", (seconds, state_sha256, round_)))

    def evaluated(self, round_: int, value: float) -> None:
        self._write(("UPDATE round SET value = ? WHERE round = ?", (value, round_)))

    # ---- writing that can wait

    def prepared(self, device: str, facts: Mapping[str, str], examples: Mapping[int, int]) -> None:
        """What a device is, and how many examples it has of each of its clients. It says so again after a restart."""
        self._later.append(("UPDATE device SET facts = ? WHERE name = ?", (json.dumps(dict(facts)), device)))
        for client, count in examples.items():
            self._later.append(
                ("UPDATE host SET examples = ? WHERE client = ? AND device = ?", (count, client, device))
            )

    def downloaded(self, *, round_: int, device: str, wire_bytes: int, state_bytes: int) -> None:
        self._later.append(self._transfer(round_, device, "down", None, wire_bytes, state_bytes))

    def uploaded_in_vain(self, *, round_: int, device: str, client: int, wire_bytes: int) -> None:
        """Bytes of an upload that broke off or was refused."""
        self._later.append(self._transfer(round_, device, "up", client, wire_bytes, 0))

    def phase(self, *, round_: int, device: str, client: int | None, phase: str, seconds: float) -> None:
        row = (round_, device, client, phase, seconds)
        self._later.append(("INSERT INTO phase VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row))

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
            """SELECT round, seconds, state_sha256, value,
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

    def setbacks(self) -> Rows:
        """Everything that went wrong with a client, in the order it happened."""
        return self._read("SELECT * FROM setback ORDER BY rowid")

    def phase_seconds(self) -> dict[str, dict[str, float]]:
        """Seconds by device and phase."""
        found: dict[str, dict[str, float]] = {}
        for row in self._read("SELECT device, phase, sum(seconds) AS total FROM phase GROUP BY device, phase"):
            found.setdefault(row["device"], {})[row["phase"]] = row["total"]
        return found

    def step_ms(self) -> dict[str, array[float]]:
        """The times of all optimizer steps by device."""
        times: dict[str, array[float]] = {}
        rows = self._read("SELECT device, step_ms FROM contribution")
        with reading(self.path):
            for row in rows:
                times.setdefault(row["device"], array("f")).frombytes(row["step_ms"])
        return times

    def _totals(self) -> Rows:
        return self._read("SELECT direction, sum(wire_bytes) AS total FROM transfer GROUP BY direction")

    # ---- transactions

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
                    self._db.execute(*self._later.popleft())
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
