//! Follows one pod: what its sidecar serves, and a touch when that is not what it should.
//!
//! The kubelet brings a changed ConfigMap to a pod's mount when it next looks at the pod, which is within its minute,
//! or at once when the pod changes. So the operator changes an annotation of pods that are behind. The kubelet may
//! look before it has heard of the new ConfigMap; then a second touch follows, and a third, with a doubling pause, and no
//! more.

use std::{convert::Infallible, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::runtime::{controller::Action, reflector::ObjectRef};
use pawl_crds::names::annotations;
use rand::RngExt as _;

use super::{
    bound::{self, Standing},
    controller::Leading,
    render,
    report::{self, Report, State},
};

/// How often a sidecar is asked that is as it should be; less by up to a tenth.
const STEADY: Duration = Duration::from_secs(10);
/// The shortest pause before a sidecar is asked again that is not.
const SHORTEST: Duration = Duration::from_millis(250);
/// A pod that did not answer for so long is touched for what it may not have. Before, it is starting.
const STARTING: Duration = Duration::from_secs(5);
/// After how long astray a pod is touched for the second, third and fourth time.
const AGAIN: [Duration; 3] = [
    Duration::from_secs(2),
    Duration::from_secs(6),
    Duration::from_secs(14),
];

/// How a pod stands to what is rendered for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Course {
    /// It has read all of it.
    Steady,
    /// It says that it has not.
    Behind,
    /// It says nothing.
    Silent,
}

/// Asks the pod's sidecar once, and says when to ask again. What goes wrong is part of what is seen, or is tried again.
pub(super) async fn follow(pod: Arc<Pod>, leading: Arc<Leading>) -> Result<Action, Infallible> {
    let (namespace, name) = named(&pod);
    let key = (namespace.to_owned(), name.to_owned());
    let Standing::At(address) = bound::standing(&pod) else {
        if leading.reports.forget(&key) {
            leading.tell_policies_of(&pod).await;
        }
        return Ok(Action::await_change());
    };
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let said = match leading.fetch.status(address).await {
        Ok(answer) => report::parse(&answer, namespace, name).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let report = said
        .inspect_err(|error| tracing::debug!(namespace, pod = name, error, "a sidecar is silent"))
        .ok();
    let rendered = rendered(&pod, &leading);
    let course = course(&rendered, report.as_ref());
    if leading.reports.keep(&key, uid, report) {
        leading.tell_policies_of(&pod).await;
    }
    let now = leading.clock.now();
    let Some(since) = leading.reports.astray(&key, course != Course::Steady, now) else {
        return Ok(Action::requeue(jittered(STEADY)));
    };
    let astray = now.saturating_since(since);
    let sum = render::sum(
        rendered
            .iter()
            .map(|(policy, map)| (*policy, map.as_deref())),
    );
    if let Some(touch) = touch(&pod, course, astray, &sum)
        && let Err(error) = leading.writer.poke(&pod, &touch).await
        && !error.is_stale()
    {
        tracing::warn!(namespace, pod = name, %error, "a pod was not touched");
    }
    Ok(Action::requeue((astray / 2).clamp(SHORTEST, STEADY)))
}

/// The pod's policies with their ConfigMaps.
fn rendered<'a>(pod: &'a Pod, leading: &Leading) -> Vec<(&'a str, Option<Arc<ConfigMap>>)> {
    let (namespace, _) = named(pod);
    let find = |policy: &'a str| {
        let named = ObjectRef::new(&render::name(policy)).within(namespace);
        let map = leading.config_maps.get(&named);
        let ours = map.filter(|map| render::policy_of(map) == Some(policy));
        (policy, ours)
    };
    bound::policies(pod).into_iter().map(find).collect()
}

fn course(rendered: &[(&str, Option<Arc<ConfigMap>>)], report: Option<&Report>) -> Course {
    let Some(report) = report else {
        return Course::Silent;
    };
    let is_behind = rendered.iter().any(|(policy, map)| {
        let wanted = map.as_deref().and_then(render::generation);
        match (wanted, report.policies.get(*policy)) {
            // Not "smaller": a policy that was deleted and made anew begins at 1 again.
            (Some(wanted), Some(said)) => said.read != Some(wanted) || said.state == State::Removed,
            (Some(_), None) => true,
            (None, Some(said)) => said.state != State::Removed,
            (None, None) => false,
        }
    });
    if is_behind {
        Course::Behind
    } else {
        Course::Steady
    }
}

/// What to write into the annotation; none if it stands there, or nothing is to be written.
fn touch(pod: &Pod, course: Course, astray: Duration, sum: &str) -> Option<String> {
    let due = match course {
        Course::Behind => AGAIN.iter().filter(|after| astray >= **after).count(),
        Course::Silent if astray >= STARTING => 0,
        Course::Silent | Course::Steady => return None,
    };
    let written = bound::annotation(pod, annotations::POLICY_SUM).unwrap_or_default();
    let (before, touches) = written.split_once('.').unwrap_or((written, "0"));
    if before == sum && touches.parse().is_ok_and(|touches: usize| touches >= due) {
        return None;
    }
    Some(if due == 0 {
        sum.to_owned()
    } else {
        format!("{sum}.{due}")
    })
}

fn named(pod: &Pod) -> (&str, &str) {
    let metadata = &pod.metadata;
    (
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

fn jittered(most: Duration) -> Duration {
    most.mul_f64(rand::rng().random_range(0.9..=1.0))
}

#[cfg(test)]
mod tests;
