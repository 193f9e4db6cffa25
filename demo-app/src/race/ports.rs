//! Free ports of the loopback for children.
//!
//! Below the range that the kernel takes for outgoing connections, so that none of the race's own connections
//! takes a port between its choice and the child's bind.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

/// The ports tried.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// Hands out each port once.
#[derive(Debug, Default)]
pub struct Ports(Mutex<BTreeSet<u16>>);

impl Ports {
    /// A port that nobody listens on now.
    pub fn free(&self) -> Result<u16, std::io::Error> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last = std::io::ErrorKind::AddrInUse.into();
        for _ in 0..1000 {
            let port = rand::random_range(RANGE);
            if taken.contains(&port) {
                continue;
            }
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                Ok(_) => {
                    taken.insert(port);
                    return Ok(port);
                }
                Err(e) => last = e,
            }
        }
        Err(last)
    }
}
