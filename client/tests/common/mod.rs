//! A scripted cluster in memory: answers what a producer and an admin ask, checks sequences as Kafka does, and fails on
//! command. Requests are served when they are sent; answers may be held back, and come in order per connection.
#![allow(clippy::unwrap_used, clippy::type_complexity, clippy::expect_used, missing_docs, reason = "a test may panic")]
#![allow(dead_code)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use base::{ManualClock, Rng};
use client::{Client, ClientConfig, ClientSeams};
use parking_lot::Mutex;
use protocol::api::messages::{
    ApiVersionsResponse, CreateTopicsResponse, DeleteGroupsResponse, DeleteRecordsResponse, FindCoordinatorResponse,
    InitProducerIdResponse, ListOffsetsResponse, MetadataRequest, MetadataResponse, OffsetFetchResponse, TopicName,
    api_versions_response, create_topics_response, delete_groups_response, delete_records_response,
    find_coordinator_response, list_offsets_response, metadata_response, offset_fetch_response,
};
use protocol::api::{
    ApiKey, ErrorCode, ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopicResponse, Request,
    Response, StrBytes, Uuid, advertised_versions, is_client_api,
};
use protocol::record::RecordBatch;
use protocol::transport::*;

/// What happens to one Produce request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    /// Served.
    Serve,
    /// Served, but the answer is held back until [`Cluster::release`].
    Hold,
    /// Refused with this code, nothing written.
    Refuse(ErrorCode),
    /// Written, yet refused with this code.
    WriteAndRefuse(ErrorCode),
    /// Not served; the connection ends.
    Drop,
    /// Written; the connection ends before the answer.
    WriteAndDrop,
    /// The leader moves to the other node, then the request is refused.
    MoveLeader,
    /// The answer never comes.
    Ignore,
}

/// When an answer comes.
#[derive(Clone, Copy, PartialEq)]
pub enum Delivery {
    Now,
    Held,
    Never,
}

#[derive(Default)]
pub struct PartitionState {
    pub leader: i32,
    pub epoch: i32,
    pub records: Vec<Vec<u8>>,
    /// Producer id: epoch, and the last batches as (first sequence, last sequence, base offset).
    producers: BTreeMap<i64, (i16, VecDeque<(i32, i32, i64)>)>,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<String, Vec<PartitionState>>,
    fates: VecDeque<Fate>,
    next_producer_id: i64,
    connections: Vec<Arc<Mutex<ConnectionState>>>,
    log: Vec<String>,
    down: bool,
    configs: Vec<(String, String)>,
}

#[derive(Default)]
struct ConnectionState {
    held: VecDeque<(Completer, Reply)>,
    holding: bool,
    /// Nothing is answered any more.
    stuck: bool,
    closed: bool,
}

/// The cluster: nodes 0 and 1.
#[derive(Default)]
pub struct Cluster {
    state: Mutex<State>,
    pub produce_requests: AtomicUsize,
}

pub fn topic_id(name: &str) -> Uuid {
    let mut bytes = [7u8; 16];
    bytes[..name.len().min(16)].copy_from_slice(&name.as_bytes()[..name.len().min(16)]);
    Uuid::from_bytes(bytes)
}

impl Cluster {
    pub fn new(topics: &[(&str, usize)]) -> Arc<Self> {
        let cluster = Self::default();
        for (name, partitions) in topics {
            cluster.add_topic(name, *partitions);
        }
        Arc::new(cluster)
    }

    pub fn add_topic(&self, name: &str, partitions: usize) {
        let partitions = (0..partitions).map(|i| PartitionState { leader: i as i32 % 2, ..Default::default() });
        self.state.lock().topics.insert(name.into(), partitions.collect());
    }

    pub fn script(&self, fates: impl IntoIterator<Item = Fate>) {
        self.state.lock().fates.extend(fates);
    }

    pub fn set_down(&self, down: bool) {
        self.state.lock().down = down;
        if down {
            self.drop_connections();
        }
    }

    pub fn drop_connections(&self) {
        for connection in self.state.lock().connections.clone() {
            fail(&connection);
        }
    }

    pub fn move_leader(&self, topic: &str, partition: usize) {
        let mut state = self.state.lock();
        let partition = &mut state.topics.get_mut(topic).unwrap()[partition];
        partition.leader = 1 - partition.leader;
        partition.epoch += 1;
    }

    pub fn records(&self, topic: &str, partition: usize) -> Vec<Vec<u8>> {
        self.state.lock().topics[topic][partition].records.clone()
    }

    pub fn forget_producers(&self) {
        for partition in self.state.lock().topics.values_mut().flatten() {
            partition.producers.clear();
        }
    }

    /// Makes every known producer's next sequence one that does not fit.
    pub fn corrupt_producers(&self) {
        for partition in self.state.lock().topics.values_mut().flatten() {
            for (_, batches) in partition.producers.values_mut() {
                for batch in batches {
                    batch.0 += 1_000;
                    batch.1 += 1_000;
                }
            }
        }
    }

    /// Answers what was held back.
    pub fn release(&self) -> bool {
        let connections = self.state.lock().connections.clone();
        let mut any = false;
        for connection in connections {
            let held = {
                let mut connection = connection.lock();
                if connection.stuck {
                    continue;
                }
                connection.holding = false;
                std::mem::take(&mut connection.held)
            };
            any |= !held.is_empty();
            for (completer, reply) in held {
                completer.complete(reply);
            }
        }
        any
    }

    pub fn log(&self) -> Vec<String> {
        self.state.lock().log.clone()
    }

    pub fn connector(self: &Arc<Self>) -> Arc<dyn Connector> {
        Arc::new(Nodes(Arc::clone(self)))
    }

    /// A client of this cluster on a clock that stands still.
    pub fn client(self: &Arc<Self>, clock: &Arc<ManualClock>, config: ClientConfig) -> Client {
        let clock: Arc<ManualClock> = Arc::clone(clock);
        let seams = ClientSeams::stepped(clock, Rng::from_seed(7));
        Client::with_connector(self.connector(), config.bootstrap_servers("node0:9090"), seams).unwrap()
    }

    pub fn serve(&self, node: i32, version: i16, request: Request) -> Option<(Reply, Delivery)> {
        let mut state = self.state.lock();
        let name = request.api_key().name();
        state.log.push(format!("{node} {name}"));
        let response = match request {
            Request::ApiVersions(_) => Response::ApiVersions(api_versions()),
            Request::Metadata(request) => Response::Metadata(state.metadata(&request)),
            Request::InitProducerId(_) => {
                state.next_producer_id += 1;
                let mut response = InitProducerIdResponse::default();
                response.producer_id = state.next_producer_id.into();
                Response::InitProducerId(response)
            }
            Request::Produce(request) => {
                self.produce_requests.fetch_add(1, Ordering::Relaxed);
                let fate = state.fates.pop_front().unwrap_or(Fate::Serve);
                return state.produce(node, version, request, fate);
            }
            other => return Some((state.admin(other), Delivery::Now)),
        };
        Some((Ok(response), Delivery::Now))
    }
}

pub fn api_versions() -> ApiVersionsResponse {
    let mut response = ApiVersionsResponse::default();
    for key in ApiKey::ALL.iter().copied().filter(|key| is_client_api(*key)) {
        let (min, max) = advertised_versions(key);
        let mut api = api_versions_response::ApiVersion::default();
        api.api_key = key as i16;
        api.min_version = min;
        api.max_version = max;
        response.api_keys.push(api);
    }
    response
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

impl State {
    fn metadata(&self, request: &MetadataRequest) -> MetadataResponse {
        let mut response = MetadataResponse::default();
        for node in 0..2 {
            let mut broker = metadata_response::MetadataResponseBroker::default();
            broker.node_id = node.into();
            broker.host = text(&format!("node{node}"));
            broker.port = 9090;
            response.brokers.push(broker);
        }
        let names: Vec<String> = match &request.topics {
            None => self.topics.keys().cloned().collect(),
            Some(topics) => topics.iter().map(|topic| topic.name.as_ref().unwrap().to_string()).collect(),
        };
        for name in names {
            let mut topic = metadata_response::MetadataResponseTopic::default();
            topic.name = Some(TopicName(text(&name)));
            match self.topics.get(&name) {
                None => topic.error_code = ErrorCode::UnknownTopicOrPartition.code(),
                Some(partitions) => {
                    topic.topic_id = topic_id(&name);
                    for (index, state) in partitions.iter().enumerate() {
                        let mut partition = metadata_response::MetadataResponsePartition::default();
                        partition.partition_index = index as i32;
                        partition.leader_id = state.leader.into();
                        partition.leader_epoch = state.epoch;
                        topic.partitions.push(partition);
                    }
                }
            }
            response.topics.push(topic);
        }
        response
    }

    fn produce(&mut self, node: i32, version: i16, request: ProduceRequest, fate: Fate) -> Option<(Reply, Delivery)> {
        let mut response = ProduceResponse::default();
        for topic in request.topics {
            let name = if version >= 13 {
                self.topics.keys().find(|name| topic_id(name) == topic.topic_id).cloned()
            } else {
                Some(topic.name.to_string())
            };
            let mut answered =
                ProduceTopicResponse { name: topic.name.clone(), topic_id: topic.topic_id, partitions: vec![] };
            if version >= 13 {
                answered.name = "".into();
            }
            for partition in topic.partitions {
                let batch = RecordBatch::new(partition.records.unwrap().to_bytes().unwrap()).unwrap();
                batch.verify_crc().unwrap();
                let found = name.as_ref().and_then(|name| self.topics.get_mut(name));
                let state = found.and_then(|found| found.get_mut(partition.index as usize));
                let (code, base_offset) = match (state, fate) {
                    (None, _) => (ErrorCode::UnknownTopicOrPartition, -1),
                    (Some(state), Fate::MoveLeader) => {
                        state.leader = 1 - node;
                        state.epoch += 1;
                        (ErrorCode::NotLeaderOrFollower, -1)
                    }
                    (Some(state), _) if state.leader != node => (ErrorCode::NotLeaderOrFollower, -1),
                    (Some(_), Fate::Refuse(code)) => (code, -1),
                    (Some(_), Fate::Drop) => (ErrorCode::None, -1),
                    (Some(state), fate) => match (append(state, &batch), fate) {
                        (Ok(_), Fate::WriteAndRefuse(code)) => (code, -1),
                        (Ok(base_offset), _) => (ErrorCode::None, base_offset),
                        (Err(code), _) => (code, -1),
                    },
                };
                answered.partitions.push(ProducePartitionResponse {
                    index: partition.index,
                    error_code: code,
                    base_offset,
                    ..Default::default()
                });
            }
            response.topics.push(answered);
        }
        match fate {
            Fate::Drop | Fate::WriteAndDrop => None,
            Fate::Hold => Some((Ok(Response::Produce(response)), Delivery::Held)),
            Fate::Ignore => Some((Ok(Response::Produce(response)), Delivery::Never)),
            _ => Some((Ok(Response::Produce(response)), Delivery::Now)),
        }
    }

    fn admin(&mut self, request: Request) -> Reply {
        let answered = match request {
            Request::FindCoordinator(request) => {
                let mut response = FindCoordinatorResponse::default();
                for key in request.coordinator_keys {
                    let mut found = find_coordinator_response::Coordinator::default();
                    found.key = key;
                    found.node_id = 1.into();
                    found.host = text("node1");
                    found.port = 9090;
                    response.coordinators.push(found);
                }
                Response::FindCoordinator(response)
            }
            Request::CreateTopics(request) => {
                let mut response = CreateTopicsResponse::default();
                for topic in request.topics {
                    let mut result = create_topics_response::CreatableTopicResult::default();
                    result.name = topic.name.clone();
                    if self.topics.contains_key(topic.name.as_str()) {
                        result.error_code = ErrorCode::TopicAlreadyExists.code();
                    } else {
                        let count = topic.num_partitions.max(1) as usize;
                        result.num_partitions = count as i32;
                        self.topics.insert(topic.name.to_string(), (0..count).map(|_| Default::default()).collect());
                    }
                    response.topics.push(result);
                }
                Response::CreateTopics(response)
            }
            Request::DeleteRecords(request) => {
                let mut response = DeleteRecordsResponse::default();
                for topic in request.topics {
                    let mut result = delete_records_response::DeleteRecordsTopicResult::default();
                    result.name = topic.name;
                    for partition in topic.partitions {
                        let mut answer = delete_records_response::DeleteRecordsPartitionResult::default();
                        answer.partition_index = partition.partition_index;
                        answer.low_watermark = partition.offset;
                        result.partitions.push(answer);
                    }
                    response.topics.push(result);
                }
                Response::DeleteRecords(response)
            }
            Request::ListOffsets(request) => {
                let mut response = ListOffsetsResponse::default();
                for topic in request.topics {
                    let mut result = list_offsets_response::ListOffsetsTopicResponse::default();
                    for partition in topic.partitions {
                        let log = &self.topics[topic.name.as_str()][partition.partition_index as usize];
                        let mut answer = list_offsets_response::ListOffsetsPartitionResponse::default();
                        answer.partition_index = partition.partition_index;
                        answer.offset = if partition.timestamp == -2 { 0 } else { log.records.len() as i64 };
                        result.partitions.push(answer);
                    }
                    result.name = topic.name;
                    response.topics.push(result);
                }
                Response::ListOffsets(response)
            }
            Request::DeleteGroups(request) => {
                let mut response = DeleteGroupsResponse::default();
                for group in request.groups_names {
                    let mut result = delete_groups_response::DeletableGroupResult::default();
                    if group.as_str() == "busy" {
                        result.error_code = ErrorCode::NonEmptyGroup.code();
                    }
                    result.group_id = group;
                    response.results.push(result);
                }
                Response::DeleteGroups(response)
            }
            Request::OffsetFetch(request) => {
                let mut response = OffsetFetchResponse::default();
                for group in request.groups {
                    let mut answer = offset_fetch_response::OffsetFetchResponseGroup::default();
                    answer.group_id = group.group_id;
                    let mut topic = offset_fetch_response::OffsetFetchResponseTopics::default();
                    topic.name = TopicName(text("t"));
                    let mut partition = offset_fetch_response::OffsetFetchResponsePartitions::default();
                    partition.committed_offset = 42;
                    partition.committed_leader_epoch = 3;
                    topic.partitions.push(partition);
                    answer.topics.push(topic);
                    response.groups.push(answer);
                }
                Response::OffsetFetch(response)
            }
            other => {
                return Err(TransportError::UnsupportedVersion {
                    api: other.api_key().name(),
                    version: 0,
                    address: "fake".into(),
                });
            }
        };
        Ok(answered)
    }
}

/// Kafka's rules: a batch is known, next in sequence, or refused; who is unknown may begin anywhere.
fn append(state: &mut PartitionState, batch: &RecordBatch) -> Result<i64, ErrorCode> {
    let header = batch.header();
    let base_offset = state.records.len() as i64;
    if header.producer_id >= 0 {
        let last = header.base_sequence + header.last_offset_delta;
        match state.producers.get_mut(&header.producer_id) {
            Some((epoch, _)) if header.producer_epoch < *epoch => return Err(ErrorCode::InvalidProducerEpoch),
            Some((epoch, batches)) if header.producer_epoch == *epoch => {
                if let Some((.., offset)) =
                    batches.iter().find(|(first, known, _)| (*first, *known) == (header.base_sequence, last))
                {
                    return Ok(*offset);
                }
                if batches.back().is_some_and(|(_, known, _)| header.base_sequence != known + 1) {
                    return Err(ErrorCode::OutOfOrderSequenceNumber);
                }
                batches.push_back((header.base_sequence, last, base_offset));
                if batches.len() > 5 {
                    batches.pop_front();
                }
            }
            known => {
                if known.is_some() && header.base_sequence != 0 {
                    return Err(ErrorCode::OutOfOrderSequenceNumber);
                }
                let first = VecDeque::from([(header.base_sequence, last, base_offset)]);
                state.producers.insert(header.producer_id, (header.producer_epoch, first));
            }
        }
    }
    let mut records = batch.records().unwrap();
    while let Some(record) = records.next() {
        state.records.push(record.unwrap().value.unwrap_or_default().to_vec());
    }
    Ok(base_offset)
}

struct Nodes(Arc<Cluster>);

impl Connector for Nodes {
    fn connect(&self, host: &str, port: u16) -> Arc<dyn Transport> {
        let node = host.trim_start_matches("node").parse().unwrap();
        let connection = Arc::new(Mutex::new(ConnectionState::default()));
        self.0.state.lock().connections.push(Arc::clone(&connection));
        Arc::new(Node { cluster: Arc::clone(&self.0), node, address: format!("{host}:{port}"), connection })
    }
}

struct Node {
    cluster: Arc<Cluster>,
    node: i32,
    address: String,
    connection: Arc<Mutex<ConnectionState>>,
}

fn disconnected() -> Reply {
    Err(TransportError::Disconnected { address: "fake".into(), reason: "scripted".into() })
}

fn fail(connection: &Mutex<ConnectionState>) {
    let held = {
        let mut connection = connection.lock();
        connection.closed = true;
        std::mem::take(&mut connection.held)
    };
    for (completer, _) in held {
        completer.complete(disconnected());
    }
}

impl Transport for Node {
    fn send(&self, envelope: RequestEnvelope) -> Completion {
        if self.connection.lock().closed || self.cluster.state.lock().down {
            return Completion::ready(disconnected());
        }
        // What TCP would carry is what is served.
        let envelope = protocol::frame::reencode(&envelope).unwrap();
        let Some((reply, delivery)) = self.cluster.serve(self.node, envelope.version, envelope.request) else {
            fail(&self.connection);
            return Completion::ready(disconnected());
        };
        let reply = protocol::frame::reencode_reply(envelope.version, reply, &self.address);
        let mut connection = self.connection.lock();
        connection.holding |= delivery != Delivery::Now;
        connection.stuck |= delivery == Delivery::Never;
        if !connection.holding {
            return Completion::ready(reply);
        }
        let (completer, completion) = completion();
        connection.held.push_back((completer, reply));
        completion
    }

    fn address(&self) -> &str {
        &self.address
    }

    fn close(&self) {
        fail(&self.connection);
    }
}

/// A waker that counts.
#[derive(Default)]
pub struct CountingWaker(pub AtomicUsize);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

pub fn noop() -> &'static Waker {
    Waker::noop()
}
