-- Pawl in Postgres 12 or later: tables. Version 1.
--
-- The three files (tables, calls, upkeep) are run in this order, in one transaction, by a sidecar whose role may create
-- the schema, or once by a database administrator; each can be run again. To use another schema than "pawl", replace
-- "pawl" with its quoted name everywhere.
--
-- Sidecars of two versions may meet in one schema: a later version adds, and keeps the functions of the one before.

DO $$
BEGIN
  -- CREATE SCHEMA IF NOT EXISTS would ask for the right to create even where it exists.
  IF to_regnamespace('"pawl"') IS NULL THEN
    CREATE SCHEMA "pawl";
  END IF;
END
$$;

CREATE TABLE IF NOT EXISTS "pawl".schema_version (
  version integer PRIMARY KEY,
  made_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row for each key that was used in the last 30 days. Every call that changes who holds or waits locks this row
-- first, so that the calls of one key follow one another.
CREATE TABLE IF NOT EXISTS "pawl".keys (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  scope text NOT NULL,
  key text NOT NULL,
  -- The key's advisory lock, once mode Advisory used it. Unique, so that two keys with one hash are found.
  number bigint UNIQUE,
  -- The last token, and the largest token that was shown to the fence.
  token bigint NOT NULL DEFAULT 0,
  fence bigint NOT NULL DEFAULT 0,
  -- When the last hold ended by expiry or a broken session, until the next grant.
  lost_at timestamptz,
  -- A day, not an instant: an indexed column that changes at every grant would undo HOT updates.
  used_on date NOT NULL DEFAULT (clock_timestamp() AT TIME ZONE 'UTC')::date,
  UNIQUE (scope, key)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX IF NOT EXISTS keys_used_on ON "pawl".keys (used_on);

-- Who holds. In mode Advisory the lock of the session is what excludes; the row says whose it is, and for how long.
CREATE TABLE IF NOT EXISTS "pawl".holds (
  key_id bigint NOT NULL,
  hold uuid NOT NULL,
  is_shared boolean NOT NULL,
  token bigint NOT NULL,
  owner text NOT NULL,
  channel text NOT NULL,
  -- The session that has the advisory lock; nothing in mode Row.
  session uuid,
  since timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (key_id, hold)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX IF NOT EXISTS holds_session ON "pawl".holds (session) WHERE session IS NOT NULL;

-- Who waits. Not logged: after a crash the waiters ask again, with their age.
CREATE UNLOGGED TABLE IF NOT EXISTS "pawl".places (
  key_id bigint NOT NULL,
  hold uuid NOT NULL,
  is_shared boolean NOT NULL,
  channel text NOT NULL,
  since timestamptz NOT NULL,
  keep_until timestamptz NOT NULL,
  PRIMARY KEY (key_id, hold)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX IF NOT EXISTS places_channel ON "pawl".places (channel);
CREATE INDEX IF NOT EXISTS places_keep_until ON "pawl".places (keep_until);

-- Attempts that were given up: a call of theirs that is still under way is refused when it arrives.
CREATE TABLE IF NOT EXISTS "pawl".abandoned (
  hold uuid PRIMARY KEY,
  keep_until timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS abandoned_keep_until ON "pawl".abandoned (keep_until);

-- The sessions of mode Advisory. The process id alone does not name one: the system uses it again.
CREATE TABLE IF NOT EXISTS "pawl".sessions (
  id uuid PRIMARY KEY,
  pid integer NOT NULL,
  started_at timestamptz NOT NULL,
  identity text NOT NULL
);
