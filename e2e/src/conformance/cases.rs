//! The cases, one function each.

pub mod ending;
pub mod events;
pub mod exclusion;
pub mod expiry;
pub mod faults;
pub mod hammer;
pub mod queue;
pub mod reading;
pub mod tokens;
