//! One connection on which a request is sent and its answer awaited: what clients that are written by hand stand on.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::Error;

/// A connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Wire {
    /// Connects.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn open(address: SocketAddr) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
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
        self.stream.write_all(request).await?;
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err("the connection ended".into());
            }
            if let Some(answer) = parse(&self.answer)? {
                return Ok(answer);
            }
        }
    }
}
