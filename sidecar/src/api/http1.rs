//! HTTP/1.1 as this API needs it: small requests, small answers, event streams, and callers that wait.
//!
//! Why not a general HTTP server: the raw bytes must be checked before anything acts on them ([`guard`]), so the head
//! is parsed here anyway, and two parsers on one connection are what request smuggling lives on. And a caller that
//! waits for a lock must cost little and its leaving must be seen at once: a parked connection of hyper alone costs
//! 10 KB (it keeps a read and a write buffer of 8 KB each), one of ours has no buffer at all.
//!
//! The parts are pure where they can be: [`guard`] and [`chunked`] are functions of bytes, [`response`] writes bytes.

pub mod chunked;
pub mod guard;
pub(super) mod pool;
pub(super) mod reader;
pub(super) mod response;
pub(super) mod socket;
pub(super) mod wire;
