-- Pawl in Postgres: what sidecars call. Version 1.
--
-- Each call is one statement and so one transaction. It locks the key's row before it looks at anything else, and
-- reads the clock after that. Parameters in milliseconds end in _ms, in microseconds since 1970 in _us.

-- A grant that a crash forgets could be given twice.
CREATE OR REPLACE FUNCTION "pawl".be_durable() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('synchronous_commit') IN ('off', 'local') THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
END
$$;

CREATE OR REPLACE FUNCTION "pawl".microseconds(p_at timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT (extract(epoch FROM p_at) * 1000000)::bigint $$;

CREATE OR REPLACE FUNCTION "pawl".milliseconds(p_span interval) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT greatest(0, ceil(extract(epoch FROM p_span) * 1000))::bigint $$;

-- Whether the caller is in the session that it believes to be in: behind a transaction pooler it is not.
CREATE OR REPLACE FUNCTION "pawl".is_session(p_session uuid) RETURNS boolean
LANGUAGE sql STABLE AS $$
  SELECT p_session IS NULL OR current_setting('pawl.session', true) IS NOT DISTINCT FROM p_session::text
$$;

-- Whether the server process of a session is there. Sessions of other roles do not show when they started; then the
-- process id must do, and a session that ended may look alive until its number is free again.
CREATE OR REPLACE FUNCTION "pawl".is_alive(p_session uuid) RETURNS boolean
LANGUAGE sql VOLATILE AS $$
  SELECT EXISTS (
    SELECT FROM "pawl".sessions s, pg_stat_get_activity(s.pid) a
    WHERE s.id = p_session AND (a.backend_start IS NULL OR a.backend_start = s.started_at)
  )
$$;

-- Ends a session: exactly the process that was recorded, or nothing. Its locks go with it.
CREATE OR REPLACE FUNCTION "pawl".end_session(p_session uuid) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_terminate_backend(s.pid)
  FROM "pawl".sessions s, pg_stat_get_activity(s.pid) a
  WHERE s.id = p_session AND a.backend_start = s.started_at AND s.pid <> pg_backend_pid();
EXCEPTION WHEN insufficient_privilege THEN
  -- Another role's session: the server's keepalive is left to end it.
  NULL;
END
$$;

-- The key's row, locked until the end of the transaction, made if it is not there.
CREATE OR REPLACE FUNCTION "pawl".lock_key(p_scope text, p_key text) RETURNS "pawl".keys
LANGUAGE plpgsql AS $$
DECLARE
  v_key "pawl".keys;
BEGIN
  LOOP
    SELECT k.* INTO v_key FROM "pawl".keys k WHERE k.scope = p_scope AND k.key = p_key FOR UPDATE;
    EXIT WHEN FOUND;
    INSERT INTO "pawl".keys AS k (scope, key) VALUES (p_scope, p_key)
      ON CONFLICT (scope, key) DO NOTHING RETURNING k.* INTO v_key;
    EXIT WHEN FOUND;
  END LOOP;
  RETURN v_key;
END
$$;

-- The number of a key's advisory lock: a hash of schema, scope and key.
CREATE OR REPLACE FUNCTION "pawl".hash_key(p_scope text, p_key text) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
  SELECT hashtextextended(concat_ws(chr(10), 'pawl', '"pawl"', p_scope, p_key), 0)
$$;

-- Gives the key its number. Nothing if another key has it already.
CREATE OR REPLACE FUNCTION "pawl".number_key(p_key "pawl".keys) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
  v_number bigint := "pawl".hash_key(p_key.scope, p_key.key);
BEGIN
  UPDATE "pawl".keys k SET number = v_number WHERE k.id = p_key.id;
  RETURN v_number;
EXCEPTION WHEN unique_violation THEN
  RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION "pawl".unlock(p_number bigint, p_shared boolean) RETURNS boolean
LANGUAGE sql AS $$
  SELECT CASE WHEN p_shared THEN pg_advisory_unlock_shared(p_number) ELSE pg_advisory_unlock(p_number) END
$$;

-- Removes a hold; the last one of this session, key and mode gives the lock back.
CREATE OR REPLACE FUNCTION "pawl".remove_hold(p_number bigint, p_hold "pawl".holds, p_session uuid) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM "pawl".holds h WHERE h.key_id = p_hold.key_id AND h.hold = p_hold.hold;
  IF p_hold.session = p_session AND NOT EXISTS (
    SELECT FROM "pawl".holds h
    WHERE h.key_id = p_hold.key_id AND h.session = p_session AND h.is_shared = p_hold.is_shared
  ) THEN
    PERFORM "pawl".unlock(p_number, p_hold.is_shared);
  END IF;
END
$$;

-- Whether this session has the key's advisory lock. Looks through all locks of the server: not for every call.
CREATE OR REPLACE FUNCTION "pawl".has_lock(p_number bigint, p_shared boolean) RETURNS boolean
LANGUAGE sql VOLATILE AS $$
  SELECT EXISTS (
    SELECT FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.pid = pg_backend_pid() AND l.objsubid = 1 AND l.granted
      AND l.classid = ((p_number >> 32) & 4294967295)::oid AND l.objid = (p_number & 4294967295)::oid
      AND l.mode = CASE WHEN p_shared THEN 'ShareLock' ELSE 'ExclusiveLock' END
  )
$$;

-- Session locks do not go back with a transaction: a call that failed after it took the lock left it without a row,
-- perhaps even without the key's own. Another key's lock is left alone.
CREATE OR REPLACE FUNCTION "pawl".clear_doubt(p_scope text, p_key text, p_session uuid) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  v_number bigint := "pawl".hash_key(p_scope, p_key);
  v_is_shared boolean;
BEGIN
  IF EXISTS (
    SELECT FROM "pawl".keys k WHERE k.number = v_number AND (k.scope <> p_scope OR k.key <> p_key)
  ) THEN
    RETURN;
  END IF;
  FOREACH v_is_shared IN ARRAY ARRAY[false, true] LOOP
    CONTINUE WHEN EXISTS (
      SELECT FROM "pawl".keys k JOIN "pawl".holds h ON h.key_id = k.id
      WHERE k.scope = p_scope AND k.key = p_key AND h.session = p_session AND h.is_shared = v_is_shared
    );
    WHILE "pawl".has_lock(v_number, v_is_shared) LOOP
      PERFORM "pawl".unlock(v_number, v_is_shared);
    END LOOP;
  END LOOP;
END
$$;

-- The same as a call of its own, after one that failed. It locks no row, so that it works where that is what failed:
-- only this session changes what it compares. status: settled, moved.
CREATE OR REPLACE FUNCTION "pawl".settle(p_scope text, p_key text, p_session uuid, OUT status text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
BEGIN
  IF NOT "pawl".is_session(p_session) THEN
    status := 'moved';
    RETURN;
  END IF;
  PERFORM "pawl".clear_doubt(p_scope, p_key, p_session);
  status := 'settled';
END
$$;

-- How soon this session ends when nothing is heard from the sidecar: just after the longest ttl that it served.
-- Linux ends it at the first probe after tcp_user_timeout, other systems after the last probe. See docs/backends.md.
CREATE OR REPLACE FUNCTION "pawl".keep_alive(p_ttl_ms bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  IF coalesce(nullif(current_setting('pawl.ttl_ms', true), '')::bigint, 0) < p_ttl_ms THEN
    PERFORM set_config('pawl.ttl_ms', p_ttl_ms::text, false),
            set_config('tcp_user_timeout', greatest(2000, p_ttl_ms)::text, false),
            set_config('tcp_keepalives_idle', greatest(1, p_ttl_ms / 1000 - 2)::text, false),
            set_config('tcp_keepalives_interval', '1', false),
            set_config('tcp_keepalives_count', '3', false);
  END IF;
END
$$;

-- The oldest waiter that a hold stands in the way of.
CREATE OR REPLACE FUNCTION "pawl".wanted(
  p_key_id bigint, p_hold uuid, p_shared boolean, p_now timestamptz,
  OUT wanted_shared boolean, OUT wanted_for_ms bigint
) LANGUAGE sql VOLATILE AS $$
  SELECT p.is_shared, "pawl".milliseconds(p_now - p.since)
  FROM "pawl".places p
  WHERE p.key_id = p_key_id AND p.hold <> p_hold AND NOT (p.is_shared AND p_shared) AND p.keep_until > p_now
  ORDER BY p.since, p.hold LIMIT 1
$$;

-- Tells those at the head of the queue that their turn may have come.
CREATE OR REPLACE FUNCTION "pawl".wake(p_key "pawl".keys, p_now timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  v_place "pawl".places;
  v_has_holders boolean := EXISTS (SELECT FROM "pawl".holds h WHERE h.key_id = p_key.id);
BEGIN
  IF EXISTS (SELECT FROM "pawl".holds h WHERE h.key_id = p_key.id AND NOT h.is_shared) THEN
    RETURN;
  END IF;
  FOR v_place IN
    SELECT p.* FROM "pawl".places p
    WHERE p.key_id = p_key.id AND p.keep_until > p_now ORDER BY p.since, p.hold LIMIT 100
  LOOP
    EXIT WHEN NOT v_place.is_shared AND v_has_holders;
    PERFORM pg_notify(v_place.channel, 'T ' || p_key.key);
    EXIT WHEN NOT v_place.is_shared;
    v_has_holders := true;
  END LOOP;
END
$$;

-- Asks for a hold. status: granted, busy; late (the call arrived after its time, or its attempt was given up),
-- collision (another key has the same advisory lock), moved (this is not the caller's session).
CREATE OR REPLACE FUNCTION "pawl".acquire(
  p_scope text, p_key text, p_hold uuid, p_shared boolean, p_ttl_ms bigint, p_fifo boolean,
  p_age_ms bigint, p_keep_ms bigint, p_lock_delay_ms bigint, p_owner text, p_channel text,
  p_not_after_us bigint, p_session uuid, p_doubt boolean,
  OUT status text, OUT granted_token bigint, OUT wanted_shared boolean, OUT wanted_for_ms bigint,
  OUT holder_name text, OUT holder_shared boolean, OUT holder_token bigint, OUT held_for_ms bigint,
  OUT expires_in_ms bigint, OUT places_ahead bigint, OUT retry_in_ms bigint, OUT server_us bigint
) LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
  c_ms CONSTANT interval := interval '1 millisecond';
  -- A live sidecar lets go of its expired holds itself; only one that does not, loses its session.
  c_grace CONSTANT interval := interval '500 milliseconds';
  -- A session can end while its sidecar lives: an administrator ends it, a connection is cut. So long the news may be
  -- on the way to it.
  c_notice CONSTANT interval := interval '100 milliseconds';
  v_key "pawl".keys;
  v_now timestamptz;
  v_hold "pawl".holds;
  v_holder "pawl".holds;
  v_lost timestamptz;
  v_until timestamptz;
  v_since timestamptz;
  v_kept timestamptz;
  v_is_mine boolean;
  v_is_busy boolean := false;
  v_has_others boolean := false;
  v_is_overdue boolean := true;
  v_took boolean := false;
BEGIN
  PERFORM "pawl".be_durable();
  IF NOT "pawl".is_session(p_session) THEN
    status := 'moved';
    RETURN;
  END IF;
  v_key := "pawl".lock_key(p_scope, p_key);
  v_now := clock_timestamp();
  server_us := "pawl".microseconds(v_now);
  IF server_us > p_not_after_us OR EXISTS (SELECT FROM "pawl".abandoned a WHERE a.hold = p_hold) THEN
    status := 'late';
    RETURN;
  END IF;
  IF p_session IS NOT NULL THEN
    PERFORM "pawl".keep_alive(p_ttl_ms);
    v_key.number := coalesce(v_key.number, "pawl".number_key(v_key));
    IF v_key.number IS NULL THEN
      status := 'collision';
      RETURN;
    END IF;
    IF p_doubt THEN
      PERFORM "pawl".clear_doubt(p_scope, p_key, p_session);
    END IF;
  END IF;

  -- The holds that are there. Those of other sessions end when their locks do; all others by the clock.
  v_lost := v_key.lost_at;
  FOR v_hold IN SELECT h.* FROM "pawl".holds h WHERE h.key_id = v_key.id LOOP
    v_is_mine := v_hold.session IS NULL OR p_session IS NULL OR v_hold.session = p_session;
    IF v_hold.hold = p_hold THEN
      IF v_hold.session IS NOT DISTINCT FROM p_session AND v_hold.expires_at > v_now THEN
        UPDATE "pawl".holds h
        SET expires_at = greatest(h.expires_at, v_now + p_ttl_ms * c_ms), owner = p_owner, channel = p_channel
        WHERE h.key_id = v_key.id AND h.hold = p_hold;
        SELECT w.* INTO wanted_shared, wanted_for_ms FROM "pawl".wanted(v_key.id, p_hold, p_shared, v_now) w;
        status := 'granted';
        granted_token := v_hold.token;
        RETURN;
      END IF;
      PERFORM "pawl".remove_hold(v_key.number, v_hold, p_session);
    ELSIF v_is_mine AND v_hold.expires_at <= v_now THEN
      PERFORM "pawl".remove_hold(v_key.number, v_hold, p_session);
      v_lost := greatest(v_lost, v_hold.expires_at);
    ELSIF NOT (v_hold.is_shared AND p_shared) THEN
      v_holder := v_hold;
      IF v_is_mine THEN
        v_is_busy := true;
        v_until := greatest(v_until, v_hold.expires_at);
      ELSE
        v_has_others := true;
        v_is_overdue := v_is_overdue AND v_hold.expires_at + c_grace <= v_now;
        v_until := greatest(v_until, v_hold.expires_at
          + CASE WHEN v_hold.expires_at > v_now THEN interval '0' ELSE c_grace END);
      END IF;
    END IF;
  END LOOP;

  -- The lock of the session is the judge over other sessions. It is taken once for all holds of a mode; in doubt, a
  -- release that failed after it gave the lock back left a row without it.
  IF p_session IS NOT NULL AND NOT v_is_busy THEN
    IF NOT EXISTS (
      SELECT FROM "pawl".holds h WHERE h.key_id = v_key.id AND h.session = p_session AND h.is_shared = p_shared
    ) OR p_doubt AND NOT "pawl".has_lock(v_key.number, p_shared) THEN
      v_took := "pawl".try_lock(v_key, p_shared, p_session, v_has_others AND v_is_overdue);
      v_is_busy := NOT v_took;
    END IF;
    IF v_has_others AND NOT v_is_busy THEN
      -- With the lock here, the sessions of these holds are gone.
      SELECT greatest(v_lost, max(least(v_now + c_notice, h.expires_at))) INTO v_lost FROM "pawl".holds h
      WHERE h.key_id = v_key.id AND h.session <> p_session AND NOT (h.is_shared AND p_shared);
      DELETE FROM "pawl".holds h
      WHERE h.key_id = v_key.id AND h.session <> p_session AND NOT (h.is_shared AND p_shared);
      v_holder := NULL;
      v_until := NULL;
    END IF;
  END IF;

  -- The quiet time after a lost holder, then the queue.
  IF NOT v_is_busy AND v_lost + p_lock_delay_ms * c_ms > v_now THEN
    v_is_busy := true;
    v_until := v_lost + p_lock_delay_ms * c_ms;
  END IF;
  DELETE FROM "pawl".places p WHERE p.key_id = v_key.id AND p.keep_until <= v_now;
  SELECT p.since INTO v_kept FROM "pawl".places p WHERE p.key_id = v_key.id AND p.hold = p_hold;
  -- A place may become older by asking again, never younger: its age comes over a network that is not always as fast.
  v_since := least(v_kept, v_now - coalesce(p_age_ms, 0) * c_ms);
  IF NOT v_is_busy AND p_fifo THEN
    SELECT count(*) > 0, coalesce(min(p.keep_until), v_until) INTO v_is_busy, v_until FROM "pawl".places p
    WHERE p.key_id = v_key.id AND p.hold <> p_hold AND NOT (p.is_shared AND p_shared)
      AND (p.since, p.hold) < (v_since, p_hold);
  END IF;

  IF NOT v_is_busy THEN
    status := 'granted';
    granted_token := greatest(v_key.token + 1, server_us / 1000);
    UPDATE "pawl".keys k SET token = granted_token, lost_at = NULL, used_on = (v_now AT TIME ZONE 'UTC')::date
    WHERE k.id = v_key.id;
    INSERT INTO "pawl".holds (key_id, hold, is_shared, token, owner, channel, session, since, expires_at)
    VALUES (v_key.id, p_hold, p_shared, granted_token, p_owner, p_channel, p_session, v_now,
            v_now + p_ttl_ms * c_ms);
    IF v_kept IS NOT NULL THEN
      DELETE FROM "pawl".places p WHERE p.key_id = v_key.id AND p.hold = p_hold;
    END IF;
    SELECT w.* INTO wanted_shared, wanted_for_ms FROM "pawl".wanted(v_key.id, p_hold, p_shared, v_now) w;
    RETURN;
  END IF;

  status := 'busy';
  IF v_took THEN
    PERFORM "pawl".unlock(v_key.number, p_shared);
  END IF;
  IF v_lost IS DISTINCT FROM v_key.lost_at THEN
    UPDATE "pawl".keys k SET lost_at = v_lost WHERE k.id = v_key.id;
  END IF;
  IF p_age_ms IS NOT NULL THEN
    INSERT INTO "pawl".places (key_id, hold, is_shared, channel, since, keep_until)
    VALUES (v_key.id, p_hold, p_shared, p_channel, v_since, v_now + p_keep_ms * c_ms)
    ON CONFLICT (key_id, hold) DO UPDATE
    SET is_shared = excluded.is_shared, channel = excluded.channel, since = excluded.since,
        keep_until = excluded.keep_until;
    IF v_kept IS NULL THEN
      PERFORM pg_notify(c.channel, concat_ws(' ', 'W', CASE WHEN p_shared THEN 's' ELSE 'x' END, p_age_ms, p_key))
      FROM (
        SELECT DISTINCT h.channel FROM "pawl".holds h
        WHERE h.key_id = v_key.id AND NOT (h.is_shared AND p_shared) AND h.channel <> p_channel LIMIT 100
      ) c;
    END IF;
  ELSIF v_kept IS NOT NULL THEN
    DELETE FROM "pawl".places p WHERE p.key_id = v_key.id AND p.hold = p_hold;
    PERFORM "pawl".wake(v_key, v_now);
  END IF;
  SELECT count(*) INTO places_ahead FROM "pawl".places p
  WHERE p.key_id = v_key.id AND p.hold <> p_hold AND (p.since, p.hold) < (v_since, p_hold);
  holder_name := v_holder.owner;
  holder_shared := v_holder.is_shared;
  holder_token := v_holder.token;
  held_for_ms := "pawl".milliseconds(v_now - v_holder.since);
  expires_in_ms := "pawl".milliseconds(v_holder.expires_at - v_now);
  retry_in_ms := "pawl".milliseconds(v_until - v_now);
END
$$;

-- Takes the key's advisory lock, if no other session has it. When all those that have it are overdue, their sessions
-- are ended first: a sidecar that is stopped keeps its connection, and would keep its locks for ever.
CREATE OR REPLACE FUNCTION "pawl".try_lock(
  p_key "pawl".keys, p_shared boolean, p_session uuid, p_depose boolean
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  FOR v_try IN 1..20 LOOP
    IF p_shared AND pg_try_advisory_lock_shared(p_key.number)
      OR NOT p_shared AND pg_try_advisory_lock(p_key.number)
    THEN
      RETURN true;
    END IF;
    EXIT WHEN NOT p_depose;
    IF v_try = 1 THEN
      PERFORM "pawl".end_session(h.session) FROM "pawl".holds h
      WHERE h.key_id = p_key.id AND h.session <> p_session AND NOT (h.is_shared AND p_shared);
    END IF;
    PERFORM pg_sleep(0.005);
  END LOOP;
  RETURN false;
END
$$;

-- Extends a hold. status: extended, ended, moved. Alone in locking the hold's row only: who would take an expired hold
-- away changes the same row.
CREATE OR REPLACE FUNCTION "pawl".renew(
  p_scope text, p_key text, p_hold uuid, p_shared boolean, p_ttl_ms bigint, p_owner text, p_session uuid,
  OUT status text, OUT wanted_shared boolean, OUT wanted_for_ms bigint
) LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
  v_key_id bigint;
  v_now timestamptz;
BEGIN
  IF NOT "pawl".is_session(p_session) THEN
    status := 'moved';
    RETURN;
  END IF;
  IF p_session IS NULL THEN
    PERFORM "pawl".be_durable();
  ELSE
    -- A crash ends the session, and the hold with it.
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM "pawl".keep_alive(p_ttl_ms);
  END IF;
  SELECT k.id INTO v_key_id FROM "pawl".keys k WHERE k.scope = p_scope AND k.key = p_key;
  UPDATE "pawl".holds h
  SET expires_at = greatest(h.expires_at, clock_timestamp() + p_ttl_ms * interval '1 millisecond'), owner = p_owner
  WHERE h.key_id = v_key_id AND h.hold = p_hold AND h.session IS NOT DISTINCT FROM p_session
    AND h.expires_at > clock_timestamp();
  IF NOT FOUND THEN
    status := 'ended';
    RETURN;
  END IF;
  status := 'extended';
  v_now := clock_timestamp();
  SELECT w.* INTO wanted_shared, wanted_for_ms FROM "pawl".wanted(v_key_id, p_hold, p_shared, v_now) w;
END
$$;

-- Removes a hold from a locked key; true if it had not ended before.
CREATE OR REPLACE FUNCTION "pawl".let_go(p_key "pawl".keys, p_hold uuid, p_session uuid, p_now timestamptz)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  v_hold "pawl".holds;
BEGIN
  SELECT h.* INTO v_hold FROM "pawl".holds h WHERE h.key_id = p_key.id AND h.hold = p_hold;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM "pawl".remove_hold(p_key.number, v_hold, p_session);
  IF v_hold.expires_at <= p_now THEN
    UPDATE "pawl".keys k SET lost_at = greatest(k.lost_at, v_hold.expires_at) WHERE k.id = p_key.id;
    RETURN false;
  END IF;
  IF v_hold.session IS DISTINCT FROM p_session AND p_session IS NOT NULL THEN
    -- It lived in an earlier session of the same sidecar, which may still have the lock.
    PERFORM "pawl".end_session(v_hold.session);
    RETURN false;
  END IF;
  RETURN true;
END
$$;

-- Lets a hold go and tells the next. status: released, moved.
CREATE OR REPLACE FUNCTION "pawl".release(
  p_scope text, p_key text, p_hold uuid, p_session uuid, OUT status text, OUT was_owner boolean
) LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
  v_key "pawl".keys;
  v_now timestamptz;
BEGIN
  was_owner := false;
  IF NOT "pawl".is_session(p_session) THEN
    status := 'moved';
    RETURN;
  END IF;
  IF p_session IS NULL THEN
    PERFORM "pawl".be_durable();
  ELSE
    -- A crash ends the session, and the hold with it.
    PERFORM set_config('synchronous_commit', 'off', true);
  END IF;
  status := 'released';
  SELECT k.* INTO v_key FROM "pawl".keys k WHERE k.scope = p_scope AND k.key = p_key FOR UPDATE;
  IF FOUND THEN
    v_now := clock_timestamp();
    was_owner := "pawl".let_go(v_key, p_hold, p_session, v_now);
    PERFORM "pawl".wake(v_key, v_now);
  END IF;
END
$$;

-- Lets a hold go and asks for another of the same key; the queue is told when it is not granted, or can be shared.
CREATE OR REPLACE FUNCTION "pawl".release_next(
  p_scope text, p_key text, p_released uuid, p_hold uuid, p_shared boolean, p_ttl_ms bigint, p_fifo boolean,
  p_age_ms bigint, p_keep_ms bigint, p_lock_delay_ms bigint, p_owner text, p_channel text,
  p_not_after_us bigint, p_session uuid, p_doubt boolean,
  OUT was_owner boolean, OUT status text, OUT granted_token bigint, OUT wanted_shared boolean,
  OUT wanted_for_ms bigint, OUT holder_name text, OUT holder_shared boolean, OUT holder_token bigint,
  OUT held_for_ms bigint, OUT expires_in_ms bigint, OUT places_ahead bigint, OUT retry_in_ms bigint,
  OUT server_us bigint
) LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
  v_key "pawl".keys;
  v_now timestamptz;
BEGIN
  was_owner := false;
  IF NOT "pawl".is_session(p_session) THEN
    status := 'moved';
    RETURN;
  END IF;
  v_key := "pawl".lock_key(p_scope, p_key);
  v_now := clock_timestamp();
  was_owner := "pawl".let_go(v_key, p_released, p_session, v_now);
  SELECT a.* INTO status, granted_token, wanted_shared, wanted_for_ms, holder_name, holder_shared, holder_token,
                  held_for_ms, expires_in_ms, places_ahead, retry_in_ms, server_us
  FROM "pawl".acquire(p_scope, p_key, p_hold, p_shared, p_ttl_ms, p_fifo, p_age_ms, p_keep_ms, p_lock_delay_ms,
                      p_owner, p_channel, p_not_after_us, p_session, p_doubt) a;
  IF status <> 'granted' OR p_shared THEN
    PERFORM "pawl".wake(v_key, v_now);
  END IF;
END
$$;

-- Makes an attempt go away, also one whose call is still under way. status: settled, moved.
CREATE OR REPLACE FUNCTION "pawl".abandon(
  p_scope text, p_key text, p_hold uuid, p_ttl_ms bigint, p_session uuid, p_doubt boolean, OUT status text
) LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
  v_key "pawl".keys;
  v_now timestamptz;
BEGIN
  IF NOT "pawl".is_session(p_session) THEN
    status := 'moved';
    RETURN;
  END IF;
  -- Durable: after a crash the call that it refuses may still arrive.
  PERFORM "pawl".be_durable();
  v_key := "pawl".lock_key(p_scope, p_key);
  v_now := clock_timestamp();
  -- The row changes, so that a call with an older snapshot (repeatable read) fails instead of missing what follows.
  UPDATE "pawl".keys k SET used_on = (v_now AT TIME ZONE 'UTC')::date WHERE k.id = v_key.id;
  -- No call of the attempt is granted after its own ttl; the minutes are for clocks.
  INSERT INTO "pawl".abandoned (hold, keep_until)
  VALUES (p_hold, v_now + p_ttl_ms * interval '1 millisecond' + interval '10 minutes')
  ON CONFLICT (hold) DO UPDATE SET keep_until = excluded.keep_until;
  PERFORM "pawl".let_go(v_key, p_hold, p_session, v_now);
  DELETE FROM "pawl".places p WHERE p.key_id = v_key.id AND p.hold = p_hold;
  IF p_doubt AND p_session IS NOT NULL THEN
    PERFORM "pawl".clear_doubt(p_scope, p_key, p_session);
  END IF;
  PERFORM "pawl".wake(v_key, v_now);
  status := 'settled';
END
$$;

-- Remembers the largest token that was shown, and answers with it.
CREATE OR REPLACE FUNCTION "pawl".fence(p_scope text, p_key text, p_token bigint, OUT highest bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
BEGIN
  PERFORM "pawl".be_durable();
  INSERT INTO "pawl".keys AS k (scope, key, fence) VALUES (p_scope, p_key, p_token)
  ON CONFLICT (scope, key) DO UPDATE SET fence = greatest(k.fence, excluded.fence), used_on = excluded.used_on
  RETURNING k.fence INTO highest;
END
$$;
