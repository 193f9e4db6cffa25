//! pawl-demo.
fn main() {}
