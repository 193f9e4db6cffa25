//! Several independent Redis servers.

use std::{thread::sleep, time::Duration};

use tokio::time::Instant;

use super::redis::{RedisOptions, RedisServer};

/// How long servers may take to be old enough.
const PATIENCE: Duration = Duration::from_secs(30);

/// Independent Redis servers.
pub struct RedisNodes(Vec<RedisServer>);

impl RedisNodes {
    /// Starts `count` of them; back when all have been running for more than two seconds, so that they count where
    /// ttls are a few hundred milliseconds at most.
    ///
    /// # Panics
    /// If one does not start.
    pub fn start(count: usize) -> Self {
        let nodes = Self(
            (0..count)
                .map(|_| RedisServer::start(RedisOptions::default()))
                .collect(),
        );
        nodes.wait_until_old();
        nodes
    }

    /// Their URLs.
    pub fn urls(&self) -> Vec<String> {
        self.0.iter().map(RedisServer::url).collect()
    }

    /// Kills all of them, starts them again empty, and waits as after the start.
    pub fn restart(&self) {
        for node in &self.0 {
            node.kill();
        }
        for node in &self.0 {
            node.start_again();
        }
        self.wait_until_old();
    }

    /// Waits until all have been running for more than two seconds by their own words.
    ///
    /// # Panics
    /// If that takes half a minute.
    pub fn wait_until_old(&self) {
        let start = Instant::now();
        while !self.0.iter().all(|node| uptime(node) > 2) {
            assert!(start.elapsed() < PATIENCE, "the servers do not grow older");
            sleep(Duration::from_millis(50));
        }
    }
}

impl std::ops::Deref for RedisNodes {
    type Target = [RedisServer];

    fn deref(&self) -> &[RedisServer] {
        &self.0
    }
}

/// The seconds that a server says it has been running.
///
/// # Panics
/// If it cannot be reached.
pub fn uptime(node: &RedisServer) -> u64 {
    let info: String = node.run(&["INFO", "server"]);
    info.lines()
        .find_map(|line| line.strip_prefix("uptime_in_seconds:")?.trim().parse().ok())
        .unwrap_or(0)
}
