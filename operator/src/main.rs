//! `pawl-operator`.

fn main() {}
