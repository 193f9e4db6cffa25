//! `GET /v1/leases/{leaseId}`: whether it is still held, and how long.

use super::{
    Api, auth,
    dispatch::{Request, Verdict},
    error::ApiError,
    http1::response::Answer,
    view,
};
use crate::engine::{LeaseError, LeaseId};

pub(super) fn answer(api: &Api, request: &Request<'_>, id: &str) -> Verdict {
    request.check_no_query()?;
    request.check_empty()?;
    let id = admit(api, request, id)?;
    Ok(Answer::json(view::lease(&api.engine.lease(&id)?)).into())
}

/// The lease that a path names, if the caller may touch it.
///
/// # Errors
/// [`LeaseError::Unknown`] for a text that is no id, and those of [`auth::check_lease`].
pub(super) fn admit(api: &Api, request: &Request<'_>, id: &str) -> Result<LeaseId, ApiError> {
    let id = LeaseId::parse(id).ok_or(LeaseError::Unknown)?;
    auth::check_lease(api, &id, &request.head.fields)?;
    Ok(id)
}
