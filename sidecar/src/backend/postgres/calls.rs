//! The calls as the server's functions take them, and their answers.

use std::time::Duration;

use pawl_lock::{
    BackendToken, FencingToken, Key, Owner,
    backend::{
        AbandonRequest, AcquireRequest, Acquired, Busy, FenceVerdict, Granted, Holder, Inspection,
        ReleaseRequest, Released, RenewRequest, Renewed, Wanted,
    },
    lease::{Mode, Order},
};
use tokio_postgres::{
    Row,
    types::{FromSqlOwned, Type},
};

use super::{
    config::SchemaName,
    connection::{Live, Param},
    errors::Failure,
};

/// The statements, with the schema's name in them.
pub(super) struct Calls {
    acquire: String,
    renew: String,
    release: String,
    release_next: String,
    abandon: String,
    settle: String,
    fence: String,
    inspect: String,
    pub(super) open_session: String,
    pub(super) reap: String,
    pub(super) orphans: String,
    pub(super) purge: String,
}

/// Who calls: what all calls of a backend have in common.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) live: &'a Live,
    pub(super) scope: &'a str,
    pub(super) channel: &'a str,
    /// Whether the key's advisory lock and rows may differ.
    pub(super) is_doubted: bool,
}

/// An answer, or that it came from another session than the caller's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer<T> {
    Good(T),
    Moved,
}

impl Calls {
    pub(super) fn new(schema: &SchemaName) -> Self {
        let of = |call: &str| format!("SELECT * FROM {}.{call}", schema.quoted());
        let rest = "$4, $5, $6, $7, $8, $9, $10, $11, $12, $13::uuid, $14";
        Self {
            acquire: of(&format!("acquire($1, $2, $3::uuid, {rest})")),
            renew: of("renew($1, $2, $3::uuid, $4, $5, $6, $7::uuid)"),
            release: of("release($1, $2, $3::uuid, $4::uuid)"),
            release_next: of(&format!(
                "release_next($1, $2, $15::uuid, $3::uuid, {rest})"
            )),
            abandon: of("abandon($1, $2, $3::uuid, $4, $5::uuid, $6)"),
            settle: of("settle($1, $2, $3::uuid)"),
            fence: of("fence($1, $2, $3)"),
            inspect: of("inspect($1, $2)"),
            open_session: of("open_session($1::uuid, $2, $3::uuid)"),
            reap: of("reap($1::uuid)"),
            orphans: of("orphans($1)"),
            purge: of("purge($1)"),
        }
    }

    pub(super) async fn acquire(
        &self,
        caller: Caller<'_>,
        request: &AcquireRequest,
    ) -> Result<Answer<Acquired>, Failure> {
        let row = ask(caller, &self.acquire, request, None).await?;
        read_acquired(caller, &row)
    }

    /// Releases, and makes the next attempt of the same key in the same step.
    pub(super) async fn release_next(
        &self,
        caller: Caller<'_>,
        request: &ReleaseRequest,
        next: &AcquireRequest,
    ) -> Result<Answer<Released>, Failure> {
        let released = request.hold.to_string();
        let row = ask(caller, &self.release_next, next, Some(&released)).await?;
        Ok(match read_acquired(caller, &row)? {
            Answer::Moved => Answer::Moved,
            Answer::Good(next) => Answer::Good(Released {
                was_owner: get(&row, "was_owner")?,
                next: Some(next),
            }),
        })
    }

    pub(super) async fn release(
        &self,
        caller: Caller<'_>,
        request: &ReleaseRequest,
    ) -> Result<Answer<Released>, Failure> {
        let row = caller
            .live
            .call(
                &self.release,
                &[
                    (&caller.scope, Type::TEXT),
                    (&request.key.as_str(), Type::TEXT),
                    (&request.hold.to_string(), Type::TEXT),
                    (&caller.session(), Type::TEXT),
                ],
            )
            .await?;
        match status(&row)?.as_str() {
            "released" => Ok(Answer::Good(Released {
                was_owner: get(&row, "was_owner")?,
                next: None,
            })),
            other => refused(other),
        }
    }

    pub(super) async fn renew(
        &self,
        caller: Caller<'_>,
        request: &RenewRequest,
    ) -> Result<Answer<Renewed>, Failure> {
        let row = caller
            .live
            .call(
                &self.renew,
                &[
                    (&caller.scope, Type::TEXT),
                    (&request.key.as_str(), Type::TEXT),
                    (&request.hold.to_string(), Type::TEXT),
                    (&is_shared(request.mode), Type::BOOL),
                    (&i64::from(request.ttl.as_millis()), Type::INT8),
                    (&request.owner.as_str(), Type::TEXT),
                    (&caller.session(), Type::TEXT),
                ],
            )
            .await?;
        match status(&row)?.as_str() {
            "extended" => Ok(Answer::Good(Renewed::Extended {
                wanted: read_wanted(&row)?,
            })),
            "ended" => Ok(Answer::Good(Renewed::NotOwner)),
            other => refused(other),
        }
    }

    pub(super) async fn abandon(
        &self,
        caller: Caller<'_>,
        request: &AbandonRequest,
    ) -> Result<Answer<()>, Failure> {
        let row = caller
            .live
            .call(
                &self.abandon,
                &[
                    (&caller.scope, Type::TEXT),
                    (&request.key.as_str(), Type::TEXT),
                    (&request.hold.to_string(), Type::TEXT),
                    (&i64::from(request.ttl.as_millis()), Type::INT8),
                    (&caller.session(), Type::TEXT),
                    (&caller.is_doubted, Type::BOOL),
                ],
            )
            .await?;
        match status(&row)?.as_str() {
            "settled" => Ok(Answer::Good(())),
            other => refused(other),
        }
    }

    /// Makes a key's advisory lock and rows the same again.
    pub(super) async fn settle(
        &self,
        caller: Caller<'_>,
        key: &Key,
    ) -> Result<Answer<()>, Failure> {
        let row = caller
            .live
            .call(
                &self.settle,
                &[
                    (&caller.scope, Type::TEXT),
                    (&key.as_str(), Type::TEXT),
                    (&caller.session(), Type::TEXT),
                ],
            )
            .await?;
        match status(&row)?.as_str() {
            "settled" => Ok(Answer::Good(())),
            other => refused(other),
        }
    }

    pub(super) async fn fence(
        &self,
        caller: Caller<'_>,
        key: &Key,
        token: FencingToken,
    ) -> Result<FenceVerdict, Failure> {
        let shown = i64::try_from(token.get()).map_err(|_| Failure::Protocol("a token"))?;
        let row = caller
            .live
            .call(
                &self.fence,
                &[
                    (&caller.scope, Type::TEXT),
                    (&key.as_str(), Type::TEXT),
                    (&shown, Type::INT8),
                ],
            )
            .await?;
        let highest: i64 = get(&row, "highest")?;
        if highest == shown {
            return Ok(FenceVerdict::Newest);
        }
        u64::try_from(highest)
            .ok()
            .and_then(|highest| FencingToken::try_new(highest).ok())
            .map(|highest| FenceVerdict::Stale { highest })
            .ok_or(Failure::Protocol("a fence's token"))
    }

    pub(super) async fn inspect(
        &self,
        caller: Caller<'_>,
        key: &Key,
    ) -> Result<Inspection, Failure> {
        let rows = caller
            .live
            .rows(
                &self.inspect,
                &[(&caller.scope, Type::TEXT), (&key.as_str(), Type::TEXT)],
            )
            .await?;
        let mut inspection = Inspection::default();
        for row in &rows {
            let waiting: i64 = get(row, "waiting")?;
            inspection.waiters = u32::try_from(waiting).unwrap_or(u32::MAX);
            inspection.holders.extend(read_holder(row)?);
        }
        Ok(inspection)
    }
}

impl Caller<'_> {
    fn session(&self) -> Option<&str> {
        self.live
            .session
            .as_ref()
            .map(|session| session.id.as_str())
    }
}

/// Sends an acquire, alone or after the release of another hold.
async fn ask(
    caller: Caller<'_>,
    sql: &str,
    request: &AcquireRequest,
    released: Option<&String>,
) -> Result<Row, Failure> {
    let ttl = i64::from(request.ttl.as_millis());
    let hold = request.hold.to_string();
    let is_shared = is_shared(request.mode);
    let is_fifo = request.order == Order::Fifo;
    let age = request.place.map(|place| millis(place.age));
    let keep = request.place.map(|place| millis(place.keep));
    let delay = millis(request.lock_delay);
    // A call that arrives later than this is of no use to anyone, and might come after its abandonment.
    let not_after = caller.live.server_us(request.ttl.as_duration());
    let key = request.key.as_str();
    let owner = request.owner.as_str();
    let session = caller.session();
    let mut params: Vec<Param<'_>> = vec![
        (&caller.scope, Type::TEXT),
        (&key, Type::TEXT),
        (&hold, Type::TEXT),
        (&is_shared, Type::BOOL),
        (&ttl, Type::INT8),
        (&is_fifo, Type::BOOL),
        (&age, Type::INT8),
        (&keep, Type::INT8),
        (&delay, Type::INT8),
        (&owner, Type::TEXT),
        (&caller.channel, Type::TEXT),
        (&not_after, Type::INT8),
        (&session, Type::TEXT),
        (&caller.is_doubted, Type::BOOL),
    ];
    if let Some(released) = released {
        params.push((released, Type::TEXT));
    }
    caller.live.call(sql, &params).await
}

fn read_acquired(caller: Caller<'_>, row: &Row) -> Result<Answer<Acquired>, Failure> {
    caller.live.hear_clock(get(row, "server_us")?);
    match status(row)?.as_str() {
        "granted" => Ok(Answer::Good(Acquired::Granted(Granted {
            token: read_token(get(row, "granted_token")?)?,
            session: caller
                .live
                .session
                .as_ref()
                .map_or(0, |session| session.number),
            wanted: read_wanted(row)?,
        }))),
        "busy" => {
            let ahead: i64 = get(row, "places_ahead")?;
            Ok(Answer::Good(Acquired::Busy(Busy {
                holder: read_holder(row)?,
                ahead: Some(u32::try_from(ahead).unwrap_or(u32::MAX)),
                retry_in: span(get(row, "retry_in_ms")?),
            })))
        }
        other => refused(other),
    }
}

fn read_wanted(row: &Row) -> Result<Option<Wanted>, Failure> {
    let is_shared: Option<bool> = get(row, "wanted_shared")?;
    let age = span(get(row, "wanted_for_ms")?);
    Ok(is_shared.map(|is_shared| Wanted {
        mode: read_mode(is_shared),
        age: age.unwrap_or_default(),
    }))
}

fn read_holder(row: &Row) -> Result<Option<Holder>, Failure> {
    let Some(name) = get::<Option<String>>(row, "holder_name")? else {
        return Ok(None);
    };
    Ok(Some(Holder {
        owner: Owner::try_new(&name).map_err(|_| Failure::Protocol("an owner"))?,
        mode: read_mode(get(row, "holder_shared")?),
        token: Some(read_token(get(row, "holder_token")?)?),
        held_for: span(get(row, "held_for_ms")?),
        expires_in: span(get(row, "expires_in_ms")?),
    }))
}

fn read_token(token: i64) -> Result<BackendToken, Failure> {
    u64::try_from(token)
        .ok()
        .and_then(|token| BackendToken::try_new(token).ok())
        .ok_or(Failure::Protocol("a token"))
}

fn read_mode(is_shared: bool) -> Mode {
    if is_shared {
        Mode::Shared
    } else {
        Mode::Exclusive
    }
}

fn span(ms: Option<i64>) -> Option<Duration> {
    ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
}

fn status(row: &Row) -> Result<String, Failure> {
    get(row, "status")
}

/// What stands for every call.
fn refused<T>(status: &str) -> Result<Answer<T>, Failure> {
    match status {
        "moved" => Ok(Answer::Moved),
        "late" => Err(Failure::Late),
        "collision" => Err(Failure::Collision),
        _ => Err(Failure::Protocol("a status")),
    }
}

fn get<T: FromSqlOwned>(row: &Row, column: &str) -> Result<T, Failure> {
    Ok(row.try_get(column)?)
}

fn is_shared(mode: Mode) -> bool {
    mode == Mode::Shared
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
