//! A raw connection: what is sent is exactly what the test says.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::Value;

use crate::sidecar::LONG;

trait Stream: Read + Write + Send {
    fn limit(&self, limit: Duration);
    fn shut(&self);
}

impl Stream for TcpStream {
    fn limit(&self, limit: Duration) {
        self.set_read_timeout(Some(limit)).unwrap();
    }

    fn shut(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

impl Stream for UnixStream {
    fn limit(&self, limit: Duration) {
        self.set_read_timeout(Some(limit)).unwrap();
    }

    fn shut(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

/// A connection and what was read of it.
pub(crate) struct Raw {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
}

/// An answer.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self
            .headers
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| &**value)
    }

    /// The body.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// The problem's code, which has to be one of its status.
    pub(crate) fn code(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let body = self.json();
        assert_eq!(body["status"], self.status, "{self:?}");
        let code = body["code"].as_str().unwrap().to_owned();
        assert_eq!(body["type"], format!("https://pawl.dev/problems/{code}"));
        assert!(
            body["title"].is_string() && body["detail"].is_string(),
            "{self:?}"
        );
        code
    }
}

impl Raw {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(Box::new(stream))
    }

    pub(crate) fn connect_unix(path: &Path) -> Self {
        Self::over(Box::new(UnixStream::connect(path).unwrap()))
    }

    fn over(stream: Box<dyn Stream>) -> Self {
        stream.limit(LONG);
        Self {
            stream,
            read: Vec::new(),
        }
    }

    /// Sends bytes.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    /// Sends bytes to a server that may have closed already.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Says that nothing more will be sent.
    pub(crate) fn shut(&mut self) -> &mut Self {
        self.stream.shut();
        self
    }

    /// A request with a JSON body, if there is one.
    pub(crate) fn call(&mut self, method: &str, path: &str, body: &str) -> Answer {
        self.send(request(method, path, "", body)).answer()
    }

    /// A request with more header lines.
    pub(crate) fn call_with(
        &mut self,
        method: &str,
        path: &str,
        lines: &str,
        body: &str,
    ) -> Answer {
        self.send(request(method, path, lines, body)).answer()
    }

    /// The next answer.
    pub(crate) fn answer(&mut self) -> Answer {
        self.answer_or_end().unwrap_or_else(|| {
            panic!(
                "closed without an answer; read {:?}",
                String::from_utf8_lossy(&self.read)
            )
        })
    }

    /// The next answer; nothing if the connection ends before its first byte.
    pub(crate) fn answer_or_end(&mut self) -> Option<Answer> {
        let mut answer = self.head()?;
        let length = answer
            .header("content-length")
            .map_or(0, |length| length.parse().unwrap());
        while self.read.len() < length {
            assert!(self.more(), "closed within a body");
        }
        answer.body = String::from_utf8(self.read.drain(..length).collect()).unwrap();
        Some(answer)
    }

    /// The head of the next answer.
    pub(crate) fn head(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(end) = find(&self.read, b"\r\n\r\n") {
                break end;
            }
            if !self.more() {
                assert!(
                    self.read.is_empty(),
                    "closed within a head: {:?}",
                    self.read
                );
                return None;
            }
        };
        let head = String::from_utf8(self.read.drain(..end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().strip_prefix("HTTP/1.1 ").unwrap();
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        Some(Answer {
            status: status.split(' ').next().unwrap().parse().unwrap(),
            headers: headers
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            body: String::new(),
        })
    }

    /// Bytes up to and with `end`.
    pub(crate) fn until(&mut self, end: &[u8]) -> String {
        loop {
            if let Some(at) = find(&self.read, end) {
                return String::from_utf8(self.read.drain(..at + end.len()).collect()).unwrap();
            }
            assert!(
                self.more(),
                "closed before {end:?}: {:?}",
                String::from_utf8_lossy(&self.read)
            );
        }
    }

    /// Waits for the end of the connection, before which nothing comes.
    pub(crate) fn ends(&mut self) {
        let more = self.more();
        assert!(
            !more && self.read.is_empty(),
            "{:?}",
            String::from_utf8_lossy(&self.read)
        );
    }

    /// Whether the connection is still open and silent after `time`.
    pub(crate) fn is_silent(&mut self, time: Duration) -> bool {
        self.stream.limit(time);
        let read = self.stream.read(&mut [0]);
        self.stream.limit(LONG);
        read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    fn more(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.read.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}; read {:?}", String::from_utf8_lossy(&self.read)),
        }
    }
}

/// A request as a well-behaved client writes it.
pub(crate) fn request(method: &str, path: &str, lines: &str, body: &str) -> String {
    let body_lines = if body.is_empty() {
        String::new()
    } else {
        format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        )
    };
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{lines}{body_lines}\r\n{body}")
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
