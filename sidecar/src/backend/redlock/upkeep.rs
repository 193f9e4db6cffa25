//! Keeping holds and letting them go.

use std::sync::Arc;

use pawl_lock::{
    BackendError,
    backend::{
        AbandonRequest, Abandoned, Category, Outcome, ReleaseRequest, Released, RenewRequest,
        Renewed,
    },
    quorum::is_worth,
};

use super::{nodes::Nodes, tally::oldest};

/// Extends a hold at the nodes where it still is; a majority must.
pub(super) async fn renew(
    nodes: &Arc<Nodes>,
    request: &RenewRequest,
) -> Result<Renewed, BackendError> {
    let start = nodes.clock.now();
    let quorum = nodes.quorum;
    let request = Arc::new(request.clone());
    let mut answers = nodes.ask(nodes.config.patience(request.ttl), |nodes, index| {
        let request = Arc::clone(&request);
        async move {
            let node = nodes.node(index);
            let renewed = async {
                let connection = node.connection().await?;
                if node.is_doubted(request.hold) {
                    return Err(BackendError::timeout());
                }
                nodes.calls.renew(&connection, &request).await
            };
            (index, renewed.await)
        }
    });
    let (mut extended, mut strangers, mut errors) = (0, 0, Vec::new());
    let mut longest = None;
    while let Some((_, answer)) = answers.next().await {
        match answer {
            Ok(Renewed::Extended { wanted }) => {
                extended += 1;
                longest = oldest(longest, wanted);
            }
            Ok(Renewed::NotOwner) => strangers += 1,
            Err(error) => errors.push(error),
        }
        let open = answers.open();
        if quorum.is_majority(extended)
            || quorum.is_majority(strangers)
            || !quorum.is_majority(extended + open) && !quorum.is_majority(strangers + open)
        {
            break;
        }
    }
    nodes.leave_rest(answers);
    if quorum.is_majority(strangers) {
        return Ok(Renewed::NotOwner);
    }
    if !quorum.is_majority(extended) {
        let error = nodes.unreachable(extended + strangers, &errors);
        return Err(BackendError::new(
            error.category(),
            Outcome::Unknown,
            error.to_string(),
        ));
    }
    if !is_worth(start, nodes.clock.now(), request.ttl) {
        return Err(BackendError::timeout());
    }
    Ok(Renewed::Extended { wanted: longest })
}

/// Lets a hold go at all nodes.
pub(super) async fn release(
    nodes: &Arc<Nodes>,
    request: &ReleaseRequest,
) -> Result<Released, BackendError> {
    let quorum = nodes.quorum;
    let request = Arc::new(request.clone());
    let patience = nodes.config.patience_without_ttl();
    let mut answers = nodes.ask(patience, |nodes, index| {
        let request = Arc::clone(&request);
        async move { (index, let_go(&nodes, index, &request).await) }
    });
    let (mut owners, mut strangers, mut unsure, mut errors) = (0, 0, 0, Vec::new());
    while let Some((_, answer)) = answers.next().await {
        match answer {
            Ok(Some(true)) => owners += 1,
            Ok(Some(false)) => strangers += 1,
            Ok(None) => unsure += 1,
            Err(error) => errors.push(error),
        }
        if quorum.is_majority(owners) || quorum.is_majority(strangers) {
            break;
        }
    }
    nodes.leave_rest(answers);
    let ended = owners + strangers + unsure;
    if !quorum.is_majority(ended) {
        let error = nodes.unreachable(ended, &errors);
        return Err(BackendError::new(
            error.category(),
            Outcome::Unknown,
            error.to_string(),
        ));
    }
    // The nodes that did not say may have been the rest of its majority.
    let silent = quorum.nodes() - owners - strangers;
    Ok(Released {
        was_owner: owners > 0 && quorum.is_majority(owners + silent),
        next: None,
    })
}

/// Lets a hold go at one node, and tells whether it was there; nothing if that is not known. Where a call that was given
/// up may still take effect, an id that is never used again is kept from coming back by a tombstone.
async fn let_go(
    nodes: &Nodes,
    index: usize,
    request: &ReleaseRequest,
) -> Result<Option<bool>, BackendError> {
    let node = nodes.node(index);
    let connection = node.connection().await?;
    let ended = if node.may_be_late() || node.is_doubted(request.hold) {
        let abandon = AbandonRequest {
            key: request.key.clone(),
            hold: request.hold,
            mode: request.mode,
            ttl: nodes.config.max_ttl,
        };
        nodes.calls.abandon(&connection, &abandon).await?;
        None
    } else {
        let released = nodes
            .calls
            .release(&connection, request, None, None)
            .await?;
        Some(released.was_owner)
    };
    node.trust(request.hold);
    Ok(ended)
}

/// Makes an attempt go away at all nodes.
///
/// It is settled when a majority has a tombstone: a call that is still under way can then take effect at a minority at
/// most, which is no hold. A node that loses its tombstone by a restart has lost the connection that such a call would
/// come on too.
pub(super) async fn abandon(
    nodes: &Arc<Nodes>,
    request: &AbandonRequest,
) -> Result<Abandoned, BackendError> {
    let quorum = nodes.quorum;
    let request = Arc::new(request.clone());
    let mut answers = nodes.ask(nodes.config.patience(request.ttl), |nodes, index| {
        let request = Arc::clone(&request);
        async move {
            let node = nodes.node(index);
            let gone = async {
                let connection = node.connection().await?;
                nodes.calls.abandon(&connection, &request).await
            };
            let gone = gone.await;
            if gone.is_ok() {
                node.trust(request.hold);
            }
            (index, gone)
        }
    });
    let (mut settled, mut errors) = (0, Vec::new());
    while !quorum.is_majority(settled) {
        match answers.next().await {
            Some((_, Ok(Abandoned::Settled))) => settled += 1,
            Some((_, Ok(Abandoned::Unsettled))) => {}
            Some((_, Err(error))) => errors.push(error),
            None => break,
        }
    }
    nodes.leave_rest(answers);
    if quorum.is_majority(settled) {
        return Ok(Abandoned::Settled);
    }
    if errors
        .iter()
        .any(|error| error.category() == Category::Config)
    {
        return Err(nodes.unreachable(settled, &errors));
    }
    Ok(Abandoned::Unsettled)
}
