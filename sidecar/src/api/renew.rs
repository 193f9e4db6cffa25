//! `POST /v1/leases/{leaseId}/renew`: extend a lease, with another ttl if one is named.

use std::{rc::Rc, time::Duration};

use futures::future::FutureExt;
use pawl_kit::telemetry::RequestTrace;

use super::{
    Api,
    dispatch::{Request, Step, Verdict},
    error::ApiError,
    http1::response::Answer,
    idempotency::{self, Before, Begun, Done},
    json, lease, view,
};
use crate::engine::{Engine, LeaseId};

pub(super) fn begin(api: &Rc<Api>, request: &Request<'_>, id: &str, trace: RequestTrace) -> Step {
    let asked = (|| {
        request.check_no_query()?;
        let id = lease::admit(api, request, id)?;
        Ok::<_, ApiError>((id, ttl(request)?, idempotency::key(request.head)?))
    })();
    let engine = api.engine.clone();
    match asked {
        Ok((id, ttl, None)) => {
            let work =
                async move { Ok(Answer::json(view::lease(&engine.renew(&id, ttl).await?)).into()) };
            Step::run(work, trace)
        }
        Ok((id, ttl, Some(key))) => {
            let fingerprint = idempotency::fingerprint(request.head, request.body);
            let begun = api.replays.begin(key, fingerprint, |_| {
                let engine = engine.clone();
                let work = async move {
                    match engine.renew(&id, ttl).await {
                        Ok(_) => Done::Renewed(id),
                        Err(error) => Done::Failed(Rc::new(error.into())),
                    }
                };
                work.boxed_local()
            });
            match begun {
                Ok(Begun::Work(work)) => {
                    Step::run(async move { renewed(&engine, &work.await) }, trace)
                }
                Ok(Begun::Before(before)) => Step::done(again(&engine, &before), trace),
                Err(error) => Step::done(Err(error), trace),
            }
        }
        Err(error) => Step::done(Err(error), trace),
    }
}

fn ttl(request: &Request<'_>) -> Result<Option<Duration>, ApiError> {
    request.check_json()?;
    let fields = json::fields(request.body, &["ttl"])?;
    let ttl = fields
        .first()
        .map(|(_, given)| given.duration("ttl", "\"10s\""));
    Ok(ttl.transpose()?)
}

fn renewed(engine: &Engine, done: &Done) -> Verdict {
    match done {
        Done::Renewed(id) => current(engine, id),
        Done::Failed(error) => Err(ApiError::clone(error)),
        Done::Granted(..) | Done::Released => Err(ApiError::Mismatch),
    }
}

fn again(engine: &Engine, before: &Before) -> Verdict {
    match before {
        Before::Renewed(id) => current(engine, id),
        Before::Granted(..) | Before::Released => Err(ApiError::Mismatch),
    }
}

/// The lease as it is now: a renewal is never said to reach further than it does (law 3).
fn current(engine: &Engine, id: &LeaseId) -> Verdict {
    Ok(Answer::json(view::lease(&engine.lease(id)?)).into())
}
