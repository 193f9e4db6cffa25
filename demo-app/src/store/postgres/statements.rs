//! The SQL that Postgres is given.

/// The columns of an account, in the order that `account_of` reads them.
pub(super) const ACCOUNT: &str = "user_id, initial, balance, deducted, applied, reflected, lost_before, version, epoch, last_token";

/// Makes what is missing. `IF NOT EXISTS` does not keep two sessions from colliding, so they take turns;
/// the number is nothing but this program's.
pub(super) fn schema(schema: &str) -> String {
    format!(
        "BEGIN; SELECT pg_advisory_xact_lock(8029741205);
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS {schema}.accounts (
    user_id text PRIMARY KEY, initial bigint NOT NULL, balance bigint NOT NULL, deducted bigint NOT NULL DEFAULT 0,
    applied bigint NOT NULL DEFAULT 0, reflected bigint NOT NULL DEFAULT 0, lost_before bigint NOT NULL DEFAULT 0,
    version bigint NOT NULL DEFAULT 1, epoch bigint NOT NULL DEFAULT 1, last_token bigint NOT NULL DEFAULT 0,
    opened_at bigint NOT NULL);
CREATE TABLE IF NOT EXISTS {schema}.ledger (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id text NOT NULL, amount bigint NOT NULL,
    balance_read bigint NOT NULL, balance_written bigint NOT NULL, order_id text, token bigint,
    mode text NOT NULL, replica text NOT NULL, at bigint NOT NULL);
CREATE INDEX IF NOT EXISTS ledger_of_user ON {schema}.ledger (user_id);
CREATE TABLE IF NOT EXISTS {schema}.orders (
    id text PRIMARY KEY, amount bigint NOT NULL, status text NOT NULL, version bigint NOT NULL DEFAULT 1,
    last_token bigint NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS {schema}.replicas (name text PRIMARY KEY, seen_at bigint NOT NULL, report text NOT NULL);
COMMIT"
    )
}

pub(super) const OPEN_ACCOUNT: &str = "
INSERT INTO accounts AS a (user_id, initial, balance, opened_at) VALUES ($1, $2, $2, $3)
ON CONFLICT (user_id) DO UPDATE SET initial = excluded.initial, balance = excluded.balance, deducted = 0,
    lost_before = a.lost_before + a.applied - a.reflected, applied = 0, reflected = 0, version = a.version + 1,
    epoch = a.epoch + 1, opened_at = excluded.opened_at";

/// Shows a token to an account's fence.
pub(super) const PRESENT_TO_ACCOUNT: &str =
    "UPDATE accounts SET last_token = $2 WHERE user_id = $1 AND last_token < $2";

/// Shows a token to an order's fence.
pub(super) const PRESENT_TO_ORDER: &str =
    "UPDATE orders SET last_token = $2 WHERE id = $1 AND last_token < $2";

/// The write that the fence guards: the token's check is part of the statement that writes.
pub(super) const DEDUCT: &str = "
UPDATE accounts SET balance = $2, reflected = $3, applied = applied + 1, deducted = deducted + $4,
    version = version + 1, last_token = GREATEST(last_token, $6::bigint)
WHERE user_id = $1 AND epoch = $5
    AND ($6::bigint IS NULL OR last_token <= $6) AND ($7::bigint IS NULL OR version = $7)";

pub(super) const ENTER: &str = "
INSERT INTO ledger (user_id, amount, balance_read, balance_written, order_id, token, mode, replica, at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

pub(super) const CREATE_ORDER: &str = "
INSERT INTO orders (id, amount, status, last_token) VALUES ($1, $2, 'pending', $3) ON CONFLICT (id) DO NOTHING";

pub(super) const SET_ORDER: &str = "
UPDATE orders SET status = $2, version = version + 1, last_token = GREATEST(last_token, $3::bigint)
WHERE id = $1 AND ($3::bigint IS NULL OR last_token <= $3) AND ($4::bigint IS NULL OR version = $4)";

pub(super) const TOTALS: &str = "
SELECT COALESCE(SUM(balance), 0)::float8, COALESCE(SUM(initial - deducted), 0)::float8,
    COALESCE(SUM(lost_before + applied - reflected), 0)::float8 FROM accounts";

pub(super) const ANNOUNCE: &str = "
INSERT INTO replicas (name, seen_at, report) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at, report = excluded.report";
