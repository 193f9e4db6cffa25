//! What came from a caller and was not taken yet.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Interval, interval};
use tokio_util::io::poll_read_buf;

use super::{
    guard::{MAX_BODY, MAX_HEAD},
    pool::Pool,
    socket::Socket,
};

/// The most bytes that are kept: the largest request, and a byte that shows that it is too large.
const MOST: usize = MAX_HEAD + MAX_BODY + 1;
/// How often a caller that sent so much that nothing more is read is looked at for whether it left.
const PROBE: Duration = Duration::from_millis(250);

/// A read buffer that exists only while something is in it.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    bytes: Vec<u8>,
    /// What was taken of the front of `bytes`.
    taken: usize,
}

/// Looks now and then whether a caller left whose bytes fill the buffer.
#[derive(Debug, Default)]
pub(crate) struct Probe(Option<Pin<Box<Interval>>>);

impl Reader {
    /// What came and was not taken yet.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// Takes bytes off the front.
    pub(crate) fn take(&mut self, count: usize) {
        self.taken += count;
        debug_assert!(
            self.taken <= self.bytes.len(),
            "only what is there is taken"
        );
    }

    /// Takes bytes off the middle.
    pub(crate) fn cut(&mut self, from: usize, count: usize) {
        let from = self.taken + from;
        self.bytes.drain(from..from + count);
    }

    /// Whether nothing more can be read before something is taken.
    pub(crate) fn is_full(&self) -> bool {
        self.unread().len() >= MOST
    }

    /// Reads what is there. Zero: the caller closed its side. Must not be called when it is full.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        pool: &Pool,
    ) -> Poll<io::Result<usize>> {
        self.make_room(pool);
        let read = poll_read_buf(Pin::new(socket), cx, &mut self.bytes);
        if self.bytes.is_empty() {
            pool.give(std::mem::take(&mut self.bytes));
        }
        read
    }

    /// Ready when the caller is gone: it closed its side, or the connection broke. What it sends meanwhile is kept.
    pub(crate) fn poll_gone(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        pool: &Pool,
        probe: &mut Probe,
    ) -> Poll<()> {
        while !self.is_full() {
            match ready!(self.poll_fill(cx, socket, pool)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        let timer = probe.0.get_or_insert_with(|| Box::pin(interval(PROBE)));
        loop {
            if socket.is_half_closed() {
                return Poll::Ready(());
            }
            ready!(timer.poll_tick(cx));
        }
    }

    fn make_room(&mut self, pool: &Pool) {
        if self.bytes.capacity() == 0 {
            self.bytes = pool.take();
        }
        if self.taken > 0 && (self.unread().is_empty() || self.bytes.len() == self.bytes.capacity())
        {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        if self.bytes.len() == self.bytes.capacity() {
            let more = self
                .bytes
                .len()
                .min(MOST - self.bytes.len().min(MOST))
                .max(64);
            self.bytes.reserve_exact(more);
        }
    }
}
