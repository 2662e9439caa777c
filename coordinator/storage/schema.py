"""The ledger's tables."""

from __future__ import annotations

SCHEMA_VERSION = 7

SCHEMA = f"""
BEGIN;
CREATE TABLE run (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE device (
  name TEXT PRIMARY KEY,
  key TEXT NOT NULL,             -- the worker's own: another one under the name is refused
  facts TEXT NOT NULL,
  power TEXT NOT NULL            -- what it measures its power with
) WITHOUT ROWID;
CREATE TABLE host (
  client INTEGER PRIMARY KEY, device TEXT NOT NULL,
  examples INTEGER,              -- that the device announced for this client
  records INTEGER,               -- the client's records, held out or not; NULL: it did not say
  cut INTEGER                    -- how many of them lost tokens
);
CREATE TABLE round (
  round INTEGER PRIMARY KEY,
  broadcast_sha256 TEXT NOT NULL,
  spent_s REAL NOT NULL,         -- while the round is open: seconds since its announcement, downtime apart
  seconds REAL,                  -- from the announcement until the new state was aggregated, downtime apart
  state_sha256 TEXT,             -- of the state that the round made
  server_sha256 TEXT,            -- of what the aggregator keeps for the next round; NULL: nothing
  value REAL,                    -- its validation metric
  value_examples INTEGER,        -- how many examples stand behind that
  value_counters TEXT            -- JSON: what was counted over them, by name; NULL: nobody said
);
CREATE TABLE counters (           -- of what the clients hold out, where the devices evaluate
  round INTEGER NOT NULL, part TEXT NOT NULL, client INTEGER NOT NULL, device TEXT NOT NULL,
  counters TEXT NOT NULL,        -- JSON: numbers by name
  PRIMARY KEY (round, part, client)
) WITHOUT ROWID;
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
  micro_batch INTEGER NOT NULL DEFAULT 0,  -- examples at a time, where memory was too short for the experiment's
  UNIQUE (round, client)
);
CREATE TABLE client_failure (
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
CREATE TABLE phase (              -- where a device's time and energy went
  round INTEGER NOT NULL,        -- 0: before the first
  device TEXT NOT NULL, client INTEGER NOT NULL, phase TEXT NOT NULL,
  seconds REAL NOT NULL,
  joules REAL,                   -- of covered_s of these seconds; NULL: nothing was measured
  covered_s REAL NOT NULL, largest_gap_s REAL NOT NULL, peak_mw REAL,
  PRIMARY KEY (round, device, client, phase)
) WITHOUT ROWID;
CREATE TABLE sensor (
  device TEXT NOT NULL, name TEXT NOT NULL,
  count INTEGER NOT NULL, sum REAL NOT NULL, high REAL NOT NULL,
  PRIMARY KEY (device, name)
) WITHOUT ROWID;
CREATE TABLE telemetry (          -- the last batch of each process of a worker's that is in the tables above
  device TEXT NOT NULL,
  epoch TEXT NOT NULL,           -- hex: it may be beyond SQLite's integers
  sequence INTEGER NOT NULL,
  PRIMARY KEY (device, epoch)
) WITHOUT ROWID;
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""
