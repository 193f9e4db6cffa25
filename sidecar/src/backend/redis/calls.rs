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
use redis::Value;

use super::{
    TOMBSTONE,
    connection::{Connection, Invocation},
    letter, reply,
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

/// What [`Calls::probe`] found.
pub(in crate::backend) struct Probed {
    /// The server's clock, in milliseconds since 1970.
    pub(in crate::backend) clock_millis: u64,
    /// Whether scripts may publish.
    pub(in crate::backend) can_tell: bool,
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
        let items = reply::items(connection.invoke(&script).await?)?;
        match reply::number(&items, 0) {
            1 => Ok(Renewed::Extended {
                wanted: reply::wanted(&items, 1),
            }),
            0 => Ok(Renewed::NotOwner),
            _ => Err(reply::not_understood()),
        }
    }

    /// Lets go, and makes the attempt `next`.
    pub(in crate::backend) async fn release(
        &self,
        connection: &Connection,
        request: &ReleaseRequest,
        next: Option<&AcquireRequest>,
        proposed: Option<u64>,
    ) -> Result<Released, BackendError> {
        let (was_owner, answer) = self
            .let_go(
                connection,
                &request.key,
                request.hold,
                request.mode,
                next.map(|next| (next, proposed)),
            )
            .await?;
        let next = match next {
            Some(_) => Some(reply::acquired(answer)?),
            None => None,
        };
        Ok(Released { was_owner, next })
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
        match connection.invoke(&script).await? {
            Value::Int(0) => Ok(None),
            Value::Int(number) => u64::try_from(number)
                .ok()
                .and_then(|number| BackendToken::try_new(number).ok())
                .map(Some)
                .ok_or_else(reply::not_understood),
            _ => Err(reply::not_understood()),
        }
    }

    async fn let_go(
        &self,
        connection: &Connection,
        key: &Key,
        hold: HoldId,
        mode: Mode,
        next: Option<(&AcquireRequest, Option<u64>)>,
    ) -> Result<(bool, Value), BackendError> {
        let mut script = self.on(&RELEASE, key, 5, if next.is_some() { 11 } else { 2 });
        script.arg(id(hold).as_str()).arg(letter(mode));
        if let Some((next, proposed)) = next {
            attempt(&mut script, next, proposed);
        }
        let mut items = reply::items(connection.invoke(&script).await?)?;
        if items.len() != 2 {
            return Err(reply::not_understood());
        }
        let was_owner = reply::number(&items, 0) == 1;
        Ok((was_owner, items.swap_remove(1)))
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
        match connection.invoke(&script).await? {
            Value::Int(1) => Ok(Abandoned::Settled),
            _ => Err(reply::not_understood()),
        }
    }

    pub(in crate::backend) async fn inspect(
        &self,
        connection: &Connection,
        key: &Key,
    ) -> Result<Inspection, BackendError> {
        let script = self.keys(&INSPECT, key, &SUFFIXES[..4], 0);
        let items = reply::items(connection.invoke(&script).await?)?;
        let waiters =
            u32::try_from(reply::number(&items, 0)).map_err(|_| reply::not_understood())?;
        let mut holders = Vec::with_capacity(items.len() - 1);
        for holder in items.into_iter().skip(1) {
            holders.extend(reply::holder(&reply::items(holder)?, 0));
        }
        Ok(Inspection { holders, waiters })
    }

    pub(in crate::backend) async fn fence(
        &self,
        connection: &Connection,
        key: &Key,
        token: FencingToken,
    ) -> Result<FenceVerdict, BackendError> {
        let mut script = self.keys(&FENCE, key, &[":f"], 2);
        script.arg(token.get()).arg(millis(FENCE_MEMORY));
        let highest = reply::number(&[connection.invoke(&script).await?], 0);
        match u64::try_from(highest) {
            Ok(0) => Ok(FenceVerdict::Newest),
            Ok(highest) => FencingToken::try_new(highest)
                .map(|highest| FenceVerdict::Stale { highest })
                .map_err(|_| reply::not_understood()),
            Err(_) => Err(reply::not_understood()),
        }
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
        let items = reply::items(connection.invoke(&script).await?)?;
        Ok(Probed {
            clock_millis: u64::try_from(reply::number(&items, 0))
                .map_err(|_| reply::not_understood())?,
            can_tell: reply::number(&items, 1) == 1,
        })
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
