//! Buffers that connections take while they work and give back when they wait.

use std::cell::RefCell;

/// The most buffers that are kept.
const MOST: usize = 64;
/// A buffer that grew beyond this is not kept.
const KEPT_CAPACITY: usize = 8 * 1024;
/// What a new buffer can hold: more than nearly every request and answer.
const NEW_CAPACITY: usize = 2 * 1024;

/// Spare buffers, all empty. Connections that wait have none, so what is here follows the work and not the callers.
#[derive(Debug, Default)]
pub(crate) struct Pool(RefCell<Vec<Vec<u8>>>);

impl Pool {
    /// An empty buffer.
    pub(crate) fn take(&self) -> Vec<u8> {
        let spare = self.0.borrow_mut().pop();
        spare.unwrap_or_else(|| Vec::with_capacity(NEW_CAPACITY))
    }

    /// Gives a buffer back; what is in it is gone.
    pub(crate) fn give(&self, mut buffer: Vec<u8>) {
        let mut spare = self.0.borrow_mut();
        let fits = (NEW_CAPACITY..=KEPT_CAPACITY).contains(&buffer.capacity());
        if fits && spare.len() < MOST {
            buffer.clear();
            spare.push(buffer);
        }
    }
}
