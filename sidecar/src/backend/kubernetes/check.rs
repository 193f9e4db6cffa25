//! Looks at the API server and at what this account may do there.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::future::try_join_all;
use pawl_lock::{
    BackendError, Instant,
    backend::{Category, Finding, Outcome},
};

use super::{Kubernetes, budget::Urgency, errors::Doing};

/// How long rights that were looked at count, while nothing fails.
const RIGHTS_FOR: Duration = Duration::from_mins(10);

/// What no lock can be given without.
const NEEDED: [Doing; 3] = [Doing::Get, Doing::Create, Doing::Update];
/// What waiters need to be told.
const TOLD: [Doing; 2] = [Doing::List, Doing::Watch];

/// What the account may do, as far as it was looked at.
#[derive(Default)]
pub(super) struct Rights(Mutex<Option<(Instant, Vec<Finding>)>>);

impl Kubernetes {
    /// Reads an object, which shows that the server is there and knows the account; and asks what the account may do,
    /// each ten minutes or when something failed.
    pub(super) async fn check(&self) -> Result<Vec<Finding>, BackendError> {
        let now = (self.config.now)();
        let read = self.server.get(&self.names.sweep(), Urgency::Wanted).await;
        if read.is_ok()
            && let Some((since, findings)) = &*self.rights.known()
            && now.saturating_since(*since) < RIGHTS_FOR
        {
            return Ok(findings.clone());
        }
        *self.rights.known() = None;
        let missing = match self.missing().await {
            Ok(missing) => missing,
            // Without reviews there are the calls themselves.
            Err(error) if error.category() == Category::Config => Vec::new(),
            Err(error) => return Err(error),
        };
        let namespace = self.server.namespace();
        if let Some(verbs) = verbs(&missing, &NEEDED) {
            let message = format!(
                "the service account may not {verbs} leases.coordination.k8s.io in namespace {namespace}: bind it to \
                 a Role that allows get, list, watch, create, update and delete"
            );
            return Err(BackendError::new(
                Category::Config,
                Outcome::NotApplied,
                message,
            ));
        }
        read?;
        let findings = findings(&missing, namespace);
        *self.rights.known() = Some((now, findings.clone()));
        Ok(findings)
    }

    /// What the account may not do.
    async fn missing(&self) -> Result<Vec<Doing>, BackendError> {
        let all = NEEDED.into_iter().chain(TOLD).chain([Doing::Delete]);
        let asked = all.map(|doing| async move {
            Ok::<_, BackendError>((doing, self.server.may(doing).await?))
        });
        let answers = try_join_all(asked).await?;
        Ok(answers
            .into_iter()
            .filter(|(_, may)| !may)
            .map(|(doing, _)| doing)
            .collect())
    }
}

impl Rights {
    fn known(&self) -> std::sync::MutexGuard<'_, Option<(Instant, Vec<Finding>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn verbs(missing: &[Doing], of: &[Doing]) -> Option<String> {
    let verbs: Vec<_> = of
        .iter()
        .filter(|doing| missing.contains(doing))
        .map(|doing| doing.verb())
        .collect();
    (!verbs.is_empty()).then(|| verbs.join(", "))
}

/// What is missing but not needed to give a lock.
fn findings(missing: &[Doing], namespace: &str) -> Vec<Finding> {
    let finding = |reason, of: &[Doing], so: &str| {
        let verbs = verbs(missing, of)?;
        Some(Finding {
            reason,
            is_fatal: false,
            message: format!(
                "the service account may not {verbs} leases.coordination.k8s.io in namespace {namespace}, so {so}"
            ),
        })
    };
    let told = finding(
        "HintsForbidden",
        &TOLD,
        "waiters only learn of a free key when they ask, every few seconds",
    );
    let swept = finding(
        "SweepForbidden",
        &[Doing::Delete],
        "Leases that nobody uses any more are not removed",
    );
    told.into_iter().chain(swept).collect()
}
