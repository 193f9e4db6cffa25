//! `GET /v1/locks/{policy}`: the leases, holds and waiters of this sidecar.

use super::{
    Api, auth,
    dispatch::{Request, Verdict},
    http1::response::Answer,
    view,
};

pub(super) fn answer(api: &Api, request: &Request<'_>, policy: &str) -> Verdict {
    request.check_no_query()?;
    request.check_empty()?;
    let policy = api.engine.policy(policy.into())?;
    auth::check(api, &policy, &request.head.fields)?;
    Ok(Answer::json(view::overview(&api.engine.overview(&policy))).into())
}
