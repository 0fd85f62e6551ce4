//! The client: connections by node id, metadata, coordinators. Shared by every producer, consumer and admin of a
//! process; driven by whoever steps.
//!
//! Nothing here has a thread of its own. [`Client::step`] makes the progress that time or an answer allows (metadata
//! refresh), every core calls it at the start of its own step, and whoever waits for something of the client's
//! (metadata, a connection being made, a coordinator) leaves a waker: an answer wakes all of them.
//!
//! Lanes: a broker answers the requests of one connection in order, so a long poll delays what is sent behind it.
//! Every core therefore has its own [`Lane`], a set of connections by node id; metadata and admin share one.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Wake, Waker};

use base::hash::HashMap;
use base::{Clock, Now, Rng, SystemClock, TopicName};
use parking_lot::Mutex;
use protocol::api::{Request, Response};
use protocol::transport::{Connector, Transport};

use crate::config::ClientConfig;
use crate::connection::Connection;
use crate::coordinator::{self, CoordinatorKind, Coordinators};
use crate::error::ClientError;
use crate::links::{Address, Links, SingleConnector, parse_addresses};
use crate::metadata::Metadata;
use crate::refresh::Refresh;
use crate::retry::Backoff;
use crate::step::Step;
use crate::tcp::TcpConnector;
use crate::timers::Timers;
use crate::wire::expect_response;

/// Where time, randomness and time-outs come from.
#[derive(Clone)]
pub struct ClientSeams {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Jitter and client-chosen ids.
    pub rng: Rng,
    /// Time-outs of futures: threaded in production, stepped in a simulation.
    pub timers: Timers,
}

impl Default for ClientSeams {
    fn default() -> Self {
        let clock = SystemClock::shared();
        Self { timers: Timers::threaded(Arc::clone(&clock)), clock, rng: Rng::from_entropy() }
    }
}

impl ClientSeams {
    /// Seams of a simulation or a stepped test: time-outs fire only in [`Timers::fire`] and [`Client::step`].
    pub fn stepped(clock: Arc<dyn Clock>, rng: Rng) -> Self {
        Self { timers: Timers::stepped(Arc::clone(&clock)), clock, rng }
    }
}

/// Answer of the client to "may I have ...?", asked again after each wake-up until it is not `Wait`.
#[derive(Debug)]
pub enum Lookup<T> {
    /// Here it is.
    Ready(T),
    /// Not yet. The waker is called on progress; ask again at `until_ticks_ms` at the latest, if there is one.
    Wait {
        /// When time alone makes progress.
        until_ticks_ms: Option<i64>,
    },
    /// Asking again will not help.
    Failed(ClientError),
}

/// Which broker a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The broker with that node id.
    Node(i32),
    /// Whichever is known and reachable.
    Any,
    /// The controller; any broker until it is known.
    Controller,
}

/// A set of connections by node id, apart from those of other lanes; closed when dropped.
pub struct Lane {
    id: u32,
    client: Weak<Shared>,
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lane {}", self.id)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // Lane 0 is the shared one: it lives as long as the client.
        if self.id != 0
            && let Some(client) = self.client.upgrade()
        {
            client.state.lock().links.close_lane(self.id);
        }
    }
}

/// Keeps the metadata of all topics wanted, not only of those named; until dropped.
pub struct AllTopics(Weak<Shared>);

impl Drop for AllTopics {
    fn drop(&mut self) {
        if let Some(client) = self.0.upgrade() {
            client.state.lock().refresh.all_topics -= 1;
        }
    }
}

/// A connection to a cluster, or to the broker in this process. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub config: ClientConfig,
    pub clock: Arc<dyn Clock>,
    pub timers: Timers,
    pub state: Mutex<State>,
    waiters: Arc<Waiters>,
    internal_waker: Waker,
    /// Tick of the next refresh; `i64::MIN` when one is wanted at once, and while one is under way. One word, so that nobody can see
    /// neither the refresh that is due nor the one that was just sent, and so wait for nothing.
    due_ticks_ms: AtomicI64,
    metadata_version: AtomicU64,
    next_lane: AtomicU32,
    /// The broker in this process has failed for good.
    pub failure: OnceLock<ClientError>,
}

pub(crate) struct State {
    pub links: Links,
    pub refresh: Refresh,
    pub metadata: Arc<Metadata>,
    coordinators: Coordinators,
    rng: Rng,
}

/// Everyone who waits for an answer that the client itself asked for.
#[derive(Default)]
struct Waiters(Mutex<Vec<Waker>>);

impl Waiters {
    fn add(&self, waker: &Waker) {
        let mut wakers = self.0.lock();
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }
}

impl Wake for Waiters {
    fn wake(self: Arc<Self>) {
        let wakers = std::mem::take(&mut *self.0.lock());
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Where a client of the broker in this process starts from.
fn in_process() -> Vec<Address> {
    vec![(Arc::from("embedded"), 0)]
}

impl Client {
    /// A client of one transport, which is all it ever uses: the embedded broker, or a test's.
    ///
    /// All lanes share the transport; if it answers strictly in order, long polls delay everything behind them. Prefer
    /// [`Client::embedded`] then.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        let (config, seams) = (ClientConfig::default(), ClientSeams::default());
        Self::with_seams(Arc::new(SingleConnector(transport)), in_process(), config, seams)
    }

    /// A client of the broker in this process: `connect` makes one more in-process connection to it.
    pub fn embedded(connect: impl Fn() -> Arc<dyn Transport> + Send + Sync + 'static) -> Self {
        Self::embedded_with(connect, ClientConfig::default(), ClientSeams::default())
    }

    /// As [`Client::embedded`], with settings, clock and randomness given.
    pub fn embedded_with(
        connect: impl Fn() -> Arc<dyn Transport> + Send + Sync + 'static,
        config: ClientConfig,
        seams: ClientSeams,
    ) -> Self {
        struct Embedded<F>(F);
        impl<F: Fn() -> Arc<dyn Transport> + Send + Sync> Connector for Embedded<F> {
            fn connect(&self, _host: &str, _port: u16) -> Arc<dyn Transport> {
                (self.0)()
            }
        }
        Self::with_seams(Arc::new(Embedded(connect)), in_process(), config, seams)
    }

    /// A client of the cluster at `bootstrap` (`host:port`, comma separated) over TCP. Nothing is connected yet:
    /// [`Client::ready`] says whether there is a broker.
    ///
    /// # Errors
    /// `Config` if an address or a setting is not valid.
    pub fn connect(bootstrap: &str, config: ClientConfig) -> Result<Self, ClientError> {
        let connector = TcpConnector::new(&config);
        Self::with_connector(Arc::new(connector), config.bootstrap_servers(bootstrap), ClientSeams::default())
    }

    /// A client whose connections are made by `connector`, starting from `bootstrap.servers` of `config`.
    ///
    /// # Errors
    /// `Config` if an address or a setting is not valid.
    pub fn with_connector(
        connector: Arc<dyn Connector>,
        config: ClientConfig,
        seams: ClientSeams,
    ) -> Result<Self, ClientError> {
        config.check()?;
        let bootstrap = parse_addresses(&config.bootstrap_servers)?;
        Ok(Self::with_seams(connector, bootstrap, config, seams))
    }

    /// Another client of the same cluster, with connections and settings of its own. What `config` says of
    /// `bootstrap.servers` and of the sockets does not count: it connects as this one does.
    ///
    /// # Errors
    /// `Config` if a setting is out of range.
    pub fn sibling(&self, config: ClientConfig) -> Result<Self, ClientError> {
        config.check()?;
        let shared = &self.shared;
        let mut state = shared.state.lock();
        let seams =
            ClientSeams { clock: Arc::clone(&shared.clock), rng: state.rng.fork(), timers: shared.timers.clone() };
        let (connector, bootstrap) = state.links.origin();
        Ok(Self::with_seams(connector, bootstrap, config, seams))
    }

    fn with_seams(
        connector: Arc<dyn Connector>,
        bootstrap: Vec<Address>,
        config: ClientConfig,
        seams: ClientSeams,
    ) -> Self {
        let waiters = Arc::new(Waiters::default());
        let mut rng = seams.rng;
        let shared = Arc::new_cyclic(|client: &Weak<Shared>| Shared {
            state: Mutex::new(State {
                links: Links::new(connector, bootstrap, &config, client.clone(), rng.fork()),
                refresh: Refresh::new(&config),
                metadata: Arc::default(),
                coordinators: HashMap::default(),
                rng,
            }),
            config,
            clock: seams.clock,
            timers: seams.timers,
            internal_waker: Waker::from(Arc::clone(&waiters)),
            waiters,
            due_ticks_ms: AtomicI64::new(i64::MAX),
            metadata_version: AtomicU64::new(0),
            next_lane: AtomicU32::new(1),
            failure: OnceLock::new(),
        });
        Self { shared }
    }

    /// The settings.
    pub fn config(&self) -> &ClientConfig {
        &self.shared.config
    }

    /// The clock's reading.
    pub fn now(&self) -> Now {
        self.shared.clock.now()
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// The timers of this client's futures.
    pub fn timers(&self) -> &Timers {
        &self.shared.timers
    }

    /// A generator of its own, drawn from the client's.
    pub fn fork_rng(&self) -> Rng {
        self.shared.state.lock().rng.fork()
    }

    /// A new set of connections.
    pub fn lane(&self) -> Lane {
        Lane { id: self.shared.next_lane.fetch_add(1, Ordering::Relaxed), client: Arc::downgrade(&self.shared) }
    }

    /// A new set of connections whose requests go under that `client.id`; without one, under the client's.
    pub fn lane_as(&self, client_id: Option<&str>) -> Lane {
        let lane = self.lane();
        if let Some(client_id) = client_id {
            self.shared.state.lock().links.name_lane(lane.id, client_id);
        }
        lane
    }

    /// The set of connections that metadata and admin use; for short requests only.
    pub fn shared_lane(&self) -> Lane {
        Lane { id: 0, client: Arc::downgrade(&self.shared) }
    }

    /// Makes the progress that is due: fires timers, refreshes metadata. Cheap when nothing is.
    pub fn step(&self, now: Now, waker: &Waker) -> Step {
        let next_timer = self.shared.timers.fire(now);
        let step = match next_timer {
            Some(ticks_ms) => Step::at(ticks_ms),
            None => Step::IDLE,
        };
        let due = self.shared.due_ticks_ms.load(Ordering::Acquire);
        if now.ticks_ms < due {
            return if due == i64::MAX { step } else { step.wake_at(due) };
        }
        self.shared.waiters.add(waker);
        let mut state = self.shared.state.lock();
        step.and(self.shared.refresh_step(&mut state, now))
    }

    /// What is known of the cluster.
    pub fn metadata(&self) -> Arc<Metadata> {
        Arc::clone(&self.shared.state.lock().metadata)
    }

    /// Changes with every refresh: a core keeps its snapshot until this differs from [`Metadata::version`].
    pub fn metadata_version(&self) -> u64 {
        self.shared.metadata_version.load(Ordering::Acquire)
    }

    /// Adds a topic to those whose metadata is kept; a new one is asked for at the next step.
    pub fn want_topic(&self, topic: &TopicName) {
        let mut state = self.shared.state.lock();
        if state.refresh.want_topic(topic) {
            self.shared.update_due(&state.refresh);
        }
    }

    /// Adds all topics to those whose metadata is kept, until the result is dropped; asked for at the next step.
    pub fn want_all_topics(&self) -> AllTopics {
        let mut state = self.shared.state.lock();
        state.refresh.want_all();
        self.shared.update_due(&state.refresh);
        AllTopics(Arc::downgrade(&self.shared))
    }

    /// Asks for a refresh soon: at the next step, but not before `retry.backoff.ms` has passed since the last one.
    pub fn refresh_metadata(&self) {
        let mut state = self.shared.state.lock();
        state.refresh.request();
        self.shared.update_due(&state.refresh);
    }

    /// An open connection to `target` in `lane`, its versions known. Connects if there is none; after a failure not
    /// before the back-off has passed.
    pub fn connection(&self, lane: &Lane, target: Target, now: Now, waker: &Waker) -> Lookup<Arc<Connection>> {
        let mut state = self.shared.state.lock();
        let state = &mut *state;
        if let Some(connection) = state.links.ready(lane.id, target, &state.metadata) {
            return connection.checked();
        }
        self.shared.waiters.add(waker);
        state.links.connection(lane.id, target, &state.metadata, now, &self.shared.internal_waker)
    }

    /// The last failure to reach a broker, with for how many milliseconds none has been reachable; `None` while one is.
    pub fn unreachable(&self, now: Now) -> Option<(i64, ClientError)> {
        self.shared.state.lock().links.unreachable(now)
    }

    /// Why nothing will be answered any more: the broker in this process has failed. Always `None` on a cluster.
    pub fn failure(&self) -> Option<ClientError> {
        self.shared.failure.get().cloned()
    }

    /// Node id of the coordinator of `key`.
    pub fn coordinator(&self, kind: CoordinatorKind, key: &str, now: Now, waker: &Waker) -> Lookup<i32> {
        self.shared.waiters.add(waker);
        let mut state = self.shared.state.lock();
        self.shared.coordinator_step(&mut state, kind, key, now)
    }

    /// The coordinator of `key` has moved or is gone: ask again at the next [`Client::coordinator`].
    pub fn forget_coordinator(&self, kind: CoordinatorKind, key: &str) {
        let mut state = self.shared.state.lock();
        if let Some(entry) = state.coordinators.get_mut(&(kind, Arc::from(key)))
            && matches!(entry.state, coordinator::State::Known(_))
        {
            entry.state = coordinator::State::Ask(i64::MIN);
        }
    }

    /// Closes all connections. Whoever still uses the client connects anew.
    pub fn disconnect(&self) {
        self.shared.state.lock().links.close_all();
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Shared {
    fn update_due(&self, refresh: &Refresh) {
        let due = if refresh.in_flight.is_some() { i64::MIN } else { refresh.due_ticks_ms() };
        self.due_ticks_ms.store(due, Ordering::Release);
    }

    /// Takes a failed connection out of use and asks for metadata: the leader may have moved.
    pub(crate) fn connection_failed(&self, connection: &Arc<Connection>, reason: ClientError) {
        let mut state = self.state.lock();
        let now = self.clock.now();
        if state.links.failed(connection, reason, now) {
            state.refresh.request_if_any();
            self.update_due(&state.refresh);
        }
    }

    fn refresh_step(&self, state: &mut State, now: Now) -> Step {
        let mut did_work = false;
        loop {
            if let Some(call) = &mut state.refresh.in_flight {
                let Some(result) = call.poll_quietly(now, &self.internal_waker) else { break };
                did_work = true;
                self.refresh_done(state, result, now);
            }
            if now.ticks_ms < state.refresh.due_ticks_ms() {
                break;
            }
            match state.links.connection(0, Target::Any, &state.metadata, now, &self.internal_waker) {
                Lookup::Ready(connection) => {
                    did_work = true;
                    state.refresh.send(&connection, now);
                }
                Lookup::Wait { until_ticks_ms } => {
                    self.update_due(&state.refresh);
                    // The connection's progress wakes; it is due again when its own waiting is over.
                    return Step { did_work, next_wake_ticks_ms: until_ticks_ms };
                }
                Lookup::Failed(error) => {
                    state.refresh.failed(error, now, &mut state.rng);
                    break;
                }
            }
        }
        self.update_due(&state.refresh);
        let next = match &state.refresh.in_flight {
            Some(call) => Some(call.deadline_ticks_ms()),
            None => Some(state.refresh.due_ticks_ms()).filter(|ticks_ms| *ticks_ms != i64::MAX),
        };
        Step { did_work, next_wake_ticks_ms: next }
    }

    fn refresh_done(&self, state: &mut State, result: Result<Response, ClientError>, now: Now) {
        let Some(call) = state.refresh.in_flight.take() else { return };
        let connection = Arc::clone(call.connection());
        let outcome = result
            .and_then(|response| expect_response!(response, Metadata, connection.address()))
            .and_then(|response| state.refresh.read(&state.metadata, response));
        match outcome {
            Ok(metadata) => {
                self.metadata_version.store(metadata.version, Ordering::Release);
                state.metadata = Arc::new(metadata);
                state.refresh.succeeded(now, &mut state.rng);
            }
            Err(error) => {
                if crate::connection::ends_connection(&error) {
                    state.links.failed(&connection, error.clone(), now);
                }
                state.refresh.failed(error, now, &mut state.rng);
            }
        }
    }

    fn coordinator_step(&self, state: &mut State, kind: CoordinatorKind, key: &str, now: Now) -> Lookup<i32> {
        let State { coordinators, links, metadata, rng, .. } = state;
        let entry = coordinators.entry((kind, Arc::from(key))).or_insert_with(|| coordinator::Entry {
            backoff: Backoff::new(self.config.retry_backoff_ms, self.config.retry_backoff_max_ms),
            state: coordinator::State::Ask(i64::MIN),
        });
        loop {
            match &mut entry.state {
                coordinator::State::Known(node) => return Lookup::Ready(*node),
                coordinator::State::Ask(at) if now.ticks_ms < *at => {
                    return Lookup::Wait { until_ticks_ms: Some(*at) };
                }
                coordinator::State::Ask(_) => {
                    let connection = match links.connection(0, Target::Any, metadata, now, &self.internal_waker) {
                        Lookup::Ready(connection) => connection,
                        Lookup::Wait { until_ticks_ms } => return Lookup::Wait { until_ticks_ms },
                        Lookup::Failed(error) => return Lookup::Failed(error),
                    };
                    let version = match connection.version(protocol::api::ApiKey::FindCoordinator) {
                        Ok(version) => version,
                        Err(error) => return Lookup::Failed(error),
                    };
                    let request: Request = coordinator::request(kind, key, version);
                    entry.state = coordinator::State::Asked(Box::new(connection.send(request, version, now)));
                }
                coordinator::State::Asked(call) => {
                    let Some(result) = call.poll_quietly(now, &self.internal_waker) else {
                        return Lookup::Wait { until_ticks_ms: Some(call.deadline_ticks_ms()) };
                    };
                    let connection = Arc::clone(call.connection());
                    let found = result
                        .and_then(|response| expect_response!(response, FindCoordinator, connection.address()))
                        .and_then(|response| coordinator::read(kind, key, connection.address(), response));
                    match found {
                        Ok(found) => {
                            entry.backoff.reset();
                            links.learn_address(found.node, &found.host, found.port);
                            entry.state = coordinator::State::Known(found.node);
                        }
                        Err(error) => {
                            entry.state =
                                coordinator::State::Ask(now.ticks_ms.saturating_add(entry.backoff.next_ms(rng)));
                            if crate::connection::ends_connection(&error) {
                                links.failed(&connection, error, now);
                            } else if !error.is_retriable() {
                                return Lookup::Failed(error);
                            } else {
                                links.note(error);
                            }
                        }
                    }
                }
            }
        }
    }
}
