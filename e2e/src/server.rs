//! Real servers for tests.

pub mod holder;
pub mod pgbouncer;
pub mod postgres;
pub mod wire;
