-- Pawl in Postgres: sessions, what others see, and what is tidied up. Version 1.

-- Who holds (nothing where nobody does: one row with the number of waiters is always there) and how many wait.
CREATE OR REPLACE FUNCTION "pawl".inspect(
  p_scope text, p_key text,
  OUT waiting bigint, OUT holder_name text, OUT holder_shared boolean, OUT holder_token bigint,
  OUT held_for_ms bigint, OUT expires_in_ms bigint
) RETURNS SETOF record LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT (
      SELECT count(DISTINCT p.channel) FROM "pawl".places p
      WHERE p.key_id = k.id AND p.keep_until > clock_timestamp()
    ), h.owner, h.is_shared, h.token,
    "pawl".milliseconds(clock_timestamp() - h.since), "pawl".milliseconds(h.expires_at - clock_timestamp())
  FROM (SELECT p_scope, p_key) asked
  LEFT JOIN "pawl".keys k ON k.scope = p_scope AND k.key = p_key
  LEFT JOIN "pawl".holds h ON h.key_id = k.id
    AND CASE WHEN h.session IS NULL THEN h.expires_at > clock_timestamp() ELSE "pawl".is_alive(h.session) END
  ORDER BY h.since, h.hold
$$;

-- Makes this connection a session that can hold locks, and ends the one before it of the same sidecar.
CREATE OR REPLACE FUNCTION "pawl".open_session(p_session uuid, p_identity text, p_before uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM set_config('pawl.session', p_session::text, false);
  INSERT INTO "pawl".sessions (id, pid, started_at, identity)
  SELECT p_session, a.pid, a.backend_start, p_identity FROM pg_stat_get_activity(pg_backend_pid()) a;
  IF p_before IS NOT NULL THEN
    PERFORM "pawl".end_session(p_before);
  END IF;
END
$$;

-- Lets the expired holds of this session go; answers when it should be asked again.
CREATE OR REPLACE FUNCTION "pawl".reap(p_session uuid, OUT next_in_ms bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
  v_due record;
  v_key "pawl".keys;
  v_now timestamptz;
BEGIN
  IF NOT "pawl".is_session(p_session) THEN
    RETURN;
  END IF;
  PERFORM set_config('synchronous_commit', 'off', true);
  FOR v_due IN
    SELECT k.scope, k.key, h.hold FROM "pawl".holds h JOIN "pawl".keys k ON k.id = h.key_id
    WHERE h.session = p_session AND h.expires_at <= clock_timestamp()
    ORDER BY k.id LIMIT 200
  LOOP
    v_key := "pawl".lock_key(v_due.scope, v_due.key);
    v_now := clock_timestamp();
    PERFORM "pawl".let_go(v_key, v_due.hold, p_session, v_now);
    PERFORM "pawl".wake(v_key, v_now);
  END LOOP;
  SELECT "pawl".milliseconds(min(h.expires_at) - clock_timestamp()) INTO next_in_ms
  FROM "pawl".holds h WHERE h.session = p_session;
END
$$;

-- The keys for which a sidecar is next, and whose holders' sessions ended: nobody tells when a session breaks.
CREATE OR REPLACE FUNCTION "pawl".orphans(p_channel text) RETURNS SETOF text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT k.key FROM "pawl".places p JOIN "pawl".keys k ON k.id = p.key_id
  WHERE p.channel = p_channel AND p.keep_until > clock_timestamp()
    AND NOT EXISTS (
      SELECT FROM "pawl".places o
      WHERE o.key_id = p.key_id AND (o.since, o.hold) < (p.since, p.hold) AND NOT (o.is_shared AND p.is_shared)
        AND o.keep_until > clock_timestamp()
    )
    AND NOT EXISTS (
      SELECT FROM "pawl".holds h
      WHERE h.key_id = p.key_id AND NOT (h.is_shared AND p.is_shared)
        AND CASE WHEN h.session IS NULL THEN h.expires_at > clock_timestamp() ELSE "pawl".is_alive(h.session) END
    )
  LIMIT 1000
$$;

-- Deletes at most p_most rows a table of what nobody needs any more; answers how many were deleted from the fullest.
-- A key that was unused for 30 days may go: its tokens go on from the clock.
CREATE OR REPLACE FUNCTION "pawl".purge(p_most integer, OUT deleted bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
  v_now timestamptz := clock_timestamp();
  v_rows bigint;
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  DELETE FROM "pawl".places WHERE ctid = ANY (ARRAY(
    SELECT p.ctid FROM "pawl".places p WHERE p.keep_until <= v_now LIMIT p_most FOR UPDATE SKIP LOCKED));
  GET DIAGNOSTICS deleted = ROW_COUNT;
  DELETE FROM "pawl".abandoned WHERE ctid = ANY (ARRAY(
    SELECT a.ctid FROM "pawl".abandoned a WHERE a.keep_until <= v_now LIMIT p_most FOR UPDATE SKIP LOCKED));
  GET DIAGNOSTICS v_rows = ROW_COUNT;
  deleted := greatest(deleted, v_rows);
  DELETE FROM "pawl".holds WHERE ctid = ANY (ARRAY(
    SELECT h.ctid FROM "pawl".holds h
    WHERE h.expires_at <= v_now - interval '1 day' AND (h.session IS NULL OR NOT "pawl".is_alive(h.session))
    LIMIT p_most FOR UPDATE SKIP LOCKED));
  GET DIAGNOSTICS v_rows = ROW_COUNT;
  deleted := greatest(deleted, v_rows);
  DELETE FROM "pawl".sessions WHERE ctid = ANY (ARRAY(
    SELECT s.ctid FROM "pawl".sessions s
    WHERE s.started_at <= v_now - interval '1 minute' AND NOT "pawl".is_alive(s.id)
    LIMIT p_most FOR UPDATE SKIP LOCKED));
  GET DIAGNOSTICS v_rows = ROW_COUNT;
  deleted := greatest(deleted, v_rows);
  DELETE FROM "pawl".keys WHERE ctid = ANY (ARRAY(
    SELECT k.ctid FROM "pawl".keys k
    WHERE k.used_on < (v_now AT TIME ZONE 'UTC')::date - 30
      AND NOT EXISTS (SELECT FROM "pawl".holds h WHERE h.key_id = k.id)
      AND NOT EXISTS (SELECT FROM "pawl".places p WHERE p.key_id = k.id)
    LIMIT p_most FOR UPDATE SKIP LOCKED));
  GET DIAGNOSTICS v_rows = ROW_COUNT;
  deleted := greatest(deleted, v_rows);
END
$$;

INSERT INTO "pawl".schema_version (version) VALUES (1) ON CONFLICT (version) DO NOTHING;
