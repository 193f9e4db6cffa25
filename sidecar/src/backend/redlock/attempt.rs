//! Getting a hold: the vote, the token, and what is done when it fails.

use std::{sync::Arc, time::Duration};

use futures::{
    future::{join, join_all},
    stream::{FuturesUnordered, StreamExt as _},
};
use pawl_lock::{
    BackendError, BackendToken, Instant,
    backend::{AcquireRequest, Acquired, Category, Granted, Outcome, ReleaseRequest, Released},
    quorum::{Verdict, is_worth},
};
use tokio::{sync::oneshot, time::timeout};

use super::{
    nodes::{Answers, Nodes},
    tally::Tally,
};
use crate::backend::redis::connection::STALLED_AFTER;

/// How often nodes are asked to agree on a token. One exclusive holder needs once; shared ones that come together may
/// take a number from each other.
const MOST_RAISES: u32 = 8;

/// What one node said.
struct Cast {
    /// Whether it had the hold that was to be released.
    was_owner: Option<bool>,
    /// Its vote on the attempt.
    vote: Result<Acquired, BackendError>,
}

/// Asks for a hold, and lets one go in the same step if there is one to let go.
pub(super) async fn attempt(
    nodes: &Arc<Nodes>,
    release: Option<ReleaseRequest>,
    request: &AcquireRequest,
) -> Result<Released, BackendError> {
    let start = nodes.clock.now();
    let proposed = u64::try_from(nodes.clock.wall().unix_millis()).unwrap_or(0);
    let patience = nodes.config.patience(request.ttl);
    let request = Arc::new(request.clone());
    let release = release.map(Arc::new);
    let mut answers = nodes.ask(patience, |nodes, node| {
        cast(nodes, node, release.clone(), Arc::clone(&request), proposed)
    });
    let mut tally = Tally::new(nodes.quorum);
    let (mut owners, mut strangers, mut late) = (0, 0, Vec::new());
    while tally.verdict() == Verdict::Open {
        let Some((node, cast)) = answers.next().await else {
            late = tally.close();
            for node in &late {
                nodes.node(*node).may_follow(request.ttl.as_duration());
            }
            break;
        };
        match cast.was_owner {
            Some(true) => owners += 1,
            Some(false) => strangers += 1,
            None => {}
        }
        tally.note(node, cast.vote);
    }
    let next = match settle(nodes, start, &request, &tally).await {
        Ok(token) => {
            finish(nodes, answers, &tally, &request);
            Acquired::Granted(Granted {
                token,
                session: 0,
                wanted: tally.wanted(),
            })
        }
        Err(failed) => {
            late.extend(tally.open());
            let is_clean = undo(nodes, &request, &tally, late, answers, patience).await;
            match failed {
                Failed::Busy if is_clean => Acquired::Busy(tally.busy()),
                Failed::Busy => return Err(unsettled()),
                Failed::Error(error) if is_clean => return Err(error),
                Failed::Error(error) => {
                    return Err(BackendError::new(
                        error.category(),
                        Outcome::Unknown,
                        error.to_string(),
                    ));
                }
            }
        }
    };
    let unheard = nodes.quorum.nodes() - owners - strangers;
    Ok(Released {
        was_owner: owners > 0 && nodes.quorum.is_majority(owners + unheard),
        next: Some(next),
    })
}

/// Why there is no grant.
enum Failed {
    Busy,
    Error(BackendError),
}

/// One node's part.
async fn cast(
    nodes: Arc<Nodes>,
    index: usize,
    release: Option<Arc<ReleaseRequest>>,
    request: Arc<AcquireRequest>,
    proposed: u64,
) -> (usize, Cast) {
    let node = nodes.node(index);
    let unheard = |error| Cast {
        was_owner: None,
        vote: Err(error),
    };
    let connection = match node.connection().await {
        Ok(connection) => connection,
        Err(error) => return (index, unheard(error)),
    };
    let refused = node.refuse(&connection, &nodes.config, request.hold);
    let calls = &nodes.calls;
    let cast = match (release, refused) {
        (None, Some(error)) => unheard(error),
        (None, None) => Cast {
            was_owner: None,
            vote: calls.acquire(&connection, &request, Some(proposed)).await,
        },
        (Some(release), refused) => {
            let next = refused.is_none().then_some(&*request);
            match calls
                .release(&connection, &release, next, Some(proposed))
                .await
            {
                Err(error) => unheard(error),
                Ok(Released { was_owner, next }) => Cast {
                    was_owner: Some(was_owner),
                    vote: match (next, refused) {
                        (Some(acquired), _) => Ok(acquired),
                        (None, Some(error)) => Err(error),
                        (None, None) => Err(BackendError::timeout()),
                    },
                },
            }
        }
    };
    (index, cast)
}

/// What the vote came to: the token, if there is a grant that is worth something.
async fn settle(
    nodes: &Arc<Nodes>,
    start: Instant,
    request: &Arc<AcquireRequest>,
    tally: &Tally,
) -> Result<BackendToken, Failed> {
    let token = match tally.verdict() {
        Verdict::Granted(token) => token,
        Verdict::Raise(largest) => agree(nodes, request, tally, largest).await?,
        Verdict::Busy => return Err(Failed::Busy),
        Verdict::Open | Verdict::Unreachable => {
            let error = nodes.unreachable(tally.answered(), &tally.errors);
            return Err(Failed::Error(error));
        }
    };
    if is_worth(start, nodes.clock.now(), request.ttl) {
        return Ok(token);
    }
    Err(Failed::Error(BackendError::new(
        Category::Timeout,
        Outcome::NotApplied,
        "the Redis servers answered when nothing was left of the ttl",
    )))
}

/// The second phase: the nodes that granted are asked to assign one number, until a majority has.
async fn agree(
    nodes: &Arc<Nodes>,
    request: &Arc<AcquireRequest>,
    tally: &Tally,
    largest: BackendToken,
) -> Result<BackendToken, Failed> {
    let mut wanted = largest;
    for _ in 0..MOST_RAISES {
        let granted = tally.granted.iter().map(|(node, _)| *node);
        let patience = nodes.config.patience(request.ttl);
        let mut answers = nodes.ask_some(granted, patience, |nodes, index| {
            let request = Arc::clone(request);
            async move {
                let raised = async {
                    let connection = nodes.node(index).connection().await?;
                    nodes.calls.raise(&connection, &request, wanted).await
                };
                (index, raised.await)
            }
        });
        let (mut numbers, mut errors) = (Vec::new(), Vec::new());
        while nodes.quorum.agreed(&numbers).is_none() {
            match answers.next().await {
                Some((_, Ok(Some(number)))) => numbers.push(number),
                // It ended meanwhile: the node restarted or its clock jumped.
                Some((_, Ok(None))) => {}
                Some((_, Err(error))) => errors.push(error),
                None => break,
            }
        }
        if let Some(agreed) = nodes.quorum.agreed(&numbers) {
            nodes.leave_rest(answers);
            return Ok(agreed);
        }
        if !nodes.quorum.is_majority(numbers.len()) {
            return Err(Failed::Error(nodes.unreachable(numbers.len(), &errors)));
        }
        wanted = numbers.into_iter().max().unwrap_or(wanted);
    }
    Err(Failed::Busy)
}

/// Lets the slow nodes grant what a majority has granted. Those that do not within their time may do so at any later one.
fn finish<F>(nodes: &Arc<Nodes>, mut rest: Answers<F>, tally: &Tally, request: &AcquireRequest)
where
    F: Future<Output = (usize, Cast)> + Send + 'static,
{
    if rest.open() == 0 {
        return;
    }
    let mut open = tally.open();
    let (nodes, ttl) = (Arc::clone(nodes), request.ttl.as_duration());
    let task = {
        let nodes = Arc::clone(&nodes);
        async move {
            while let Some((node, _)) = rest.next().await {
                open.retain(|other| *other != node);
            }
            for node in &open {
                nodes.node(*node).may_follow(ttl);
            }
            rest.extend(STALLED_AFTER);
            while rest.next().await.is_some() {}
        }
    };
    nodes.leave(task);
}

/// Takes back what some nodes granted, at once, and what the others may yet grant, when they do. Tells whether nothing is
/// left at those that answered. Until a node is known to have done it, the attempt does not count there.
async fn undo<F>(
    nodes: &Arc<Nodes>,
    request: &Arc<AcquireRequest>,
    tally: &Tally,
    silent: Vec<usize>,
    mut rest: Answers<F>,
    patience: Duration,
) -> bool
where
    F: Future<Output = (usize, Cast)> + Send + 'static,
{
    let granted: Vec<usize> = tally.granted.iter().map(|(node, _)| *node).collect();
    if granted.is_empty() && rest.open() == 0 {
        return true;
    }
    for node in granted.iter().chain(&silent) {
        nodes.node(*node).doubt(request.hold);
    }
    let (done, is_done) = oneshot::channel();
    let task = {
        let (nodes, request) = (Arc::clone(nodes), Arc::clone(request));
        async move {
            let now = async {
                let taken = granted
                    .iter()
                    .map(|node| take_back(&nodes, *node, &request));
                let is_clean = join_all(taken).await.into_iter().all(|is_taken| is_taken);
                let _ = done.send(is_clean);
            };
            let later = async {
                rest.extend(STALLED_AFTER);
                let mut taken = FuturesUnordered::new();
                let mut is_open = true;
                while is_open || !taken.is_empty() {
                    tokio::select! {
                        answer = rest.next(), if is_open => match answer {
                            None => is_open = false,
                            Some((node, cast)) if matches!(cast.vote, Ok(Acquired::Granted(_))) => {
                                taken.push(take_back(&nodes, node, &request));
                            }
                            // Nothing was sent that could take a later grant back.
                            Some((node, _)) => nodes.node(node).trust(request.hold),
                        },
                        _ = taken.next(), if !taken.is_empty() => {}
                    }
                }
            };
            join(now, later).await;
        }
    };
    nodes.leave(task);
    matches!(timeout(patience, is_done).await, Ok(Ok(true)))
}

/// Takes back what one node granted, and tells whether that is known to have happened.
async fn take_back(nodes: &Nodes, index: usize, request: &AcquireRequest) -> bool {
    let node = nodes.node(index);
    let taken = async {
        let connection = node.connection().await?;
        nodes.calls.take_back_quietly(&connection, request).await
    };
    let is_taken = matches!(timeout(STALLED_AFTER, taken).await, Ok(Ok(())));
    if is_taken {
        node.trust(request.hold);
    }
    is_taken
}

fn unsettled() -> BackendError {
    BackendError::new(
        Category::Timeout,
        Outcome::Unknown,
        "the vote was split, and not all Redis servers confirmed that they took it back",
    )
}
