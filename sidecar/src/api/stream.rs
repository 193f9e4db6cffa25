//! Event streams (`text/event-stream`): a lease that lives as long as its connection, and the changes of a lease.

use std::{
    io,
    ops::ControlFlow,
    pin::{Pin, pin},
    time::Duration,
};

use futures::future::{Either, select};
use pawl_kit::telemetry::RequestTrace;
use tokio::time::{Instant, sleep_until};

use super::{
    Api,
    dispatch::Outcome,
    error::ApiError,
    http1::{
        response::{Form, write_piece, write_stream_end, write_stream_head},
        wire::Wire,
    },
    view,
};
use crate::engine::{
    AttachGuard, Engine, EngineError, Granted, LeaseEvent, LeaseEvents, LeaseId, LeaseInfo, Pending,
};

/// How long a stream is silent at most, so that a connection that broke without a word is found.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often the place in the queue is looked at, until it was told the first time and after that.
const FIRST_LOOK: Duration = Duration::from_millis(20);
const NEXT_LOOK: Duration = Duration::from_secs(1);

/// A stream that was asked for.
#[derive(Debug)]
pub(super) struct Stream {
    begin: Begin,
    trace: RequestTrace,
}

#[derive(Debug)]
enum Begin {
    /// Acquire, then hold.
    Hold { pending: Pending, is_several: bool },
    /// Watch a lease that is held.
    Watch {
        changes: LeaseEvents,
        info: LeaseInfo,
        attached: AttachGuard,
    },
}

/// Where events are written.
struct Sink<'a> {
    api: &'a Api,
    wire: &'a mut Wire,
    form: Form,
    trace: &'a RequestTrace,
    is_begun: bool,
}

/// A lease that ends with its stream.
struct Held {
    engine: Engine,
    lease: LeaseId,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.engine.give_up(&self.lease);
    }
}

impl Stream {
    /// Acquires, and holds for as long as the stream is open.
    pub(super) const fn hold(pending: Pending, is_several: bool, trace: RequestTrace) -> Self {
        let begin = Begin::Hold {
            pending,
            is_several,
        };
        Self { begin, trace }
    }

    /// Tells the changes of a lease.
    pub(super) const fn watch(
        changes: LeaseEvents,
        info: LeaseInfo,
        attached: AttachGuard,
        trace: RequestTrace,
    ) -> Self {
        let begin = Begin::Watch {
            changes,
            info,
            attached,
        };
        Self { begin, trace }
    }

    /// Runs the stream to its end. An answer instead: it was refused before it began.
    ///
    /// # Errors
    /// Those of the socket. Whatever the stream stood for is released.
    pub(super) fn run<'a>(
        self: Box<Self>,
        api: &'a Api,
        wire: &'a mut Wire,
        form: Form,
    ) -> Pin<Box<dyn Future<Output = io::Result<Option<Outcome>>> + 'a>> {
        Box::pin(async move {
            let Self { begin, trace } = *self;
            let mut sink = Sink {
                api,
                wire,
                form,
                trace: &trace,
                is_begun: false,
            };
            match begin {
                Begin::Hold {
                    pending,
                    is_several,
                } => match hold(&mut sink, pending, is_several).await? {
                    Some(error) => Ok(Some(Outcome::new(Err(error), trace))),
                    None => Ok(None),
                },
                Begin::Watch {
                    changes,
                    info,
                    attached,
                } => {
                    watch(&mut sink, changes, &info).await?;
                    drop(attached);
                    Ok(None)
                }
            }
        })
    }
}

/// Acquires, tells the grant and the changes of the lease, and releases it when the caller goes.
async fn hold(
    sink: &mut Sink<'_>,
    pending: Pending,
    is_several: bool,
) -> io::Result<Option<ApiError>> {
    let Some(granted) = queue(sink, pending).await? else {
        return Ok(None);
    };
    let granted = match granted {
        Ok(granted) => granted,
        Err(error) if sink.is_begun => {
            sink.end("failed", &ApiError::from(error).problem().to_json())
                .await?;
            return Ok(None);
        }
        Err(error) => return Ok(Some(error.into())),
    };
    let held = Held {
        engine: sink.api.engine.clone(),
        lease: granted.lease_id,
    };
    if sink.wire.socket.is_closed_now() {
        return Ok(None);
    }
    let changes = match held.engine.subscribe(&held.lease) {
        Ok(changes) => changes,
        Err(error) if sink.is_begun => {
            sink.end("failed", &ApiError::from(error).problem().to_json())
                .await?;
            return Ok(None);
        }
        Err(error) => return Ok(Some(error.into())),
    };
    let now = held.engine.clock().now();
    sink.tell("granted", &view::grant(&granted, is_several, now))
        .await?;
    follow(sink, changes).await?;
    Ok(None)
}

/// Waits for the answer of an acquire and tells its place in the queue meanwhile. Nothing: the caller is gone.
async fn queue(
    sink: &mut Sink<'_>,
    mut pending: Pending,
) -> io::Result<Option<Result<Granted, EngineError>>> {
    let mut told = None;
    let mut look_at = Instant::now();
    let mut beat_at = look_at + HEARTBEAT;
    loop {
        let ahead = pending.ahead();
        if ahead.is_some() && ahead != told && Instant::now() >= look_at {
            told = ahead;
            sink.tell("queued", &view::queued(ahead.unwrap_or_default()))
                .await?;
            beat_at = Instant::now() + HEARTBEAT;
        } else if Instant::now() >= beat_at && sink.is_begun {
            sink.beat().await?;
            beat_at = Instant::now() + HEARTBEAT;
        }
        let pause = if told.is_none() {
            FIRST_LOOK
        } else {
            NEXT_LOOK
        };
        look_at = Instant::now() + pause;
        let look = pin!(sleep_until(look_at));
        match sink.wire.unless_gone(select(&mut pending, look)).await {
            None => return Ok(None),
            Some(Either::Left((granted, _))) => return Ok(Some(granted)),
            Some(Either::Right(((), _))) => {}
        }
    }
}

/// Tells the state of a lease and its changes.
async fn watch(sink: &mut Sink<'_>, changes: LeaseEvents, info: &LeaseInfo) -> io::Result<()> {
    let first = if info.is_uncertain {
        "uncertain"
    } else {
        "renewed"
    };
    let now = sink.api.engine.clock().now();
    let data = view::extent(info.deadline.left(now), info.valid_until);
    sink.tell(first, &data).await?;
    follow(sink, changes).await
}

/// Tells the changes of a lease until the last one, or until the caller goes.
async fn follow(sink: &mut Sink<'_>, mut changes: LeaseEvents) -> io::Result<()> {
    loop {
        let beat = pin!(sleep_until(Instant::now() + HEARTBEAT));
        let change = pin!(changes.next());
        match sink.wire.unless_gone(select(change, beat)).await {
            None => return Ok(()),
            Some(Either::Right(((), _))) => sink.beat().await?,
            Some(Either::Left((None, _))) => return sink.finish().await,
            Some(Either::Left((Some(change), _))) => {
                if sink.tell_change(change).await?.is_break() {
                    return Ok(());
                }
            }
        }
    }
}

impl Sink<'_> {
    async fn tell_change(&mut self, change: LeaseEvent) -> io::Result<ControlFlow<()>> {
        let clock = self.api.engine.clock();
        let extent = |deadline: pawl_lock::Deadline| {
            let wall = clock.wall_at(deadline.instant());
            view::extent(deadline.left(clock.now()), wall)
        };
        match change {
            LeaseEvent::Renewed { deadline } => {
                let data = extent(deadline);
                self.tell("renewed", &data).await?;
            }
            LeaseEvent::Uncertain { deadline } => {
                let data = extent(deadline);
                self.tell("uncertain", &data).await?;
            }
            LeaseEvent::Lost { reason } => {
                self.end("lost", &view::loss(reason)).await?;
                return Ok(ControlFlow::Break(()));
            }
            LeaseEvent::Released => {
                self.end("released", b"{}").await?;
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Writes an event; before the first one, the head of the answer.
    async fn tell(&mut self, event: &str, data: &[u8]) -> io::Result<()> {
        self.put(&[b"event: ", event.as_bytes(), b"\ndata: ", data, b"\n\n"].concat());
        self.wire.flush().await
    }

    /// Writes the last event and the end of the stream.
    async fn end(&mut self, event: &str, data: &[u8]) -> io::Result<()> {
        self.put(&[b"event: ", event.as_bytes(), b"\ndata: ", data, b"\n\n"].concat());
        self.finish().await
    }

    /// Writes a comment, which says that the stream lives.
    async fn beat(&mut self) -> io::Result<()> {
        self.put(b":\n\n");
        self.wire.flush().await
    }

    async fn finish(&mut self) -> io::Result<()> {
        write_stream_end(self.wire.out(), self.form);
        self.wire.flush().await
    }

    fn put(&mut self, piece: &[u8]) {
        let form = self.form;
        let out = self.wire.out();
        if !self.is_begun {
            self.is_begun = true;
            self.api
                .date
                .with(|date| write_stream_head(out, form, date));
            self.trace.answered(http::StatusCode::OK);
        }
        write_piece(out, form, piece);
    }
}
