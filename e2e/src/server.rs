//! Real servers for tests: on free ports of the loopback, each in a directory of its own, ended with the test process
//! whatever happens to it.

pub mod certs;
pub mod clock;
pub mod holder;
pub mod kubernetes;
pub mod pgbouncer;
mod ports;
pub mod postgres;
mod process;
pub mod prometheus;
pub mod proxy;
pub mod redis;
pub mod redlock;
pub mod wire;

pub use ports::free_port;
pub use process::{Process, Program};
