//! `GET /v1/locks/{policy}/{key}`: who holds a key.

use std::rc::Rc;

use pawl_kit::telemetry::RequestTrace;

use super::{
    Api, auth,
    dispatch::{Request, Step},
    error::ApiError,
    http1::response::Answer,
    path, view,
};

pub(super) fn begin(
    api: &Rc<Api>,
    request: &Request<'_>,
    policy: &str,
    key: &str,
    trace: RequestTrace,
) -> Step {
    let asked = (|| {
        request.check_no_query()?;
        request.check_empty()?;
        let policy = api.engine.policy(policy.into())?;
        auth::check(api, &policy, &request.head.fields)?;
        Ok::<_, ApiError>((policy, path::key(key)?))
    })();
    let (policy, key) = match asked {
        Ok(asked) => asked,
        Err(error) => return Step::done(Err(error), trace),
    };
    let engine = api.engine.clone();
    let work = async move {
        let info = engine.inspect(&policy, &key).await?;
        let now = engine.clock().wall();
        let body = view::key(policy.name().as_str(), key.as_str(), &info, now);
        Ok(Answer::json(body).into())
    };
    Step::cancellable(work, trace)
}
