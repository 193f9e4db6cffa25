//! The books in Postgres, shared by replicas on any number of machines.
//!
//! A small pool; each connection's driver is a task that the store owns. A connection that was given up
//! inside a transaction is closed, not reused, so no transaction leaks into another request.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_postgres::{Client, Config, Row};

use super::{
    Account, BUSY_LIMIT, Change, Locked, Options, Order, Outcome, Store, StoreError, Totals,
    deducted, refusal,
};
use crate::clock;

mod statements;
mod tls;
use statements::ACCOUNT;

/// The longest a connect may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// A bank's books in Postgres.
pub struct Postgres {
    pool: Arc<Pool>,
}

struct Pool {
    config: Config,
    tls: tokio_postgres_rustls::MakeRustlsConnect,
    schema: String,
    idle: Mutex<Vec<Client>>,
    permits: Arc<Semaphore>,
    drivers: Mutex<JoinSet<()>>,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the configuration: it holds the password.
        f.debug_struct("Postgres")
            .field("schema", &self.pool.schema)
            .finish_non_exhaustive()
    }
}

impl Postgres {
    /// Connects and makes the tables when they are missing.
    pub async fn open(url: &str, options: &Options) -> Result<Self, StoreError> {
        let mut config: Config = url.parse().map_err(|_| StoreError::Url)?;
        config
            .connect_timeout(CONNECT_LIMIT)
            .application_name("pawl-demo");
        if config.get_password().is_none()
            && let Ok(password) = std::env::var("PGPASSWORD")
        {
            config.password(password);
        }
        let pool = Arc::new(Pool {
            config,
            tls: tls::connector(options.ca_file.as_deref())?,
            schema: options.schema.clone(),
            idle: Mutex::new(Vec::new()),
            permits: Arc::new(Semaphore::new(options.connections)),
            drivers: Mutex::new(JoinSet::new()),
        });
        let connection = Pool::take(&pool).await?;
        connection
            .client()?
            .batch_execute(&statements::schema(&options.schema))
            .await?;
        connection.give_back();
        Ok(Self { pool })
    }

    async fn take(&self) -> Result<Lent, StoreError> {
        Pool::take(&self.pool).await
    }
}

impl Pool {
    async fn take(pool: &Arc<Self>) -> Result<Lent, StoreError> {
        let permit = tokio::time::timeout(BUSY_LIMIT, pool.permits.clone().acquire_owned())
            .await
            .map_err(|_| StoreError::Busy)?
            .map_err(|_| StoreError::BrokenOff)?;
        loop {
            let idle = pool
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop();
            let client = match idle {
                Some(client) if client.is_closed() => continue,
                Some(client) => client,
                None => pool.connect().await?,
            };
            return Ok(Lent {
                client: Some(client),
                pool: pool.clone(),
                _permit: permit,
            });
        }
    }

    async fn connect(&self) -> Result<Client, StoreError> {
        let (client, connection) = self.config.connect(self.tls.clone()).await?;
        {
            let mut drivers = self.drivers.lock().unwrap_or_else(PoisonError::into_inner);
            while drivers.try_join_next().is_some() {}
            drivers.spawn(async move {
                if let Err(e) = connection.await {
                    tracing::warn!(error = %StoreError::from(e), "a connection to the store ended");
                }
            });
        }
        let limit = BUSY_LIMIT.as_millis();
        let session = format!(
            "SET search_path = {}; SET lock_timeout = {limit}; SET statement_timeout = {}",
            self.schema,
            limit * 2
        );
        client.batch_execute(&session).await?;
        Ok(client)
    }
}

/// A connection on loan. Only [`Lent::give_back`] returns it to the pool; dropped, it is closed and
/// the server rolls back.
struct Lent {
    client: Option<Client>,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

impl Lent {
    fn client(&self) -> Result<&Client, StoreError> {
        self.client.as_ref().ok_or(StoreError::BrokenOff)
    }

    fn give_back(mut self) {
        if let Some(client) = self.client.take() {
            self.pool
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(client);
        }
    }

    /// Ends a transaction and gives the connection back.
    async fn end(self, commit: bool) -> Result<(), StoreError> {
        let ended = self
            .client()?
            .batch_execute(if commit { "COMMIT" } else { "ROLLBACK" })
            .await;
        match ended.map_err(StoreError::from) {
            Err(StoreError::Unreachable(why)) if commit => {
                return Err(StoreError::Unconfirmed(why));
            }
            ended => ended?,
        }
        self.give_back();
        Ok(())
    }
}

#[async_trait]
impl Store for Postgres {
    async fn open_account(&self, user_id: &str, balance: i64) -> Result<Account, StoreError> {
        let c = self.take().await?;
        let client = c.client()?;
        client.batch_execute("BEGIN").await?;
        client
            .execute(
                statements::OPEN_ACCOUNT,
                &[&user_id, &balance, &clock::wall_ms()],
            )
            .await?;
        client
            .execute("DELETE FROM ledger WHERE user_id = $1", &[&user_id])
            .await?;
        let account = read_account(client, user_id, "")
            .await?
            .ok_or(StoreError::BrokenOff)?;
        c.end(true).await?;
        Ok(account)
    }

    async fn account(&self, user_id: &str) -> Result<Option<Account>, StoreError> {
        let c = self.take().await?;
        let account = read_account(c.client()?, user_id, "").await?;
        c.give_back();
        Ok(account)
    }

    async fn create_order(
        &self,
        id: &str,
        amount: i64,
        token: Option<i64>,
    ) -> Result<bool, StoreError> {
        let c = self.take().await?;
        let made = c
            .client()?
            .execute(
                statements::CREATE_ORDER,
                &[&id, &amount, &token.unwrap_or(0)],
            )
            .await?;
        c.give_back();
        Ok(made == 1)
    }

    async fn order(&self, id: &str) -> Result<Option<Order>, StoreError> {
        let c = self.take().await?;
        let order = read_order(c.client()?, id, "").await?;
        c.give_back();
        Ok(order)
    }

    async fn present(
        &self,
        account: Option<(&str, i64)>,
        order: Option<(&str, i64)>,
    ) -> Result<(), StoreError> {
        let c = self.take().await?;
        if let Some((user_id, token)) = account {
            c.client()?
                .execute(statements::PRESENT_TO_ACCOUNT, &[&user_id, &token])
                .await?;
        }
        if let Some((id, token)) = order {
            c.client()?
                .execute(statements::PRESENT_TO_ORDER, &[&id, &token])
                .await?;
        }
        c.give_back();
        Ok(())
    }

    async fn apply(&self, change: Change) -> Result<Outcome, StoreError> {
        let c = self.take().await?;
        c.client()?.batch_execute("BEGIN").await?;
        let outcome = apply(c.client()?, &change).await?;
        c.end(outcome == Outcome::Applied).await?;
        Ok(outcome)
    }

    async fn lock(
        &self,
        user_id: Option<&str>,
        order: Option<&str>,
    ) -> Result<Box<dyn Locked>, StoreError> {
        let c = self.take().await?;
        let client = c.client()?;
        client.batch_execute("BEGIN").await?;
        // Always the account first, so that two payments cannot wait for each other.
        let account = match user_id {
            Some(user_id) => read_account(client, user_id, " FOR UPDATE").await?,
            None => None,
        };
        let order = match order {
            Some(order) => read_order(client, order, " FOR UPDATE").await?,
            None => None,
        };
        Ok(Box::new(LockedRows {
            connection: c,
            account,
            order,
        }))
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        let c = self.take().await?;
        let row = c.client()?.query_one(statements::TOTALS, &[]).await?;
        c.give_back();
        Ok(Totals {
            balance: row.try_get(0)?,
            expected: row.try_get(1)?,
            lost_updates: row.try_get(2)?,
        })
    }

    async fn newest_accounts(&self, limit: u32) -> Result<Vec<Account>, StoreError> {
        let c = self.take().await?;
        let sql =
            format!("SELECT {ACCOUNT} FROM accounts ORDER BY opened_at DESC, user_id LIMIT $1");
        let rows = c.client()?.query(&sql, &[&i64::from(limit)]).await?;
        c.give_back();
        rows.iter().map(account_of).collect()
    }

    async fn ledger(&self, user_id: &str) -> Result<(i64, i64), StoreError> {
        let c = self.take().await?;
        let sql =
            "SELECT COALESCE(SUM(amount), 0)::bigint, COUNT(*) FROM ledger WHERE user_id = $1";
        let row = c.client()?.query_one(sql, &[&user_id]).await?;
        c.give_back();
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    async fn announce(&self, replica: &str, report: &str) -> Result<(), StoreError> {
        let c = self.take().await?;
        let now = clock::wall_ms();
        c.client()?
            .execute(
                "DELETE FROM replicas WHERE seen_at < $1",
                &[&(now - 60_000)],
            )
            .await?;
        c.client()?
            .execute(statements::ANNOUNCE, &[&replica, &now, &report])
            .await?;
        c.give_back();
        Ok(())
    }

    async fn withdraw(&self, replica: &str) -> Result<(), StoreError> {
        let c = self.take().await?;
        c.client()?
            .execute("DELETE FROM replicas WHERE name = $1", &[&replica])
            .await?;
        c.give_back();
        Ok(())
    }

    async fn reports(&self, age: Duration) -> Result<Vec<String>, StoreError> {
        let since = clock::wall_ms() - i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let c = self.take().await?;
        let sql = "SELECT report FROM replicas WHERE seen_at >= $1 ORDER BY name LIMIT 200";
        let rows = c.client()?.query(sql, &[&since]).await?;
        c.give_back();
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}

/// Rows locked by `SELECT … FOR UPDATE`.
struct LockedRows {
    connection: Lent,
    account: Option<Account>,
    order: Option<Order>,
}

#[async_trait]
impl Locked for LockedRows {
    fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    fn order(&self) -> Option<&Order> {
        self.order.as_ref()
    }

    async fn apply(self: Box<Self>, change: Change) -> Result<Outcome, StoreError> {
        let outcome = apply(self.connection.client()?, &change).await?;
        self.connection.end(outcome == Outcome::Applied).await?;
        Ok(outcome)
    }
}

fn account_of(row: &Row) -> Result<Account, StoreError> {
    Ok(Account {
        user_id: row.try_get(0)?,
        initial: row.try_get(1)?,
        balance: row.try_get(2)?,
        deducted: row.try_get(3)?,
        applied: row.try_get(4)?,
        reflected: row.try_get(5)?,
        lost_before: row.try_get(6)?,
        version: row.try_get(7)?,
        epoch: row.try_get(8)?,
        last_token: row.try_get(9)?,
    })
}

async fn read_account(
    c: &Client,
    user_id: &str,
    lock: &str,
) -> Result<Option<Account>, StoreError> {
    let sql = format!("SELECT {ACCOUNT} FROM accounts WHERE user_id = $1{lock}");
    c.query_opt(&sql, &[&user_id])
        .await?
        .as_ref()
        .map(account_of)
        .transpose()
}

async fn read_order(c: &Client, id: &str, lock: &str) -> Result<Option<Order>, StoreError> {
    let sql =
        format!("SELECT id, amount, status, version, last_token FROM orders WHERE id = $1{lock}");
    let Some(row) = c.query_opt(&sql, &[&id]).await? else {
        return Ok(None);
    };
    Ok(Some(Order {
        id: row.try_get(0)?,
        amount: row.try_get(1)?,
        status: row.try_get(2)?,
        version: row.try_get(3)?,
        last_token: row.try_get(4)?,
    }))
}

/// Applies a change inside a transaction; the caller rolls back unless the outcome is `Applied`.
async fn apply(c: &Client, change: &Change) -> Result<Outcome, StoreError> {
    if let Some((read, amount, guard)) = &change.account {
        let written = deducted(read, *amount)?;
        let version = guard.unchanged.then_some(read.version);
        let user = &read.user_id;
        let sets = c
            .execute(
                statements::DEDUCT,
                &[
                    user,
                    &written,
                    &(read.reflected + 1),
                    amount,
                    &read.epoch,
                    &guard.token,
                    &version,
                ],
            )
            .await?;
        if sets == 0 {
            let now = read_account(c, user, "").await?;
            return Ok(refusal(guard.token, now.map(|a| a.last_token)));
        }
        let order = change.order.as_ref().map(|(order, ..)| order.id.as_str());
        let (mode, replica) = (&change.mode, &change.replica);
        c.execute(
            statements::ENTER,
            &[
                user,
                amount,
                &read.balance,
                &written,
                &order,
                &guard.token,
                mode,
                replica,
                &clock::wall_ms(),
            ],
        )
        .await?;
    }
    if let Some((read, status, guard)) = &change.order {
        let version = guard.unchanged.then_some(read.version);
        if c.execute(
            statements::SET_ORDER,
            &[&read.id, status, &guard.token, &version],
        )
        .await?
            == 0
        {
            let now = read_order(c, &read.id, "").await?;
            return Ok(refusal(guard.token, now.map(|o| o.last_token)));
        }
    }
    Ok(Outcome::Applied)
}
