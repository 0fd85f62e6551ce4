//! What the broker's tests share: a broker in a temporary directory, and a raw client for it, in process or over TCP.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "each test file uses its part, and says where it failed"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use broker::server::{self, Listener};
use broker::{BrokerConfig, RunningBroker};
use bytes::Bytes;
use protocol::api::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use protocol::api::messages::{CreateTopicsRequest, CreateTopicsResponse, TopicName};
use protocol::api::{
    ErrorCode, FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopic, Pieces,
    ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceTopic, Request, Response, StrBytes, Uuid,
};
use protocol::frame;
use protocol::record::{self, BatchBuilder, BuilderOptions, Compression, HeadersRef};
use protocol::transport::{Completion, RequestEnvelope, Transport};
use tempfile::TempDir;

/// A broker with its directory.
pub struct TestBroker {
    pub running: Option<RunningBroker>,
    pub listener: Option<Listener>,
    pub config: BrokerConfig,
    directory: TempDir,
}

impl TestBroker {
    /// Embedded settings, `durability=process`, changed by `settings`.
    pub fn start(settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = BrokerConfig::embedded(directory.path()).with("durability", "process").unwrap();
        for (key, value) in settings {
            config = config.with(key, value).unwrap();
        }
        let mut broker = Self { running: None, listener: None, config, directory };
        broker.open();
        broker
    }

    fn open(&mut self) {
        let running = broker::Broker::start(self.config.clone()).unwrap();
        self.listener = Some(server::listen(running.broker(), "127.0.0.1:0", None).unwrap());
        self.running = Some(running);
    }

    /// Shuts down cleanly and opens the same directory again.
    pub fn restart(&mut self) {
        self.listener = None;
        if let Some(running) = self.running.take() {
            running.shutdown().unwrap();
        }
        self.open();
    }

    pub fn running(&self) -> &RunningBroker {
        self.running.as_ref().unwrap()
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.as_ref().unwrap().address()
    }

    pub fn in_process(&self) -> Peer {
        Peer::InProcess { transport: self.running().transport(), waiting: Default::default() }
    }

    pub fn tcp(&self) -> Peer {
        Peer::tcp(self.address())
    }

    pub fn path(&self) -> &std::path::Path {
        self.directory.path()
    }
}

/// Runs a test against an in-process connection and against a TCP one, each of a broker of its own.
pub fn on_each_target(settings: &[(&str, &str)], test: impl Fn(&mut Peer)) {
    for over_tcp in [false, true] {
        let broker = TestBroker::start(settings);
        let mut peer = if over_tcp { broker.tcp() } else { broker.in_process() };
        test(&mut peer);
    }
}

/// A raw client.
pub enum Peer {
    InProcess { transport: Arc<dyn Transport>, waiting: std::collections::VecDeque<Completion> },
    Tcp { stream: TcpStream, sent: std::collections::VecDeque<(protocol::api::ApiKey, i16, i32)>, next: i32 },
}

impl Peer {
    pub fn tcp(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self::Tcp { stream, sent: Default::default(), next: 1 }
    }

    pub fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp { .. })
    }

    pub fn send(&mut self, version: i16, request: impl Into<Request>) {
        self.send_as(version, "test", request);
    }

    pub fn send_as(&mut self, version: i16, client_id: &str, request: impl Into<Request>) {
        let envelope = RequestEnvelope { version, client_id: Some(client_id.into()), request: request.into() };
        match self {
            Self::InProcess { transport, waiting } => waiting.push_back(transport.send(envelope)),
            Self::Tcp { stream, sent, next } => {
                let bytes = frame::encode_request(&envelope, *next).unwrap().to_bytes().unwrap();
                stream.write_all(&bytes).unwrap();
                sent.push_back((envelope.request.api_key(), version, *next));
                *next += 1;
            }
        }
    }

    /// The answer to the oldest request without one.
    pub fn receive(&mut self) -> Response {
        self.try_receive().expect("the connection ended")
    }

    /// As [`Peer::receive`]; the error says why the connection ended.
    pub fn try_receive(&mut self) -> Result<Response, String> {
        match self {
            Self::InProcess { waiting, .. } => {
                block_on(waiting.pop_front().unwrap()).map_err(|error| error.to_string())
            }
            Self::Tcp { stream, sent, .. } => {
                let (key, version, correlation_id) = sent.pop_front().unwrap();
                let bytes = read_frame(stream).map_err(|error| error.to_string())?;
                let (answered, response) = frame::decode_response(key, version, bytes).unwrap();
                assert_eq!(answered, correlation_id);
                Ok(response)
            }
        }
    }

    /// Whether an answer to the oldest request is there already (in process only).
    pub fn try_take(&mut self) -> Option<Response> {
        match self {
            Self::InProcess { waiting, .. } => {
                let reply = waiting.front_mut().unwrap().try_take()?;
                waiting.pop_front();
                Some(reply.unwrap())
            }
            Self::Tcp { .. } => panic!("in process only"),
        }
    }

    pub fn call(&mut self, version: i16, request: impl Into<Request>) -> Response {
        self.send(version, request);
        self.receive()
    }

    pub fn create_topic(&mut self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Uuid {
        let response = self.create_topics(vec![topic(name, partitions, settings)]);
        assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0]);
        response.topics[0].topic_id
    }

    pub fn create_topics(&mut self, topics: Vec<CreatableTopic>) -> CreateTopicsResponse {
        match self.call(7, CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(5000)) {
            Response::CreateTopics(response) => response,
            other => panic!("{other:?}"),
        }
    }

    pub fn produce(&mut self, topic: &str, index: i32, acks: i16, batch: Bytes) -> ProducePartitionResponse {
        self.send(9, produce_request(topic, index, acks, batch));
        produced(self.receive())
    }

    pub fn fetch(&mut self, topic: &str, index: i32, offset: i64) -> FetchPartitionResponse {
        self.send(11, fetch_request(topic, index, offset, 0, 1));
        fetched(self.receive())
    }

    /// Values of all records from `offset` on.
    pub fn values(&mut self, topic: &str, index: i32, offset: i64) -> Vec<String> {
        values(&self.fetch(topic, index, offset).records)
    }
}

pub fn topic(name: &str, partitions: i32, settings: &[(&str, &str)]) -> CreatableTopic {
    let configs = settings
        .iter()
        .map(|(key, value)| CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value))));
    CreatableTopic::default()
        .with_name(name_of(name))
        .with_num_partitions(partitions)
        .with_replication_factor(-1)
        .with_configs(configs.collect())
}

pub fn name_of(name: &str) -> TopicName {
    TopicName(text(name))
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn produce_request(topic: &str, index: i32, acks: i16, batch: Bytes) -> ProduceRequest {
    let partitions = vec![ProducePartition { index, records: Some(Pieces::from(batch)) }];
    ProduceRequest {
        transactional_id: None,
        acks,
        timeout_ms: 10_000,
        topics: vec![ProduceTopic { name: topic.into(), topic_id: Uuid::nil(), partitions }],
    }
}

pub fn produced(response: Response) -> ProducePartitionResponse {
    match response {
        Response::Produce(mut response) => response.topics.remove(0).partitions.remove(0),
        other => panic!("{other:?}"),
    }
}

pub fn fetch_request(topic: &str, index: i32, offset: i64, max_wait_ms: i32, min_bytes: i32) -> FetchRequest {
    let wanted =
        FetchPartition { index, fetch_offset: offset, partition_max_bytes: 1 << 20, ..FetchPartition::default() };
    FetchRequest {
        max_wait_ms,
        min_bytes,
        max_bytes: 50 << 20,
        topics: vec![FetchTopic { name: topic.into(), topic_id: Uuid::nil(), partitions: vec![wanted] }],
        ..FetchRequest::default()
    }
}

pub fn fetch_response(response: Response) -> FetchResponse {
    match response {
        Response::Fetch(response) => response,
        other => panic!("{other:?}"),
    }
}

pub fn fetched(response: Response) -> FetchPartitionResponse {
    let mut response = fetch_response(response);
    assert_eq!(response.error_code, ErrorCode::None);
    response.topics.remove(0).partitions.remove(0)
}

/// A batch of records with these values, no keys, created at `timestamp`, `timestamp + 1`, ..
pub fn batch_at(timestamp: i64, values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None, BuilderOptions::default());
    for (index, value) in values.iter().enumerate() {
        builder.append(timestamp + index as i64, None, Some(value.as_bytes()), HeadersRef::EMPTY).unwrap();
    }
    builder.build().unwrap()
}

pub fn batch(values: &[&str]) -> Bytes {
    batch_at(1_700_000_000_000, values)
}

pub fn values(records: &Pieces) -> Vec<String> {
    let mut values = Vec::new();
    for batch in record::batches(&records.to_bytes().unwrap()) {
        let mut records = batch.unwrap().records().unwrap();
        while let Some(record) = records.next() {
            values.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
        }
    }
    values
}

pub fn read_frame(stream: &mut TcpStream) -> std::io::Result<Bytes> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; i32::from_be_bytes(length) as usize];
    stream.read_exact(&mut bytes)?;
    Ok(bytes.into())
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park_timeout(Duration::from_secs(20)),
        }
    }
}

pub fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}
