"""The ledger: one SQLite file a run, from which everything that is shown comes and from which a run is recovered.

Each step of a run is one transaction. UNIQUE(round, client) makes the first durable update win.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from array import array
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from coordinator.storage.ledger_reader import DAMAGE, LedgerReader, look_at
from coordinator.storage.ledger_types import ClientFailure, LedgerFailure, Readings
from coordinator.storage.schema import SCHEMA, SCHEMA_VERSION
from federa.energy import Energy
from federa.errors import BadInput, one_line
from federa.phases import Activity
from federa.tasks.composition import CutRecords

Statement = tuple[str, tuple[object, ...]]

# max() and + of SQLite are NULL where one side is: what was not measured adds nothing, and takes nothing away.
_ADD_PHASE = """
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


class Ledger(LedgerReader):
    """Writes a run's ledger, and reads what it wrote over a connection of its own. Thread-safe. Every method that
    writes is one transaction, durable when it returns, and so not for an event loop; what can wait goes with the next
    transaction or `flush`, and its method returns at once."""

    def __init__(self, path: Path) -> None:
        """Open a ledger, or begin one. Raises BadInput."""
        self._write_lock = threading.Lock()
        self._queue_lock = threading.Lock()
        """Held for moments only, of the queue and the byte totals: by event loops, too."""
        self._queue: deque[tuple[Statement, ...]] = deque()
        try:
            if path.exists():
                look_at(path)
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
            super().__init__(path)
            self._bytes_down, self._bytes_up = super().bytes_down, super().bytes_up
        except (*DAMAGE, OSError, LedgerFailure) as error:
            why = getattr(error, "strerror", None) or one_line(error)
            raise BadInput(f"{path} cannot be used as a ledger: {why}; name another --out") from None

    @property
    def bytes_down(self) -> int:
        """All wire bytes that went to devices so far, also those that wait to be written."""
        return self._bytes_down

    @property
    def bytes_up(self) -> int:
        """All wire bytes that came from devices so far, also those that wait to be written."""
        return self._bytes_up

    def close(self) -> None:
        """Write what waits, and close."""
        try:
            self.flush()
        finally:
            super().close()
            with self._write_lock:
                self._db.close()

    # ---- writing

    def note(self, **facts: object) -> None:
        """Record facts about the run itself, by name; a later value replaces an earlier one."""
        self._write(*(("INSERT OR REPLACE INTO run VALUES (?, ?)", (key, json.dumps(v))) for key, v in facts.items()))

    def hosted(self, keys: Mapping[str, str], hosts: Mapping[int, str]) -> None:
        """Record that these devices, each with its key, take part and host these clients."""
        self._write(
            *(("INSERT OR IGNORE INTO device VALUES (?, ?, '{}', '{}')", entry) for entry in keys.items()),
            *(("INSERT OR IGNORE INTO host VALUES (?, ?, NULL, NULL, NULL)", entry) for entry in hosts.items()),
        )

    def selected(self, round_: int, attempt: int, clients: Iterable[int], broadcast_sha256: str) -> None:
        """Record an attempt's draw."""
        self._write(
            ("INSERT OR IGNORE INTO round (round, broadcast_sha256, spent_s) VALUES (?, ?, 0)",
             (round_, broadcast_sha256)),
            ("INSERT INTO attempt VALUES (?, ?, ?)", (round_, attempt, json.dumps(list(clients)))),
        )  # fmt: skip

    def alive(self, round_: int, spent_s: float, at: float) -> None:
        """Record that at this wall-clock time the round, if one is open, had taken so long: what a restart goes on
        from."""
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
            _transfer(round_, device, "up", client, wire_bytes, state_bytes),
            bytes_up=wire_bytes,
        )
        return fresh == 1

    def record_failure(
        self, kind: ClientFailure, *, round_: int, attempt: int, client: int, device: str, reason: str
    ) -> None:
        """Record what went wrong with a client."""
        self.record_failures(kind, round_=round_, attempt=attempt, devices={client: device}, reason=reason)

    def record_failures(
        self, kind: ClientFailure, *, round_: int, attempt: int, devices: Mapping[int, str], reason: str
    ) -> None:
        """Record the same for several clients, each with the device that hosts it."""
        insert = "INSERT INTO client_failure VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        rows = ((round_, attempt, client, device, kind, reason) for client, device in devices.items())
        self._write(*((insert, row) for row in rows))

    def aggregated(self, round_: int, seconds: float, state_sha256: str, server_sha256: str | None = None) -> None:
        """Record the state that a round made, and what its aggregator keeps for the next one."""
        row = (seconds, state_sha256, server_sha256, round_)
        self._write(("UPDATE round SET seconds = ?, state_sha256 = ?, server_sha256 = ? WHERE round = ?", row))

    def evaluated(
        self, round_: int, value: float, examples: int | None = None, counters: Mapping[str, float] | None = None
    ) -> None:
        """Record the metric of a round's state, how many examples stand behind it, and what was counted over them."""
        row = (value, examples, json.dumps(dict(counters)) if counters else None, round_)
        self._write(("UPDATE round SET value = ?, value_examples = ?, value_counters = ? WHERE round = ?", row))

    # ---- writing that can wait

    def prepared(
        self,
        device: str,
        facts: Mapping[str, str],
        examples: Mapping[int, int],
        cut: Mapping[int, CutRecords] = MappingProxyType({}),
    ) -> None:
        """Record what a device is, how many examples it has of each of its clients, and how many of their records were
        cut, where it says so. It says all that again after a restart."""
        self._write_later(
            ("UPDATE device SET facts = ? WHERE name = ?", (json.dumps(dict(facts)), device)),
            *(("UPDATE host SET examples = ? WHERE client = ? AND device = ?", (count, client, device))
              for client, count in examples.items()),
            *(("UPDATE host SET records = ?, cut = ? WHERE client = ? AND device = ?",
               (counted.records, counted.cut, client, device)) for client, counted in cut.items()),
        )  # fmt: skip

    def powered(self, device: str, facts: Mapping[str, object]) -> None:
        """Record what a device measures its power with."""
        self._write_later(("UPDATE device SET power = ? WHERE name = ?", (json.dumps(dict(facts)), device)))

    def counted(self, *, round_: int, part: str, client: int, device: str, counters: Mapping[str, float]) -> None:
        """Record what was counted of a round's state on a client's held-out part; the first counters stand."""
        row = (round_, part, client, device, json.dumps(dict(counters)))
        self._write_later(("INSERT INTO counters VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row))

    def downloaded(self, *, round_: int, device: str, wire_bytes: int, state_bytes: int) -> None:
        """Record bytes that went to a device."""
        self._write_later(_transfer(round_, device, "down", None, wire_bytes, state_bytes), bytes_down=wire_bytes)

    def uploaded_in_vain(self, *, round_: int, device: str, client: int, wire_bytes: int) -> None:
        """Record bytes of an upload that broke off or was refused."""
        self._write_later(_transfer(round_, device, "up", client, wire_bytes, 0), bytes_up=wire_bytes)

    def measured(
        self,
        device: str,
        epoch: str,
        sequence: int,
        energies: Mapping[Activity, Energy],
        sensors: Mapping[str, Readings],
    ) -> None:
        """Add a batch of a device's time line and sensors to what there is. The batch's number is recorded with it in
        one transaction: after a restart `sequences` says which are in."""
        self._write_later(
            *((_ADD_PHASE, (at.round, device, at.client, at.phase, energy.seconds, energy.joules, energy.covered_s,
                            energy.largest_gap_s, None if energy.peak_w is None else 1e3 * energy.peak_w))
              for at, energy in energies.items()),
            *((_ADD_READINGS, (device, name, tally.count, tally.sum, tally.high)) for name, tally in sensors.items()),
            ("INSERT OR REPLACE INTO telemetry VALUES (?, ?, ?)", (device, epoch, sequence)),
        )  # fmt: skip

    def flush(self) -> None:
        """Write what waits."""
        if self._queue:
            self._write()

    # ---- transactions

    def _write_later(self, *statements: Statement, bytes_down: int = 0, bytes_up: int = 0) -> None:
        """Queue statements that go into the same transaction: one entry, however many threads write."""
        with self._queue_lock:
            self._queue.append(statements)
            self._bytes_down += bytes_down
            self._bytes_up += bytes_up

    def _write(self, *statements: Statement, bytes_up: int = 0) -> int:
        """Write these statements and all that waited in one transaction; how many rows the first one changed. What
        waited goes on waiting where the transaction fails, and the bytes are counted where it does not."""
        changed = 0
        try:
            with self._write_lock:
                with self._queue_lock:
                    waiting = list(self._queue)
                with self._db:
                    self._db.execute("BEGIN IMMEDIATE")
                    for position, (statement, row) in enumerate(statements):
                        cursor = self._db.execute(statement, row)
                        changed = cursor.rowcount if position == 0 else changed
                    for entry in waiting:
                        for statement, row in entry:
                            self._db.execute(statement, row)
                with self._queue_lock:
                    for _ in waiting:
                        self._queue.popleft()
                    self._bytes_up += bytes_up
            return changed
        except (sqlite3.Error, UnicodeError, OverflowError) as error:
            raise LedgerFailure(f"the ledger {self.path} cannot be written: {one_line(error)}") from None


def _transfer(
    round_: int, device: str, direction: str, client: int | None, wire_bytes: int, state_bytes: int
) -> Statement:
    row = (round_, device, direction, client, wire_bytes, state_bytes)
    return "INSERT INTO transfer VALUES (?, ?, ?, ?, ?, ?)", row
