//! `DELETE /v1/leases/{leaseId}`: release a lease.

use std::rc::Rc;

use futures::future::FutureExt;
use pawl_kit::telemetry::RequestTrace;

use super::{
    Api,
    dispatch::{Request, Step, Verdict, no_content},
    error::ApiError,
    idempotency::{self, Before, Begun, Done},
    lease,
};

pub(super) fn begin(api: &Rc<Api>, request: &Request<'_>, id: &str, trace: RequestTrace) -> Step {
    let key = match idempotency::key(request.head) {
        Ok(key) => key,
        Err(error) => return Step::done(Err(error), trace),
    };
    let asked = (|| {
        request.check_empty()?;
        let confirm = confirm(request.head.query)?;
        Ok::<_, ApiError>((lease::admit(api, request, id)?, confirm))
    })();
    let (id, confirm) = match asked {
        Ok(asked) => asked,
        Err(error) => return Step::done(Err(error), trace),
    };
    let engine = api.engine.clone();
    let Some(key) = key else {
        let mut work = Box::pin(async move { engine.release(&id, confirm).await });
        return match (&mut work).now_or_never() {
            Some(released) => Step::done(verdict(released), trace),
            None => Step::run(async move { verdict(work.await) }, trace),
        };
    };
    let fingerprint = idempotency::fingerprint(request.head, request.body);
    let begun = api.replays.begin(key, fingerprint, |_| {
        let work = async move {
            match engine.release(&id, confirm).await {
                Ok(()) => Done::Released,
                Err(error) => Done::Failed(Rc::new(error.into())),
            }
        };
        work.boxed_local()
    });
    match begun {
        Ok(Begun::Work(work)) => Step::run(async move { done(&work.await) }, trace),
        Ok(Begun::Before(Before::Released)) => Step::done(Ok(no_content()), trace),
        Ok(Begun::Before(Before::Granted(..) | Before::Renewed(_))) => {
            Step::done(Err(ApiError::Mismatch), trace)
        }
        Err(error) => Step::done(Err(error), trace),
    }
}

fn verdict(released: Result<(), crate::engine::LeaseError>) -> Verdict {
    released.map(|()| no_content()).map_err(ApiError::from)
}

fn done(done: &Done) -> Verdict {
    match done {
        Done::Released => Ok(no_content()),
        Done::Failed(error) => Err(ApiError::clone(error)),
        Done::Granted(..) | Done::Renewed(_) => Err(ApiError::Mismatch),
    }
}

/// `?confirm=true`.
fn confirm(query: Option<&str>) -> Result<bool, ApiError> {
    match query {
        None | Some("" | "confirm=false") => Ok(false),
        Some("confirm=true") => Ok(true),
        Some(_) => Err(ApiError::Parameter(
            "the only query parameter of a release is confirm, true or false",
        )),
    }
}
