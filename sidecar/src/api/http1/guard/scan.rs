//! Finds the end of a head in bytes that come in pieces, and refuses at once what no later byte can mend.

use super::{MAX_HEAD, MAX_TARGET, Reject};

/// The longest request line: a method and a version beside the longest target.
const MAX_LINE: usize = MAX_TARGET + 64;

/// How far a head was looked at. Each byte is looked at once, however it comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Scanner {
    /// The first byte that was not looked at.
    at: usize,
    /// Where the line began that `at` is in.
    line: usize,
    has_request_line: bool,
}

impl Scanner {
    /// Looks at what is new in `bytes`, which begin with the request line. `Some(end)`: the head is `bytes[..end]`.
    ///
    /// # Errors
    /// [`Reject`] for a head that is wrong or too long already.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, Reject> {
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b'\n' => {
                    if self.at == 0 || bytes[self.at - 1] != b'\r' {
                        return Err(self.fault("a line ends with LF alone"));
                    }
                    let line = &bytes[self.line..self.at - 1];
                    self.at += 1;
                    if line.is_empty() && self.has_request_line {
                        return if self.at > MAX_HEAD {
                            Err(Reject::HeadTooLong)
                        } else {
                            Ok(Some(self.at))
                        };
                    }
                    self.end_of_line(line)?;
                    self.line = self.at;
                    continue;
                }
                b' ' | b'\t' if self.at == self.line => {
                    return Err(self.fault("a line begins with a space"));
                }
                b'\t' if self.has_request_line => {}
                0..=0x1f | 0x7f if byte != b'\r' => {
                    return Err(self.fault("it has a control byte"));
                }
                _ if self.at > self.line && bytes[self.at - 1] == b'\r' => {
                    return Err(self.fault("CR stands without LF"));
                }
                _ => {}
            }
            self.at += 1;
        }
        if !self.has_request_line && self.at > MAX_LINE {
            return Err(Reject::TargetTooLong);
        }
        if self.at >= MAX_HEAD {
            return Err(Reject::HeadTooLong);
        }
        Ok(None)
    }

    /// A fault at the first byte comes from something that does not speak HTTP: it is not answered in HTTP.
    fn fault(&self, what: &'static str) -> Reject {
        if self.at == 0 {
            Reject::NotHttp
        } else {
            Reject::Malformed(what)
        }
    }

    fn end_of_line(&mut self, line: &[u8]) -> Result<(), Reject> {
        if self.has_request_line {
            return Ok(());
        }
        self.has_request_line = true;
        if line.len() > MAX_LINE {
            return Err(Reject::TargetTooLong);
        }
        match line.rsplit(|byte| *byte == b' ').next() {
            Some(b"HTTP/1.1" | b"HTTP/1.0") => Ok(()),
            // The preface of HTTP/2 with prior knowledge, and anything that names no version, such as HTTP/0.9.
            Some(b"HTTP/2.0") if line.starts_with(b"PRI ") => Err(Reject::NotHttp),
            Some(version) if version.starts_with(b"HTTP/") => Err(Reject::Version),
            _ => Err(Reject::NotHttp),
        }
    }
}
