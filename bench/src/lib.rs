//! Pawl measured against other ways to the same end, in one run on one machine.
//!
//! Absolute times mean little on a shared machine, so every time is a ratio to a reference that is measured in turns with it, and what
//! can be counted (commands at the server, resident bytes) is counted. [`report::Measure`] says for each number what was asked for and what was
//! reached.
//!
//! Each case is one file: [`cases`].

pub mod caller;
pub mod cases;
pub mod cpu;
pub mod direct;
pub mod echo;
pub mod peers;
pub mod pin;
pub mod relay;
pub mod report;
pub mod role;
pub mod rounds;
pub mod wire;

/// What a case fails with: it is shown to the one who measures and ends the case.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
