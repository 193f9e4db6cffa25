//! One connection on which a request is sent and its answer awaited: what clients that are written by hand stand on.

use std::{net::SocketAddr, path::PathBuf};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

use crate::Error;

/// Where a server listens.
#[derive(Clone, Debug)]
pub enum Address {
    /// On TCP.
    Tcp(SocketAddr),
    /// On a Unix socket.
    Unix(PathBuf),
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl Address {
    /// How it is reached, in words.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "TCP",
            Self::Unix(_) => "Unix socket",
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Wire {
    stream: Stream,
    answer: Vec<u8>,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Wire {
    /// Connects.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn open(address: &Address) -> Result<Self, Error> {
        let stream = match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path).await?),
        };
        Ok(Self {
            stream,
            answer: Vec::with_capacity(4096),
        })
    }

    /// Sends `request` and reads until `parse` makes something of what came.
    ///
    /// # Errors
    /// Those of the socket and of `parse`, and an answer that ends early.
    pub async fn ask<T>(
        &mut self,
        request: &[u8],
        parse: impl Fn(&[u8]) -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(request).await?,
            Stream::Unix(stream) => stream.write_all(request).await?,
        }
        self.answer.clear();
        loop {
            let read = match &mut self.stream {
                Stream::Tcp(stream) => stream.read_buf(&mut self.answer).await?,
                Stream::Unix(stream) => stream.read_buf(&mut self.answer).await?,
            };
            if read == 0 {
                return Err("the connection ended".into());
            }
            if let Some(answer) = parse(&self.answer)? {
                return Ok(answer);
            }
        }
    }
}
