//! The backend `redlock`: an odd number of independent Redis servers that decide by majority.
//!
//! The rules are [`pawl_lock::quorum`]'s; what a single node does are the scripts of [`super::redis`], on keys of their
//! own (`pawl:redlock:{…}`).
//!
//! # How it is used
//! * **All nodes are asked at once, and the answer is given as soon as it is certain.** Slow nodes are finished by a
//!   bounded set of tasks that this backend owns. Whoever has not answered within [`RedlockConfig::patience`] counts as
//!   down. Each node has a connection of its own, so one that is dead slows nothing.
//! * **A cold cycle is one command a node for the acquire and one for the release.** A second phase is needed only when
//!   nodes assigned different tokens.
//! * **Failure is cleaned up before it is told:** what some nodes granted is taken back. A node that has not confirmed
//!   that does not count for the same attempt any more, because the command might reach a later grant of it.
//! * **Restart:** a node counts for a grant only when it has been running for longer than the longest ttl.
//! * **Hints:** each node tells waiters by itself; any of them may wake one. Those who split a vote wake nobody.
//!
//! # What it does not promise
//! A queue (places are kept for hints only, so [`Order::Fifo`] is refused at admission), and exclusion beyond
//! [`Class::BestEffort`]: a node whose clock jumps ahead ends holds early and may look older than it is. See
//! `docs/backends.md`.
//!
//! [`Order::Fifo`]: pawl_lock::lease::Order::Fifo

use std::{pin::Pin, sync::Arc};

use futures::future::join_all;
use pawl_kit::clock::Clock;
use pawl_lock::{
    Backend, BackendError, FencingToken, Key, Ttl,
    backend::{
        AbandonRequest, Abandoned, AcquireRequest, Acquired, BackendEvent, BackendFuture, Busy,
        Class, Events, FenceVerdict, Finding, Inspection, Profile, ReleaseRequest, Released,
        RenewRequest, Renewed,
    },
    quorum::Quorum,
};

use super::{
    Scope,
    ear::{Ear, Hearing},
    hint,
    redis::{
        calls::{Calls, Server, channel},
        connection::{Link, Notice, Subscription},
    },
};
use attempt::attempt;
pub use config::{InvalidNodes, RedlockConfig};
use node::Node;
use nodes::Nodes;

mod attempt;
mod config;
mod node;
mod nodes;
mod reading;
pub mod tally;
mod upkeep;

/// A backend on independent Redis servers.
pub struct Redlock {
    nodes: Arc<Nodes>,
    ear: Arc<Ear>,
}

impl Redlock {
    /// A backend that connects at its first call. `process` is 64 random bits that no other sidecar has.
    ///
    /// # Errors
    /// [`InvalidNodes`] unless the nodes are an odd number from 3 to 15 of different servers.
    pub fn new(
        config: RedlockConfig,
        scope: Scope,
        process: u64,
        clock: Clock,
    ) -> Result<Self, InvalidNodes> {
        let quorum = Quorum::try_new(config.nodes.len())?;
        let ear: Arc<Ear> = Arc::default();
        let mut nodes: Vec<Node> = Vec::with_capacity(config.nodes.len());
        for (index, url) in config.nodes.iter().enumerate() {
            let endpoint = config
                .node(url)
                .endpoint()
                .map_err(|source| InvalidNodes::Url {
                    node: index + 1,
                    source,
                })?;
            let server = endpoint.name();
            if nodes
                .iter()
                .any(|node| node.name().eq_ignore_ascii_case(&server))
            {
                return Err(InvalidNodes::Twice { server });
            }
            let subscription = subscription(process, Arc::clone(&ear));
            nodes.push(Node::new(Link::new(endpoint, Some(subscription))));
        }
        let calls = Calls::new(scope, process, config.remember, Server::Node);
        Ok(Self {
            nodes: Arc::new(Nodes::new(config, quorum, calls, clock, nodes)),
            ear,
        })
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<Acquired, BackendError> {
        let answer = attempt(&self.nodes, None, request).await?;
        Ok(answer.next.unwrap_or(Acquired::Busy(Busy::default())))
    }

    async fn release(&self, request: &ReleaseRequest) -> Result<Released, BackendError> {
        match &request.next {
            Some(next) => attempt(&self.nodes, Some(request.clone()), next).await,
            None => upkeep::release(&self.nodes, request).await,
        }
    }
}

fn subscription(process: u64, ear: Arc<Ear>) -> Subscription {
    Subscription {
        channel: channel(process),
        notify: Arc::new(move |notice| match notice {
            Notice::Again => ear.tell(BackendEvent::Resync),
            Notice::Message(message) => {
                if let Some(event) = hint::parse(message) {
                    ear.tell(event);
                }
            }
        }),
    }
}

impl Backend for Redlock {
    fn profile(&self) -> Profile {
        Profile {
            name: "redlock",
            class: Class::BestEffort,
            is_queued: false,
            min_ttl: Ttl::MIN,
            can_retain: true,
        }
    }

    fn acquire<'a>(&'a self, request: &'a AcquireRequest) -> BackendFuture<'a, Acquired> {
        Box::pin(self.acquire(request))
    }

    fn renew<'a>(&'a self, request: &'a RenewRequest) -> BackendFuture<'a, Renewed> {
        Box::pin(upkeep::renew(&self.nodes, request))
    }

    fn release<'a>(&'a self, request: &'a ReleaseRequest) -> BackendFuture<'a, Released> {
        Box::pin(self.release(request))
    }

    fn abandon<'a>(&'a self, request: &'a AbandonRequest) -> BackendFuture<'a, Abandoned> {
        Box::pin(upkeep::abandon(&self.nodes, request))
    }

    fn inspect<'a>(&'a self, key: &'a Key) -> BackendFuture<'a, Inspection> {
        Box::pin(reading::inspect(&self.nodes, key))
    }

    fn fence<'a>(&'a self, key: &'a Key, token: FencingToken) -> BackendFuture<'a, FenceVerdict> {
        Box::pin(reading::fence(&self.nodes, key, token))
    }

    fn check(&self) -> BackendFuture<'_, Vec<Finding>> {
        Box::pin(reading::check(&self.nodes))
    }

    fn run(self: Arc<Self>, events: Arc<dyn Events>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let hearing = Hearing::new(Arc::clone(&self.ear), events);
        Box::pin(async move {
            let _hearing = hearing;
            join_all(self.nodes.iter().map(|node| node.link().keep_up())).await;
        })
    }
}

impl std::fmt::Debug for Redlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let nodes: Vec<String> = self.nodes.iter().map(Node::name).collect();
        f.debug_struct("Redlock")
            .field("nodes", &nodes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
