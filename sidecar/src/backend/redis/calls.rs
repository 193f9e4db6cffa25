//! The calls as commands: one script each.

use std::time::Duration;

use pawl_lock::{
    BackendError, BackendToken, FencingToken, HoldId, Key,
    backend::{
        AbandonRequest, Abandoned, AcquireRequest, Acquired, FenceVerdict, Inspection,
        ReleaseRequest, Released, RenewRequest, Renewed,
    },
    lease::{Mode, Order},
};

use super::{
    TOMBSTONE,
    connection::{Connection, Invocation},
    letter,
    reply::{self, Probed},
    scripts::{ABANDON, ACQUIRE, FENCE, INSPECT, PROBE, RAISE, RELEASE, RENEW, Script, TAKE_BACK},
};
use crate::backend::Scope;

/// How long a fence remembers its highest token after it was asked last.
const FENCE_MEMORY: Duration = Duration::from_hours(30 * 24);

/// The suffixes of a lock's keys, in the order in which scripts take them.
const SUFFIXES: [&str; 5] = ["", ":m", ":s", ":q", ":x"];

/// Makes commands of calls, in one scope.
pub(in crate::backend) struct Calls {
    scope: Scope,
    channel: String,
    remember: Duration,
    server: Server,
}

/// What a server decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::backend) enum Server {
    /// All by itself.
    Alone,
    /// As one of several nodes: its keys are others, and it never brings the end of a hold forward.
    Node,
}

/// The channel on which scripts publish hints to a sidecar.
pub(in crate::backend) fn channel(process: u64) -> String {
    format!("pawl:ch:{process:016x}")
}

impl Calls {
    pub(in crate::backend) fn new(
        scope: Scope,
        process: u64,
        remember: Duration,
        server: Server,
    ) -> Self {
        Self {
            scope,
            channel: format!("{process:016x}"),
            remember,
            server,
        }
    }

    /// What all names of keys start with.
    const fn prefix(&self) -> &'static str {
        match self.server {
            Server::Alone => "pawl:{",
            Server::Node => "pawl:redlock:{",
        }
    }

    /// A script on the first `count` keys of a lock, with the two arguments that most scripts start with.
    fn on(&self, script: &'static Script, key: &Key, count: usize, arguments: usize) -> Invocation {
        let mut invocation = self.keys(script, key, &SUFFIXES[..count], arguments + 2);
        invocation
            .arg(self.channel.as_str())
            .arg(millis(self.remember));
        invocation
    }

    fn keys(
        &self,
        script: &'static Script,
        key: &Key,
        suffixes: &[&str],
        arguments: usize,
    ) -> Invocation {
        let mut name = String::with_capacity(600);
        name.push_str(self.prefix());
        name.push_str(self.scope.as_str());
        name.push('|');
        name.push_str(key.as_str());
        name.push('}');
        let base = name.len();
        let mut invocation = Invocation::new(script, suffixes.len(), arguments);
        for suffix in suffixes {
            name.push_str(suffix);
            invocation.arg(name.as_str());
            name.truncate(base);
        }
        invocation
    }

    pub(in crate::backend) async fn acquire(
        &self,
        connection: &Connection,
        request: &AcquireRequest,
        proposed: Option<u64>,
    ) -> Result<Acquired, BackendError> {
        let mut script = self.on(&ACQUIRE, &request.key, 5, 9);
        attempt(&mut script, request, proposed);
        reply::acquired(connection.invoke(&script).await?)
    }

    pub(in crate::backend) async fn renew(
        &self,
        connection: &Connection,
        request: &RenewRequest,
    ) -> Result<Renewed, BackendError> {
        let mut script = self.on(&RENEW, &request.key, 5, 5);
        script
            .arg(id(request.hold).as_str())
            .arg(letter(request.mode))
            .arg(request.ttl.as_millis())
            .arg(request.owner.as_str());
        if self.server == Server::Node {
            script.arg("later");
        }
        reply::renewed(connection.invoke(&script).await?)
    }

    /// Lets go, and makes the attempt `next`.
    pub(in crate::backend) async fn release(
        &self,
        connection: &Connection,
        request: &ReleaseRequest,
        next: Option<&AcquireRequest>,
        proposed: Option<u64>,
    ) -> Result<Released, BackendError> {
        self.let_go(
            connection,
            &request.key,
            request.hold,
            request.mode,
            next.map(|next| (next, proposed)),
        )
        .await
    }

    /// Undoes a grant. Unlike an abandonment it lets the attempt be asked for again.
    pub(in crate::backend) async fn take_back(
        &self,
        connection: &Connection,
        request: &AcquireRequest,
    ) -> Result<(), BackendError> {
        self.let_go(connection, &request.key, request.hold, request.mode, None)
            .await
            .map(|_| ())
    }

    /// Undoes a grant that no majority shares, and tells nobody.
    pub(in crate::backend) async fn take_back_quietly(
        &self,
        connection: &Connection,
        request: &AcquireRequest,
    ) -> Result<(), BackendError> {
        let mut script = self.keys(&TAKE_BACK, &request.key, &SUFFIXES, 2);
        script
            .arg(id(request.hold).as_str())
            .arg(letter(request.mode));
        connection.invoke(&script).await.map(|_| ())
    }

    /// Asks for a number for a hold ([`pawl_lock::quorum::raise`]); answers the one that it has now, if it is there.
    pub(in crate::backend) async fn raise(
        &self,
        connection: &Connection,
        request: &AcquireRequest,
        wanted: BackendToken,
    ) -> Result<Option<BackendToken>, BackendError> {
        let mut script = self.keys(&RAISE, &request.key, &SUFFIXES, 3);
        script
            .arg(id(request.hold).as_str())
            .arg(letter(request.mode))
            .arg(wanted.get());
        reply::raised(&connection.invoke(&script).await?)
    }

    async fn let_go(
        &self,
        connection: &Connection,
        key: &Key,
        hold: HoldId,
        mode: Mode,
        next: Option<(&AcquireRequest, Option<u64>)>,
    ) -> Result<Released, BackendError> {
        let mut script = self.on(&RELEASE, key, 5, if next.is_some() { 11 } else { 2 });
        script.arg(id(hold).as_str()).arg(letter(mode));
        if let Some((next, proposed)) = next {
            attempt(&mut script, next, proposed);
        }
        reply::released(connection.invoke(&script).await?, next.is_some())
    }

    pub(in crate::backend) async fn abandon(
        &self,
        connection: &Connection,
        request: &AbandonRequest,
    ) -> Result<Abandoned, BackendError> {
        let mut script = self.keys(&ABANDON, &request.key, &SUFFIXES, 3);
        script
            .arg(id(request.hold).as_str())
            .arg(letter(request.mode))
            .arg(millis(request.ttl.as_duration() + TOMBSTONE));
        reply::abandoned(&connection.invoke(&script).await?)
    }

    pub(in crate::backend) async fn inspect(
        &self,
        connection: &Connection,
        key: &Key,
    ) -> Result<Inspection, BackendError> {
        let script = self.keys(&INSPECT, key, &SUFFIXES[..4], 0);
        reply::inspected(connection.invoke(&script).await?)
    }

    pub(in crate::backend) async fn fence(
        &self,
        connection: &Connection,
        key: &Key,
        token: FencingToken,
    ) -> Result<FenceVerdict, BackendError> {
        let mut script = self.keys(&FENCE, key, &[":f"], 2);
        script.arg(token.get()).arg(millis(FENCE_MEMORY));
        reply::fenced(connection.invoke(&script).await?)
    }

    /// Tries every command that scripts use.
    pub(in crate::backend) async fn probe(
        &self,
        connection: &Connection,
    ) -> Result<Probed, BackendError> {
        // No key has a brace in it, so this is no lock's.
        let base = format!("{}{}|{{probe}}", self.prefix(), self.scope);
        let mut script = Invocation::new(&PROBE, 6, 1);
        for suffix in ["", ":m", ":s", ":q", ":x", ":f"] {
            script.arg(format!("{base}{suffix}").as_str());
        }
        script.arg(self.channel.as_str());
        reply::probed(connection.invoke(&script).await?)
    }
}

/// The eight arguments of an attempt, and the token that the caller proposes.
fn attempt(script: &mut Invocation, request: &AcquireRequest, proposed: Option<u64>) {
    let order = match request.order {
        Order::Fifo => "f",
        Order::Any => "a",
    };
    script
        .arg(id(request.hold).as_str())
        .arg(letter(request.mode))
        .arg(request.ttl.as_millis())
        .arg(order);
    match &request.place {
        Some(place) => script.arg(millis(place.age)).arg(millis(place.keep)),
        None => script.arg("-1").arg("0"),
    };
    script
        .arg(millis(request.lock_delay))
        .arg(request.owner.as_str());
    if let Some(proposed) = proposed {
        script.arg(proposed);
    }
}

fn id(hold: HoldId) -> String {
    hold.to_string()
}

/// Milliseconds, within what a script's numbers and the server's expiry can add up: 100 years.
fn millis(duration: Duration) -> u64 {
    const MOST: u64 = 100 * 365 * 24 * 3600 * 1000;
    u64::try_from(duration.as_millis()).map_or(MOST, |millis| millis.min(MOST))
}
