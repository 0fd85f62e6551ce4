//! Connections over TCP: one [`Transport`] is one socket.
//!
//! Requests are encoded and written on the thread that sends them, several pieces with one `writev`; only what the
//! socket does not take at once is left to the I/O thread (`millstream-io`, one per process, started by the first
//! connection, running a current-thread tokio runtime). That thread reads, decodes and completes. Requests are
//! pipelined; responses come in the order of requests, which the correlation ids confirm.
//!
//! Knows no time: whoever waits too long calls [`Transport::close`]. A connection that ended stays ended: connecting
//! anew, with back-off, is the client's business.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::thread;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use protocol::api::{ApiKey, ProduceResponse, Request, Response};
use protocol::frame;
use protocol::transport::{
    Completer, Completion, Connector, Reply, RequestEnvelope, Transport, TransportError, completion,
};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::{Builder, Handle};
use tokio::sync::Notify;

use crate::config::ClientConfig;

/// No response is larger: what announces more is not a Kafka broker, or speaks TLS.
const RESPONSE_BYTES_MAX: usize = 256 << 20;
/// Bytes asked from the socket when no frame has announced more.
const READ_BYTES: usize = 8 << 10;
/// Pieces handed to one `writev`.
const SLICES_MAX: usize = 64;

/// Makes TCP connections.
#[derive(Clone, Debug)]
pub struct TcpConnector {
    send_buffer_bytes: Option<u32>,
    receive_buffer_bytes: Option<u32>,
}

impl TcpConnector {
    /// A connector with the socket settings of `config`.
    pub fn new(config: &ClientConfig) -> Self {
        Self {
            send_buffer_bytes: u32::try_from(config.send_buffer_bytes).ok(),
            receive_buffer_bytes: u32::try_from(config.receive_buffer_bytes).ok(),
        }
    }

    async fn open(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
        for address in addresses {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            if let Some(bytes) = self.send_buffer_bytes {
                socket.set_send_buffer_size(bytes)?;
            }
            if let Some(bytes) = self.receive_buffer_bytes {
                socket.set_recv_buffer_size(bytes)?;
            }
            match socket.connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Connector for TcpConnector {
    fn connect(&self, host: &str, port: u16) -> Arc<dyn Transport> {
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let shared = Arc::new(Shared { address, state: Mutex::default(), wake: Notify::new() });
        match io_thread() {
            Some(runtime) => {
                let (connector, host, of_task) = (self.clone(), host.to_owned(), Arc::clone(&shared));
                runtime.spawn(async move { of_task.run(&connector, &host, port).await });
            }
            None => shared.end("the I/O thread could not be started"),
        }
        Arc::new(TcpTransport(shared))
    }
}

/// The process's I/O thread; `None` if the system refused it.
fn io_thread() -> Option<&'static Handle> {
    static RUNTIME: OnceLock<Option<Handle>> = OnceLock::new();
    let started = RUNTIME.get_or_init(|| {
        let runtime = Builder::new_current_thread().enable_io().build();
        let runtime = runtime.map_err(|error| tracing::error!(%error, "no I/O runtime")).ok()?;
        let handle = runtime.handle().clone();
        let run = move || runtime.block_on(std::future::pending::<()>());
        let thread = thread::Builder::new().name("millstream-io".into()).spawn(run);
        thread.map_err(|error| tracing::error!(%error, "no I/O thread")).ok()?;
        Some(handle)
    });
    started.as_ref()
}

struct TcpTransport(Arc<Shared>);

struct Shared {
    address: String,
    state: Mutex<State>,
    /// Tells the connection's task that it has something to write, or to end.
    wake: Notify,
}

#[derive(Default)]
struct State {
    writer: Option<Arc<OwnedWriteHalf>>,
    /// Why the connection ended; nothing is sent any more.
    ended: Option<String>,
    /// Bytes that the socket has not taken yet.
    outbox: VecDeque<Bytes>,
    /// Requests written or in the outbox, in order, that will be answered.
    unanswered: VecDeque<Unanswered>,
    next_correlation_id: i32,
}

struct Unanswered {
    correlation_id: i32,
    key: ApiKey,
    version: i16,
    completer: Completer,
}

impl State {
    /// Writes as much of the outbox as the socket takes; whether something is left.
    fn flush(&mut self) -> io::Result<bool> {
        let Some(writer) = self.writer.clone() else { return Ok(!self.outbox.is_empty()) };
        while !self.outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.outbox.len().min(SLICES_MAX);
            for (slice, bytes) in slices.iter_mut().zip(&self.outbox) {
                *slice = IoSlice::new(bytes);
            }
            match writer.try_write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(mut written) => {
                    while let Some(front) = self.outbox.front_mut() {
                        if written < front.len() {
                            front.advance(written);
                            break;
                        }
                        written -= front.len();
                        self.outbox.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

impl Shared {
    fn disconnected(&self, reason: &str) -> TransportError {
        TransportError::Disconnected { address: self.address.clone(), reason: reason.to_owned() }
    }

    fn malformed(&self, reason: String) -> TransportError {
        TransportError::Malformed { address: self.address.clone(), reason }
    }

    /// Ends the connection, once; everything unanswered fails with `reason`.
    fn end(&self, reason: &str) {
        let unanswered = {
            let mut state = self.state.lock();
            if state.ended.is_none() {
                state.ended = Some(reason.to_owned());
            }
            state.writer = None;
            state.outbox.clear();
            std::mem::take(&mut state.unanswered)
        };
        // `notify_one` is kept for a task that is not waiting yet.
        self.wake.notify_one();
        for request in unanswered {
            request.completer.complete(Err(self.disconnected(reason)));
        }
    }

    async fn run(&self, connector: &TcpConnector, host: &str, port: u16) {
        let opened = tokio::select! {
            opened = connector.open(host, port) => opened,
            () = self.ended() => return,
        };
        let stream = match opened {
            Ok(stream) => stream,
            Err(error) => return self.end(&error.to_string()),
        };
        let (reader, writer) = stream.into_split();
        {
            let mut state = self.state.lock();
            if state.ended.is_some() {
                return;
            }
            state.writer = Some(Arc::new(writer));
            if !state.outbox.is_empty() {
                self.wake.notify_one();
            }
        }
        let reason = match self.serve(reader).await {
            Ok(()) => "the broker closed the connection".to_owned(),
            Err(error) => error.to_string(),
        };
        self.end(&reason);
    }

    async fn ended(&self) {
        while self.state.lock().ended.is_none() {
            self.wake.notified().await;
        }
    }

    /// Reads responses and writes what senders left, until the connection ends.
    async fn serve(&self, mut reader: OwnedReadHalf) -> io::Result<()> {
        let mut buffer = BytesMut::new();
        let mut blocked: Option<Arc<OwnedWriteHalf>> = None;
        loop {
            let missing = missing_bytes(&buffer).max(READ_BYTES);
            if buffer.capacity() - buffer.len() < missing.min(READ_BYTES) || missing > READ_BYTES {
                buffer.reserve(missing);
            }
            tokio::select! {
                read = reader.read_buf(&mut buffer) => {
                    if read? == 0 {
                        return Ok(());
                    }
                    self.take_responses(&mut buffer)?;
                }
                () = self.wake.notified(), if blocked.is_none() => blocked = self.flush_left()?,
                writable = writable(blocked.as_deref()), if blocked.is_some() => {
                    writable?;
                    blocked = self.flush_left()?;
                }
            }
            if self.state.lock().ended.is_some() {
                return Ok(());
            }
        }
    }

    /// Writes what is in the outbox; the writer, if the socket does not take all of it.
    fn flush_left(&self) -> io::Result<Option<Arc<OwnedWriteHalf>>> {
        let mut state = self.state.lock();
        Ok(if state.flush()? { state.writer.clone() } else { None })
    }

    fn take_responses(&self, buffer: &mut BytesMut) -> io::Result<()> {
        let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
        loop {
            let frame = frame::next_frame(buffer, RESPONSE_BYTES_MAX)
                .map_err(|error| invalid(format!("{error}; is this a Kafka broker, without TLS?")))?;
            let Some(frame) = frame else { return Ok(()) };
            let Some(request) = self.state.lock().unanswered.pop_front() else {
                return Err(invalid("a response that nothing was asked for".to_owned()));
            };
            let (reply, in_order) = self.decode(&request, frame);
            request.completer.complete(reply);
            if !in_order {
                return Err(invalid("responses are out of order".to_owned()));
            }
        }
    }

    /// The reply in a frame, and whether it answers `request`.
    fn decode(&self, request: &Unanswered, frame: Bytes) -> (Reply, bool) {
        match frame::correlation_id(&frame) {
            Ok(id) if id == request.correlation_id => {}
            Ok(id) => {
                let reason = format!("correlation id {id}, expected {}", request.correlation_id);
                return (Err(self.malformed(reason)), false);
            }
            Err(error) => return (Err(self.malformed(error.to_string())), false),
        }
        match frame::decode_response(request.key, request.version, frame) {
            Ok((_, response)) => (Ok(response), true),
            Err(error) => (Err(self.malformed(format!("{}: {error}", request.key.name()))), true),
        }
    }
}

/// Bytes that the frame at the front of `buffer` still lacks; 0 if its length is not known, or is not sane.
fn missing_bytes(buffer: &BytesMut) -> usize {
    let Some(prefix) = buffer.first_chunk::<{ frame::LENGTH_BYTES }>() else { return 0 };
    match frame::frame_length(*prefix, RESPONSE_BYTES_MAX) {
        Ok(length) => (length + frame::LENGTH_BYTES).saturating_sub(buffer.len()),
        Err(_) => 0,
    }
}

async fn writable(writer: Option<&OwnedWriteHalf>) -> io::Result<()> {
    match writer {
        Some(writer) => writer.writable().await,
        None => std::future::pending().await,
    }
}

impl Transport for TcpTransport {
    fn send(&self, envelope: RequestEnvelope) -> Completion {
        let shared = &*self.0;
        let key = envelope.request.api_key();
        let unanswered = matches!(&envelope.request, Request::Produce(produce) if produce.acks == 0);
        let correlation_id = {
            let mut state = shared.state.lock();
            if let Some(reason) = &state.ended {
                return Completion::ready(Err(shared.disconnected(reason)));
            }
            state.next_correlation_id = state.next_correlation_id.wrapping_add(1) & i32::MAX;
            state.next_correlation_id
        };
        // Encoding is not done under the lock; the queue's order decides, not that of the ids.
        let frame = match frame::encode_request(&envelope, correlation_id) {
            Ok(frame) => frame,
            Err(error) => return Completion::ready(Err(shared.malformed(format!("{}: {error}", key.name())))),
        };
        let mut pieces = Vec::with_capacity(4);
        for piece in &frame {
            match piece.to_bytes() {
                Ok(bytes) => pieces.push(bytes),
                Err(error) => return Completion::ready(Err(shared.disconnected(&error.to_string()))),
            }
        }
        let (completer, completion) = completion();
        let mut state = shared.state.lock();
        if let Some(reason) = &state.ended {
            return Completion::ready(Err(shared.disconnected(reason)));
        }
        let was_empty = state.outbox.is_empty();
        state.outbox.extend(pieces);
        if !unanswered {
            state.unanswered.push_back(Unanswered { correlation_id, key, version: envelope.version, completer });
        }
        // With something in the outbox already, the task is waiting to write it.
        let flushed = if was_empty && state.writer.is_some() { state.flush() } else { Ok(false) };
        drop(state);
        match flushed {
            Ok(false) => {}
            Ok(true) => shared.wake.notify_one(),
            Err(error) => shared.end(&error.to_string()),
        }
        if unanswered { Completion::ready(Ok(Response::Produce(ProduceResponse::default()))) } else { completion }
    }

    fn address(&self) -> &str {
        &self.0.address
    }

    fn close(&self) {
        self.0.end("closed by the client");
    }
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        self.close();
    }
}
