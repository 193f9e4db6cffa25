//! What nodes know: holders, the highest fenced token, their set-up.

use std::{sync::Arc, time::Duration};

use pawl_lock::{
    BackendError, FencingToken, Key,
    backend::{Category, FenceVerdict, Finding, Holder, Inspection, Outcome},
};

use super::{nodes::Nodes, tally::held};
use crate::backend::redis::{probe, reply::Probed};

/// Who holds a key: whom a majority of nodes shows.
pub(super) async fn inspect(nodes: &Arc<Nodes>, key: &Key) -> Result<Inspection, BackendError> {
    let quorum = nodes.quorum;
    let mut answers = nodes.ask(nodes.config.patience_without_ttl(), |nodes, index| {
        let key = key.clone();
        async move {
            let seen = async {
                let connection = nodes.node(index).connection().await?;
                nodes.calls.inspect(&connection, &key).await
            };
            (index, seen.await)
        }
    });
    let (mut answered, mut waiters, mut shown, mut errors) = (0, 0, Vec::new(), Vec::new());
    while let Some((_, answer)) = answers.next().await {
        match answer {
            Ok(seen) => {
                answered += 1;
                waiters = waiters.max(seen.waiters);
                shown.extend(seen.holders);
            }
            Err(error) => errors.push(error),
        }
        if quorum.is_majority(answered) && !is_open(nodes, &shown, answers.open()) {
            break;
        }
    }
    nodes.leave_rest(answers);
    if !quorum.is_majority(answered) {
        return Err(nodes.unreachable(answered, &errors));
    }
    Ok(Inspection {
        holders: held(quorum, shown),
        waiters,
    })
}

/// Whether the `open` nodes that have not answered could make a holder of one that is shown by too few.
fn is_open(nodes: &Nodes, shown: &[Holder], open: usize) -> bool {
    let quorum = nodes.quorum;
    shown.iter().any(|holder| {
        let is_same = |other: &&Holder| other.token == holder.token && other.mode == holder.mode;
        let count = shown.iter().filter(is_same).count();
        !quorum.is_majority(count) && quorum.is_majority(count + open)
    })
}

/// Whether a token is the newest: no node of a majority saw a larger one. A larger one that is told has been written to a
/// majority first, so that it is never forgotten by asking others.
pub(super) async fn fence(
    nodes: &Arc<Nodes>,
    key: &Key,
    token: FencingToken,
) -> Result<FenceVerdict, BackendError> {
    let mut presented = token;
    // Each round presents a larger token, and others present finitely many in this time.
    for _ in 0..MOST_ROUNDS {
        let (answered, highest) = present(nodes, key, presented).await?;
        if highest <= presented {
            return Ok(if presented > token {
                FenceVerdict::Stale { highest: presented }
            } else {
                FenceVerdict::Newest
            });
        }
        if nodes.quorum.is_majority(answered) {
            return Ok(FenceVerdict::Stale { highest });
        }
        presented = highest;
    }
    Err(BackendError::new(
        Category::Unavailable,
        Outcome::Unknown,
        "the fence's token rises too fast to be read",
    ))
}

/// How often a fence is asked with what it answered.
const MOST_ROUNDS: u32 = 4;

/// Presents a token; answers the highest that was seen, and how many nodes of the majority told it.
async fn present(
    nodes: &Arc<Nodes>,
    key: &Key,
    token: FencingToken,
) -> Result<(usize, FencingToken), BackendError> {
    let quorum = nodes.quorum;
    let mut answers = nodes.ask(nodes.config.patience_without_ttl(), |nodes, index| {
        let key = key.clone();
        async move {
            let node = nodes.node(index);
            let seen = async {
                let connection = node.connection().await?;
                let verdict = nodes.calls.fence(&connection, &key, token).await?;
                // It is told all the same, so that it knows when it counts again.
                match node.unfit(&connection, &nodes.config) {
                    None => Ok(verdict),
                    Some(finding) => Err(BackendError::new(
                        Category::Unavailable,
                        Outcome::Unknown,
                        finding.message,
                    )),
                }
            };
            (index, seen.await)
        }
    });
    let (mut seen, mut errors) = (Vec::new(), Vec::new());
    while !quorum.is_majority(seen.len()) {
        match answers.next().await {
            Some((_, Ok(FenceVerdict::Newest))) => seen.push(token),
            Some((_, Ok(FenceVerdict::Stale { highest }))) => seen.push(highest),
            Some((_, Err(error))) => errors.push(error),
            None => break,
        }
    }
    nodes.leave_rest(answers);
    if !quorum.is_majority(seen.len()) {
        return Err(nodes.unreachable(seen.len(), &errors));
    }
    let highest = seen.iter().copied().max().unwrap_or(token);
    let tellers = seen.iter().filter(|other| **other == highest).count();
    Ok((tellers, highest))
}

/// Looks at all nodes.
pub(super) async fn check(nodes: &Arc<Nodes>) -> Result<Vec<Finding>, BackendError> {
    // A connection may have to be made for it.
    let patience = nodes.config.connect_timeout + Duration::from_millis(500);
    let mut answers = nodes.ask(patience, |nodes, index| async move {
        let looked = look(&nodes, index).await;
        (index, looked)
    });
    let (mut findings, mut fit, mut answered, mut errors) = (Vec::new(), 0, 0, Vec::new());
    let mut down: Vec<String> = nodes.iter().map(super::node::Node::name).collect();
    while let Some((index, answer)) = answers.next().await {
        match answer {
            Ok((is_fit, found)) => {
                answered += 1;
                fit += usize::from(is_fit);
                let name = nodes.node(index).name();
                down.retain(|other| *other != name);
                findings.extend(found);
            }
            Err(error) => errors.push(error),
        }
    }
    if !nodes.quorum.is_majority(answered) {
        return Err(nodes.unreachable(answered, &errors));
    }
    if !down.is_empty() {
        down.sort();
        findings.push(Finding {
            reason: "NodesDown",
            is_fatal: false,
            message: format!(
                "{} of {} Redis servers do not answer: {}",
                down.len(),
                nodes.quorum.nodes(),
                down.join(", ")
            ),
        });
    }
    // While a majority counts, those that do not are only missing.
    if nodes.quorum.is_majority(fit) {
        for finding in &mut findings {
            finding.is_fatal = false;
        }
    }
    findings.sort_by(|one, other| (one.reason, &one.message).cmp(&(other.reason, &other.message)));
    Ok(findings)
}

/// Whether a node counts, and what is to be said about it.
async fn look(nodes: &Nodes, index: usize) -> Result<(bool, Vec<Finding>), BackendError> {
    let node = nodes.node(index);
    let connection = node.connection().await?;
    connection.refresh().await?;
    let Probed {
        clock_millis,
        can_tell,
    } = nodes.calls.probe(&connection).await?;
    let server = connection.server();
    let unfit = node.unfit(&connection, &nodes.config);
    let is_fit = unfit.is_none();
    let mut findings: Vec<Finding> = unfit.into_iter().collect();
    findings.extend(probe::clock_finding(clock_millis));
    if server.replicas > 0 || server.is_replica {
        findings.push(Finding {
            reason: "NodeReplicated",
            is_fatal: false,
            message: format!(
                "the Redis server {} is one of a primary and its replicas: a failover may forget who holds what \
                 without the wait that follows a restart; use independent servers",
                node.name()
            ),
        });
    }
    if !(can_tell && connection.can_hear()) {
        findings.push(probe::hints_forbidden());
    }
    Ok((is_fit, findings))
}
