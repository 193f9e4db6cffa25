//! The lock API: HTTP/1.1 on the loopback addresses and on a Unix socket, for the applications of one pod.
//!
//! A connection ([`connection`]) reads a request under the strict rules of [`http1::guard`]; [`dispatch`] finds its verb,
//! one file each; the verb does what can be done at once and leaves the rest as a step that owns all it needs, so that
//! a caller that waits keeps no buffer. Failures become answers in [`error`] and nowhere else.
//!
//! # Guarantees
//! * What is ambiguous, foreign, slow or too large is refused before anything acts on it.
//! * A caller that leaves while it waits gives up its place at once; a grant whose answer could not be written is given
//!   up (law 5, [`delivery`]).
//! * Every connection, buffer, body, stream and remembered outcome is bounded (law 6).
//! * No lease is said to be held longer than it is believed: what is left is computed when it is written (law 3).
//!
//! # Not here
//! Locks: [`crate::engine`]. The admin server: `pawl_kit::admin`.

use std::{cell::Cell, net::SocketAddr, path::PathBuf, rc::Rc};

use crate::{audience::Audience, engine::Engine, token::Token};

pub use code::Code;
pub use error::ApiError;
pub use json::BodyError;
pub use listen::{Address, BindError};
pub use path::PathKeyError;
pub use server::{Connections, Server, ServerFailure};

mod acquire;
mod auth;
mod code;
mod connection;
mod date;
mod delivery;
mod dispatch;
mod error;
mod events;
mod fence;
pub mod http1;
mod idempotency;
mod idle;
mod inspect;
pub mod json;
mod lease;
mod listen;
mod overview;
pub mod path;
mod release;
mod renew;
mod server;
mod stream;
mod terms;
mod view;

/// What the API is made of.
#[derive(Debug)]
pub struct Config {
    /// Where the locks are.
    pub engine: Engine,
    /// What policies with `sidecar.auth: Token` ask for.
    pub token: Option<Token>,
    /// The TCP address; with 127.0.0.1 it listens on `[::1]` too.
    pub listen: SocketAddr,
    /// The Unix socket.
    pub socket: Option<PathBuf>,
    /// Who may connect to the socket.
    pub audience: Audience,
    /// How many callers.
    pub connections: Connections,
}

/// Binds the API's addresses, inside a tokio runtime.
///
/// # Errors
/// [`BindError`].
pub fn bind(config: Config) -> Result<Server, BindError> {
    let Config {
        engine,
        token,
        listen,
        socket,
        audience,
        connections,
    } = config;
    let clock = engine.clock().clone();
    let api = Api {
        engine,
        token,
        replays: idempotency::Replays::new(clock.clone()),
        pool: Rc::default(),
        idle: idle::IdleSet::new(clock.clone(), connections.most_idle),
        date: date::Date::new(clock),
        is_closing: Cell::new(false),
    };
    let socket = socket.as_ref().map(|path| (path, audience));
    Server::bind(api, listen, socket, connections)
}

/// What all connections share.
#[derive(Debug)]
struct Api {
    engine: Engine,
    token: Option<Token>,
    replays: Rc<idempotency::Replays>,
    pool: Rc<http1::pool::Pool>,
    idle: idle::IdleSet,
    date: date::Date,
    is_closing: Cell<bool>,
}

impl Api {
    /// Connections end after the answer that they are at.
    fn is_closing(&self) -> bool {
        self.is_closing.get()
    }

    fn close(&self) {
        self.is_closing.set(true);
        self.idle.close();
    }
}
