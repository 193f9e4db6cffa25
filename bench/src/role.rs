//! This program in another role, as a process of its own.

use std::{net::SocketAddr, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::Error;

/// A server that this program is besides. Dropping it ends the process.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process.
    pub pid: i32,
    _process: Child,
}

impl Server {
    /// Starts this program with these arguments; its first line says where it listens.
    ///
    /// # Errors
    /// A process that does not start or says something else.
    pub async fn start(arguments: &[&str]) -> Result<Self, Error> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = process.stdout.take().ok_or("the server has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).await?;
        Ok(Self {
            address: line.trim().parse()?,
            pid: i32::try_from(process.id().ok_or("the server ended")?)?,
            _process: process,
        })
    }
}
