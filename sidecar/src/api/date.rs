//! The `Date` of answers, made once a second.

use std::cell::RefCell;

use pawl_kit::clock::Clock;

/// The last date that was made.
#[derive(Debug)]
pub(super) struct Date {
    clock: Clock,
    made: RefCell<(i64, String)>,
}

impl Date {
    pub(super) const fn new(clock: Clock) -> Self {
        Self {
            clock,
            made: RefCell::new((i64::MIN, String::new())),
        }
    }

    /// Calls `with` with the date now, in the form of RFC 9110, 5.6.7.
    pub(super) fn with<T>(&self, with: impl FnOnce(&str) -> T) -> T {
        let wall = self.clock.wall();
        let mut made = self.made.borrow_mut();
        if made.0 != wall.unix_seconds() {
            *made = (wall.unix_seconds(), wall.to_http_date());
        }
        with(&made.1)
    }
}
