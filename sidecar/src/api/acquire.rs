//! `POST /v1/locks/{policy}/{key}` and `POST /v1/locks/{policy}`: acquire one key, or several, all or nothing.

use std::rc::Rc;

use futures::future::FutureExt;
use pawl_kit::telemetry::RequestTrace;

use super::{
    Api, auth,
    delivery::Delivery,
    dispatch::{Outcome, Reply, Request, Step, Verdict},
    error::ApiError,
    http1::response::Answer,
    idempotency::{self, Before, Begun, Done, Work},
    path,
    stream::Stream,
    terms, view,
};
use crate::engine::{Ask, EngineError, Granted, Keys, Pending, Policy};

/// An acquire that was begun and is not answered.
pub(super) struct Waiting {
    pending: Pending,
    is_several: bool,
    trace: RequestTrace,
}

/// One key.
pub(super) fn one(
    api: &Rc<Api>,
    request: &Request<'_>,
    policy: &str,
    key: &str,
    trace: RequestTrace,
) -> Step {
    let asked = (|| {
        let policy = admit(api, request, policy)?;
        let key = path::key(key)?;
        Ok((policy, Keys::One(key), terms::of_one(request)?))
    })();
    begin(api, request, asked, false, trace)
}

/// Several keys.
pub(super) fn several(
    api: &Rc<Api>,
    request: &Request<'_>,
    policy: &str,
    trace: RequestTrace,
) -> Step {
    let asked = (|| {
        let policy = admit(api, request, policy)?;
        let (keys, ask) = terms::of_several(request)?;
        Ok((policy, Keys::Several(keys), ask))
    })();
    begin(api, request, asked, true, trace)
}

fn admit(api: &Api, request: &Request<'_>, policy: &str) -> Result<Rc<Policy>, ApiError> {
    request.check_no_query()?;
    let policy = api.engine.policy(policy.into())?;
    auth::check(api, &policy, &request.head.fields)?;
    Ok(policy)
}

type Asked = Result<(Rc<Policy>, Keys, Ask), ApiError>;

fn begin(
    api: &Rc<Api>,
    request: &Request<'_>,
    asked: Asked,
    is_several: bool,
    trace: RequestTrace,
) -> Step {
    let begun = asked.and_then(|(policy, keys, ask)| {
        let key = idempotency::key(request.head)?;
        match (wants_stream(request), key) {
            (false, None) => Ok(Start::Plain(api.engine.begin(&policy, keys, ask)?)),
            (false, Some(key)) => {
                let fingerprint = idempotency::fingerprint(request.head, request.body);
                let engine = api.engine.clone();
                let begun = api.replays.begin(key, fingerprint, |ticket| {
                    let work = async move {
                        match engine.acquire(&policy, keys, ask).await {
                            Ok(granted) => {
                                let delivery =
                                    Delivery::new(&engine, granted.lease_id, Some(ticket));
                                Done::Granted(Rc::new(granted), delivery)
                            }
                            Err(error) => Done::Failed(Rc::new(error.into())),
                        }
                    };
                    work.boxed_local()
                })?;
                Ok(Start::Keyed(begun))
            }
            (true, None) => {
                let ask = Ask {
                    attached: true,
                    ..ask
                };
                Ok(Start::Stream(api.engine.begin(&policy, keys, ask)?))
            }
            (true, Some(_)) => Err(ApiError::Parameter(
                "an event stream has no Idempotency-Key: the lease lives as long as its connection",
            )),
        }
    });
    match begun {
        Ok(Start::Plain(pending)) => Step::Acquire(Waiting {
            pending,
            is_several,
            trace,
        }),
        Ok(Start::Keyed(Begun::Work(work))) => {
            let api = Rc::clone(api);
            Step::cancellable(keyed(api, work, is_several), trace)
        }
        Ok(Start::Keyed(Begun::Before(before))) => {
            Step::done(again(api, &before, is_several), trace)
        }
        Ok(Start::Stream(pending)) => {
            Step::Stream(Box::new(Stream::hold(pending, is_several, trace)))
        }
        Err(error) => Step::done(Err(error), trace),
    }
}

enum Start {
    Plain(Pending),
    Keyed(Begun),
    Stream(Pending),
}

/// Whether the caller wants the lease as an event stream.
fn wants_stream(request: &Request<'_>) -> bool {
    let accept = request.head.fields.accept.unwrap_or_default();
    accept.split(|byte| *byte == b',').any(|range| {
        let kind = range.split(|byte| *byte == b';').next().unwrap_or_default();
        kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    })
}

impl Waiting {
    /// The answer, if it is there already.
    pub(super) fn try_now(&mut self, api: &Api) -> Option<Outcome> {
        let granted = (&mut self.pending).now_or_never()?;
        Some(self.answered(api, granted))
    }

    /// Waits for the answer. Dropped, it gives up its place.
    pub(super) async fn wait(&mut self, api: &Api) -> Outcome {
        let granted = (&mut self.pending).await;
        self.answered(api, granted)
    }

    fn answered(&self, api: &Api, granted: Result<Granted, EngineError>) -> Outcome {
        let verdict = granted.map_err(ApiError::from).map(|granted| {
            let delivery = Delivery::new(&api.engine, granted.lease_id, None);
            granted_reply(api, &granted, delivery, self.is_several)
        });
        Outcome::new(verdict, self.trace.clone())
    }
}

fn granted_reply(api: &Api, granted: &Granted, delivery: Rc<Delivery>, is_several: bool) -> Reply {
    let now = api.engine.clock().now();
    Reply {
        answer: Answer::json(view::grant(granted, is_several, now)),
        delivery: Some(delivery),
    }
}

/// Waits for an acquire with a key.
async fn keyed(api: Rc<Api>, work: Work, is_several: bool) -> Verdict {
    match work.await {
        Done::Granted(granted, delivery) => {
            granted_again(&api, &granted, Some(delivery), is_several)
        }
        Done::Failed(error) => Err(ApiError::clone(&error)),
        Done::Renewed(_) | Done::Released => Err(ApiError::Mismatch),
    }
}

/// Answers an acquire that was granted before.
fn again(api: &Api, before: &Before, is_several: bool) -> Verdict {
    match before {
        Before::Granted(granted, delivery) => {
            granted_again(api, granted, delivery.upgrade(), is_several)
        }
        Before::Renewed(_) | Before::Released => Err(ApiError::Mismatch),
    }
}

/// The grant as it is now; never one that is over (law 3).
fn granted_again(
    api: &Api,
    granted: &Granted,
    delivery: Option<Rc<Delivery>>,
    is_several: bool,
) -> Verdict {
    let info = api.engine.lease(&granted.lease_id)?;
    let granted = Granted {
        deadline: info.deadline,
        valid_until: info.valid_until,
        ttl: info.ttl,
        ..granted.clone()
    };
    let now = api.engine.clock().now();
    Ok(Reply {
        answer: Answer::json(view::grant(&granted, is_several, now)),
        delivery,
    })
}
