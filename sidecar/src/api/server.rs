//! Accepts connections and owns them.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    path::PathBuf,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use rustix::process::{Resource, getrlimit};
use tokio::{
    io::AsyncWriteExt,
    task::{JoinError, JoinSet},
    time::{interval, sleep, timeout},
};

use crate::audience::Audience;

use super::{
    Api,
    connection::Connection,
    error::ApiError,
    http1::{guard::Hosts, response::Form, socket::Socket},
    listen::{self, Address, BindError, Listener},
};

/// The most connections, if the process may open so many files.
const MAX_CONNECTIONS: usize = 16_384;
/// The most connections that wait for a request.
const MAX_IDLE: usize = 1_024;
/// Files that are left for backends, policies and the admin server.
const RESERVED_FILES: usize = 64;
/// How long nothing is accepted when the system has no room for a connection.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// How often overdue connections are looked for.
const SWEEP: Duration = Duration::from_secs(5);
/// What answers that are under way have at the end.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How many connections there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connections {
    /// All.
    pub most: usize,
    /// Those that wait for a request. One more ends the one that waits longest.
    pub most_idle: usize,
}

impl Default for Connections {
    /// 16,384, of which 1,024 idle; fewer where the process may not open that many files.
    fn default() -> Self {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self::with_files(usize::try_from(files).unwrap_or(usize::MAX))
    }
}

impl Connections {
    fn with_files(files: usize) -> Self {
        let reserved = RESERVED_FILES.min(files / 2);
        let most = MAX_CONNECTIONS.min(files - reserved).max(1);
        Self {
            most,
            most_idle: MAX_IDLE.min(most.div_ceil(2)),
        }
    }
}

/// The API, bound to its addresses and not yet served.
#[derive(Debug)]
pub struct Server {
    api: Rc<Api>,
    listeners: Vec<Listener>,
    most: usize,
}

/// A connection's task panicked: a bug, after which nothing that it touched can be relied on.
#[derive(Debug, thiserror::Error)]
#[error("a connection failed: {0}")]
pub struct ServerFailure(#[from] JoinError);

impl Server {
    /// Binds the addresses.
    pub(super) fn bind(
        api: Api,
        address: SocketAddr,
        socket: Option<(&PathBuf, Audience)>,
        connections: Connections,
    ) -> Result<Self, BindError> {
        let mut listeners = listen::tcp(address)?;
        if let Some((path, audience)) = socket {
            listeners.push(listen::unix(path, audience)?);
        }
        Ok(Self {
            api: Rc::new(api),
            listeners,
            most: connections.most,
        })
    }

    /// Where it listens: with the ports that the system chose.
    pub fn addresses(&self) -> Vec<Address> {
        self.listeners.iter().map(Listener::address).collect()
    }

    /// Serves until `stop`, in a [`tokio::runtime::LocalRuntime`] or a [`tokio::task::LocalSet`]. Then connections that
    /// wait are closed, and those that are answered have half a second. Dropping it ends all connections; what they
    /// waited for or held by a stream is given up.
    ///
    /// # Errors
    /// [`ServerFailure`].
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), ServerFailure> {
        let Self {
            api,
            listeners,
            most,
        } = self;
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        let mut sweep = interval(SWEEP);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(ended) = connections.join_next() => ended?,
                _ = sweep.tick() => api.idle.end_overdue(),
                accepted = poll_fn(|cx| poll_accept(&listeners, cx)) => match accepted {
                    Ok((socket, hosts)) if connections.len() < most => {
                        connections.spawn_local(Connection::new(Rc::clone(&api), hosts, socket).serve());
                    }
                    Ok((socket, _)) => refuse(&api, socket, most),
                    Err(error) => recover(&api, &error).await,
                },
            }
        }
        drop(listeners);
        api.close();
        // What is not done by then is aborted.
        let _ = timeout(LAST_WORDS, async {
            while connections.join_next().await.is_some() {}
        })
        .await;
        connections.shutdown().await;
        Ok(())
    }
}

fn poll_accept(listeners: &[Listener], cx: &mut Context<'_>) -> Poll<io::Result<(Socket, Hosts)>> {
    for listener in listeners {
        if let Poll::Ready(accepted) = listener.poll_accept(cx) {
            return Poll::Ready(accepted.map(|socket| (socket, listener.hosts())));
        }
    }
    Poll::Pending
}

/// Answers a connection that is one too many, as far as that needs no waiting, and ends it.
fn refuse(api: &Api, mut socket: Socket, most: usize) {
    let error = ApiError::Connections { most };
    let mut out = Vec::new();
    let answer = error.answer(None::<&str>);
    api.date
        .with(|date| answer.write(&mut out, Form::last(), date));
    let write = futures::FutureExt::now_or_never(socket.write_all(&out));
    tracing::debug!(most, told = write.is_some(), "too many connections");
}

/// Accepting failed. Either that connection ended before it was accepted, or the system has no room: then the one that
/// waits longest makes room, and nothing is accepted for a moment.
async fn recover(api: &Api, error: &io::Error) {
    if matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    ) {
        return;
    }
    tracing::warn!(%error, "a connection cannot be accepted");
    api.idle.end_longest();
    sleep(ACCEPT_BACKOFF).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_bound_connections_and_half_may_wait() {
        for (files, most, most_idle) in [
            (1 << 20, 16_384, 1_024),
            (1_024, 960, 480),
            (64, 32, 16),
            (2, 1, 1),
            (0, 1, 1),
        ] {
            let expected = Connections { most, most_idle };
            assert_eq!(Connections::with_files(files), expected, "{files} files");
        }
    }
}
