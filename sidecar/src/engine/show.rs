//! Looking at keys and policies, and fences.

use pawl_lock::{
    BackendError, FencingToken, Instant, Key,
    backend::{BackendFuture, FenceVerdict, Holder},
};

use super::{
    Engine, EngineError, HolderInfo, KeyInfo, KeyRow, LeaseRow, MAX_LISTED, Policy, PolicyView,
    acquisition::not_allowed,
    arena::Id,
    service::Service,
    slots::Entry,
    state::{Holding, State},
};
use crate::metrics::Operation;

impl Engine {
    pub(super) async fn look_at(&self, policy: &Policy, key: &Key) -> Result<KeyInfo, EngineError> {
        let service = policy.serving()?;
        let settings = service.settings();
        if !settings.allows(key) {
            return Err(not_allowed(&settings, key));
        }
        let now = self.clock().now();
        if let Some(info) = self.state().local(now, &service, key) {
            return Ok(info);
        }
        let is_retained = self.state().retains(now, &service, key);
        let call = service.backend.backend.inspect(key);
        let mut seen = self.ask(&service, Operation::Inspect, call).await?;
        // A hold that this sidecar keeps after its last lease is nobody's: the next caller gets the key at once.
        let is_local = is_retained && seen.holders.len() == 1;
        if is_local {
            seen.holders.clear();
        }
        Ok(KeyInfo {
            holders: seen.holders.into_iter().map(holder_info).collect(),
            waiters: seen.waiters,
            is_local,
        })
    }

    pub(super) async fn present(
        &self,
        policy: &Policy,
        key: &Key,
        token: FencingToken,
    ) -> Result<FenceVerdict, EngineError> {
        let service = policy.serving()?;
        let settings = service.settings();
        if !settings.allows(key) {
            return Err(not_allowed(&settings, key));
        }
        let call = service.backend.backend.fence(key, token);
        let verdict = self.ask(&service, Operation::Fence, call).await?;
        if matches!(verdict, FenceVerdict::Stale { .. }) {
            service.metrics.fenced();
        }
        Ok(verdict)
    }

    /// Awaits a call that no slot makes, at most as long as the policy's calls may take.
    async fn ask<T>(
        &self,
        service: &Service,
        operation: Operation,
        call: BackendFuture<'_, T>,
    ) -> Result<T, EngineError> {
        let start = self.clock().now();
        let timeout = service.settings().terms.call_timeout;
        let result = tokio::select! {
            biased;
            result = call => result,
            () = self.clock().sleep(timeout) => Err(BackendError::timeout()),
        };
        let took = self.clock().now().saturating_since(start);
        let error = result.as_ref().err().map(BackendError::category);
        service.metrics.called(operation, took, error);
        result.map_err(|error| EngineError::Backend {
            retry_after: service.retry_after(&error),
            error: error.into(),
        })
    }
}

/// Another sidecar's hold, as the backend shows it.
fn holder_info(holder: Holder) -> HolderInfo {
    HolderInfo {
        owner: holder.owner,
        mode: holder.mode,
        token: holder.token.and_then(|token| token.lease(0)),
        held_for: holder.held_for,
        expires_in: holder.expires_in,
    }
}

impl State {
    /// A key that a lease of this sidecar holds; nothing if none does.
    fn local(&self, now: Instant, service: &Service, key: &Key) -> Option<KeyInfo> {
        let slot = *service.slots.borrow().get(key)?;
        let entry = self.slots.get(slot)?;
        let rows = self.rows(now, slot, entry);
        let info = |row: LeaseRow| HolderInfo {
            owner: row.owner,
            mode: row.mode,
            token: Some(row.token),
            held_for: Some(row.held_for),
            expires_in: Some(row.expires_in),
        };
        let holders: Vec<HolderInfo> = rows.map(info).take(MAX_LISTED).collect();
        (!holders.is_empty()).then_some(KeyInfo {
            holders,
            waiters: entry.waiters,
            is_local: true,
        })
    }

    /// Whether this sidecar holds a key at the backend without any lease.
    fn retains(&self, now: Instant, service: &Service, key: &Key) -> bool {
        let slot = service.slots.borrow().get(key).copied();
        let entry = slot.and_then(|slot| self.slots.get(slot));
        entry.is_some_and(|entry| entry.leases == 0 && entry.slot.view(now).is_held)
    }

    /// The applications' leases of a slot that are believed at `now`.
    fn rows<'a>(
        &'a self,
        now: Instant,
        slot: Id,
        entry: &'a Entry,
    ) -> impl Iterator<Item = LeaseRow> + 'a {
        let leases = entry.slot.view(now).leases.into_iter();
        leases.filter_map(move |(lease, view)| {
            use pawl_lock::lease::LeaseState;
            let is_uncertain = match view.state {
                LeaseState::Held => false,
                LeaseState::Uncertain => true,
                LeaseState::Lost(_) | LeaseState::Released => return None,
            };
            let Holding::Lease(id) = self.holdings.get(&(slot, lease))? else {
                return None;
            };
            let owner = self.leases.get(id)?.owner.clone();
            Some(LeaseRow {
                key: entry.key.clone(),
                owner,
                mode: view.mode,
                token: view.token,
                is_uncertain,
                held_for: now.saturating_since(view.granted),
                expires_in: view.deadline.left(now),
            })
        })
    }

    pub(super) fn overview(&self, now: Instant, policy: &Policy) -> PolicyView {
        let mut view = PolicyView {
            name: policy.name().clone(),
            backend: policy.backend(),
            leases: Vec::new(),
            lease_count: 0,
            keys: Vec::new(),
            key_count: 0,
            waiter_count: 0,
        };
        let Some(service) = policy.service() else {
            return view;
        };
        let mut slots: Vec<(Key, Id)> = service
            .slots
            .borrow()
            .iter()
            .map(|(key, slot)| (key.clone(), *slot))
            .collect();
        slots.sort_unstable();
        view.waiter_count = service.waiters.get() as u64;
        for (key, slot) in slots {
            let Some(entry) = self.slots.get(slot) else {
                continue;
            };
            view.key_count += 1;
            view.lease_count += u64::from(entry.leases);
            let room = MAX_LISTED - view.leases.len();
            if room > 0 {
                view.leases.extend(self.rows(now, slot, entry).take(room));
            }
            if view.keys.len() < MAX_LISTED {
                view.keys.push(KeyRow {
                    key,
                    is_held: entry.slot.view(now).is_held,
                    leases: entry.leases,
                    waiters: entry.waiters,
                });
            }
        }
        view
    }
}
