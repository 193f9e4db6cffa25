//! The verbs of the bank's API, one file each.

pub(super) mod balance;
pub(super) mod deduct;
pub(super) mod orders;
pub(super) mod payment;
