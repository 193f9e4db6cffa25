//! A caller of the sidecar, as an application would write it by hand: HTTP/1.1 on one connection.

use std::io::Write as _;

use pawl_e2e::http::Lease;

use crate::{
    Error,
    wire::{Address, Wire},
};

/// A connection to a sidecar's API.
#[derive(Debug)]
pub struct Caller {
    wire: Wire,
    request: Vec<u8>,
}

impl Caller {
    /// Connects.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn open(address: &Address) -> Result<Self, Error> {
        Ok(Self {
            wire: Wire::open(address).await?,
            request: Vec::new(),
        })
    }

    /// Takes and releases the lock at `path`.
    ///
    /// # Errors
    /// Those of the connection, and any answer but a grant and 204.
    pub async fn cycle(&mut self, path: &str) -> Result<(), Error> {
        self.send("POST", path)?;
        let lease = self.wire.ask(&self.request, |answer| {
            let Some(body) = body(answer, 200)? else {
                return Ok(None);
            };
            Ok(Some(Lease::read(body).ok_or("a grant without a lease")?))
        });
        let lease = lease.await?;
        self.send("DELETE", &format!("/v1/leases/{}", lease.id))?;
        self.wire
            .ask(&self.request, |answer| Ok(body(answer, 204)?.map(drop)))
            .await
    }

    fn send(&mut self, method: &str, path: &str) -> Result<(), Error> {
        self.request.clear();
        write!(
            self.request,
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"
        )?;
        Ok(())
    }
}

/// The body of an answer, once all of it is there.
fn body(answer: &[u8], expected: u16) -> Result<Option<&[u8]>, Error> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(start) = head.parse(answer)? else {
        return Ok(None);
    };
    if head.code != Some(expected) {
        return Err(String::from_utf8_lossy(answer).into());
    }
    let length = head
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length: usize = match length {
        Some(length) => str::from_utf8(length.value)?.parse()?,
        None => 0,
    };
    Ok(answer.get(start..start + length))
}

#[cfg(test)]
mod tests {
    use super::body;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab";
        for end in 0..answer.len() {
            assert_eq!(body(&answer[..end], 200).unwrap(), None, "{end}");
        }
        assert_eq!(body(answer, 200).unwrap(), Some(&b"ab"[..]));
        let empty = b"HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(body(empty, 204).unwrap(), Some(&b""[..]));
        assert!(body(answer, 204).is_err());
    }
}
