//! One TCP connection: frames in, requests dispatched on this thread, responses out in the order of their requests.
//!
//! Requests are taken up as they arrive, so that a pipelining producer's batches share one fsync; only their answers
//! wait for each other, and what must see an earlier change waits for that (`request_order`). Whoever completes an
//! answer writes it to the socket at once, from its own thread; the connection's task steps in when the socket is full,
//! or when the answer lies in a file.
//!
//! Bytes that are no request close the connection without an answer, as in Kafka. Too many requests in flight, too
//! many bytes waiting to be sent, or too many bytes of unfinished requests on all connections together
//! (`request_memory`), and no more is read until some have left.

mod out;

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use base::Now;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use protocol::api::{ApiKey, Response};
use protocol::frame::{self, LENGTH_BYTES, RequestHeader};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use self::out::{Answer, Ending, Limited, Out, Pumped, is_from_the_future};
use crate::client_quotas::Direction;
use crate::dispatch::{self, Endpoint, Outcome, RequestContext};
use crate::handlers::api_versions;
use crate::replies::ReplySink;
use crate::request_memory::{Claimant, Growth, UNCOUNTED_BYTES};
use crate::server::pause;
use crate::state::BrokerState;
use crate::warn_limit::WarnLimit;

/// Room for reading: at first, and after reads that filled what there was. A connection that is little used costs little.
const READ_BYTES_MIN: usize = 4 << 10;
const READ_BYTES: usize = 64 << 10;
/// Most room for reading, where requests are large: one is then read in one piece, into the memory of the one before.
const READ_BYTES_MAX: usize = 256 << 10;
/// A connection that waits for memory looks again after so long, also if nobody wakes it: others may have stalled.
const MEMORY_RETRY: Duration = Duration::from_millis(200);
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
    /// Nothing is read before: the client is above its quota.
    muted_until_ticks_ms: AtomicI64,
    /// Nothing has come for a while: the task gives its buffer back.
    rests: AtomicBool,
}

/// What has arrived and is not taken up; the task's own.
struct Incoming {
    buffer: BytesMut,
    /// Room for the next read.
    read_bytes: usize,
    /// The memory for requests knows of this connection.
    is_counted: bool,
    /// It said to wait.
    waits_for_memory: bool,
    /// A request that waits until those before it are answered. Nothing behind it is looked at.
    held: Option<Arrived>,
}

/// A request that is not decoded yet.
struct Arrived {
    header: RequestHeader,
    body: Bytes,
    frame_bytes: usize,
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
            muted_until_ticks_ms: AtomicI64::new(i64::MIN),
            rests: AtomicBool::new(false),
        }
    }

    /// Serves the connection until it ends.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut incoming = Incoming {
            buffer: BytesMut::new(),
            read_bytes: READ_BYTES_MIN,
            is_counted: false,
            waits_for_memory: false,
            held: None,
        };
        while !self.closed.load(Ordering::Acquire) {
            let (may_read, is_full) = {
                let mut out = self.out.lock();
                let may_read = out.has_room();
                out.reading_paused = !may_read;
                (may_read, out.is_full)
            };
            if self.rests.swap(false, Ordering::Relaxed) && incoming.buffer.is_empty() {
                incoming.buffer = BytesMut::new();
                incoming.read_bytes = READ_BYTES_MIN;
            }
            let muted = self.muted_for();
            let may_read = may_read && muted.is_none() && incoming.held.is_none() && !incoming.waits_for_memory;
            tokio::select! {
                () = self.attention.notified() => {
                    incoming.waits_for_memory = false;
                    self.pump(true);
                    if let Err(error) = self.take_up_held(&mut incoming) {
                        self.end(&error);
                    }
                }
                () = pause(MEMORY_RETRY), if incoming.waits_for_memory => {
                    incoming.waits_for_memory = false;
                }
                ready = self.stream.writable(), if is_full => match ready {
                    Ok(()) => {
                        self.out.lock().is_full = false;
                        self.pump(true);
                    }
                    Err(error) => self.end(&error),
                },
                () = pause(muted.unwrap_or_default()), if muted.is_some() => {}
                ready = self.stream.readable(), if may_read => {
                    if let Err(error) = ready.and_then(|()| self.read(&mut incoming)) {
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

    /// Gives back what an idle connection need not keep; `idle_ms` is how long nothing has been asked.
    pub(crate) fn rest(&self, now: Now, idle_ms: i64) {
        if now.ticks_ms - self.last_used_ticks_ms.load(Ordering::Relaxed) >= idle_ms {
            self.rests.store(true, Ordering::Relaxed);
            self.attention.notify_one();
        }
    }

    /// Reads what is there and takes up the requests in it.
    fn read(self: &Arc<Self>, incoming: &mut Incoming) -> io::Result<()> {
        let limit = self.request_max_bytes();
        for _ in 0..READS_IN_A_ROW {
            let missing = match incoming.buffer.first_chunk::<LENGTH_BYTES>() {
                Some(prefix) => {
                    let length = frame::frame_length(*prefix, limit).map_err(io::Error::other)?;
                    (length + LENGTH_BYTES).saturating_sub(incoming.buffer.len())
                }
                None => 0,
            };
            if !self.may_hold(incoming, missing)? {
                return Ok(());
            }
            let buffer = &mut incoming.buffer;
            // No more is set aside for a frame than has begun to arrive: its length alone is only a claim.
            let wanted = missing.min(buffer.len().max(incoming.read_bytes) * 4);
            buffer.reserve(wanted.max(incoming.read_bytes));
            let room = buffer.capacity() - buffer.len();
            match self.stream.try_read_buf(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) if read == room => incoming.read_bytes = incoming.read_bytes.max(READ_BYTES),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            self.take_up_arrived(incoming)?;
            if incoming.held.is_some() || self.closed.load(Ordering::Acquire) {
                return Ok(());
            }
            self.count_out(incoming);
            if self.muted_for().is_some() {
                return Ok(());
            }
            if !self.out.lock().has_room() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes up the requests that have arrived whole, up to one that must wait.
    fn take_up_arrived(self: &Arc<Self>, incoming: &mut Incoming) -> io::Result<()> {
        let limit = self.request_max_bytes();
        while let Some(frame) = frame::next_frame(&mut incoming.buffer, limit).map_err(io::Error::other)? {
            let frame_bytes = frame.len();
            if LENGTH_BYTES + frame_bytes > READ_BYTES {
                let wanted = (LENGTH_BYTES + frame_bytes).next_power_of_two().min(READ_BYTES_MAX);
                incoming.read_bytes = incoming.read_bytes.max(wanted);
            }
            let (header, body) = frame::decode_request_header(frame).map_err(io::Error::other)?;
            incoming.held = self.take_up(Arrived { header, body, frame_bytes })?;
            if incoming.held.is_some() && incoming.is_counted {
                self.state.request_memory.set_whole(self.id, true, self.state.clock.now());
            }
            if incoming.held.is_some() || self.closed.load(Ordering::Acquire) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes up the request that waited, and those behind it, if its time has come.
    fn take_up_held(self: &Arc<Self>, incoming: &mut Incoming) -> io::Result<()> {
        let Some(held) = incoming.held.take() else { return Ok(()) };
        incoming.held = self.take_up(held)?;
        if incoming.held.is_some() || self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        if incoming.is_counted {
            self.state.request_memory.set_whole(self.id, false, self.state.clock.now());
        }
        self.take_up_arrived(incoming)?;
        self.count_out(incoming);
        Ok(())
    }

    fn request_max_bytes(&self) -> usize {
        self.state.config.socket_request_max_bytes.max(0) as usize
    }

    /// Whether there is memory to read on, with what has arrived and is `missing` of a frame.
    fn may_hold(self: &Arc<Self>, incoming: &mut Incoming, missing: usize) -> io::Result<bool> {
        let held = incoming.buffer.len();
        if held <= UNCOUNTED_BYTES {
            return Ok(true);
        }
        incoming.is_counted = true;
        let claimant = Arc::clone(self) as Arc<dyn Claimant>;
        match self.state.request_memory.ask(self.id, &claimant, held, missing, self.state.clock.now()) {
            Growth::Granted => Ok(true),
            Growth::Wait => {
                incoming.waits_for_memory = true;
                Ok(false)
            }
            Growth::Refused => {
                self.end_by_fault("its request arrived too slowly, and the memory for requests is short");
                Ok(false)
            }
        }
    }

    /// Counts what a client produces, and remembers whose fetch an answer will be for.
    fn limit(&self, sequence: u64, header: &RequestHeader, bytes: usize, now: Now) {
        let client_id = header.client_id.as_deref();
        let throttle_ms = match header.api_key {
            ApiKey::Produce => self.state.client_quotas.count(Direction::Produced, client_id, bytes, now),
            ApiKey::Fetch => 0,
            _ => return,
        };
        self.mute(throttle_ms, now);
        let limited = Limited { client_id: header.client_id.clone(), throttle_ms };
        if let Some(target) = self.out.lock().order.slot(sequence).and_then(|slot| slot.target.as_mut()) {
            target.limited = Some(limited);
        }
    }

    /// Tells the client for how long to hold back.
    fn throttle(&self, answer: &mut Answer, limited: &Limited) {
        match answer {
            Answer::Response(Response::Produce(response)) => response.throttle_time_ms = limited.throttle_ms,
            Answer::Response(Response::Fetch(response)) => {
                let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
                let bytes = partitions.map(|partition| partition.records.len_bytes()).sum();
                let now = self.state.clock.now();
                let client_id = limited.client_id.as_deref();
                let throttle_ms = self.state.client_quotas.count(Direction::Fetched, client_id, bytes, now);
                response.throttle_time_ms = throttle_ms;
                self.mute(throttle_ms, now);
            }
            _ => {}
        }
    }

    fn mute(&self, throttle_ms: i32, now: Now) {
        if throttle_ms > 0 {
            let until = now.ticks_ms.saturating_add(i64::from(throttle_ms));
            self.muted_until_ticks_ms.fetch_max(until, Ordering::Relaxed);
        }
    }

    /// How long nothing is to be read, if so.
    fn muted_for(&self) -> Option<Duration> {
        let until = self.muted_until_ticks_ms.load(Ordering::Relaxed);
        if until == i64::MIN {
            return None;
        }
        match u64::try_from(until.saturating_sub(self.state.clock.now().ticks_ms)) {
            Ok(left_ms @ 1..) => Some(Duration::from_millis(left_ms)),
            _ => {
                self.muted_until_ticks_ms.store(i64::MIN, Ordering::Relaxed);
                None
            }
        }
    }

    /// What was held of a frame is taken up.
    fn count_out(&self, incoming: &mut Incoming) {
        if incoming.is_counted && incoming.buffer.len() <= UNCOUNTED_BYTES {
            incoming.is_counted = false;
            self.state.request_memory.release(self.id);
        }
    }

    /// Serves one request, or gives it back if it must wait; an error closes the connection.
    fn take_up(self: &Arc<Self>, arrived: Arrived) -> io::Result<Option<Arrived>> {
        let Some(sequence) = self.out.lock().open(&arrived.header) else { return Ok(Some(arrived)) };
        let Arrived { header, body, frame_bytes } = arrived;
        let key = header.api_key;
        let now = self.state.clock.now();
        self.last_used_ticks_ms.store(now.ticks_ms, Ordering::Relaxed);
        if self.state.client_quotas.is_any() {
            self.limit(sequence, &header, frame_bytes, now);
        }
        if is_from_the_future(&header) {
            self.answer(sequence, Answer::Response(api_versions::unsupported_version()));
            return Ok(None);
        }
        if self.state.is_closed() {
            return Err(io::Error::other("the broker was closed"));
        }
        if !dispatch::is_answered(key) {
            return Err(io::Error::other(format!("{key} is not served")));
        }
        let request = frame::decode_request_body(&header, body).map_err(io::Error::other)?;
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
        Ok(None)
    }

    fn answer(&self, sequence: u64, answer: Answer) {
        let mut answer = answer;
        let mut out = self.out.lock();
        let Some(target) = out.order.slot(sequence).and_then(|slot| slot.target.as_ref()) else { return };
        let (key, limited) = (target.key, target.limited.clone());
        if let Some(limited) = limited {
            self.throttle(&mut answer, &limited);
        }
        let is_first = out.order.answer(sequence, answer);
        let lets_on = is_first && out.ahead.answered(key);
        drop(out);
        if lets_on {
            self.attention.notify_one();
        }
        self.pump(false);
    }

    /// Sends as much as the socket takes. Only the connection's own task may `read_files`.
    fn pump(&self, read_files: bool) {
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        let mut out = self.out.lock();
        let outcome = out.pump(&self.stream, read_files);
        let resume = out.reading_paused && out.has_room();
        drop(out);
        match outcome {
            Ok(Pumped::Done) if !resume => {}
            Ok(_) => self.attention.notify_one(),
            Err(Ending::Theirs(reason)) => self.end(&reason),
            Err(Ending::Ours(reason)) => self.end_by_fault(&reason),
        }
    }
}

impl Claimant for TcpConnection {
    fn wake(&self) {
        self.attention.notify_one();
    }

    fn end(&self, reason: &str) {
        self.end_by_fault(reason);
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
