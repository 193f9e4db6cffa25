//! The calls as commands: one script each.

use std::time::Duration;

use pawl_lock::{
    BackendError, FencingToken, HoldId, Key,
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
    scripts::{ABANDON, ACQUIRE, FENCE, INSPECT, PROBE, RELEASE, RENEW, Script},
};
use crate::backend::Scope;

/// How long a fence remembers its highest token after it was asked last.
const FENCE_MEMORY: Duration = Duration::from_hours(30 * 24);

/// The suffixes of a lock's keys, in the order in which scripts take them.
const SUFFIXES: [&str; 5] = ["", ":m", ":s", ":q", ":x"];

/// Makes commands of calls, in one scope.
pub(super) struct Calls {
    scope: Scope,
    channel: String,
    remember: Duration,
}

/// What [`Calls::probe`] found.
pub(super) struct Probed {
    /// The server's clock, in milliseconds since 1970.
    pub(super) clock_millis: u64,
    /// Whether scripts may publish.
    pub(super) can_tell: bool,
}

impl Calls {
    pub(super) fn new(scope: Scope, process: u64, remember: Duration) -> Self {
        Self {
            scope,
            channel: format!("{process:016x}"),
            remember,
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
        name.push_str("pawl:{");
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

    pub(super) async fn acquire(
        &self,
        connection: &Connection,
        request: &AcquireRequest,
    ) -> Result<Acquired, BackendError> {
        let mut script = self.on(&ACQUIRE, &request.key, 5, 8);
        attempt(&mut script, request);
        reply::acquired(connection.invoke(&script).await?)
    }

    pub(super) async fn renew(
        &self,
        connection: &Connection,
        request: &RenewRequest,
    ) -> Result<Renewed, BackendError> {
        let mut script = self.on(&RENEW, &request.key, 5, 4);
        script
            .arg(id(request.hold).as_str())
            .arg(letter(request.mode))
            .arg(request.ttl.as_millis())
            .arg(request.owner.as_str());
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
    pub(super) async fn release(
        &self,
        connection: &Connection,
        request: &ReleaseRequest,
        next: Option<&AcquireRequest>,
    ) -> Result<Released, BackendError> {
        let (was_owner, answer) = self
            .let_go(connection, &request.key, request.hold, request.mode, next)
            .await?;
        let next = match next {
            Some(_) => Some(reply::acquired(answer)?),
            None => None,
        };
        Ok(Released { was_owner, next })
    }

    /// Undoes a grant. Unlike an abandonment it lets the attempt be asked for again.
    pub(super) async fn take_back(
        &self,
        connection: &Connection,
        request: &AcquireRequest,
    ) -> Result<(), BackendError> {
        self.let_go(connection, &request.key, request.hold, request.mode, None)
            .await
            .map(|_| ())
    }

    async fn let_go(
        &self,
        connection: &Connection,
        key: &Key,
        hold: HoldId,
        mode: Mode,
        next: Option<&AcquireRequest>,
    ) -> Result<(bool, Value), BackendError> {
        let mut script = self.on(&RELEASE, key, 5, if next.is_some() { 10 } else { 2 });
        script.arg(id(hold).as_str()).arg(letter(mode));
        if let Some(next) = next {
            attempt(&mut script, next);
        }
        let mut items = reply::items(connection.invoke(&script).await?)?;
        if items.len() != 2 {
            return Err(reply::not_understood());
        }
        let was_owner = reply::number(&items, 0) == 1;
        Ok((was_owner, items.swap_remove(1)))
    }

    pub(super) async fn abandon(
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

    pub(super) async fn inspect(
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

    pub(super) async fn fence(
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
    pub(super) async fn probe(&self, connection: &Connection) -> Result<Probed, BackendError> {
        // No key has a brace in it, so this is no lock's.
        let base = format!("pawl:{{{}|{{probe}}", self.scope);
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

/// The eight arguments of an attempt.
fn attempt(script: &mut Invocation, request: &AcquireRequest) {
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
}

fn id(hold: HoldId) -> String {
    hold.to_string()
}

/// Milliseconds, within what a script's numbers and the server's expiry can add up: 100 years.
fn millis(duration: Duration) -> u64 {
    const MOST: u64 = 100 * 365 * 24 * 3600 * 1000;
    u64::try_from(duration.as_millis()).map_or(MOST, |millis| millis.min(MOST))
}
