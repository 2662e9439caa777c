"""The ledger: one SQLite file a run, from which everything that is shown comes.

Each step of a run is one transaction. UNIQUE(round, client) makes the first durable update win.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1

_SCHEMA = f"""
PRAGMA user_version = {SCHEMA_VERSION};
CREATE TABLE run (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE device (name TEXT PRIMARY KEY, facts TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE round (
  round INTEGER PRIMARY KEY,
  clients TEXT NOT NULL,         -- JSON list, ascending
  seconds REAL,                  -- from the announcement until the new state was folded
  state_sha256 TEXT,             -- of the state that the round made
  value REAL                     -- its validation metric
);
CREATE TABLE contribution (
  round INTEGER NOT NULL, client INTEGER NOT NULL, device TEXT NOT NULL,
  examples INTEGER NOT NULL, loss REAL, sha256 TEXT NOT NULL, step_ms BLOB NOT NULL,
  UNIQUE (round, client)
);
CREATE TABLE transfer (
  round INTEGER NOT NULL, device TEXT NOT NULL, direction TEXT NOT NULL CHECK (direction IN ('down', 'up')),
  client INTEGER, wire_bytes INTEGER NOT NULL, state_bytes INTEGER NOT NULL
);
CREATE TABLE phase (
  round INTEGER NOT NULL, device TEXT NOT NULL, client INTEGER, phase TEXT NOT NULL, seconds REAL NOT NULL
);
"""


class Ledger:
    """Thread-safe; every method is one transaction, durable when it returns."""

    def __init__(self, path: Path) -> None:
        fresh = not path.exists()
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        if fresh:
            self._db.executescript(_SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    # ---- writing

    def note(self, **facts: object) -> None:
        """Facts about the run itself, by name; a later value replaces an earlier one."""
        rows = [(key, json.dumps(value)) for key, value in facts.items()]
        self._write("INSERT OR REPLACE INTO run VALUES (?, ?)", rows)

    def device(self, name: str, facts: Mapping[str, str]) -> None:
        self._write("INSERT OR REPLACE INTO device VALUES (?, ?)", [(name, json.dumps(dict(facts)))])

    def announced(self, round_: int, clients: Iterable[int]) -> None:
        self._write("INSERT INTO round (round, clients) VALUES (?, ?)", [(round_, json.dumps(list(clients)))])

    def accepted(
        self, *, round_: int, client: int, device: str, examples: int, loss: float, sha256: str,
        step_ms: Iterable[float], wire_bytes: int, state_bytes: int,
    ) -> bool:  # fmt: skip
        """Record an update and its transfer. False when one of that round and client stands there already: the
        bytes of the second are counted, the update is not."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            cursor = self._db.execute(
                "INSERT OR IGNORE INTO contribution VALUES (?, ?, ?, ?, ?, ?, ?)",
                (round_, client, device, examples, loss, sha256, array("f", step_ms).tobytes()),
            )
            self._db.execute(
                "INSERT INTO transfer VALUES (?, ?, 'up', ?, ?, ?)", (round_, device, client, wire_bytes, state_bytes)
            )
            return cursor.rowcount == 1

    def downloaded(self, *, round_: int, device: str, wire_bytes: int, state_bytes: int) -> None:
        row = (round_, device, "down", None, wire_bytes, state_bytes)
        self._write("INSERT INTO transfer VALUES (?, ?, ?, ?, ?, ?)", [row])

    def folded(self, round_: int, seconds: float, state_sha256: str) -> None:
        self._write("UPDATE round SET seconds = ?, state_sha256 = ? WHERE round = ?", [(seconds, state_sha256, round_)])

    def evaluated(self, round_: int, value: float) -> None:
        self._write("UPDATE round SET value = ? WHERE round = ?", [(value, round_)])

    def phase(self, *, round_: int, device: str, client: int | None, phase: str, seconds: float) -> None:
        self._write("INSERT INTO phase VALUES (?, ?, ?, ?, ?)", [(round_, device, client, phase, seconds)])

    # ---- reading

    def facts(self) -> dict[str, Any]:
        return {row["key"]: json.loads(row["value"]) for row in self._read("SELECT * FROM run")}

    def devices(self) -> dict[str, dict[str, str]]:
        return {row["name"]: json.loads(row["facts"]) for row in self._read("SELECT * FROM device ORDER BY name")}

    def rounds(self) -> list[dict[str, Any]]:
        """Every folded round in order, with the wire bytes moved in it."""
        return self._read(
            """SELECT round, seconds, state_sha256, value,
                 (SELECT coalesce(sum(wire_bytes), 0) FROM transfer t
                  WHERE t.round = r.round AND direction = 'down') AS bytes_down,
                 (SELECT coalesce(sum(wire_bytes), 0) FROM transfer t
                  WHERE t.round = r.round AND direction = 'up') AS bytes_up
               FROM round r WHERE seconds IS NOT NULL ORDER BY round"""
        )

    def bytes_moved(self) -> tuple[int, int]:
        """Wire bytes down and up, of all rounds, the unfinished one's too."""
        rows = self._read("SELECT direction, sum(wire_bytes) AS total FROM transfer GROUP BY direction")
        totals = {row["direction"]: int(row["total"]) for row in rows}
        return totals.get("down", 0), totals.get("up", 0)

    def has_accepted(self, round_: int, client: int) -> bool:
        return bool(self._read("SELECT 1 FROM contribution WHERE round = ? AND client = ?", round_, client))

    def contributions(self, round_: int) -> list[dict[str, Any]]:
        """The accepted updates of a round, by client."""
        return self._read("SELECT * FROM contribution WHERE round = ? ORDER BY client", round_)

    def phase_seconds(self) -> dict[str, dict[str, float]]:
        """Seconds by device and phase."""
        found: dict[str, dict[str, float]] = {}
        for row in self._read("SELECT device, phase, sum(seconds) AS total FROM phase GROUP BY device, phase"):
            found.setdefault(row["device"], {})[row["phase"]] = row["total"]
        return found

    def step_ms(self, device: str) -> list[float]:
        """The times of all optimizer steps of a device, ascending."""
        times: array[float] = array("f")
        for row in self._read("SELECT step_ms FROM contribution WHERE device = ?", device):
            times.frombytes(row["step_ms"])
        return sorted(times)

    def _write(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(statement, rows)

    def _read(self, query: str, *values: object) -> list[dict[str, Any]]:
        with self._lock:
            cursor = self._db.execute(query, values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]
