//! One caller's connection: requests in, answers out, in order.

use std::{io, rc::Rc, time::Duration};

use tokio::time::Instant;

use super::{
    Api,
    delivery::Delivery,
    dispatch::{self, Outcome, Reply, Step},
    error::ApiError,
    http1::{
        chunked::Chunked,
        guard::{self, Framing, Hosts, Reject, Scanner},
        response::{Answer, Form},
        socket::Socket,
        wire::Wire,
    },
};

/// How long a head may take to arrive, counted from its first byte; and a body, counted from its head.
const ARRIVAL: Duration = Duration::from_secs(5);
/// Answers of pipelined requests are written together up to so many bytes.
const BATCH: usize = 16 * 1024;

/// A connection that is served.
#[derive(Debug)]
pub(super) struct Connection {
    api: Rc<Api>,
    hosts: Hosts,
    wire: Wire,
    /// Grants whose answers are in `wire.out`, with where they end there.
    undelivered: Vec<(usize, Rc<Delivery>)>,
}

/// Why a connection ends.
enum End {
    /// The caller or the socket ended it, or all is said.
    Closed,
    /// What the caller sent is refused.
    Reject(Reject),
}

impl From<Reject> for End {
    fn from(reject: Reject) -> Self {
        Self::Reject(reject)
    }
}

/// Whatever is wrong with a socket, nothing can be told on it.
impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Closed
    }
}

/// A request that was read: what to do, and what to know for its answer.
struct Read {
    step: Step,
    form: Form,
}

impl Connection {
    pub(super) fn new(api: Rc<Api>, hosts: Hosts, socket: Socket) -> Self {
        let wire = Wire::new(socket, Rc::clone(&api.pool));
        Self {
            api,
            hosts,
            wire,
            undelivered: Vec::new(),
        }
    }

    /// Serves until the connection ends.
    pub(super) async fn serve(mut self) {
        let is_refused = match self.requests().await {
            Ok(()) | Err(End::Closed) => false,
            Err(End::Reject(Reject::NotHttp)) => return,
            Err(End::Reject(reject)) => {
                let answer = ApiError::Reject(reject).answer(None::<&str>);
                self.write(&answer, Form::last());
                true
            }
        };
        // Grants before the end are delivered or given up, then the rest may take its time.
        if self.flush().await.is_ok() {
            drop(self.undelivered);
            self.wire.close(is_refused).await;
        }
    }

    async fn requests(&mut self) -> Result<(), End> {
        loop {
            let end = self.head().await?;
            let Read { step, form } = self.request(end).await?;
            let keep_alive = match self.take(step, form).await? {
                Some(outcome) => self.answer(outcome, form),
                None => return Ok(()),
            };
            if !keep_alive || self.api.is_closing() {
                return Ok(());
            }
            tokio::task::consume_budget().await;
        }
    }

    /// Reads up to the end of the next head and says where that is. What was answered is written before it waits.
    async fn head(&mut self) -> Result<usize, End> {
        self.skip_empty_line();
        let mut scanner = Scanner::default();
        if let Some(end) = scanner.scan(self.wire.reader.unread())? {
            if self.wire.out.len() > BATCH {
                self.flush().await?;
            }
            return Ok(end);
        }
        self.flush().await?;
        while self.wire.reader.unread().is_empty() {
            self.idle().await?;
            self.skip_empty_line();
        }
        let deadline = Instant::now() + ARRIVAL;
        loop {
            if let Some(end) = scanner.scan(self.wire.reader.unread())? {
                return Ok(end);
            }
            // A caller that stops in the middle of a head asked for nothing.
            self.fill(deadline, End::Closed).await?;
        }
    }

    /// RFC 9112, 2.2: an empty line before a request is ignored. One is, and no more.
    fn skip_empty_line(&mut self) {
        if self.wire.reader.unread().starts_with(b"\r\n") {
            self.wire.reader.take(2);
        }
    }

    /// Waits for the first byte of a request.
    async fn idle(&mut self) -> Result<(), End> {
        let idle = self.api.idle.enter();
        match self.wire.fill_until(|cx| idle.poll_ended(cx)).await {
            Some(Ok(read)) if read > 0 => Ok(()),
            _ => Err(End::Closed),
        }
    }

    async fn fill(&mut self, deadline: Instant, ended: End) -> Result<(), End> {
        match self.wire.fill(deadline).await {
            Ok(0) => Err(ended),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Reject::Slow.into()),
            Err(_) => Err(End::Closed),
        }
    }

    /// Reads the body of the request whose head ends at `end`, decides what to do, and takes the request off the buffer.
    async fn request(&mut self, end: usize) -> Result<Read, End> {
        let mut chunks: Option<Vec<u8>> = None;
        loop {
            let unread = self.wire.reader.unread();
            let head = guard::inspect(&unread[..end], self.hosts)?;
            let (body, total) = match (&chunks, head.body) {
                (Some(body), _) => (Some(&body[..]), end),
                (None, Framing::Length(length)) => (unread.get(end..end + length), end + length),
                (None, Framing::Chunked) => (None, end),
            };
            if let Some(body) = body {
                let (step, form) = (dispatch::begin(&self.api, &head, body), Form::of(&head));
                self.wire.reader.take(total);
                return Ok(Read { step, form });
            }
            let (framing, asks) = (head.body, head.expects_continue && !head.is_http10);
            if asks && unread.len() == end {
                self.wire
                    .out()
                    .extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                self.flush().await?;
            }
            match framing {
                Framing::Length(length) => Box::pin(self.body(end + length)).await?,
                Framing::Chunked => chunks = Some(Box::pin(self.chunks(end)).await?),
            }
        }
    }

    /// Reads until so many bytes are there.
    async fn body(&mut self, total: usize) -> Result<(), End> {
        let deadline = Instant::now() + ARRIVAL;
        while self.wire.reader.unread().len() < total {
            let truncated = Reject::Malformed("the body ends before its Content-Length");
            self.fill(deadline, truncated.into()).await?;
        }
        Ok(())
    }

    /// Reads a chunked body and takes it off the buffer behind the head.
    async fn chunks(&mut self, end: usize) -> Result<Vec<u8>, End> {
        let deadline = Instant::now() + ARRIVAL;
        let mut chunked = Chunked::default();
        loop {
            let used = chunked.feed(&self.wire.reader.unread()[end..])?;
            self.wire.reader.cut(end, used);
            if let Some(body) = chunked.finish() {
                return Ok(body);
            }
            let truncated = Reject::Malformed("the body ends before its last chunk");
            self.fill(deadline, truncated.into()).await?;
        }
    }

    /// Does a step. Nothing: the connection ends with it.
    async fn take(&mut self, step: Step, form: Form) -> Result<Option<Outcome>, End> {
        Ok(Some(match step {
            Step::Done(outcome) => outcome,
            Step::Acquire(mut acquire) => {
                if let Some(outcome) = acquire.try_now(&self.api) {
                    outcome
                } else {
                    self.flush().await?;
                    match self.wire.unless_gone(acquire.wait(&self.api)).await {
                        // Its leaving may not have reached the event loop before the grant did.
                        Some(_) if self.wire.socket.is_closed_now() => return Ok(None),
                        Some(outcome) => outcome,
                        None => return Ok(None),
                    }
                }
            }
            Step::Cancellable(work) => {
                self.flush().await?;
                match self.wire.unless_gone(work).await {
                    Some(_) if self.wire.socket.is_closed_now() => return Ok(None),
                    Some(outcome) => outcome,
                    None => return Ok(None),
                }
            }
            Step::Run(work) => {
                self.flush().await?;
                work.await
            }
            Step::Stream(stream) => {
                self.flush().await?;
                match stream.run(&self.api, &mut self.wire, form).await? {
                    Some(refused) => refused,
                    None => return Ok(None),
                }
            }
        }))
    }

    /// Puts the answer to a request behind those before it. Whether the connection goes on.
    fn answer(&mut self, outcome: Outcome, form: Form) -> bool {
        let Reply { answer, delivery } = outcome.reply;
        let form = Form {
            keep_alive: form.keep_alive && !self.api.is_closing(),
            ..form
        };
        self.write(&answer, form);
        let end = self.wire.out.len();
        self.undelivered
            .extend(delivery.map(|delivery| (end, delivery)));
        outcome.trace.answered(answer.status);
        form.keep_alive
    }

    fn write(&mut self, answer: &Answer, form: Form) {
        let out = self.wire.out();
        self.api.date.with(|date| answer.write(out, form, date));
    }

    async fn flush(&mut self) -> io::Result<()> {
        let undelivered = &mut self.undelivered;
        let deliver = |taken| {
            undelivered.retain(|(end, delivery)| {
                let is_delivered = *end <= taken;
                if is_delivered {
                    delivery.done();
                }
                !is_delivered
            });
        };
        self.wire.flush_with(deliver).await
    }
}
