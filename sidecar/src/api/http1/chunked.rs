//! The body of a request in the chunked transfer coding (RFC 9112, 7.1), read in pieces.

use super::guard::{MAX_BODY, Reject};

/// The most bytes of framing: enough for a body of the longest size in chunks of one byte.
const MAX_FRAMING: usize = 8 * MAX_BODY;

/// A body that comes in chunks. Extensions and trailers are refused: nothing here reads them, and what nobody reads
/// is where parsers differ.
#[derive(Debug, Default)]
pub struct Chunked {
    state: State,
    body: Vec<u8>,
    framing: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// In the digits of a chunk's size.
    Size {
        size: usize,
        has_digits: bool,
    },
    /// The line feed after a chunk's size is due.
    SizeEnd {
        size: usize,
    },
    /// So many bytes of a chunk are due.
    Data {
        left: usize,
    },
    /// The end of line after a chunk is due.
    DataEnd {
        has_cr: bool,
    },
    /// The empty line after the last chunk is due.
    Last {
        has_cr: bool,
    },
    Done,
}

impl Default for State {
    fn default() -> Self {
        Self::Size {
            size: 0,
            has_digits: false,
        }
    }
}

impl Chunked {
    /// Takes what belongs to the body off the front of `bytes` and says how many bytes that were. It wants more as long
    /// as [`Chunked::finish`] is nothing.
    ///
    /// # Errors
    /// [`Reject::Malformed`] and [`Reject::BodyTooLarge`].
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, Reject> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            if let State::Data { left } = self.state {
                let taken = left.min(bytes.len() - at);
                self.body.extend_from_slice(&bytes[at..at + taken]);
                at += taken;
                self.state = match left - taken {
                    0 => State::DataEnd { has_cr: false },
                    left => State::Data { left },
                };
                continue;
            }
            self.state = self.step(bytes[at])?;
            at += 1;
            self.framing += 1;
            if self.framing > MAX_FRAMING {
                return Err(Reject::BodyTooLarge);
            }
        }
        Ok(at)
    }

    /// The whole body, once the last chunk was there.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        (self.state == State::Done).then(|| std::mem::take(&mut self.body))
    }

    fn step(&self, byte: u8) -> Result<State, Reject> {
        Ok(match (self.state, byte) {
            (State::Size { size, .. }, digit) if digit.is_ascii_hexdigit() => {
                let digit = char::from(digit).to_digit(16).unwrap_or(0);
                let size = size * 16 + digit as usize;
                if self.body.len() + size > MAX_BODY {
                    return Err(Reject::BodyTooLarge);
                }
                State::Size {
                    size,
                    has_digits: true,
                }
            }
            (
                State::Size {
                    size,
                    has_digits: true,
                },
                b'\r',
            ) => State::SizeEnd { size },
            (State::SizeEnd { size: 0 }, b'\n') => State::Last { has_cr: false },
            (State::SizeEnd { size }, b'\n') => State::Data { left: size },
            (State::DataEnd { has_cr: false }, b'\r') => State::DataEnd { has_cr: true },
            (State::DataEnd { has_cr: true }, b'\n') => State::default(),
            (State::Last { has_cr: false }, b'\r') => State::Last { has_cr: true },
            (State::Last { has_cr: true }, b'\n') => State::Done,
            (State::Size { .. }, b';') => {
                return Err(Reject::Malformed("a chunk has an extension"));
            }
            (State::Last { has_cr: false }, _) => {
                return Err(Reject::Malformed("the body has trailers"));
            }
            _ => return Err(Reject::Malformed("the chunks are not well-formed")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], piece: usize) -> Result<Option<(Vec<u8>, usize)>, Reject> {
        let mut chunked = Chunked::default();
        let mut used = 0;
        for part in bytes.chunks(piece) {
            used += chunked.feed(part)?;
            if let Some(body) = chunked.finish() {
                return Ok(Some((body, used)));
            }
        }
        Ok(None)
    }

    #[test]
    fn a_body_is_the_same_however_it_comes_and_what_follows_is_left() {
        let bytes = b"5\r\nhello\r\n0A\r\n, 10 bytes\r\n0\r\n\r\nGET / HTTP/1.1\r\n";
        for piece in 1..=bytes.len() {
            let (body, used) = read(bytes, piece).unwrap().unwrap();
            assert_eq!(body, b"hello, 10 bytes");
            assert_eq!(&bytes[used..], b"GET / HTTP/1.1\r\n");
        }
        assert_eq!(read(b"5\r\nhel", 2), Ok(None));
    }

    #[test]
    fn anything_but_plain_chunks_is_refused() {
        for wrong in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "+1\r\n",
            " 1\r\n",
            "1 \r\nx",
            "1;a=b\r\nx\r\n0\r\n\r\n",
            "1\nx\r\n",
            "1\r\nxy\r\n",
            "1\r\nx\n",
            "0\r\nTrailer: 1\r\n\r\n",
            "0\n\n",
            "0x1\r\nx",
        ] {
            let read = read(wrong.as_bytes(), 3);
            assert!(
                matches!(read, Err(Reject::Malformed(_))),
                "{wrong:?}: {read:?}"
            );
        }
    }

    #[test]
    fn body_and_framing_are_bounded_even_without_an_end() {
        let most = format!("{MAX_BODY:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(MAX_BODY));
        assert_eq!(
            read(most.as_bytes(), 100).unwrap().unwrap().0.len(),
            MAX_BODY
        );
        let single = "1\r\nx\r\n".repeat(MAX_BODY) + "0\r\n\r\n";
        assert_eq!(
            read(single.as_bytes(), 100).unwrap().unwrap().0.len(),
            MAX_BODY
        );
        for endless in [
            "fff\r\n".to_owned() + &"x".repeat(4095) + "\r\n2\r\n",
            "0".repeat(100_000),
            "ffffffffffffffffffff".into(),
        ] {
            assert_eq!(read(endless.as_bytes(), 1000), Err(Reject::BodyTooLarge));
        }
    }
}
