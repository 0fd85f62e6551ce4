//! Reading records through `ConsumerCore::take_fetched`: from an answer's bytes to borrowed records, per record.

#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::hint::black_box;
use std::sync::Arc;
use std::task::Waker;

use base::{Clock, ManualClock, Rng, TopicPartition};
use client::consumer::{ConsumerConfig, ConsumerCore, OffsetReset};
use client::{Client, ClientConfig, ClientSeams};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use protocol::api::messages::api_versions_response::ApiVersion;
use protocol::api::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use protocol::api::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use protocol::api::messages::{ApiVersionsResponse, BrokerId, ListOffsetsResponse, MetadataResponse, TopicName};
use protocol::api::{
    ApiKey, FetchPartitionResponse, FetchResponse, FetchTopicResponse, Request, Response, StrBytes, Uuid,
    supported_versions,
};
use protocol::record::{BatchBuilder, BatchHeader, BuilderOptions, Compression, HeadersRef, batches};
use protocol::transport::{Completion, RequestEnvelope, Transport};

const RECORDS: i64 = 10_000;

/// Answers every fetch with the same batches, moved to the offset asked for.
struct Endless(bytes::Bytes);

impl Transport for Endless {
    fn send(&self, envelope: RequestEnvelope) -> Completion {
        let response = match envelope.request {
            Request::ApiVersions(_) => {
                let mut response = ApiVersionsResponse::default();
                for api in [ApiKey::ApiVersions, ApiKey::Metadata, ApiKey::ListOffsets, ApiKey::Fetch] {
                    let mut version = ApiVersion::default();
                    version.api_key = api as i16;
                    (version.min_version, version.max_version) = supported_versions(api);
                    response.api_keys.push(version);
                }
                Response::ApiVersions(response)
            }
            Request::Metadata(_) => Response::Metadata(metadata()),
            Request::ListOffsets(_) => {
                let mut partition = ListOffsetsPartitionResponse::default();
                partition.offset = 0;
                let mut topic = ListOffsetsTopicResponse::default();
                topic.name = name();
                topic.partitions.push(partition);
                let mut response = ListOffsetsResponse::default();
                response.topics.push(topic);
                Response::ListOffsets(response)
            }
            Request::Fetch(request) if request.topics.is_empty() => return pending(),
            Request::Fetch(request) => {
                let offset = request.topics[0].partitions[0].fetch_offset;
                let header = BatchHeader { base_offset: offset, ..BatchHeader::read(&self.0).unwrap() };
                let mut pieces = protocol::api::Pieces::new();
                let mut bytes = bytes::BytesMut::from(&self.0[..]);
                bytes[..61].copy_from_slice(&header.to_bytes());
                pieces.push_bytes(bytes.freeze());
                let partition =
                    FetchPartitionResponse { high_watermark: i64::MAX, records: pieces, ..Default::default() };
                let topic = FetchTopicResponse {
                    name: "t".into(),
                    topic_id: request.topics[0].topic_id,
                    partitions: vec![partition],
                };
                Response::Fetch(FetchResponse { topics: vec![topic], ..FetchResponse::default() })
            }
            other => panic!("{:?}", other.api_key()),
        };
        Completion::ready(Ok(response))
    }

    fn address(&self) -> &str {
        "endless"
    }

    fn close(&self) {}
}

fn pending() -> Completion {
    let (completer, completion) = protocol::transport::completion();
    std::mem::forget(completer);
    completion
}

fn name() -> TopicName {
    TopicName(StrBytes::from_static_str("t"))
}

fn metadata() -> MetadataResponse {
    let mut partition = MetadataResponsePartition::default();
    partition.leader_id = BrokerId(0);
    let mut topic = MetadataResponseTopic::default();
    topic.name = Some(name());
    topic.topic_id = Uuid::from_u128(1);
    topic.partitions.push(partition);
    let mut broker = MetadataResponseBroker::default();
    (broker.node_id, broker.host, broker.port) = (BrokerId(0), StrBytes::from_static_str("endless"), 1);
    let mut response = MetadataResponse::default();
    response.brokers.push(broker);
    response.topics.push(topic);
    response
}

fn take_fetched(criterion: &mut Criterion) {
    let mut builder = BatchBuilder::new(Compression::None, BuilderOptions::default());
    for record in 0..RECORDS {
        let key = record.to_be_bytes();
        builder.append(record, Some(&key), Some(&[7; 100]), HeadersRef::EMPTY).unwrap();
    }
    let batch = builder.build().unwrap();
    let mut group = criterion.benchmark_group("take_fetched");
    group.throughput(Throughput::Elements(RECORDS as u64));
    for check_crcs in [true, false] {
        let clock = ManualClock::new(0);
        let shared: Arc<dyn Clock> = clock.clone();
        let seams = ClientSeams::stepped(shared, Rng::from_seed(1));
        let transport = Arc::new(Endless(batch.clone()));
        let client = Client::embedded_with(move || transport.clone(), ClientConfig::default(), seams);
        let config = ConsumerConfig::default().check_crcs(check_crcs).auto_offset_reset(OffsetReset::Earliest);
        let mut core = ConsumerCore::new(client, config).unwrap();
        core.assign([TopicPartition::new("t", 0)]).unwrap();
        group.bench_function(if check_crcs { "crc checked" } else { "crc not checked" }, |bencher| {
            bencher.iter(|| {
                let mut bytes = 0;
                let mut records = 0;
                while records < RECORDS {
                    let _ = core.step(clock.now(), Waker::noop());
                    while let Some(fetched) = core.take_fetched() {
                        for batch in batches(&fetched.batches) {
                            for record in batch.unwrap().records().unwrap().iter() {
                                bytes += record.unwrap().value.map_or(0, <[u8]>::len);
                                records += 1;
                            }
                        }
                    }
                }
                black_box(bytes)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, take_fetched);
criterion_main!(benches);
