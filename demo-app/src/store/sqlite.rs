//! The books in a SQLite file that several replicas on one machine share.
//!
//! One connection writes and a few read, so that writers of one replica queue here, in order, instead of
//! polling the file's lock against each other. Statements run on tokio's blocking threads.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use tokio::sync::{OwnedMutexGuard, Semaphore};

use super::{
    Account, BUSY_LIMIT, Change, Locked, Order, Outcome, Store, StoreError, Totals, deducted,
    refusal,
};
use crate::clock;

mod statements;
use statements::{ACCOUNT, SCHEMA};

/// Connections that only read.
const READERS: usize = 4;

/// A bank's books in a file.
pub struct Sqlite {
    path: PathBuf,
    writer: Arc<tokio::sync::Mutex<Connection>>,
    readers: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Sqlite {
    /// Opens the file, making it and its tables when they are missing.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        blocking(move || {
            let writer = connect(&path)?;
            let_wal(&writer)?;
            writer.execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA} COMMIT;"))?;
            let readers = (0..READERS)
                .map(|_| connect(&path))
                .collect::<Result<_, _>>()?;
            Ok(Self {
                path,
                writer: Arc::new(tokio::sync::Mutex::new(writer)),
                readers: Arc::new(Mutex::new(readers)),
                permits: Arc::new(Semaphore::new(READERS)),
            })
        })
        .await
    }

    /// Runs `job` on a connection that reads.
    async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = self
            .permits
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| StoreError::BrokenOff)?;
        let (readers, path) = (self.readers.clone(), self.path.clone());
        blocking(move || {
            let pooled = readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match pooled {
                Some(connection) => connection,
                None => connect(&path)?,
            };
            let out = job(&connection);
            readers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(connection);
            drop(permit);
            out
        })
        .await
    }

    /// Runs `job` in a transaction that is the file's only writer. It runs to its end, also when the
    /// caller is cancelled.
    async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let writer = self.writer.clone().lock_owned().await;
        blocking(move || {
            begin(&writer)?;
            let out = job(&writer);
            end(&writer, out.is_ok())?;
            out
        })
        .await
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn open_account(&self, user_id: &str, balance: i64) -> Result<Account, StoreError> {
        let user_id = user_id.to_owned();
        self.write(move |c| {
            let row =
                named_params! {":user": user_id, ":balance": balance, ":at": clock::wall_ms()};
            c.prepare_cached(statements::OPEN_ACCOUNT)?.execute(row)?;
            c.prepare_cached("DELETE FROM ledger WHERE user_id = ?1")?
                .execute([&user_id])?;
            read_account(c, &user_id)?
                .ok_or(StoreError::Sqlite(rusqlite::Error::QueryReturnedNoRows))
        })
        .await
    }

    async fn account(&self, user_id: &str) -> Result<Option<Account>, StoreError> {
        let user_id = user_id.to_owned();
        self.read(move |c| read_account(c, &user_id)).await
    }

    async fn create_order(
        &self,
        id: &str,
        amount: i64,
        token: Option<i64>,
    ) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.write(move |c| {
            let made = c.prepare_cached(statements::CREATE_ORDER)?.execute((
                id,
                amount,
                token.unwrap_or(0),
            ))?;
            Ok(made == 1)
        })
        .await
    }

    async fn order(&self, id: &str) -> Result<Option<Order>, StoreError> {
        let id = id.to_owned();
        self.read(move |c| read_order(c, &id)).await
    }

    async fn present(
        &self,
        account: Option<(&str, i64)>,
        order: Option<(&str, i64)>,
    ) -> Result<(), StoreError> {
        let owned = |(name, token): (&str, i64)| (name.to_owned(), token);
        let (account, order) = (account.map(owned), order.map(owned));
        self.write(move |c| {
            if let Some(shown) = account {
                c.prepare_cached(statements::PRESENT_TO_ACCOUNT)?
                    .execute(shown)?;
            }
            if let Some(shown) = order {
                c.prepare_cached(statements::PRESENT_TO_ORDER)?
                    .execute(shown)?;
            }
            Ok(())
        })
        .await
    }

    async fn apply(&self, change: Change) -> Result<Outcome, StoreError> {
        let writer = self.writer.clone().lock_owned().await;
        blocking(move || {
            begin(&writer)?;
            let out = apply(&writer, &change);
            end(&writer, matches!(out, Ok(Outcome::Applied)))?;
            out
        })
        .await
    }

    async fn lock(
        &self,
        user_id: Option<&str>,
        order: Option<&str>,
    ) -> Result<Box<dyn Locked>, StoreError> {
        let (user_id, order) = (user_id.map(str::to_owned), order.map(str::to_owned));
        let writer = self.writer.clone().lock_owned().await;
        blocking(move || {
            begin(&writer)?;
            let mut locked = LockedFile {
                writer: Some(writer),
                account: None,
                order: None,
            };
            if let Some(c) = &locked.writer {
                locked.account = user_id.map(|u| read_account(c, &u)).transpose()?.flatten();
                locked.order = order.map(|o| read_order(c, &o)).transpose()?.flatten();
            }
            Ok(Box::new(locked) as Box<dyn Locked>)
        })
        .await
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        self.read(|c| {
            let totals = c.prepare_cached(statements::TOTALS)?.query_row([], |row| {
                Ok(Totals {
                    balance: row.get(0)?,
                    expected: row.get(1)?,
                    lost_updates: row.get(2)?,
                })
            })?;
            Ok(totals)
        })
        .await
    }

    async fn newest_accounts(&self, limit: u32) -> Result<Vec<Account>, StoreError> {
        self.read(move |c| {
            let sql =
                format!("SELECT {ACCOUNT} FROM accounts ORDER BY opened_at DESC, user_id LIMIT ?1");
            let rows = c
                .prepare_cached(&sql)?
                .query_map([limit], account_of)?
                .collect::<Result<_, _>>()?;
            Ok(rows)
        })
        .await
    }

    async fn ledger(&self, user_id: &str) -> Result<(i64, i64), StoreError> {
        let user_id = user_id.to_owned();
        self.read(move |c| {
            let sql = "SELECT COALESCE(SUM(amount), 0), COUNT(*) FROM ledger WHERE user_id = ?1";
            Ok(c.prepare_cached(sql)?
                .query_row([user_id], |row| Ok((row.get(0)?, row.get(1)?)))?)
        })
        .await
    }

    async fn announce(&self, replica: &str, report: &str) -> Result<(), StoreError> {
        let (replica, report) = (replica.to_owned(), report.to_owned());
        self.write(move |c| {
            let now = clock::wall_ms();
            c.prepare_cached("DELETE FROM replicas WHERE seen_at < ?1")?
                .execute([now - 60_000])?;
            c.prepare_cached(statements::ANNOUNCE)?
                .execute((replica, now, report))?;
            Ok(())
        })
        .await
    }

    async fn withdraw(&self, replica: &str) -> Result<(), StoreError> {
        let replica = replica.to_owned();
        self.write(move |c| {
            c.prepare_cached("DELETE FROM replicas WHERE name = ?1")?
                .execute([replica])?;
            Ok(())
        })
        .await
    }

    async fn reports(&self, age: Duration) -> Result<Vec<String>, StoreError> {
        let since = clock::wall_ms() - i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        self.read(move |c| {
            let sql = "SELECT report FROM replicas WHERE seen_at >= ?1 ORDER BY name LIMIT 200";
            Ok(c.prepare_cached(sql)?
                .query_map([since], |row| row.get(0))?
                .collect::<Result<_, _>>()?)
        })
        .await
    }
}

/// A transaction that holds the file's write lock. SQLite has one such lock, not one per row.
struct LockedFile {
    writer: Option<OwnedMutexGuard<Connection>>,
    account: Option<Account>,
    order: Option<Order>,
}

#[async_trait]
impl Locked for LockedFile {
    fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    fn order(&self) -> Option<&Order> {
        self.order.as_ref()
    }

    async fn apply(mut self: Box<Self>, change: Change) -> Result<Outcome, StoreError> {
        let writer = self.writer.take().ok_or(StoreError::BrokenOff)?;
        blocking(move || {
            let out = apply(&writer, &change);
            end(&writer, matches!(out, Ok(Outcome::Applied)))?;
            out
        })
        .await
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        if let Some(writer) = &self.writer {
            // Nothing was written yet, so this cannot block; should it fail, the next BEGIN says so.
            let _ = writer.execute_batch("ROLLBACK");
        }
    }
}

async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(job)
        .await
        .unwrap_or(Err(StoreError::BrokenOff))
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open(path)?;
    connection.busy_handler(Some(wait_for_the_file))?;
    // A power cut may take the last commits along, a crash of the process may not: right for a demo.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(connection)
}

/// Waits a few milliseconds and not always the same. SQLite's own handler backs off to 100 ms, and then
/// replicas with short waits starve one that waited for long.
fn wait_for_the_file(tries: i32) -> bool {
    let pause = Duration::from_millis(rand::random_range(2..=8));
    let mean = Duration::from_millis(5);
    std::thread::sleep(pause);
    mean.saturating_mul(tries.unsigned_abs()) < BUSY_LIMIT
}

/// Switching to WAL needs the file alone, and SQLite does not call the busy handler for it.
fn let_wal(connection: &Connection) -> Result<(), StoreError> {
    let mut tries = 0;
    loop {
        let mode = connection.query_row("PRAGMA journal_mode = WAL", [], |row| {
            row.get::<_, String>(0)
        });
        match mode.map_err(StoreError::from) {
            Err(StoreError::Busy) if wait_for_the_file(tries) => tries += 1,
            Err(e) => return Err(e),
            Ok(_) => return Ok(()),
        }
    }
}

fn begin(c: &Connection) -> Result<(), StoreError> {
    Ok(c.execute_batch("BEGIN IMMEDIATE")?)
}

fn end(c: &Connection, commit: bool) -> Result<(), StoreError> {
    if commit {
        let committed = c.execute_batch("COMMIT");
        if committed.is_err() {
            c.execute_batch("ROLLBACK")?;
        }
        return Ok(committed?);
    }
    Ok(c.execute_batch("ROLLBACK")?)
}

fn account_of(row: &Row<'_>) -> rusqlite::Result<Account> {
    Ok(Account {
        user_id: row.get(0)?,
        initial: row.get(1)?,
        balance: row.get(2)?,
        deducted: row.get(3)?,
        applied: row.get(4)?,
        reflected: row.get(5)?,
        lost_before: row.get(6)?,
        version: row.get(7)?,
        epoch: row.get(8)?,
        last_token: row.get(9)?,
    })
}

fn read_account(c: &Connection, user_id: &str) -> Result<Option<Account>, StoreError> {
    let sql = format!("SELECT {ACCOUNT} FROM accounts WHERE user_id = ?1");
    Ok(c.prepare_cached(&sql)?
        .query_row([user_id], account_of)
        .optional()?)
}

fn read_order(c: &Connection, id: &str) -> Result<Option<Order>, StoreError> {
    let order = |row: &Row<'_>| {
        Ok(Order {
            id: row.get(0)?,
            amount: row.get(1)?,
            status: row.get(2)?,
            version: row.get(3)?,
            last_token: row.get(4)?,
        })
    };
    let sql = "SELECT id, amount, status, version, last_token FROM orders WHERE id = ?1";
    Ok(c.prepare_cached(sql)?.query_row([id], order).optional()?)
}

/// Applies a change inside a transaction; the caller rolls back unless the outcome is `Applied`.
fn apply(c: &Connection, change: &Change) -> Result<Outcome, StoreError> {
    if let Some((read, amount, guard)) = &change.account {
        let written = deducted(read, *amount)?;
        let hit = c.prepare_cached(statements::DEDUCT)?.execute(named_params! {
            ":user": read.user_id, ":written": written, ":reflected": read.reflected + 1, ":amount": amount,
            ":epoch": read.epoch, ":token": guard.token, ":version": guard.unchanged.then_some(read.version),
        })?;
        if hit == 0 {
            let now = read_account(c, &read.user_id)?;
            return Ok(refusal(guard.token, now.map(|a| a.last_token)));
        }
        c.prepare_cached(statements::ENTER)?.execute(named_params! {
            ":user": read.user_id, ":amount": amount, ":read": read.balance, ":written": written,
            ":token": guard.token, ":mode": change.mode, ":replica": change.replica,
            ":order": change.order.as_ref().map(|(order, ..)| &order.id), ":at": clock::wall_ms(),
        })?;
    }
    if let Some((read, status, guard)) = &change.order {
        let hit = c
            .prepare_cached(statements::SET_ORDER)?
            .execute(named_params! {
                ":id": read.id, ":status": status, ":token": guard.token,
                ":version": guard.unchanged.then_some(read.version),
            })?;
        if hit == 0 {
            let now = read_order(c, &read.id)?;
            return Ok(refusal(guard.token, now.map(|o| o.last_token)));
        }
    }
    Ok(Outcome::Applied)
}
