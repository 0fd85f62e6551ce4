//! Cost of a record in the producer: appended, batched, sent and settled against a transport that answers at once.
#![allow(clippy::unwrap_used, clippy::type_complexity, clippy::expect_used, missing_docs, reason = "a test may panic")]

use std::hint::black_box;
use std::sync::Arc;
use std::task::Waker;

use base::Clock;
use client::{Client, ProducerConfig, ProducerCore};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use protocol::api::messages::{
    ApiVersionsResponse, InitProducerIdResponse, MetadataResponse,
    api_versions_response::ApiVersion,
    metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
};
use protocol::api::{
    ApiKey, ProducePartitionResponse, ProduceResponse, ProduceTopicResponse, Request, Response, StrBytes, Uuid,
    supported_versions,
};
use protocol::record::HeadersRef;
use protocol::transport::{Completion, RequestEnvelope, Transport};

/// Answers at once, keeps nothing.
struct Instant;

impl Transport for Instant {
    fn send(&self, envelope: RequestEnvelope) -> Completion {
        let response = match envelope.request {
            Request::Produce(request) => {
                let mut response = ProduceResponse::default();
                for topic in request.topics {
                    let partitions = topic.partitions.iter().map(|partition| ProducePartitionResponse {
                        index: partition.index,
                        base_offset: 0,
                        ..Default::default()
                    });
                    let partitions = partitions.collect();
                    response.topics.push(ProduceTopicResponse {
                        name: topic.name,
                        topic_id: topic.topic_id,
                        partitions,
                    });
                }
                Response::Produce(response)
            }
            Request::Metadata(request) => {
                let mut response = MetadataResponse::default();
                let mut broker = MetadataResponseBroker::default();
                broker.host = StrBytes::from_static_str("embedded");
                response.brokers.push(broker);
                for wanted in request.topics.into_iter().flatten() {
                    let mut topic = MetadataResponseTopic::default();
                    topic.name = wanted.name;
                    topic.topic_id = Uuid::from_u128(1);
                    for index in 0..8 {
                        let mut partition = MetadataResponsePartition::default();
                        partition.partition_index = index;
                        topic.partitions.push(partition);
                    }
                    response.topics.push(topic);
                }
                Response::Metadata(response)
            }
            Request::InitProducerId(_) => Response::InitProducerId(InitProducerIdResponse::default()),
            _ => {
                let mut response = ApiVersionsResponse::default();
                for key in ApiKey::ALL {
                    let mut api = ApiVersion::default();
                    api.api_key = *key as i16;
                    (api.min_version, api.max_version) = supported_versions(*key);
                    response.api_keys.push(api);
                }
                Response::ApiVersions(response)
            }
        };
        Completion::ready(Ok(response))
    }

    fn address(&self) -> &str {
        "embedded"
    }

    fn close(&self) {}
}

fn producer(criterion: &mut Criterion) {
    const RECORDS: u64 = 10_000;
    let mut group = criterion.benchmark_group("producer");
    group.throughput(Throughput::Elements(RECORDS));
    let client = Client::new(Arc::new(Instant));
    let clock = base::SystemClock::new();
    for (name, keyed) in [("explicit_partition", false), ("keyed", true)] {
        let mut core = ProducerCore::new(client.clone(), ProducerConfig::default()).unwrap();
        let topic = core.topic("bench");
        let value = [7u8; 100];
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let now = clock.now();
                for i in 0..RECORDS {
                    let key = i.to_be_bytes();
                    let partition = (!keyed).then_some((i % 8) as i32);
                    let status = core
                        .send(topic, partition, None, Some(&key), Some(black_box(&value)), HeadersRef::EMPTY, now)
                        .unwrap();
                    if status.is_ready() {
                        let _ = core.step(now, Waker::noop());
                    }
                }
                core.begin_flush();
                let _ = core.step(now, Waker::noop());
                assert!(core.is_flushed());
            });
        });
    }
    group.finish();
}

criterion_group!(benches, producer);
criterion_main!(benches);
