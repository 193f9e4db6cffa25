//! The engine with the memory backend behind a script, on a clock that stands still until a test moves it.

mod bench;
mod drain;
mod faults;
mod leases;
mod leaving;
mod limits;
mod policies;
mod several;
mod two;
