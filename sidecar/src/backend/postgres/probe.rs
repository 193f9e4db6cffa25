//! What stands at the other end: the server itself or a pooler, and how it is set up.
//!
//! # How a pooler is found
//! At the start of a connection a server sends the number of its process, for cancel requests (`BackendKeyData`). A
//! pooler sends a number of its own, since it does not know yet which server connection will serve. So the number
//! that was sent is compared with `pg_backend_pid()`: they are the same exactly when nobody stands in between. This
//! needs one connection and no luck, and holds for pools of one server connection too. The driver shows the number
//! nowhere but in the cancel request that it writes, which [`greeted_as`] reads from a tape.
//!
//! It finds poolers in session mode as well, and they are refused for mode Advisory too: the server's keepalive would
//! watch the pooler instead of the sidecar. Besides, each call checks that it is in the session that it was meant for
//! (`is_session` in the SQL).

use std::{
    future::{Ready, ready},
    io,
    pin::Pin,
    task::{Context, Poll},
};

use pawl_lock::backend::Finding;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{
    CancelToken, Client,
    tls::{ChannelBinding, TlsConnect, TlsStream},
};

use super::{
    config::{PostgresMode, SchemaName},
    errors::Failure,
};

/// The oldest server that has all that is used.
const MIN_SERVER_VERSION: i64 = 120_000;

/// What is read of a server at the start, and at each check.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are the server's settings"
)]
pub(super) struct Facts {
    pub(super) version: i64,
    pub(super) process: i64,
    pub(super) server_us: i64,
    pub(super) is_read_only: bool,
    pub(super) has_tables: bool,
    is_fsync: bool,
    is_full_page: bool,
    is_synchronous: bool,
    standbys: i64,
}

/// Asks the server about itself.
pub(super) async fn facts(client: &Client, schema: &SchemaName) -> Result<Facts, Failure> {
    let sql = format!(
        "SELECT current_setting('server_version_num')::int8, pg_backend_pid()::int8, \
                (extract(epoch FROM clock_timestamp()) * 1000000)::int8, \
                pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on', \
                to_regclass('{}.schema_version') IS NOT NULL, \
                current_setting('fsync') = 'on', current_setting('full_page_writes') = 'on', \
                current_setting('synchronous_standby_names') <> '', \
                (SELECT count(*) FROM pg_stat_replication)",
        schema.quoted()
    );
    let row = client.query_typed(&sql, &[]).await?;
    let row = row.first().ok_or(Failure::Protocol("no facts"))?;
    Ok(Facts {
        version: row.try_get(0)?,
        process: row.try_get(1)?,
        server_us: row.try_get(2)?,
        is_read_only: row.try_get(3)?,
        has_tables: row.try_get(4)?,
        is_fsync: row.try_get(5)?,
        is_full_page: row.try_get(6)?,
        is_synchronous: row.try_get(7)?,
        standbys: row.try_get(8)?,
    })
}

/// What is unsafe about the server.
pub(super) fn findings(facts: &Facts, is_pooled: bool, mode: PostgresMode) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.version < MIN_SERVER_VERSION {
        findings.push(Finding {
            reason: "ServerTooOld",
            is_fatal: true,
            message: format!(
                "the server's version is {}, and Pawl needs Postgres 12 or later",
                facts.version / 10_000
            ),
        });
    }
    if is_pooled {
        findings.push(pooler(mode));
    }
    if !facts.is_fsync || !facts.is_full_page {
        findings.push(Finding {
            reason: "DurabilityOff",
            is_fatal: false,
            message: "fsync or full_page_writes is off: a crash of the server's machine can forget holds and tokens; \
                      switch both on"
                .to_owned(),
        });
    }
    if facts.standbys > 0 && !facts.is_synchronous {
        findings.push(Finding {
            reason: "ReplicationAsynchronous",
            is_fatal: false,
            message: "the server has standbys and synchronous_standby_names is empty: a failover can forget the last \
                      holds and tokens; name a synchronous standby"
                .to_owned(),
        });
    }
    findings
}

/// The finding of a pooler.
pub(super) fn pooler(mode: PostgresMode) -> Finding {
    match mode {
        PostgresMode::Advisory => Finding {
            reason: "PoolerDetected",
            is_fatal: true,
            message: "a connection pooler (such as PgBouncer) stands before the server, and session locks would be \
                      another's: connect to the server itself, or use mode: Row"
                .to_owned(),
        },
        PostgresMode::Row => Finding {
            reason: "PoolerDetected",
            is_fatal: false,
            message: "a connection pooler stands before the server, which passes no notifications on: waiters are \
                      served by polling; connect to the server itself for a faster wake-up"
                .to_owned(),
        },
    }
}

/// The process number that the other end gave itself when the connection started.
pub(super) async fn greeted_as(token: &CancelToken) -> Result<i64, Failure> {
    let mut tape = Tape(Vec::new());
    token.cancel_query_raw(&mut tape, AsIs).await?;
    // The request is its length, a code, the process and a secret, each of four bytes.
    tape.0
        .rchunks(16)
        .next()
        .and_then(|request| request.get(8..12)?.try_into().ok())
        .map(|process| i64::from(i32::from_be_bytes(process)))
        .ok_or(Failure::Protocol("no cancel request"))
}

/// Takes down what is written, and agrees to TLS when asked.
struct Tape(Vec<u8>);

impl AsyncRead for Tape {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() > 0 {
            buffer.put_slice(b"S");
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tape {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl TlsStream for &mut Tape {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

/// "TLS" that leaves a tape as it is. The tape goes nowhere.
struct AsIs;

impl<'a> TlsConnect<&'a mut Tape> for AsIs {
    type Stream = &'a mut Tape;
    type Error = io::Error;
    type Future = Ready<io::Result<&'a mut Tape>>;

    fn connect(self, tape: &'a mut Tape) -> Self::Future {
        ready(Ok(tape))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            version: 150_000,
            process: 1,
            server_us: 1,
            is_read_only: false,
            has_tables: true,
            is_fsync: true,
            is_full_page: true,
            is_synchronous: false,
            standbys: 0,
        }
    }

    fn reasons(facts: &Facts, is_pooled: bool, mode: PostgresMode) -> Vec<(&'static str, bool)> {
        findings(facts, is_pooled, mode)
            .iter()
            .map(|finding| (finding.reason, finding.is_fatal))
            .collect()
    }

    #[test]
    fn a_sound_server_has_no_findings() {
        assert_eq!(reasons(&facts(), false, PostgresMode::Advisory), []);
        let mut replicated = facts();
        replicated.standbys = 1;
        replicated.is_synchronous = true;
        assert_eq!(reasons(&replicated, false, PostgresMode::Row), []);
    }

    #[test]
    fn each_unsafe_setting_is_found() {
        let mut old = facts();
        old.version = 110_022;
        assert_eq!(
            reasons(&old, false, PostgresMode::Row),
            [("ServerTooOld", true)]
        );
        let mut fast = facts();
        fast.is_fsync = false;
        assert_eq!(
            reasons(&fast, false, PostgresMode::Row),
            [("DurabilityOff", false)]
        );
        let mut torn = facts();
        torn.is_full_page = false;
        assert_eq!(
            reasons(&torn, false, PostgresMode::Row),
            [("DurabilityOff", false)]
        );
        let mut replicated = facts();
        replicated.standbys = 1;
        assert_eq!(
            reasons(&replicated, false, PostgresMode::Row),
            [("ReplicationAsynchronous", false)]
        );
    }

    #[test]
    fn a_pooler_is_fatal_for_session_locks_alone() {
        assert_eq!(
            reasons(&facts(), true, PostgresMode::Advisory),
            [("PoolerDetected", true)]
        );
        assert_eq!(
            reasons(&facts(), true, PostgresMode::Row),
            [("PoolerDetected", false)]
        );
    }
}
