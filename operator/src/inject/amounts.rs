//! How much the sidecar gets.

use std::sync::Arc;

use pawl_crds::{LockPolicy, Quantity, ResourceAmounts, Resources, names::annotations::RESOURCES};
use serde_json::{Value, json};

use super::refusal::Refusal;

/// Reads the annotation.
pub(super) fn parse(text: &str) -> Result<Resources, Refusal> {
    let wrong = |problem: String| {
        let remedy = r#"give JSON such as {"requests":{"cpu":"10m","memory":"32Mi"},"limits":{"memory":"256Mi"}}"#;
        Refusal::new(RESOURCES, problem, remedy)
    };
    let resources: Resources =
        serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let Resources { requests, limits } = &resources;
    for (at, amounts) in [("requests", requests), ("limits", limits)] {
        let Some(ResourceAmounts { cpu, memory }) = amounts else {
            continue;
        };
        for (name, quantity) in [("cpu", cpu), ("memory", memory)] {
            if quantity
                .as_ref()
                .is_some_and(|quantity| !quantity.is_valid())
            {
                return Err(wrong(format!("{at}.{name} is no quantity")));
            }
        }
    }
    let over = |name: &str, get: fn(&ResourceAmounts) -> Option<&Quantity>| {
        let request = requests.as_ref().and_then(get);
        let limit = limits.as_ref().and_then(get);
        let is_over = request
            .zip(limit)
            .is_some_and(|(r, l)| r.micros() > l.micros());
        is_over.then(|| wrong(format!("requests.{name} is more than limits.{name}")))
    };
    let over = over("cpu", |a| a.cpu.as_ref()).or_else(|| over("memory", |a| a.memory.as_ref()));
    over.map_or(Ok(resources.clone()), Err)
}

/// What the sidecar gets: what the pod says, or the largest of each amount that its policies say, or the default.
pub(super) fn choose(wish: Option<&Resources>, policies: &[Arc<LockPolicy>]) -> Value {
    let said = policies
        .iter()
        .filter_map(|policy| policy.spec.sidecar.resources.as_ref());
    match wish.cloned().or_else(|| said.cloned().reduce(largest)) {
        Some(resources) => json!(resources),
        // No limit on cpu: a sidecar that is throttled renews late.
        None => json!({
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"memory": "256Mi"},
        }),
    }
}

fn largest(a: Resources, b: Resources) -> Resources {
    let requests = each(a.requests, b.requests);
    let mut limits = each(a.limits, b.limits);
    // One policy's request may be more than another's limit.
    if let (Some(limits), Some(requests)) = (&mut limits, &requests) {
        if limits.cpu.is_some() {
            limits.cpu = more(limits.cpu.take(), requests.cpu.clone());
        }
        if limits.memory.is_some() {
            limits.memory = more(limits.memory.take(), requests.memory.clone());
        }
    }
    Resources { requests, limits }
}

fn each(a: Option<ResourceAmounts>, b: Option<ResourceAmounts>) -> Option<ResourceAmounts> {
    match (a, b) {
        (Some(a), Some(b)) => Some(ResourceAmounts {
            cpu: more(a.cpu, b.cpu),
            memory: more(a.memory, b.memory),
        }),
        (a, b) => a.or(b),
    }
}

fn more(a: Option<Quantity>, b: Option<Quantity>) -> Option<Quantity> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if a.micros() < b.micros() { b } else { a }),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inject::fixtures::policy;

    #[test]
    fn the_largest_of_each_amount_wins_and_the_pod_over_all() {
        let with =
            |resources: Value| policy("p", json!({"memory": {}}), json!({"resources": resources}));
        let policies = [
            with(json!({"requests": {"cpu": "0.5", "memory": "64Mi"}})),
            with(json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "200m", "memory": "1G"}})),
            policy("q", json!({"memory": {}}), json!({})),
        ];
        let chosen = choose(None, &policies);
        let expected = json!({"requests": {"cpu": "0.5", "memory": "64Mi"}, "limits": {"cpu": "0.5", "memory": "1G"}});
        assert_eq!(chosen, expected);
        let wish = parse(r#"{"limits":{"memory":"1Gi"}}"#).unwrap();
        assert_eq!(
            choose(Some(&wish), &policies),
            json!({"limits": {"memory": "1Gi"}})
        );
        assert_eq!(choose(None, &policies[2..])["requests"]["cpu"], "10m");
    }
}
