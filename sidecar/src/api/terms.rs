//! The body of an acquire.

use pawl_lock::{
    Key, Owner,
    lease::{Mode, Renew},
};

use super::{
    dispatch::Request,
    error::ApiError,
    json::{self, BodyError, Given},
};
use crate::engine::Ask;

const TERMS: &[&str] = &["ttl", "wait", "owner", "mode", "renew", "maxHold"];
const TERMS_AND_KEYS: &[&str] = &["keys", "ttl", "wait", "owner", "mode", "renew", "maxHold"];
const KEYS_EXAMPLE: &str = "[\"account/1\",\"account/2\"]";

/// What a caller asks for, of the key in the path.
///
/// # Errors
/// [`ApiError::MediaType`], [`ApiError::Body`].
pub(super) fn of_one(request: &Request<'_>) -> Result<Ask, ApiError> {
    request.check_json()?;
    let mut ask = Ask::default();
    for (field, given) in json::fields(request.body, TERMS)? {
        set(&mut ask, &field, &given)?;
    }
    Ok(ask)
}

/// What a caller asks for, of the keys in the body.
///
/// # Errors
/// [`ApiError::MediaType`], [`ApiError::Body`].
pub(super) fn of_several(request: &Request<'_>) -> Result<(Vec<Key>, Ask), ApiError> {
    request.check_json()?;
    let mut ask = Ask::default();
    let mut keys = None;
    for (field, given) in json::fields(request.body, TERMS_AND_KEYS)? {
        if field == "keys" {
            let texts = given.texts("keys", KEYS_EXAMPLE)?;
            let read = |text: Result<&str, BodyError>| {
                Key::try_new(text?).map_err(|why| json::invalid_name("keys", why, KEYS_EXAMPLE))
            };
            keys = Some(texts.map(read).collect::<Result<Vec<Key>, _>>()?);
        } else {
            set(&mut ask, &field, &given)?;
        }
    }
    let missing = BodyError::Missing {
        field: "keys",
        example: KEYS_EXAMPLE,
    };
    Ok((keys.ok_or(missing)?, ask))
}

/// Takes a field over. Its name was checked.
fn set(ask: &mut Ask, field: &str, given: &Given<'_>) -> Result<(), BodyError> {
    match field {
        "ttl" => ask.ttl = Some(given.duration("ttl", "\"10s\"")?),
        "wait" => ask.wait = Some(given.duration("wait", "\"5s\"")?),
        "maxHold" => ask.max_hold = Some(given.duration("maxHold", "\"1m\"")?),
        "owner" => {
            let owner = Owner::try_new(given.text("owner", "\"orders-7\"")?);
            ask.owner =
                Some(owner.map_err(|why| json::invalid_name("owner", why, "\"orders-7\""))?);
        }
        "mode" => {
            let modes = [("exclusive", Mode::Exclusive), ("shared", Mode::Shared)];
            ask.mode = given.word("mode", &modes, "\"shared\"")?;
        }
        _ => {
            let ways = [("auto", Renew::Auto), ("manual", Renew::Manual)];
            ask.renew = Some(given.word("renew", &ways, "\"auto\"")?);
        }
    }
    Ok(())
}
