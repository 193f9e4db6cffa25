//! `GET /v1/leases/{leaseId}/events`: the changes of a lease as a stream.

use std::rc::Rc;

use pawl_kit::telemetry::RequestTrace;

use super::{
    Api,
    dispatch::{Request, Step},
    error::ApiError,
    lease,
    stream::Stream,
};

pub(super) fn begin(api: &Rc<Api>, request: &Request<'_>, id: &str, trace: RequestTrace) -> Step {
    let begun = (|| {
        request.check_no_query()?;
        request.check_empty()?;
        let id = lease::admit(api, request, id)?;
        let changes = api.engine.subscribe(&id)?;
        let info = api.engine.lease(&id)?;
        let attached = api.engine.attach(&id)?;
        Ok::<_, ApiError>((changes, info, attached))
    })();
    match begun {
        Ok((changes, info, attached)) => {
            Step::Stream(Box::new(Stream::watch(changes, info, attached, trace)))
        }
        Err(error) => Step::done(Err(error), trace),
    }
}
