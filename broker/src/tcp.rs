//! One TCP connection: frames in, requests dispatched on this thread, responses out in the order of their requests.
//!
//! Requests are taken up as they arrive, so that a pipelining producer's batches share one fsync; only their answers
//! wait for each other. Whoever completes an answer writes it to the socket at once, from its own thread; the
//! connection's task steps in when the socket is full, or when the answer lies in a file.
//!
//! Bytes that are no request close the connection without an answer, as in Kafka. Too many requests in flight, or too
//! many bytes waiting to be sent, and no more is read until some have left.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use base::Now;
use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use protocol::api::{ApiKey, Piece, Response, supported_versions};
use protocol::frame::{self, LENGTH_BYTES};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::dispatch::{self, Endpoint, Outcome, RequestContext};
use crate::handlers::api_versions;
use crate::replies::{InOrder, ReplySink};
use crate::state::BrokerState;

const IN_FLIGHT_MAX: usize = 128;
const QUEUED_BYTES_MAX: usize = 64 << 20;
const READ_BYTES: usize = 64 << 10;
const WARN_INTERVAL_MS: i64 = 10_000;
const FILE_CHUNK_BYTES: usize = 256 << 10;
const SLICES_MAX: usize = 32;
/// After this many reads in a row other connections of the same worker get their turn.
const READS_IN_A_ROW: usize = 16;

/// See the module.
pub(crate) struct TcpConnection {
    id: u64,
    state: Arc<BrokerState>,
    endpoint: Arc<Endpoint>,
    client_host: Arc<str>,
    peer: SocketAddr,
    stream: TcpStream,
    out: Mutex<Out>,
    /// The task is wanted: to write, to read on, or to end.
    attention: Notify,
    closed: AtomicBool,
    last_used_ticks_ms: AtomicI64,
}

#[derive(Clone, Copy)]
struct Target {
    version: i16,
    correlation_id: i32,
}

#[expect(clippy::large_enum_variant, reason = "nearly all are responses; a box would cost each an allocation")]
enum Answer {
    Response(Response),
    Nothing,
    Close(String),
}

#[derive(Default)]
struct Out {
    order: InOrder<Target, Answer>,
    sending: VecDeque<Piece>,
    queued_bytes: usize,
    /// The socket took no more: the task waits until it does.
    is_full: bool,
    /// The task does not read until something has left.
    reading_paused: bool,
}

impl TcpConnection {
    pub(crate) fn new(
        id: u64,
        state: Arc<BrokerState>,
        endpoint: Arc<Endpoint>,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> Self {
        let now = state.clock.now();
        Self {
            id,
            state,
            endpoint,
            client_host: format!("/{}", peer.ip()).into(),
            peer,
            stream,
            out: Mutex::default(),
            attention: Notify::new(),
            closed: AtomicBool::new(false),
            last_used_ticks_ms: AtomicI64::new(now.ticks_ms),
        }
    }

    /// Serves the connection until it ends.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        while !self.closed.load(Ordering::Acquire) {
            let (may_read, is_full) = {
                let mut out = self.out.lock();
                let may_read = out.order.len() < IN_FLIGHT_MAX && out.queued_bytes < QUEUED_BYTES_MAX;
                out.reading_paused = !may_read;
                (may_read, out.is_full)
            };
            tokio::select! {
                () = self.attention.notified() => self.pump(true),
                ready = self.stream.writable(), if is_full => match ready {
                    Ok(()) => {
                        self.out.lock().is_full = false;
                        self.pump(true);
                    }
                    Err(error) => self.end(&error),
                },
                ready = self.stream.readable(), if may_read => {
                    if let Err(error) = ready.and_then(|()| self.read(&mut buffer)) {
                        self.end(&error);
                    }
                }
            }
        }
        self.close();
    }

    fn end(&self, reason: &dyn std::fmt::Display) {
        tracing::debug!("connection of {} ends: {reason}", self.peer);
        self.close();
    }

    fn end_by_fault(&self, reason: &str) {
        static LIMIT: WarnLimit = WarnLimit::new();
        if let Some(silenced) = LIMIT.admit(self.state.clock.now().ticks_ms) {
            tracing::warn!("connection of {} ended: {reason} ({silenced} more since the last warning)", self.peer);
        }
        self.close();
    }

    /// Ends the connection; safe to call from anywhere, any number of times.
    pub(crate) fn close(&self) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            let _ = socket2::SockRef::from(&self.stream).shutdown(Shutdown::Both);
            self.attention.notify_one();
            self.state.connection_closed(self.id);
        }
    }

    pub(crate) fn is_idle(&self, now: Now, idle_max_ms: i64) -> bool {
        let idle_ms = now.ticks_ms - self.last_used_ticks_ms.load(Ordering::Relaxed);
        idle_max_ms >= 0 && idle_ms > idle_max_ms && self.out.lock().order.len() == 0
    }

    /// Reads what is there and takes up the requests in it.
    fn read(self: &Arc<Self>, buffer: &mut BytesMut) -> io::Result<()> {
        for _ in 0..READS_IN_A_ROW {
            let missing = match buffer.first_chunk::<LENGTH_BYTES>() {
                Some(prefix) => {
                    let limit = self.state.config.socket_request_max_bytes.max(0) as usize;
                    let length = frame::frame_length(*prefix, limit).map_err(io::Error::other)?;
                    (length + LENGTH_BYTES).saturating_sub(buffer.len())
                }
                None => 0,
            };
            // No more is set aside for a frame than has begun to arrive: its length alone is only a claim.
            let wanted = missing.min(buffer.len().max(READ_BYTES) * 4);
            buffer.reserve(wanted.max(READ_BYTES / 4));
            match self.stream.try_read_buf(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            let limit = self.state.config.socket_request_max_bytes.max(0) as usize;
            while let Some(frame) = frame::next_frame(buffer, limit).map_err(io::Error::other)? {
                self.take_up(frame)?;
                if self.closed.load(Ordering::Acquire) {
                    return Ok(());
                }
            }
            let out = self.out.lock();
            if out.order.len() >= IN_FLIGHT_MAX || out.queued_bytes >= QUEUED_BYTES_MAX {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Serves one request; an error closes the connection.
    fn take_up(self: &Arc<Self>, frame: Bytes) -> io::Result<()> {
        let (header, body) = frame::decode_request_header(frame).map_err(io::Error::other)?;
        let key = header.api_key;
        let (min, max) = supported_versions(key);
        let now = self.state.clock.now();
        self.last_used_ticks_ms.store(now.ticks_ms, Ordering::Relaxed);
        let target = Target { version: header.api_version, correlation_id: header.correlation_id };
        if key == ApiKey::ApiVersions && !(min..=max).contains(&header.api_version) {
            let sequence = self.out.lock().order.open(Some(Target { version: 0, ..target }));
            self.answer(sequence, Answer::Response(api_versions::unsupported_version()));
            return Ok(());
        }
        if self.state.is_closed() {
            return Err(io::Error::other("the broker was closed"));
        }
        if !dispatch::is_served(key) {
            return Err(io::Error::other(format!("{key} is not served")));
        }
        let request = frame::decode_request_body(&header, body).map_err(io::Error::other)?;
        let sequence = self.out.lock().order.open(Some(target));
        let context = RequestContext {
            connection_id: self.id,
            version: header.api_version,
            client_id: header.client_id,
            client_host: Arc::clone(&self.client_host),
            endpoint: Arc::clone(&self.endpoint),
            now,
            reply_to: Arc::clone(self) as Arc<dyn ReplySink>,
            sequence,
        };
        match dispatch::dispatch(&self.state, &context, request) {
            Outcome::Reply(response) => self.answer(sequence, Answer::Response(response)),
            Outcome::Deferred => {}
            Outcome::NoReply => self.answer(sequence, Answer::Nothing),
            Outcome::Close(reason) => self.answer(sequence, Answer::Close(reason)),
        }
        Ok(())
    }

    fn answer(&self, sequence: u64, answer: Answer) {
        self.out.lock().order.answer(sequence, answer);
        self.pump(false);
    }

    /// Sends as much as the socket takes. Only the connection's own task may `read_files`.
    fn pump(&self, read_files: bool) {
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        let mut out = self.out.lock();
        let outcome = out.pump(&self.stream, read_files);
        let resume = out.reading_paused && out.order.len() < IN_FLIGHT_MAX && out.queued_bytes < QUEUED_BYTES_MAX;
        drop(out);
        match outcome {
            Ok(Pumped::Done) if !resume => {}
            Ok(_) => self.attention.notify_one(),
            Err(Ending::Theirs(reason)) => self.end(&reason),
            Err(Ending::Ours(reason)) => self.end_by_fault(&reason),
        }
    }
}

/// Why nothing more is sent.
enum Ending {
    /// The client is gone, or sent what is no request.
    Theirs(String),
    /// An answer could not be made: the client waits in vain.
    Ours(String),
}

/// Lets one warning through in [`WARN_INTERVAL_MS`].
struct WarnLimit {
    next_ticks_ms: AtomicI64,
    silenced: AtomicU64,
}

impl WarnLimit {
    const fn new() -> Self {
        Self { next_ticks_ms: AtomicI64::new(i64::MIN), silenced: AtomicU64::new(0) }
    }

    /// How many were held back since the last one that was let through; `None` to hold this one back.
    fn admit(&self, now_ticks_ms: i64) -> Option<u64> {
        let next = self.next_ticks_ms.load(Ordering::Relaxed);
        let again = now_ticks_ms.saturating_add(WARN_INTERVAL_MS);
        let is_due = now_ticks_ms >= next
            && self.next_ticks_ms.compare_exchange(next, again, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !is_due {
            self.silenced.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.silenced.swap(0, Ordering::Relaxed))
    }
}

enum Pumped {
    /// All is sent that can be.
    Done,
    /// The task must go on: the socket is full, or a file must be read.
    TaskWanted,
}

impl Out {
    fn pump(&mut self, stream: &TcpStream, read_files: bool) -> Result<Pumped, Ending> {
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
                Some(Piece::File { segment, position, length }) => {
                    let mut chunk = vec![0; (*length).min(FILE_CHUNK_BYTES)];
                    segment
                        .read_exact_at(&mut chunk, *position)
                        .map_err(|error| Ending::Ours(format!("cannot read the log for a response: {error}")))?;
                    *position += chunk.len() as u64;
                    *length -= chunk.len();
                    if *length == 0 {
                        self.sending.pop_front();
                    }
                    self.sending.push_front(Piece::Memory(chunk.into()));
                }
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

impl ReplySink for TcpConnection {
    fn reply(&self, sequence: u64, response: Result<Response, String>) {
        match response {
            Ok(response) => self.answer(sequence, Answer::Response(response)),
            Err(reason) => self.answer(sequence, Answer::Close(reason)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_warning_in_ten_seconds_tells_how_many_were_held_back() {
        let limit = WarnLimit::new();
        let at = [0, 1, 9_999, 10_000, 10_001, 20_000].map(|ticks_ms| limit.admit(ticks_ms));
        assert_eq!(at, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
