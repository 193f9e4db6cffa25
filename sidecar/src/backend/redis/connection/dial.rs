//! Making a connection: TCP, TLS, who we are, what the server is, the subscription.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use pawl_kit::tls::tls_reason_in;
use pawl_lock::backend::{Category, Outcome};
use redis::{
    AsyncConnectionConfig, Cmd, ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo,
    RedisError, Value, aio::MultiplexedConnection,
};
use rustix::net::sockopt;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

use super::{Connection, Endpoint, Notice, Subscription, live::is_forbidden};
use crate::backend::redis::{
    errors::Failure,
    probe::{Compare, ServerInfo},
    scripts::Script,
};

/// How long data may be on its way without an acknowledgement; also bounds how late an abandoned call can arrive.
const UNACKNOWLEDGED_AFTER: Duration = Duration::from_secs(10);
/// When an idle connection is looked at, how often, and how often in vain.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(10), Duration::from_secs(3), 3);
/// How many commands may wait for the socket before callers do.
const QUEUE: usize = 256;

/// Compare-and-delete for servers without a command for it.
pub(super) static DELETE_IF: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("../scripts/delete_if.lua")));

/// Makes a connection, within the endpoint's time for that.
pub(super) async fn dial(
    endpoint: &Endpoint,
    subscription: Option<&Subscription>,
) -> Result<Connection, Failure> {
    let dialled = timeout(endpoint.connect_timeout, connect(endpoint, subscription));
    dialled.await.unwrap_or_else(|_| {
        Err(Failure::new(
            Category::Connection,
            Outcome::NotApplied,
            format!("the Redis server {} does not answer", endpoint.name()),
        ))
    })
}

async fn connect(
    endpoint: &Endpoint,
    subscription: Option<&Subscription>,
) -> Result<Connection, Failure> {
    let unreachable = |error: std::io::Error| {
        Failure::new(
            Category::Connection,
            Outcome::NotApplied,
            format!(
                "the Redis server {} cannot be reached: {}",
                endpoint.name(),
                error.kind()
            ),
        )
    };
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port))
        .await
        .map_err(unreachable)?;
    set_options(&stream).map_err(|error| unreachable(error.into()))?;
    let Some(tls) = &endpoint.tls else {
        return greet(endpoint, subscription, stream).await;
    };
    let name = rustls::pki_types::ServerName::try_from(endpoint.host.clone())
        .map_err(|_| Failure::tls(&endpoint.name(), "name_mismatch"))?;
    let stream = TlsConnector::from(tls.get()?)
        .connect(name, stream)
        .await
        .map_err(|error| match tls_reason_in(&error) {
            Some(reason) => Failure::tls(&endpoint.name(), reason),
            None => unreachable(error),
        })?;
    let stream = knock(stream)
        .await
        .map_err(|error| match tls_reason_in(&error) {
            Some(reason) => Failure::tls(&endpoint.name(), reason),
            None => unreachable(error),
        })?;
    greet(endpoint, subscription, stream).await
}

/// A server that does not take our certificate says so after the handshake (TLS 1.3), and closes: a write then fails
/// before its alert is read. So a first question is asked here, where the alert can still be read.
async fn knock<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> std::io::Result<S> {
    let written = async {
        stream.write_all(b"PING\r\n").await?;
        stream.flush().await
    };
    let written = written.await;
    // Whatever the answer is, it is one line: PONG, or that a password is wanted.
    loop {
        match stream.read_u8().await {
            Ok(b'\n') => return Ok(stream),
            Ok(_) => {}
            Err(error) if tls_reason_in(&error).is_some() => return Err(error),
            Err(error) => return Err(written.err().unwrap_or(error)),
        }
    }
}

fn set_options(stream: &TcpStream) -> rustix::io::Result<()> {
    let (idle, interval, count) = KEEPALIVE;
    let millis = u32::try_from(UNACKNOWLEDGED_AFTER.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_nodelay(stream, true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, idle)?;
    sockopt::set_tcp_keepintvl(stream, interval)?;
    sockopt::set_tcp_keepcnt(stream, count)?;
    sockopt::set_tcp_user_timeout(stream, millis)
}

/// Says who we are and learns what the server is.
async fn greet<S>(
    endpoint: &Endpoint,
    subscription: Option<&Subscription>,
    stream: S,
) -> Result<Connection, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let server_name = endpoint.name();
    let failed = |error: RedisError| Failure::of_connect(&server_name, &error);
    let mut config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(QUEUE);
    if let Some(subscription) = subscription {
        let notify = Arc::clone(&subscription.notify);
        config = config.set_push_sender(move |push: PushInfo| {
            if let (PushKind::Message, [_, Value::BulkString(message)]) = (&push.kind, &*push.data)
            {
                notify(Notice::Message(message));
            }
            Ok::<(), redis::aio::SendError>(())
        });
    }
    let (mut commands, driver) =
        MultiplexedConnection::new_with_config(&identity(endpoint)?, stream, config)
            .await
            .map_err(failed)?;
    let (close, closed) = watch::channel(false);
    let mut running = JoinSet::new();
    running.spawn(async move {
        driver.await;
        let _ = close.send(true);
    });
    // The name is for people who look at CLIENT LIST; a user that may not set it does without.
    let named = commands.clone();
    let mut name = Cmd::new();
    name.arg("CLIENT").arg("SETNAME").arg("pawl");
    let (named, server) = futures::join!(send(named, &name), learn(&commands));
    if let Err(error) = named
        && !is_forbidden(&error)
    {
        return Err(failed(error));
    }
    let server = server.map_err(failed)?;
    if server.version < (7, 0) && server.version != (0, 0) {
        return Err(Failure::too_old(&server_name));
    }
    let can_hear = match subscription {
        None => true,
        Some(subscription) => match commands.subscribe(&subscription.channel).await {
            Ok(()) => true,
            Err(error) if is_forbidden(&error) => false,
            Err(error) => return Err(failed(error)),
        },
    };
    Ok(Connection {
        commands,
        first_uptime: server.uptime,
        server: ArcSwap::from_pointee(server),
        can_hear,
        closed,
        retired: AtomicBool::new(false),
        made: Instant::now(),
        silent_since: AtomicU64::new(0),
        _driver: running,
    })
}

fn identity(endpoint: &Endpoint) -> Result<RedisConnectionInfo, Failure> {
    let mut identity = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_db(endpoint.database)
        .set_skip_set_lib_name();
    let credentials = endpoint.credentials.get()?;
    if let Some(password) = credentials.password {
        identity = identity
            .set_username(credentials.username.as_deref().unwrap_or("default"))
            .set_password(password.expose());
    }
    Ok(identity)
}

/// What the server is. What the ACL does not let us see stays unknown.
async fn learn(commands: &MultiplexedConnection) -> Result<ServerInfo, RedisError> {
    let mut info = Cmd::new();
    info.arg("INFO");
    let mut newer = Cmd::new();
    newer.arg("COMMAND").arg("INFO").arg("DELEX").arg("DELIFEQ");
    let (info, newer) = futures::join!(
        send(commands.clone(), &info),
        send(commands.clone(), &newer)
    );
    let server = match info {
        Ok(info) => read_info(&info),
        Err(error) if is_forbidden(&error) => ServerInfo::default(),
        Err(error) => return Err(error),
    };
    let is_served = |value: &Value| matches!(value, Value::Array(command) if !command.is_empty());
    let compare = match newer {
        Ok(Value::Array(commands)) => match &*commands {
            [delex, _] if is_served(delex) => Compare::Delex,
            [_, delifeq] if is_served(delifeq) => Compare::Delifeq,
            _ => Compare::Script,
        },
        _ => Compare::Script,
    };
    Ok(ServerInfo { compare, ..server })
}

async fn send(mut commands: MultiplexedConnection, command: &Cmd) -> Result<Value, RedisError> {
    commands.send_packed_command(command).await?.extract_error()
}

/// Reads the answer of `INFO`.
pub(super) fn read_info(info: &Value) -> ServerInfo {
    match info {
        Value::BulkString(text) => ServerInfo::parse(&String::from_utf8_lossy(text)),
        Value::VerbatimString { text, .. } => ServerInfo::parse(text),
        _ => ServerInfo::default(),
    }
}
