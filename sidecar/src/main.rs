//! pawl-sidecar.
fn main() {}
