//! Who may call: the pod's bearer token, where a policy asks for it (`sidecar.auth: Token`).

use super::{Api, error::ApiError, http1::guard::Fields};
use crate::engine::{LeaseId, Policy};

/// Checks a call under a policy.
///
/// # Errors
/// [`ApiError::Unauthorized`], and [`ApiError::NoToken`] if there is none to compare with.
pub(super) fn check(api: &Api, policy: &Policy, fields: &Fields<'_>) -> Result<(), ApiError> {
    if policy.requires_token() {
        check_token(api, fields)
    } else {
        Ok(())
    }
}

/// Checks a call that names a lease, by the lease's policy. An id that leads to no lease has nothing to protect.
///
/// # Errors
/// Those of [`check`].
pub(super) fn check_lease(api: &Api, id: &LeaseId, fields: &Fields<'_>) -> Result<(), ApiError> {
    if api.engine.lease_requires_token(id) {
        check_token(api, fields)
    } else {
        Ok(())
    }
}

fn check_token(api: &Api, fields: &Fields<'_>) -> Result<(), ApiError> {
    let token = api.token.as_ref().ok_or(ApiError::NoToken)?;
    let Some(presented) = fields.authorization else {
        return Err(ApiError::Unauthorized(
            "the request has no Authorization: Bearer",
        ));
    };
    let presented = std::str::from_utf8(presented).unwrap_or_default();
    match presented.split_once(' ') {
        Some((scheme, presented)) if scheme.eq_ignore_ascii_case("bearer") => {
            if token.matches(presented.trim_start_matches(' ')) {
                Ok(())
            } else {
                Err(ApiError::Unauthorized("the bearer token is another"))
            }
        }
        _ => Err(ApiError::Unauthorized(
            "the Authorization is no bearer token",
        )),
    }
}
