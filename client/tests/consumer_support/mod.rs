//! A cluster of two in-memory brokers for the consumer's tests: logs, fetch sessions, a coordinator of groups of both
//! protocols, and whatever failure a test asks for. Time is a [`ManualClock`]; nothing happens but in a call.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::type_complexity, reason = "a test may panic")]

mod group;
mod logs;
pub mod modern;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use base::{Clock, ManualClock, Offset, Rng, TopicPartition};
use client::consumer::{ConsumerConfig, ConsumerCore, ConsumerEvent};
use client::{Client, ClientConfig, ClientSeams};
use parking_lot::Mutex;
use protocol::api::messages::api_versions_response::ApiVersion;
use protocol::api::messages::find_coordinator_response::Coordinator;
use protocol::api::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use protocol::api::messages::{
    ApiVersionsResponse, BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, MetadataRequest, MetadataResponse,
    TopicName,
};
use protocol::api::{ApiKey, ErrorCode, Request, Response, StrBytes, supported_versions};
use protocol::record::batches;
use protocol::transport::{
    Completer, Completion, Connector, Reply, RequestEnvelope, Transport, TransportError, completion,
};

pub use group::FakeGroup;
pub use logs::FakeLog;
pub use modern::ModernGroup;

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A request held back, and on which node and connection.
pub struct Held {
    pub completer: Completer,
    pub request: Request,
    pub node: i32,
    pub connection: u64,
    pub until_ms: i64,
}

pub struct State {
    pub topics: BTreeMap<String, FakeTopic>,
    pub groups: BTreeMap<String, FakeGroup>,
    pub modern: BTreeMap<String, ModernGroup>,
    /// Brokers know the consumer protocol.
    pub serves_modern: bool,
    pub committed: BTreeMap<(String, String, i32), (Offset, i32, String)>,
    pub coordinator: i32,
    pub held: Vec<Held>,
    pub sessions: BTreeMap<i32, logs::FakeSession>,
    pub next_id: i32,
    /// API and code of failures to answer with, first come first served.
    pub failures: VecDeque<(ApiKey, ErrorCode)>,
    /// Every request that came, as `node:Name`.
    pub seen: Vec<String>,
    /// Client ids that requests came under, as `client:Name`.
    pub clients: BTreeSet<String>,
    /// Brokers that do not answer.
    pub down: Vec<i32>,
    pub now_ms: i64,
}

pub struct FakeTopic {
    pub id: protocol::api::Uuid,
    pub partitions: Vec<FakeLog>,
    pub leaders: Vec<(i32, i32)>,
}

#[derive(Clone)]
pub struct Cluster {
    pub state: Arc<Mutex<State>>,
    pub clock: Arc<ManualClock>,
}

impl Cluster {
    pub fn new() -> Self {
        let state = State {
            topics: BTreeMap::new(),
            groups: BTreeMap::new(),
            modern: BTreeMap::new(),
            serves_modern: true,
            committed: BTreeMap::new(),
            coordinator: 0,
            held: Vec::new(),
            sessions: BTreeMap::new(),
            next_id: 100,
            failures: VecDeque::new(),
            seen: Vec::new(),
            clients: BTreeSet::new(),
            down: Vec::new(),
            now_ms: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), clock: ManualClock::new(1_700_000_000_000) }
    }

    pub fn topic(&self, name: &str, partitions: usize) -> &Self {
        let mut state = self.state.lock();
        state.next_id += 1;
        let id = protocol::api::Uuid::from_u128(state.next_id as u128);
        let logs = (0..partitions).map(|_| FakeLog::default()).collect();
        let topic = FakeTopic { id, partitions: logs, leaders: vec![(0, 0); partitions] };
        state.topics.insert(name.into(), topic);
        self
    }

    pub fn log<T>(&self, topic: &str, partition: usize, change: impl FnOnce(&mut FakeLog) -> T) -> T {
        let result = change(&mut self.state.lock().topics.get_mut(topic).unwrap().partitions[partition]);
        self.progress();
        result
    }

    pub fn append(&self, topic: &str, partition: usize, values: &[&str]) {
        self.log(topic, partition, |log| log.append(values, -1));
    }

    pub fn fail(&self, api: ApiKey, code: ErrorCode) {
        self.state.lock().failures.push_back((api, code));
    }

    pub fn client(&self, seed: u64) -> Client {
        let connector = Arc::new(FakeConnector { cluster: self.clone(), next: Mutex::new(0) });
        let config = ClientConfig::default().bootstrap_servers("fake:9000").client_id(format!("c{seed}"));
        let clock: Arc<dyn Clock> = self.clock.clone();
        Client::with_connector(connector, config, ClientSeams::stepped(clock, Rng::from_seed(seed))).unwrap()
    }

    pub fn consumer(&self, seed: u64, config: ConsumerConfig) -> ConsumerCore {
        ConsumerCore::new(self.client(seed), config).unwrap()
    }

    pub fn advance(&self, ms: i64) {
        self.clock.advance_ms(ms);
        self.progress();
    }

    /// Answers what was held back and can be answered by now.
    pub fn progress(&self) {
        let mut answers = Vec::new();
        {
            let mut state = self.state.lock();
            state.now_ms = self.clock.now().ticks_ms;
            state.expire_members();
            state.expire_modern_members();
            for _ in 0..2 {
                let held = std::mem::take(&mut state.held);
                for held in held {
                    match state.try_answer(&held.request, held.node, held.connection, held.until_ms) {
                        Some(response) => answers.push((held.completer, response)),
                        None => state.held.push(held),
                    }
                }
            }
        }
        answers.into_iter().for_each(|(completer, response)| completer.complete(Ok(response)));
    }

    pub fn seen(&self, name: &str) -> usize {
        self.state.lock().seen.iter().filter(|seen| seen.split_once(':').unwrap().1 == name).count()
    }

    pub fn forget_seen(&self) {
        self.state.lock().seen.clear();
    }

    fn receive(&self, node: i32, connection: u64, request: Request) -> Completion {
        let (completer, completion) = completion();
        let answer = {
            let mut state = self.state.lock();
            state.now_ms = self.clock.now().ticks_ms;
            if state.down.contains(&node) {
                return Completion::ready(Err(TransportError::Disconnected {
                    address: format!("node {node}"),
                    reason: "down".into(),
                }));
            }
            state.seen.push(format!("{node}:{:?}", request.api_key()));
            state.begin(&request, node);
            let until_ms = match &request {
                Request::Fetch(fetch) => state.now_ms + i64::from(fetch.max_wait_ms),
                _ => i64::MAX,
            };
            // A failure to inject comes first.
            let answer = state.injected(&request).or_else(|| state.try_answer(&request, node, connection, until_ms));
            match answer {
                Some(response) => Some(response),
                None => {
                    state.held.push(Held { completer, request, node, connection, until_ms });
                    self.release(state);
                    self.progress();
                    return completion;
                }
            }
        };
        self.progress();
        match answer {
            Some(response) => Completion::ready(Ok(response)),
            None => completion,
        }
    }

    fn release<T>(&self, guard: T) {
        drop(guard);
    }
}

struct FakeConnector {
    cluster: Cluster,
    next: Mutex<u64>,
}

impl Connector for FakeConnector {
    fn connect(&self, _host: &str, port: u16) -> Arc<dyn Transport> {
        let mut next = self.next.lock();
        *next += 1;
        let node = i32::from(port) - 9000;
        Arc::new(FakeTransport {
            cluster: self.cluster.clone(),
            node,
            connection: *next,
            address: format!("fake:{port}"),
        })
    }
}

struct FakeTransport {
    cluster: Cluster,
    node: i32,
    connection: u64,
    address: String,
}

impl Transport for FakeTransport {
    fn send(&self, envelope: RequestEnvelope) -> Completion {
        let client = envelope.client_id.as_deref().unwrap_or_default();
        let came = format!("{client}:{:?}", envelope.request.api_key());
        self.cluster.state.lock().clients.insert(came);
        self.cluster.receive(self.node, self.connection, envelope.request)
    }

    fn address(&self) -> &str {
        &self.address
    }

    fn close(&self) {}
}

impl State {
    fn injected(&mut self, request: &Request) -> Option<Response> {
        let at = self.failures.iter().position(|(api, _)| *api == request.api_key())?;
        let (_, code) = self.failures.remove(at)?;
        Some(self.refusal(request, code))
    }

    /// What answers at once, without being held back.
    fn try_answer(&mut self, request: &Request, node: i32, _connection: u64, until_ms: i64) -> Option<Response> {
        match request {
            Request::ApiVersions(_) => Some(Response::ApiVersions(versions(self.serves_modern))),
            Request::Metadata(request) => Some(Response::Metadata(self.metadata(request))),
            Request::FindCoordinator(request) => Some(Response::FindCoordinator(self.find_coordinator(request))),
            Request::Fetch(request) => self.fetch(request, node, self.now_ms >= until_ms).map(Response::Fetch),
            Request::ListOffsets(request) => Some(Response::ListOffsets(self.list_offsets(request))),
            Request::OffsetForLeaderEpoch(request) => {
                Some(Response::OffsetForLeaderEpoch(self.offset_for_leader_epoch(request)))
            }
            Request::JoinGroup(request) => self.join_answer(request, node).map(Response::JoinGroup),
            Request::SyncGroup(request) => self.sync_answer(request, node).map(Response::SyncGroup),
            Request::Heartbeat(request) => Some(Response::Heartbeat(self.heartbeat(request, node))),
            Request::ConsumerGroupHeartbeat(request) => {
                Some(Response::ConsumerGroupHeartbeat(self.modern_heartbeat(request, node)))
            }
            Request::LeaveGroup(request) => Some(Response::LeaveGroup(self.leave(request))),
            Request::OffsetCommit(request) => Some(Response::OffsetCommit(self.commit(request, node))),
            Request::OffsetFetch(request) => Some(Response::OffsetFetch(self.offset_fetch(request, node))),
            other => panic!("the fake brokers do not know {:?}", other.api_key()),
        }
    }

    /// What a request changes before it can be answered.
    fn begin(&mut self, request: &Request, node: i32) {
        match request {
            Request::JoinGroup(request) if node == self.coordinator => self.join_begin(request),
            Request::SyncGroup(request) if node == self.coordinator => self.sync_begin(request),
            _ => {}
        }
    }

    fn metadata(&self, request: &MetadataRequest) -> MetadataResponse {
        let mut response = MetadataResponse::default();
        for node in 0..2 {
            let mut broker = MetadataResponseBroker::default();
            (broker.node_id, broker.host, broker.port) = (BrokerId(node), text("fake"), 9000 + node);
            response.brokers.push(broker);
        }
        response.controller_id = BrokerId(0);
        let names: Vec<String> = match &request.topics {
            None => self.topics.keys().cloned().collect(),
            Some(topics) => {
                topics.iter().filter_map(|topic| topic.name.as_ref().map(|name| name.to_string())).collect()
            }
        };
        for name in names {
            let mut answer = MetadataResponseTopic::default();
            answer.name = Some(TopicName(text(&name)));
            match self.topics.get(&name) {
                None => answer.error_code = ErrorCode::UnknownTopicOrPartition.code(),
                Some(topic) => {
                    answer.topic_id = topic.id;
                    for (index, (leader, epoch)) in topic.leaders.iter().enumerate() {
                        let mut partition = MetadataResponsePartition::default();
                        partition.partition_index = index as i32;
                        partition.leader_id = BrokerId(*leader);
                        partition.leader_epoch = *epoch;
                        answer.partitions.push(partition);
                    }
                }
            }
            response.topics.push(answer);
        }
        response
    }

    fn find_coordinator(&self, request: &FindCoordinatorRequest) -> FindCoordinatorResponse {
        let mut response = FindCoordinatorResponse::default();
        let mut coordinator = Coordinator::default();
        coordinator.key = request.coordinator_keys[0].clone();
        coordinator.node_id = BrokerId(self.coordinator);
        coordinator.host = text("fake");
        coordinator.port = 9000 + self.coordinator;
        response.coordinators.push(coordinator);
        response
    }
}

fn versions(with_modern: bool) -> ApiVersionsResponse {
    let mut response = ApiVersionsResponse::default();
    for api in [
        ApiKey::ApiVersions,
        ApiKey::Metadata,
        ApiKey::FindCoordinator,
        ApiKey::Fetch,
        ApiKey::ListOffsets,
        ApiKey::OffsetForLeaderEpoch,
        ApiKey::JoinGroup,
        ApiKey::SyncGroup,
        ApiKey::Heartbeat,
        ApiKey::LeaveGroup,
        ApiKey::OffsetCommit,
        ApiKey::OffsetFetch,
        ApiKey::ConsumerGroupHeartbeat,
    ] {
        if api == ApiKey::ConsumerGroupHeartbeat && !with_modern {
            continue;
        }
        let mut version = ApiVersion::default();
        version.api_key = api as i16;
        (version.min_version, version.max_version) = supported_versions(api);
        response.api_keys.push(version);
    }
    response
}

/// Steps until nothing moves any more.
pub fn settle(cluster: &Cluster, consumers: &mut [&mut ConsumerCore]) {
    for _ in 0..50 {
        let mut moved = false;
        for consumer in consumers.iter_mut() {
            moved |= consumer.step(cluster.clock.now(), Waker::noop()).did_work;
        }
        if !moved {
            return;
        }
    }
    panic!("still moving: {:?}", cluster.state.lock().seen.iter().rev().take(20).collect::<Vec<_>>());
}

/// Steps and lets time pass, acknowledging what is revoked; the events, as text, by consumer.
pub fn run(cluster: &Cluster, consumers: &mut [&mut ConsumerCore], ms: i64) -> Vec<Vec<String>> {
    let mut events = vec![Vec::new(); consumers.len()];
    let mut passed = 0;
    loop {
        for (consumer, events) in consumers.iter_mut().zip(&mut events) {
            for _ in 0..20 {
                let moved = consumer.step(cluster.clock.now(), Waker::noop()).did_work;
                for event in consumer.take_events() {
                    if matches!(event, ConsumerEvent::Revoked(_) | ConsumerEvent::Lost(_)) {
                        consumer.revocation_done();
                    }
                    events.push(format!("{event:?}"));
                }
                if !moved {
                    break;
                }
            }
        }
        if passed >= ms {
            return events;
        }
        passed += 50;
        cluster.advance(50);
    }
}

/// Everything that can be taken, as values by partition: `t-0: a b`.
pub fn take(consumer: &mut ConsumerCore) -> Vec<String> {
    let mut values: BTreeMap<TopicPartition, Vec<String>> = BTreeMap::new();
    while let Some(fetched) = consumer.take_fetched() {
        for batch in batches(&fetched.batches) {
            for record in batch.unwrap().records().unwrap().iter() {
                let record = record.unwrap();
                if record.offset >= fetched.fetch_offset {
                    let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                    values.entry(fetched.partition.clone()).or_default().push(value);
                }
            }
        }
    }
    values.into_iter().map(|(partition, values)| format!("{partition}: {}", values.join(" "))).collect()
}

pub type Answer = Reply;
