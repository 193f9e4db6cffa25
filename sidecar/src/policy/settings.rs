//! From a `LockPolicy` to the engine's terms. The one place where the two vocabularies meet.

use std::{sync::Arc, time::Duration};

use pawl_crds::{Auth, KeyPattern, LockPolicy, names::DEFAULT_NAMESPACE};
use pawl_lock::{
    Namespace, PolicyName, Ttl,
    lease::{Order, Renew},
    slot::{Backoff, Terms},
};

use crate::{
    backend::{Scope, kubernetes},
    engine::{BackendConfig, Origin, Settings},
};

/// How often a place in a queue is asked for again when the backend did not say that it is its turn. A waiter does not
/// depend on it but for hints that were lost, so it may be slow; a second keeps the wait after a lost hint short, and
/// its cost low: one call a second for each key that is waited for. The slot spreads it.
const POLL: Duration = Duration::from_secs(1);

/// The bounds of how long one backend call may take. A third of the ttl leaves time for two more tries of a renewal
/// before the lease ends; beyond two seconds a caller is better off with an answer than with more waiting.
const CALL_TIMEOUT: (Duration, Duration) = (Duration::from_millis(30), Duration::from_secs(2));

/// Why a policy that is valid by its schema cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Unusable {
    field: &'static str,
    message: String,
}

/// Turns a valid policy into the engine's terms.
///
/// # Errors
/// [`Unusable`] for what the schema should not have let through.
pub fn settings(policy: &LockPolicy, origin: Origin) -> Result<Settings, Unusable> {
    let unusable = |field| {
        move |error: &dyn std::error::Error| Unusable {
            field,
            message: error.to_string(),
        }
    };
    let name = policy.metadata.name.as_deref().unwrap_or_default();
    let name = PolicyName::try_new(name).map_err(|error| unusable("metadata.name")(&error))?;
    let namespace = policy.metadata.namespace.as_deref();
    let namespace = Namespace::try_new(namespace.unwrap_or(DEFAULT_NAMESPACE))
        .map_err(|error| unusable("metadata.namespace")(&error))?;
    let pawl_crds::LockPolicySpec {
        purpose: _, // decided at admission
        backend,
        lease,
        acquire,
        keys,
        sidecar,
    } = &policy.spec;

    let ttl = |field, ttl: pawl_crds::ApiDuration| {
        Ttl::try_new(ttl.into()).map_err(|error| unusable(field)(&error))
    };
    let pattern = |text: &String| {
        KeyPattern::try_new(text).map_err(|error| unusable("spec.keys.allow")(&error))
    };
    let scope = if keys.prefix.is_empty() {
        Scope::of(&namespace, &name)
    } else {
        Scope::with_prefix(&keys.prefix).map_err(|error| unusable("spec.keys.prefix")(&error))?
    };
    let lease_ttl = ttl("spec.lease.ttl", lease.ttl)?;
    let max_ttl = ttl("spec.lease.maxTtl", lease.max_ttl)?;
    Ok(Settings {
        terms: Arc::new(terms(lease, acquire, backend)),
        ttl: lease_ttl,
        max_ttl,
        renew: match lease.renew {
            pawl_crds::Renew::Auto => Renew::Auto,
            pawl_crds::Renew::Manual => Renew::Manual,
        },
        max_hold: lease.max_hold.into(),
        wait: acquire.wait.into(),
        max_wait: acquire.max_wait.into(),
        allow: keys.allow.iter().map(pattern).collect::<Result<_, _>>()?,
        max_held: keys.max_held,
        max_waiters: keys.max_waiters,
        requires_token: sidecar.auth == Auth::Token,
        backend: BackendConfig {
            spec: backend.clone(),
            policy: name.clone(),
            namespace: namespace.clone(),
            scope,
            ttl: lease_ttl,
            max_ttl,
        },
        origin,
        name,
        namespace,
    })
}

fn terms(
    lease: &pawl_crds::Lease,
    acquire: &pawl_crds::Acquire,
    backend: &pawl_crds::Backend,
) -> Terms {
    let (shortest, longest) = CALL_TIMEOUT;
    Terms {
        order: match acquire.order {
            pawl_crds::Order::Fifo => Order::Fifo,
            pawl_crds::Order::Any => Order::Any,
        },
        lock_delay: lease.lock_delay.into(),
        retain: lease.retain.into(),
        idle: lease.idle.map(Into::into),
        retry: Backoff {
            initial: acquire.retry.initial.into(),
            max: acquire.retry.max.into(),
            factor: acquire.retry.factor,
            is_jittered: acquire.retry.jitter == pawl_crds::Jitter::Full,
        },
        poll: if backend.kubernetes.is_some() {
            kubernetes::POLL
        } else {
            POLL
        },
        call_timeout: (lease.ttl.as_std() / 3).clamp(shortest, longest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(spec: &str) -> Settings {
        let text = format!(
            "apiVersion: pawl.dev/v1alpha1\nkind: LockPolicy\nmetadata: {{name: p, namespace: team}}\nspec: {spec}"
        );
        let policy = pawl_crds::parse(&text).unwrap();
        settings(&policy, Origin::default()).unwrap()
    }

    #[test]
    fn defaults_are_those_of_the_schema() {
        let settings = parsed("{backend: {memory: {}}}");
        assert_eq!(settings.ttl.as_millis(), 10_000);
        assert_eq!(settings.max_hold, Duration::from_mins(10));
        assert_eq!(settings.wait, Duration::ZERO);
        assert_eq!(settings.terms.retain, Duration::from_secs(1));
        assert_eq!(settings.terms.order, Order::Fifo);
        assert_eq!(settings.terms.idle, None);
        assert_eq!(settings.terms.call_timeout, Duration::from_secs(2));
        assert_eq!(settings.backend.scope.as_str(), "team/p");
        assert!(!settings.requires_token);
    }

    #[test]
    fn every_field_has_its_place() {
        let settings = parsed(
            "{backend: {memory: {}}, lease: {ttl: 300ms, maxTtl: 2s, renew: Manual, maxHold: 3s, lockDelay: 4s, \
             retain: 5s, idle: 1s}, acquire: {wait: 6s, maxWait: 7s, order: Any, retry: {initial: 8ms, max: 9ms, \
             factor: 3, jitter: None}}, keys: {prefix: shared, allow: [\"a/*\"], maxHeld: 11, maxWaiters: 12}, sidecar: {auth: Token}}",
        );
        let seconds = Duration::from_secs;
        assert_eq!(settings.ttl.as_millis(), 300);
        assert_eq!(settings.max_ttl.as_millis(), 2_000);
        assert_eq!(settings.renew, Renew::Manual);
        assert_eq!(settings.max_hold, seconds(3));
        assert_eq!((settings.wait, settings.max_wait), (seconds(6), seconds(7)));
        assert_eq!(settings.allow[0].as_str(), "a/*");
        assert_eq!((settings.max_held, settings.max_waiters), (11, 12));
        assert!(settings.requires_token);
        assert_eq!(settings.backend.scope.as_str(), "=shared");
        assert_eq!(
            *settings.terms,
            Terms {
                order: Order::Any,
                lock_delay: seconds(4),
                retain: seconds(5),
                idle: Some(seconds(1)),
                retry: Backoff {
                    initial: Duration::from_millis(8),
                    max: Duration::from_millis(9),
                    factor: 3,
                    is_jittered: false,
                },
                poll: POLL,
                call_timeout: Duration::from_millis(100),
            }
        );
    }
}
