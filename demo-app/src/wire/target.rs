//! Where a client connects to.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;

use hyper::header::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::WireError;

/// Anything that bytes go through in both directions.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

/// The address of a server.
#[derive(Debug, Clone)]
pub enum Target {
    /// `http://HOST:PORT`
    Tcp {
        /// `HOST:PORT`
        authority: String,
        /// The same, as the `Host` header.
        host: HeaderValue,
    },
    /// `unix:/PATH`
    Unix {
        /// The socket's path.
        path: PathBuf,
        /// What the `Host` header says; a socket has no name of its own.
        host: HeaderValue,
    },
}

impl Target {
    /// Reads `http://HOST:PORT[/]` or `unix:/PATH`.
    pub fn parse(address: &str) -> Result<Self, WireError> {
        let wrong = || WireError::Address(address.to_owned());
        if let Some(path) = address.strip_prefix("unix:") {
            return if path.starts_with('/') {
                Ok(Self::Unix {
                    path: path.into(),
                    host: HeaderValue::from_static("localhost"),
                })
            } else {
                Err(wrong())
            };
        }
        let authority = address.strip_prefix("http://").ok_or_else(wrong)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let authority: hyper::http::uri::Authority = authority.parse().map_err(|_| wrong())?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(wrong());
        }
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| wrong())?;
        let port = &authority.as_str()[authority.host().len()..];
        let authority = match port.strip_prefix(':') {
            Some(digits) if digits.parse::<u16>().is_ok_and(|port| port > 0) => {
                authority.to_string()
            }
            None if port.is_empty() => format!("{authority}:80"),
            _ => return Err(wrong()),
        };
        Ok(Self::Tcp { authority, host })
    }

    pub(super) fn host(&self) -> &HeaderValue {
        match self {
            Self::Tcp { host, .. } | Self::Unix { host, .. } => host,
        }
    }

    pub(super) async fn connect(&self) -> io::Result<Pin<Box<dyn Duplex>>> {
        match self {
            Self::Tcp { authority, .. } => {
                let socket = TcpStream::connect(authority).await?;
                // Requests are one small write each; waiting to merge them only costs latency.
                socket.set_nodelay(true)?;
                Ok(Box::pin(socket))
            }
            Self::Unix { path, .. } => Ok(Box::pin(UnixStream::connect(path).await?)),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { authority, .. } => write!(f, "http://{authority}"),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused() {
        for good in [
            "http://127.0.0.1:4600",
            "http://[::1]:4600/",
            "http://bank",
            "unix:/run/pawl.sock",
        ] {
            assert!(Target::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "127.0.0.1:4600",
            "https://bank",
            "unix:pawl.sock",
            "http://",
            "http://u:p@bank",
            "http://bank:x",
            "http://bank/path",
        ] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            Target::parse("http://bank").unwrap().to_string(),
            "http://bank:80"
        );
    }
}
