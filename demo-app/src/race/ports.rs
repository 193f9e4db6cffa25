//! Free ports of the loopback for children.
//!
//! Below the range that the kernel takes for outgoing connections, so that none of the race's own connections
//! takes a port between its choice and the child's bind; and reserved against other races on this machine, by an
//! abstract socket that the kernel frees when this process ends, however it ends.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Mutex, PoisonError};

/// The ports tried.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// Hands out each port once, to one process of this machine.
#[derive(Debug, Default)]
pub struct Ports(Mutex<BTreeMap<u16, UnixListener>>);

impl Ports {
    /// A port that nobody listens on now and that no other race is given.
    pub fn free(&self) -> Result<u16, std::io::Error> {
        let mut reserved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last = std::io::ErrorKind::AddrInUse.into();
        for _ in 0..1000 {
            let port = rand::random_range(RANGE);
            let name = SocketAddr::from_abstract_name(format!("pawl-race-port-{port}"))?;
            let Ok(reservation) = UnixListener::bind_addr(&name) else {
                continue;
            };
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                Ok(_) => {
                    reserved.insert(port, reservation);
                    return Ok(port);
                }
                Err(e) => last = e,
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_to_one_only() {
        let (one, other) = (Ports::default(), Ports::default());
        let port = one.free().unwrap();
        let name = SocketAddr::from_abstract_name(format!("pawl-race-port-{port}")).unwrap();
        assert!(UnixListener::bind_addr(&name).is_err(), "reserved");
        assert_ne!(other.free().unwrap(), port);
        drop(one);
        assert!(UnixListener::bind_addr(&name).is_ok(), "free again");
    }
}
