//! What the API listens on.

use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    task::{Context, Poll},
};

use tokio::net::{TcpListener, TcpSocket, UnixListener};

use super::http1::{guard::Hosts, socket::Socket};
use crate::audience::Audience;

/// Connections that the system keeps until they are accepted.
const BACKLOG: u32 = 1024;
/// How often another port is tried when the one that the system chose for IPv4 is taken for IPv6.
const PORT_TRIES: usize = 16;

/// Where the API listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{address} cannot be bound: {source}")]
pub struct BindError {
    address: Address,
    source: io::Error,
}

/// A socket that is listened on.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp {
        listener: TcpListener,
        address: SocketAddr,
    },
    Unix {
        listener: UnixListener,
        file: SocketFile,
    },
}

/// The file of a Unix socket, removed when it is dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

/// Listens on a TCP address. With 127.0.0.1 also on `[::1]`, with the same port; a machine without IPv6 is told of.
///
/// # Errors
/// [`BindError`] if the address itself cannot be bound, or `[::1]` is taken.
pub(super) fn tcp(address: SocketAddr) -> Result<Vec<Listener>, BindError> {
    let failed = |address| {
        move |source| BindError {
            address: Address::Tcp(address),
            source,
        }
    };
    if address.ip() != IpAddr::V4(Ipv4Addr::LOCALHOST) {
        return Ok(vec![bind(address).map_err(failed(address))?]);
    }
    let mut tries = 1;
    loop {
        let first = bind(address).map_err(failed(address))?;
        let port = first.port();
        let second = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port);
        match bind(second) {
            Ok(second) => return Ok(vec![first, second]),
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                tracing::info!(%error, "there is no IPv6 here; the API listens on 127.0.0.1 alone");
                return Ok(vec![first]);
            }
            Err(_) if address.port() == 0 && tries < PORT_TRIES => tries += 1,
            Err(error) => return Err(failed(second)(error)),
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<Listener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Connections of a process that ended do not keep its successor from the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    Ok(Listener::Tcp { listener, address })
}

/// Listens on a Unix socket. A socket that is left of a process that ended is replaced; one that is in use is not.
/// `audience` may connect.
///
/// # Errors
/// [`BindError`].
pub(super) fn unix(path: &Path, audience: Audience) -> Result<Listener, BindError> {
    bind_unix(path, audience).map_err(|source| BindError {
        address: Address::Unix(path.to_owned()),
        source,
    })
}

fn bind_unix(path: &Path, audience: Audience) -> io::Result<Listener> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let problem = "something else than a socket is there";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, problem));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            let problem = "another process listens there";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, problem));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Made beside and renamed: whoever finds it at its place finds it with its rights, and a stale one is never in between.
    let beside = path.with_added_extension(std::process::id().to_string());
    let _ = fs::remove_file(&beside);
    let listener = UnixListener::bind(&beside)?;
    let mode = fs::Permissions::from_mode(audience.socket_mode());
    let placed = fs::set_permissions(&beside, mode)
        .and_then(|()| fs::rename(&beside, path))
        .and_then(|()| fs::symlink_metadata(path));
    match placed {
        Ok(placed) => {
            let path = path.to_owned();
            let inode = placed.ino();
            let file = SocketFile { path, inode };
            Ok(Listener::Unix { listener, file })
        }
        Err(error) => {
            let _ = fs::remove_file(&beside);
            Err(error)
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = |found: fs::Metadata| found.ino() == self.inode;
        if fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            // It is gone, or stays behind as a stale socket, which the next one replaces.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    /// Where it listens.
    pub(super) fn address(&self) -> Address {
        match self {
            Self::Tcp { address, .. } => Address::Tcp(*address),
            Self::Unix { file, .. } => Address::Unix(file.path.clone()),
        }
    }

    /// Which `Host` its callers may name.
    pub(super) fn hosts(&self) -> Hosts {
        match self {
            Self::Tcp { address, .. } => Hosts::Loopback {
                port: address.port(),
            },
            Self::Unix { .. } => Hosts::Any,
        }
    }

    fn port(&self) -> u16 {
        match self {
            Self::Tcp { address, .. } => address.port(),
            Self::Unix { .. } => 0,
        }
    }

    /// The next connection.
    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Socket>> {
        match self {
            Self::Tcp { listener, .. } => listener.poll_accept(cx).map_ok(|(socket, _)| {
                // Answers are written whole, so waiting for more would only cost time. A failure costs that time.
                let _ = socket.set_nodelay(true);
                Socket::Tcp(socket)
            }),
            Self::Unix { listener, .. } => listener
                .poll_accept(cx)
                .map_ok(|(socket, _)| Socket::Unix(socket)),
        }
    }
}

#[cfg(test)]
mod tests;
