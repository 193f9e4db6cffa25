//! The SQL that SQLite is given.

/// The columns of an account, in the order that `account_of` reads them.
pub(super) const ACCOUNT: &str = "user_id, initial, balance, deducted, applied, reflected, lost_before, version, epoch, last_token";

/// `STRICT`, so that an integer which overflowed is refused instead of becoming a float.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS accounts (
    user_id TEXT PRIMARY KEY, initial INTEGER NOT NULL, balance INTEGER NOT NULL,
    deducted INTEGER NOT NULL DEFAULT 0, applied INTEGER NOT NULL DEFAULT 0, reflected INTEGER NOT NULL DEFAULT 0,
    lost_before INTEGER NOT NULL DEFAULT 0, version INTEGER NOT NULL DEFAULT 1, epoch INTEGER NOT NULL DEFAULT 1,
    last_token INTEGER NOT NULL DEFAULT 0, opened_at INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS ledger (
    id INTEGER PRIMARY KEY AUTOINCREMENT, user_id TEXT NOT NULL, amount INTEGER NOT NULL,
    balance_read INTEGER NOT NULL, balance_written INTEGER NOT NULL, order_id TEXT, token INTEGER,
    mode TEXT NOT NULL, replica TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS ledger_of_user ON ledger (user_id);
CREATE TABLE IF NOT EXISTS orders (
    id TEXT PRIMARY KEY, amount INTEGER NOT NULL, status TEXT NOT NULL, version INTEGER NOT NULL DEFAULT 1,
    last_token INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE IF NOT EXISTS replicas (name TEXT PRIMARY KEY, seen_at INTEGER NOT NULL, report TEXT NOT NULL) STRICT;
";

pub(super) const OPEN_ACCOUNT: &str = "
INSERT INTO accounts (user_id, initial, balance, opened_at) VALUES (:user, :balance, :balance, :at)
ON CONFLICT (user_id) DO UPDATE SET initial = excluded.initial, balance = excluded.balance, deducted = 0,
    lost_before = lost_before + applied - reflected, applied = 0, reflected = 0, version = version + 1,
    epoch = epoch + 1, opened_at = excluded.opened_at";

/// Shows a token to an account's fence.
pub(super) const PRESENT_TO_ACCOUNT: &str =
    "UPDATE accounts SET last_token = ?2 WHERE user_id = ?1 AND last_token < ?2";

/// Shows a token to an order's fence.
pub(super) const PRESENT_TO_ORDER: &str =
    "UPDATE orders SET last_token = ?2 WHERE id = ?1 AND last_token < ?2";

/// The write that the fence guards: the token's check is part of the statement that writes.
pub(super) const DEDUCT: &str = "
UPDATE accounts SET balance = :written, reflected = :reflected, applied = applied + 1,
    deducted = deducted + :amount, version = version + 1, last_token = MAX(last_token, COALESCE(:token, 0))
WHERE user_id = :user AND epoch = :epoch
    AND (:token IS NULL OR last_token <= :token) AND (:version IS NULL OR version = :version)";

pub(super) const ENTER: &str = "
INSERT INTO ledger (user_id, amount, balance_read, balance_written, order_id, token, mode, replica, at)
VALUES (:user, :amount, :read, :written, :order, :token, :mode, :replica, :at)";

pub(super) const CREATE_ORDER: &str = "
INSERT INTO orders (id, amount, status, last_token) VALUES (?1, ?2, 'pending', ?3) ON CONFLICT (id) DO NOTHING";

pub(super) const SET_ORDER: &str = "
UPDATE orders SET status = :status, version = version + 1, last_token = MAX(last_token, COALESCE(:token, 0))
WHERE id = :id AND (:token IS NULL OR last_token <= :token) AND (:version IS NULL OR version = :version)";

pub(super) const TOTALS: &str = "
SELECT COALESCE(SUM(CAST(balance AS REAL)), 0.0), COALESCE(SUM(CAST(initial - deducted AS REAL)), 0.0),
    COALESCE(SUM(CAST(lost_before + applied - reflected AS REAL)), 0.0) FROM accounts";

pub(super) const ANNOUNCE: &str = "
INSERT INTO replicas (name, seen_at, report) VALUES (?1, ?2, ?3)
ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at, report = excluded.report";
