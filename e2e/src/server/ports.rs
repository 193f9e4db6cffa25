//! Free ports of the loopback.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, TcpListener},
    sync::{Mutex, PoisonError},
};

/// A port of 127.0.0.1 that nobody listens on, and that this process was not given before. Another process may take it
/// in the meantime, so whoever starts a server on it tries again with another when the server ends at once.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    for _ in 0..1000 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback is there");
        let port = listener.local_addr().expect("it is bound").port();
        if given.insert(port) {
            return port;
        }
    }
    panic!("there is no free port");
}
