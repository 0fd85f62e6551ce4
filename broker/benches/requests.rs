//! What a request costs in process, from the transport to the log and back: a produce of one batch of 16 KiB, a fetch
//! of 1 MiB from memory and from files. `durability=process`, so that no disk is waited for.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark may panic")]

use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use broker::{Broker, BrokerConfig, RunningBroker};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use protocol::api::messages::create_topics_request::CreatableTopic;
use protocol::api::messages::{CreateTopicsRequest, TopicName};
use protocol::api::{
    ErrorCode, FetchPartition, FetchRequest, FetchTopic, Pieces, ProducePartition, ProduceRequest, ProduceTopic,
    Request, Response, StrBytes, Uuid,
};
use protocol::record::{BatchBuilder, BuilderOptions, Compression, HeadersRef};
use protocol::transport::{RequestEnvelope, Transport};

const BATCH_BYTES: usize = 16 << 10;
const FETCH_BYTES: i32 = 1 << 20;
/// Far more than the memory that the log keeps of a partition's end.
const FILL_BATCHES: usize = 4096;

fn start(directory: &Path) -> RunningBroker {
    let config = BrokerConfig::embedded(directory).with("durability", "process").unwrap();
    Broker::start(config.with("log.retention.bytes", 256 << 20).unwrap()).unwrap()
}

/// Every request here is answered at once or nearly so.
fn call(transport: &Arc<dyn Transport>, version: i16, request: Request) -> Response {
    let mut completion = transport.send(RequestEnvelope { version, client_id: Some("bench".into()), request });
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match std::pin::Pin::new(&mut completion).poll(&mut context) {
            Poll::Ready(response) => return response.unwrap(),
            Poll::Pending => std::thread::yield_now(),
        }
    }
}

fn make_topic(transport: &Arc<dyn Transport>) {
    let topic = CreatableTopic::default()
        .with_name(TopicName(StrBytes::from_static_str("t")))
        .with_num_partitions(1)
        .with_replication_factor(1);
    call(transport, 7, CreateTopicsRequest::default().with_topics(vec![topic]).into());
}

fn batch() -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None, BuilderOptions::default());
    let mut number = 0_u64;
    while builder.size_bytes() < BATCH_BYTES {
        let key = number.to_be_bytes();
        builder.append(1_700_000_000_000, Some(&key), Some(&[7; 84]), HeadersRef::EMPTY).unwrap();
        number += 1;
    }
    builder.build().unwrap()
}

fn produce(transport: &Arc<dyn Transport>, batch: &Bytes) {
    let partitions = vec![ProducePartition { index: 0, records: Some(Pieces::from(batch.clone())) }];
    let topics = vec![ProduceTopic { name: "t".into(), topic_id: Uuid::nil(), partitions }];
    let request = ProduceRequest { transactional_id: None, acks: -1, timeout_ms: 1000, topics };
    match call(transport, 9, request.into()) {
        Response::Produce(answer) => assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::None),
        other => panic!("{other:?}"),
    }
}

/// The bytes of records in the answer.
fn fetch(transport: &Arc<dyn Transport>, offset: i64) -> usize {
    let wanted = FetchPartition { fetch_offset: offset, partition_max_bytes: FETCH_BYTES, ..Default::default() };
    let topics = vec![FetchTopic { name: "t".into(), topic_id: Uuid::nil(), partitions: vec![wanted] }];
    let request = FetchRequest { max_bytes: FETCH_BYTES, min_bytes: 1, topics, ..FetchRequest::default() };
    match call(transport, 11, request.into()) {
        Response::Fetch(answer) => answer.topics[0].partitions[0].records.to_bytes().unwrap().len(),
        other => panic!("{other:?}"),
    }
}

fn requests(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path());
    let transport = broker.transport();
    make_topic(&transport);
    let batch = batch();
    let mut group = criterion.benchmark_group("in_process");
    group.throughput(Throughput::Bytes(batch.len() as u64));
    group.bench_function("produce_16_kib", |bencher| bencher.iter(|| produce(&transport, &batch)));
    group.finish();

    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path());
    let transport = broker.transport();
    make_topic(&transport);
    (0..FILL_BATCHES).for_each(|_| produce(&transport, &batch));
    let partition = broker.broker().state().partition("t", 0).unwrap();
    let end = partition.offsets().log_end;
    let per_batch = end / FILL_BATCHES as i64;
    let mut group = criterion.benchmark_group("in_process");
    let near_end = end - per_batch * (FETCH_BYTES as i64 / batch.len() as i64);
    for (name, offset) in [("fetch_1_mib_from_files", 0), ("fetch_1_mib_from_memory", near_end)] {
        group.throughput(Throughput::Bytes(fetch(&transport, offset) as u64));
        group.bench_function(name, |bencher| bencher.iter(|| fetch(&transport, offset)));
    }
    group.finish();
}

criterion_group!(benches, requests);
criterion_main!(benches);
