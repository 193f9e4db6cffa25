//! The end of a daemon: a signal, a drain, and tasks that are waited for.
//!
//! * [`Drain`] starts it, [`Signal`] (cheap to clone) tells everybody.
//! * [`Signals`] turns SIGTERM and SIGINT into a drain, and a second one into its forced end.
//! * [`Tasks`] owns what runs. An essential task that ends, ends the process (law 9).
//!
//! # Expected flow
//! ```no_run
//! # async fn serve(_: pawl_kit::drain::Signal) -> std::io::Result<()> { Ok(()) }
//! # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
//! use pawl_kit::drain::{Drain, Signals, Tasks};
//! let signals = Signals::install()?; // before anything is served
//! let drain = Drain::new();
//! let mut tasks = Tasks::new();
//! tasks.onlooker("signals", signals.run(drain.clone()));
//! tasks.essential("api", serve(drain.signal()));
//! tasks.run(&drain, std::time::Duration::from_secs(10)).await?; // an error becomes a non-zero exit code
//! # Ok(()) }
//! ```

use std::future::IntoFuture;
use std::io;
use std::pin::Pin;

use tokio::signal::unix::{self, SignalKind};
use tokio::sync::watch;

mod tasks;

pub use tasks::{Ending, Failure, Tasks};

/// How far the end of the process is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Phase {
    /// Not begun.
    #[default]
    Running,
    /// Take nothing new, finish what is there.
    Draining,
    /// Leave everything and go.
    Forced,
}

/// Starts the drain; clones start the same one. When all are dropped, the drain starts too.
#[derive(Clone, Debug)]
pub struct Drain(watch::Sender<Phase>);

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl Drain {
    /// A drain that has not begun.
    pub fn new() -> Self {
        Self(watch::Sender::new(Phase::Running))
    }

    /// What to wait on.
    pub fn signal(&self) -> Signal {
        Signal(self.0.subscribe())
    }

    /// Begins the drain; does nothing when it has begun.
    pub fn start(&self) {
        self.raise(Phase::Draining);
    }

    /// Ends the drain at once: [`Tasks::run`] aborts what is left.
    pub fn force(&self) {
        self.raise(Phase::Forced);
    }

    fn raise(&self, to: Phase) {
        self.0.send_if_modified(|phase| {
            let later = to > *phase;
            if later {
                *phase = to;
            }
            later
        });
    }
}

/// Tells when the drain begins. Await it (`signal.await`, `signal.draining().await`) or ask it.
#[derive(Clone, Debug)]
pub struct Signal(watch::Receiver<Phase>);

impl Signal {
    /// How far the drain is now.
    pub fn phase(&self) -> Phase {
        let phase = *self.0.borrow();
        if self.0.has_changed().is_err() {
            phase.max(Phase::Draining)
        } else {
            phase
        }
    }

    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        self.phase() >= Phase::Draining
    }

    /// Waits until the drain begins; at once when it has, or when no [`Drain`] is left. Cancel safe.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut phase = self.0.clone();
        async move {
            // An error says that no Drain is left, which counts as a drain.
            let _ = phase.wait_for(|phase| *phase >= Phase::Draining).await;
        }
    }

    /// Waits until the drain is forced; for ever when it never is. Cancel safe.
    pub fn forced(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut phase = self.0.clone();
        async move {
            if phase
                .wait_for(|phase| *phase >= Phase::Forced)
                .await
                .is_err()
            {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl IntoFuture for Signal {
    type Output = ();
    type IntoFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.draining())
    }
}

/// SIGTERM and SIGINT, caught from [`Signals::install`] on.
#[derive(Debug)]
pub struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
}

impl Signals {
    /// Catches both signals. Call it before the first socket is bound: a signal that comes earlier ends the process by
    /// the system's default, or, for process 1 of a container, not at all.
    ///
    /// # Errors
    /// When the system refuses the handler. Must be called inside a tokio runtime with I/O enabled.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
        })
    }

    /// Starts the drain at the first signal and forces its end at the second. Returns after the second.
    pub async fn run(mut self, drain: Drain) {
        let name = self.next().await;
        tracing::info!(
            signal = name,
            "draining; a second signal ends the process at once"
        );
        drain.start();
        let name = self.next().await;
        tracing::warn!(signal = name, "second signal: ending without waiting");
        drain.force();
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests;
