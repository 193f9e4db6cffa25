//! What is measured, a file each.

pub mod admission;
pub mod contended;
pub mod idle;
pub mod memory;
pub mod redis;
pub mod redlock;
pub mod waiters;
