//! The answers of one TCP connection on their way out: in the order of their requests, encoded when it is their turn, and
//! written as far as the socket takes them. What lies in a file is sent from there (`send_file`).

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Buf;
use protocol::api::{ApiKey, Piece, Response, supported_versions};
use protocol::frame::{self, RequestHeader};
use tokio::net::TcpStream;

use crate::replies::InOrder;
use crate::request_order::RequestOrder;
use crate::send_file::send_file;

/// With more requests unanswered, or more bytes waiting for the socket, no more requests are read.
const IN_FLIGHT_MAX: usize = 128;
const QUEUED_BYTES_MAX: usize = 64 << 20;
const FILE_CHUNK_BYTES: usize = 256 << 10;
const SLICES_MAX: usize = 32;

/// Whose answer it is.
pub(super) struct Target {
    pub(super) key: ApiKey,
    pub(super) version: i16,
    pub(super) correlation_id: i32,
    /// While there are quotas: whose request it is, and for how long its sender must hold back.
    pub(super) limited: Option<Limited>,
}

#[derive(Clone)]
pub(super) struct Limited {
    pub(super) client_id: Option<Arc<str>>,
    pub(super) throttle_ms: i32,
}

#[expect(clippy::large_enum_variant, reason = "nearly all are responses; a box would cost each an allocation")]
pub(super) enum Answer {
    Response(Response),
    Nothing,
    Close(String),
}

/// See the module.
#[derive(Default)]
pub(super) struct Out {
    pub(super) order: InOrder<Target, Answer>,
    pub(super) ahead: RequestOrder,
    sending: VecDeque<Piece>,
    queued_bytes: usize,
    /// The socket took no more: the task waits until it does.
    pub(super) is_full: bool,
    /// The task does not read until something has left.
    pub(super) reading_paused: bool,
}

/// Why nothing more is sent.
pub(super) enum Ending {
    /// The client is gone, or sent what is no request.
    Theirs(String),
    /// An answer could not be made: the client waits in vain.
    Ours(String),
}

fn is_of_the_socket(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, TimedOut};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | TimedOut)
}

pub(super) enum Pumped {
    /// All is sent that can be.
    Done,
    /// The task must go on: the socket is full, or a file must be read.
    TaskWanted,
}

/// Whether a client asks for the versions in a version that is not known here; it is told them in the oldest.
pub(super) fn is_from_the_future(header: &RequestHeader) -> bool {
    let (min, max) = supported_versions(header.api_key);
    header.api_key == ApiKey::ApiVersions && !(min..=max).contains(&header.api_version)
}

impl Out {
    /// Whether more requests may be read.
    pub(super) fn has_room(&self) -> bool {
        self.order.len() < IN_FLIGHT_MAX && self.queued_bytes < QUEUED_BYTES_MAX
    }

    /// Makes a place for the answer to a request; `None` while it must wait for the requests before it.
    pub(super) fn open(&mut self, header: &RequestHeader) -> Option<u64> {
        let key = header.api_key;
        if !self.ahead.admit(key) {
            return None;
        }
        let version = if is_from_the_future(header) { 0 } else { header.api_version };
        Some(self.order.open(Some(Target { key, version, correlation_id: header.correlation_id, limited: None })))
    }

    pub(super) fn pump(&mut self, stream: &TcpStream, read_files: bool) -> Result<Pumped, Ending> {
        loop {
            while let Some((target, answer)) = self.order.pop_ready() {
                match answer {
                    Answer::Response(response) => {
                        let pieces = frame::encode_response(target.version, target.correlation_id, &response)
                            .map_err(|error| Ending::Ours(format!("cannot write a response: {error}")))?;
                        self.queued_bytes += pieces.len_bytes();
                        self.sending.extend(pieces);
                    }
                    Answer::Nothing => {}
                    Answer::Close(reason) => return Err(Ending::Theirs(reason)),
                }
            }
            if self.is_full {
                return Ok(Pumped::Done); // the task waits for room already
            }
            match self.sending.front_mut() {
                None => return Ok(Pumped::Done),
                Some(Piece::Memory(_)) => {}
                Some(Piece::File { .. }) if !read_files => return Ok(Pumped::TaskWanted),
                Some(Piece::File { .. }) => match self.send_from_file(stream)? {
                    Pumped::Done => continue,
                    Pumped::TaskWanted => return Ok(Pumped::TaskWanted),
                },
            }
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut count = 0;
            for piece in &self.sending {
                match piece {
                    Piece::Memory(bytes) if count < SLICES_MAX => {
                        slices[count] = IoSlice::new(bytes);
                        count += 1;
                    }
                    _ => break,
                }
            }
            match stream.try_write_vectored(&slices[..count]) {
                Ok(sent) => self.sent(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_full = true;
                    return Ok(Pumped::TaskWanted);
                }
                Err(error) => return Err(Ending::Theirs(error.to_string())),
            }
        }
    }

    /// Sends as much of the front piece, which lies in a file, as the socket takes at once.
    fn send_from_file(&mut self, stream: &TcpStream) -> Result<Pumped, Ending> {
        let Some(Piece::File { segment, position, length }) = self.sending.front_mut() else { return Ok(Pumped::Done) };
        match send_file(stream, segment.as_ref(), *position, (*length).min(FILE_CHUNK_BYTES)) {
            Ok(sent) => {
                *position += sent as u64;
                *length -= sent;
                self.queued_bytes = self.queued_bytes.saturating_sub(sent);
                if *length == 0 {
                    self.sending.pop_front();
                }
                Ok(Pumped::Done)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_full = true;
                Ok(Pumped::TaskWanted)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Pumped::Done),
            Err(error) if is_of_the_socket(&error) => Err(Ending::Theirs(error.to_string())),
            Err(error) => Err(Ending::Ours(format!("cannot send the log in a response: {error}"))),
        }
    }

    fn sent(&mut self, mut count: usize) {
        self.queued_bytes = self.queued_bytes.saturating_sub(count);
        while let Some(Piece::Memory(bytes)) = self.sending.front_mut() {
            if bytes.len() > count {
                bytes.advance(count);
                return;
            }
            count -= bytes.len();
            self.sending.pop_front();
        }
    }
}
