//! Real servers for tests.

pub mod pgbouncer;
pub mod postgres;
