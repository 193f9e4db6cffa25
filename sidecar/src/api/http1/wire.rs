//! A caller's socket with its buffers and time limits.

use std::{future::poll_fn, io, pin::pin, rc::Rc, time::Duration};

use futures::future::{Either, select};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout, timeout_at},
};

use super::{
    pool::Pool,
    reader::{Probe, Reader},
    socket::Socket,
};

/// How long a caller may take to read what is written to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a caller that was refused may go on sending, so that it reads the answer before the connection breaks.
const LINGER: Duration = Duration::from_secs(1);
/// How much of that is thrown away.
const LINGER_BYTES: usize = 1 << 20;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) socket: Socket,
    pub(crate) reader: Reader,
    /// What is to be written.
    pub(crate) out: Vec<u8>,
    /// How much of `out` the system has taken over.
    written: usize,
    pool: Rc<Pool>,
}

impl Wire {
    /// A connection of which nothing was read yet.
    pub(crate) fn new(socket: Socket, pool: Rc<Pool>) -> Self {
        Self {
            socket,
            reader: Reader::default(),
            out: Vec::new(),
            written: 0,
            pool,
        }
    }

    /// Reads what is there, at the latest at `deadline`. Zero: the caller closed its side.
    ///
    /// # Errors
    /// Those of the socket, and [`io::ErrorKind::TimedOut`].
    pub(crate) async fn fill(&mut self, deadline: Instant) -> io::Result<usize> {
        let fill = poll_fn(|cx| self.reader.poll_fill(cx, &mut self.socket, &self.pool));
        timeout_at(deadline, fill).await?
    }

    /// Reads what is there or waits for it, unless `until` ends before, which is looked at first. `None`: it did.
    pub(crate) async fn fill_until(
        &mut self,
        mut until: impl FnMut(&mut std::task::Context<'_>) -> std::task::Poll<()>,
    ) -> Option<io::Result<usize>> {
        poll_fn(|cx| {
            if until(cx).is_ready() {
                return std::task::Poll::Ready(None);
            }
            self.reader
                .poll_fill(cx, &mut self.socket, &self.pool)
                .map(Some)
        })
        .await
    }

    /// Waits for `work`, unless the caller is gone before. `None`: it is, and the work is dropped.
    pub(crate) async fn unless_gone<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut probe = Probe::default();
        let gone = poll_fn(|cx| {
            self.reader
                .poll_gone(cx, &mut self.socket, &self.pool, &mut probe)
        });
        match select(gone, pin!(work)).await {
            Either::Left(((), _)) => None,
            Either::Right((done, _)) => Some(done),
        }
    }

    /// An empty buffer to write to, if there is none.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        if self.out.capacity() == 0 {
            self.out = self.pool.take();
        }
        &mut self.out
    }

    /// Writes what is to be written. What the system took over before an error is told to `taken`: an answer of which it
    /// did not take the last byte cannot have been read.
    ///
    /// # Errors
    /// Those of the socket, and [`io::ErrorKind::TimedOut`] if the caller does not read.
    pub(crate) async fn flush_with(&mut self, mut taken: impl FnMut(usize)) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        while self.written < self.out.len() {
            let write = self.socket.write(&self.out[self.written..]);
            match timeout(WRITE_TIMEOUT, write).await?? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => self.written += count,
            }
            taken(self.written);
        }
        self.written = 0;
        self.pool.give(std::mem::take(&mut self.out));
        Ok(())
    }

    /// [`Wire::flush_with`] nobody who wants to know.
    ///
    /// # Errors
    /// The same.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        self.flush_with(|_| ()).await
    }

    /// Ends the connection so that what was written arrives. A socket that is closed while bytes of its caller were not
    /// read resets the connection, and the caller may never see the answer.
    pub(crate) async fn close(mut self, is_refused: bool) {
        if self.flush().await.is_err() || self.socket.shutdown().await.is_err() || !is_refused {
            return;
        }
        let deadline = Instant::now() + LINGER;
        let mut thrown_away = 0;
        while thrown_away < LINGER_BYTES {
            let unread = self.reader.unread().len();
            self.reader.take(unread);
            match self.fill(deadline).await {
                Ok(0) | Err(_) => return,
                Ok(read) => thrown_away += read,
            }
        }
    }
}
