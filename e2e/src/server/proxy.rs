//! A TCP proxy that misbehaves when it is told to.

use std::sync::{
    Arc,
    atomic::{AtomicU8, AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
    task::JoinSet,
};

/// What a proxy does with data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Fault {
    /// Passes it on.
    None = 0,
    /// Lets requests through; closes the connection at the first byte of an answer.
    CutAnswers = 1,
    /// Lets requests through and swallows answers.
    SwallowAnswers = 2,
    /// Swallows everything on connections that stand when it is set; new ones work.
    Stall = 3,
}

/// A proxy in front of a port of the loopback. It ends when it is dropped.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    fault: AtomicU8,
    /// Counts the times that [`Fault::Stall`] was set: connections older than the last one are dead.
    stalls: AtomicUsize,
    accepted: AtomicUsize,
    cut: Notify,
}

impl Proxy {
    /// Starts one on the runtime that this is called in.
    ///
    /// # Panics
    /// If there is no port.
    pub async fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("there is a port");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared {
            fault: AtomicU8::new(Fault::None as u8),
            stalls: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            cut: Notify::new(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, upstream, Arc::clone(&shared)));
        Self {
            port,
            shared,
            _tasks: tasks,
        }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections it took so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Ends all connections that stand.
    pub fn cut(&self) {
        self.shared.cut.notify_waiters();
    }

    /// Misbehaves from now on.
    pub fn set(&self, fault: Fault) {
        if fault == Fault::Stall {
            self.shared.stalls.fetch_add(1, Ordering::Relaxed);
        } else {
            self.shared.fault.store(fault as u8, Ordering::Relaxed);
        }
    }
}

async fn accept(listener: TcpListener, upstream: u16, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        shared.accepted.fetch_add(1, Ordering::Relaxed);
        if let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)).await {
            connections.spawn(serve(client, server, Arc::clone(&shared)));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(client: TcpStream, server: TcpStream, shared: Arc<Shared>) {
    // As a wire has it: what is written is on its way.
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let born = shared.stalls.load(Ordering::Relaxed);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pass(from_client, to_server, &shared, born, false) => {}
        () = pass(from_server, to_client, &shared, born, true) => {}
        () = shared.cut.notified() => {}
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    born: usize,
    are_answers: bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count) = from.read(&mut buffer).await {
        let fault = shared.fault.load(Ordering::Relaxed);
        if count == 0 || (are_answers && fault == Fault::CutAnswers as u8) {
            return;
        }
        let is_stalled = shared.stalls.load(Ordering::Relaxed) > born;
        if is_stalled || (are_answers && fault == Fault::SwallowAnswers as u8) {
            continue;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
