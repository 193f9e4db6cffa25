//! The least that a process between an application and Redis can do: one thread that takes the same requests as the
//! sidecar and sends what the client written by hand sends.
//!
//! It decides nothing and knows nothing: no HTTP beyond the end of a head, no waiters, no token, no renewal, no limit, and
//! a release is answered before Redis heard of it, which it does with the next acquire. So its cycle is the floor of what any
//! sidecar can reach on the machine, whatever is inside.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{Error, direct::Direct};

/// An answer of the size of the sidecar's.
const GRANT: &str = "HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-type: application/json\r\ncontent-length: 232\r\n\r\n{\"leaseId\":\"00000000000000000000000000000000\",\"policy\":\"test\",\"key\":\"cold/0000\",\"mode\":\"exclusive\",\"owner\":\"sidecar\",\"fencingToken\":1838579356000000,\"ttlMs\":10000,\"expiresInMs\":9898,\"renew\":\"auto\",\"grantedAt\":\"2026-01-01T00:00:00Z\"}";
const RELEASED: &str = "HTTP/1.1 204 No Content\r\ncache-control: no-store\r\n\r\n";

/// Serves one caller after another until the process ends, and prints where it listens.
///
/// # Errors
/// Those of the listening socket, and of the connection to Redis.
pub async fn serve(redis: SocketAddr) -> Result<(), Error> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    let mut direct = Direct::open(redis).await?;
    loop {
        let (caller, _) = listener.accept().await?;
        caller.set_nodelay(true)?;
        relay(caller, &mut direct).await?;
    }
}

async fn relay(mut caller: TcpStream, direct: &mut Direct) -> Result<(), Error> {
    let mut request = Vec::with_capacity(4096);
    let mut taken: Option<String> = None;
    loop {
        request.clear();
        while !request.ends_with(b"\r\n\r\n") {
            if caller.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        let answer = match request.strip_prefix(b"POST ") {
            Some(rest) => {
                let path = rest.split(|byte| *byte == b' ').next();
                let key = str::from_utf8(path.unwrap_or_default())?.to_owned();
                direct
                    .release_and_take(taken.as_deref(), &key, "me")
                    .await?;
                taken = Some(key);
                GRANT
            }
            None => RELEASED,
        };
        caller.write_all(answer.as_bytes()).await?;
    }
}

#[cfg(test)]
mod tests {
    use pawl_e2e::http::Lease;

    use super::GRANT;

    #[test]
    fn its_grant_is_one() {
        let (head, body) = GRANT.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())));
        assert!(Lease::read(body.as_bytes()).is_some());
    }
}
