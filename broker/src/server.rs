//! The TCP listener: accepts connections and keeps track of them. A driver: it owns an async runtime.

use std::future::pending;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use base::hash::HashMap;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

use crate::broker::Broker;
use crate::connection_limits::OpenConnection;
use crate::dispatch::Endpoint;
use crate::error::BrokerError;
use crate::state::BrokerState;
use crate::tcp::TcpConnection;
use crate::warn_limit::WarnLimit;

/// Threads of the runtime unless `num.network.threads` says otherwise: requests are served on them, and waiting costs
/// none.
const WORKER_THREADS: usize = 2;
const IDLE_SWEEP: Duration = Duration::from_secs(10);
/// A connection on which nothing was asked for so long gives its buffer back.
const REST_MS: i64 = 5_000;
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// An open listener; dropping it closes it and its connections.
pub struct Listener {
    shared: Arc<Shared>,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

struct Shared {
    state: Arc<BrokerState>,
    endpoint: Arc<Endpoint>,
    connections: Mutex<HashMap<u64, Weak<TcpConnection>>>,
    closed: AtomicBool,
    closing: Notify,
}

/// An address that is taken, and not served yet: whoever connects waits.
pub struct BoundAddress {
    address: String,
    socket: StdListener,
}

/// Takes `address` (`host:port`, port 0 for any), before there is a broker to serve it.
///
/// # Errors
/// The address is not valid, in use, or not allowed.
pub fn bind(address: &str) -> Result<BoundAddress, BrokerError> {
    let refused = |error: io::Error| refused(address, &error);
    let addresses: Vec<SocketAddr> = address.to_socket_addrs().map_err(refused)?.collect();
    let socket = StdListener::bind(addresses.as_slice()).map_err(refused)?;
    socket.set_nonblocking(true).map_err(refused)?;
    Ok(BoundAddress { address: address.to_owned(), socket })
}

fn refused(address: &str, error: &io::Error) -> BrokerError {
    BrokerError::Listen(match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "cannot listen on {address}: the port is in use\nstop the program that has it, or name another port"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("cannot listen on {address}: not allowed\nports below 1024 need root; name a higher one")
        }
        _ => {
            format!("cannot listen on {address}: {error}\nname a host and port of this machine, as 127.0.0.1:9092")
        }
    })
}

/// [`bind`] and [`BoundAddress::serve`] in one.
///
/// # Errors
/// The address is not valid, in use, or not allowed.
pub fn listen(broker: &Broker, address: &str, advertised: Option<(&str, u16)>) -> Result<Listener, BrokerError> {
    bind(address)?.serve(broker, advertised)
}

impl BoundAddress {
    /// Host and port that clients are told to come to: `advertised`, or what is listened on, with the real port if 0 was asked
    /// for.
    ///
    /// # Errors
    /// The system does not say where it listens.
    pub fn endpoint(&self, advertised: Option<(&str, u16)>) -> Result<(String, u16), BrokerError> {
        let local = self.socket.local_addr().map_err(|error| refused(&self.address, &error))?;
        Ok(match advertised {
            Some((host, port)) => (host.to_owned(), port),
            None => (listened_host(&self.address, local), local.port()),
        })
    }

    /// Serves `broker` there. Clients are told to come to `advertised`, or to the host and port listened on.
    ///
    /// # Errors
    /// The system refuses the threads, or to wait for connections.
    pub fn serve(self, broker: &Broker, advertised: Option<(&str, u16)>) -> Result<Listener, BrokerError> {
        let (host, port) = self.endpoint(advertised)?;
        let endpoint = Endpoint { host: host.into(), port };
        let Self { address, socket } = self;
        let refused = |error: io::Error| refused(&address, &error);
        let local = socket.local_addr().map_err(refused)?;
        let state = Arc::clone(broker.state());
        let configured = state.config.explicit.contains_key("num.network.threads");
        let threads = if configured { state.config.num_network_threads.max(1) as usize } else { WORKER_THREADS };
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("broker-network")
            .enable_io()
            .enable_time()
            .build()
            .map_err(refused)?;
        let shared = Arc::new(Shared {
            state,
            endpoint: Arc::new(endpoint),
            connections: Mutex::default(),
            closed: AtomicBool::new(false),
            closing: Notify::new(),
        });
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(socket).map_err(refused)?
        };
        runtime.spawn(accept(Arc::clone(&shared), listener));
        Ok(Listener { shared, address: local, runtime: Some(runtime) })
    }
}

/// The host that clients are told: as it was written, or this machine's name for "all interfaces".
fn listened_host(address: &str, local: SocketAddr) -> String {
    if local.ip().is_unspecified() {
        return "localhost".to_owned();
    }
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']').to_owned()
}

impl Listener {
    /// Where it listens; the real port if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Number of open connections.
    pub fn connection_count(&self) -> usize {
        self.shared.connections.lock().values().filter(|connection| connection.strong_count() > 0).count()
    }

    /// Stops accepting and closes all connections.
    pub fn close(&mut self) {
        if self.shared.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.shared.closing.notify_waiters();
        let connections = std::mem::take(&mut *self.shared.connections.lock());
        for connection in connections.into_values().filter_map(|connection| connection.upgrade()) {
            connection.close();
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let mut sweep = tokio::time::interval(IDLE_SWEEP);
    loop {
        let closing = shared.closing.notified();
        if shared.closed.load(Ordering::Acquire) {
            return;
        }
        tokio::select! {
            () = closing => return,
            _ = sweep.tick() => shared.close_idle(),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let wait_ms = shared.state.open_connections.wait_ms(shared.state.clock.now().ticks_ms);
                    if wait_ms > 0 {
                        // Who comes after waits in the system's queue.
                        let closing = shared.closing.notified();
                        tokio::select! {
                            () = closing => return,
                            () = pause(Duration::from_millis(wait_ms)) => {}
                        }
                    }
                    shared.serve(stream, peer);
                }
                Err(error) => {
                    // Out of file descriptors, most likely: others may be closed meanwhile.
                    tracing::warn!("a connection could not be accepted: {error}");
                    pause(ACCEPT_RETRY).await;
                }
            },
        }
    }
}

/// Passes after so long; costs nothing before it is polled.
pub(crate) async fn pause(duration: Duration) {
    let _ = tokio::time::timeout(duration, pending::<()>()).await;
}

impl Shared {
    fn serve(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("{peer}: {error}");
        }
        let permit = match self.state.open_connections.admit(peer.ip()) {
            Ok(permit) => permit,
            Err(reason) => {
                static LIMIT: WarnLimit = WarnLimit::new();
                if let Some(silenced) = LIMIT.admit(self.state.clock.now().ticks_ms) {
                    tracing::warn!("{peer} is turned away: {reason} ({silenced} more since the last warning)");
                }
                return;
            }
        };
        let id = self.state.next_connection_id();
        let connection =
            Arc::new(TcpConnection::new(id, Arc::clone(&self.state), Arc::clone(&self.endpoint), stream, peer));
        self.connections.lock().insert(id, Arc::downgrade(&connection));
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let _gone = Gone { shared, id, _permit: permit };
            connection.run().await;
        });
    }

    fn close_idle(&self) {
        let now = self.state.clock.now();
        let connections: Vec<Arc<TcpConnection>> = self.connections.lock().values().filter_map(Weak::upgrade).collect();
        for connection in connections {
            if connection.is_idle(now, self.state.config.connections_max_idle_ms) {
                connection.close();
            } else {
                connection.rest(now, REST_MS);
            }
        }
    }
}

/// Takes a connection off the list however its task ends.
struct Gone {
    shared: Arc<Shared>,
    id: u64,
    _permit: OpenConnection,
}

impl Drop for Gone {
    fn drop(&mut self) {
        self.shared.state.request_memory.release(self.id);
        let connection = self.shared.connections.lock().remove(&self.id);
        if let Some(connection) = connection.and_then(|connection| connection.upgrade()) {
            connection.close();
        }
    }
}
