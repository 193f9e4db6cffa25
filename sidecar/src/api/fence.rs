//! `POST /v1/fences/{policy}/{key}`: is this token the newest that was seen?

use std::rc::Rc;

use pawl_kit::telemetry::RequestTrace;
use pawl_lock::{FencingToken, backend::FenceVerdict};

use super::{
    Api, auth,
    dispatch::{Request, Step},
    error::ApiError,
    http1::response::Answer,
    json::{self, BodyError},
    path, view,
};

const EXAMPLE: &str = "{\"fencingToken\":42}";

pub(super) fn begin(
    api: &Rc<Api>,
    request: &Request<'_>,
    policy: &str,
    key: &str,
    trace: RequestTrace,
) -> Step {
    let asked = (|| {
        request.check_no_query()?;
        let policy = api.engine.policy(policy.into())?;
        auth::check(api, &policy, &request.head.fields)?;
        Ok::<_, ApiError>((policy, path::key(key)?, token(request)?))
    })();
    let (policy, key, token) = match asked {
        Ok(asked) => asked,
        Err(error) => return Step::done(Err(error), trace),
    };
    let engine = api.engine.clone();
    let work = async move {
        match engine.fence(&policy, &key, token).await? {
            FenceVerdict::Newest => {
                let body = view::fenced(policy.name().as_str(), key.as_str(), token);
                Ok(Answer::json(body).into())
            }
            FenceVerdict::Stale { highest } => Err(ApiError::Stale {
                presented: token.get(),
                highest: highest.get(),
            }),
        }
    };
    Step::run(work, trace)
}

fn token(request: &Request<'_>) -> Result<FencingToken, ApiError> {
    request.check_json()?;
    let fields = json::fields(request.body, &["fencingToken"])?;
    let Some((_, given)) = fields.first() else {
        let field = "fencingToken";
        let example = EXAMPLE;
        return Err(BodyError::Missing { field, example }.into());
    };
    let (least, most) = (FencingToken::MIN.get(), FencingToken::MAX.get());
    let token = given.whole("fencingToken", least, most, EXAMPLE)?;
    FencingToken::try_new(token)
        .map_err(|why| json::invalid("fencingToken", why.to_string(), EXAMPLE).into())
}
