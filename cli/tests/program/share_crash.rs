//! `kill -9` between and during acknowledgements of a share group (KIP-932), then a restart on the same directory: what was accepted or rejected
//! is never handed out again, everything else is, and how often a record was released is not forgotten.
//!
//! What is told of each record is a seed's, and the last acknowledgements before each kill are not answered any more: of those either outcome
//! is right. The seed is printed; `MILLSTREAM_CRASH_SEED` repeats it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use base::Rng;
use client::admin::NewTopic;
use client::block_on;
use protocol::api::describe_share_group_offsets::{DescribeShareGroup, DescribeShareGroupOffsetsRequest};
use protocol::api::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use protocol::api::messages::{
    FindCoordinatorRequest, GroupId, IncrementalAlterConfigsRequest, ShareGroupHeartbeatRequest, TopicName,
};
use protocol::api::share_acknowledge::ShareAcknowledgeRequest;
use protocol::api::share_fetch::{AcknowledgementBatch, ShareFetchPartition, ShareFetchRequest, ShareFetchTopic};
use protocol::api::{Request, Response, StrBytes, Uuid};
use protocol::frame;
use protocol::transport::RequestEnvelope;

use super::support::{BrokerProcess, awaited, directory};

const ROUNDS: usize = 6;
const RECORDS: i64 = 300;
const GROUP_RESOURCE: i8 = 32;
const ACCEPT: i8 = 1;
const RELEASE: i8 = 2;
const REJECT: i8 = 3;
/// More often than a record is released here.
const DELIVERIES: &str = "10";

/// What is known of a record.
#[derive(Clone, Debug, Default)]
struct Known {
    /// It was accepted or rejected, and that was acknowledged.
    is_done: bool,
    /// It may have been: that was not answered.
    may_be_done: bool,
    /// How often it was released.
    releases: i16,
    /// How often it may have been besides.
    maybe_released: i16,
}

/// A connection, with a share session of member `m`.
struct Peer {
    stream: TcpStream,
    epoch: i32,
}

impl Peer {
    fn new(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self { stream, epoch: 0 }
    }

    fn send(&mut self, version: i16, request: impl Into<Request>) -> protocol::api::ApiKey {
        let envelope = RequestEnvelope { version, client_id: Some("m".into()), request: request.into() };
        let bytes = frame::encode_request(&envelope, 1).unwrap().to_bytes().unwrap();
        self.stream.write_all(&bytes).unwrap();
        envelope.request.api_key()
    }

    fn call(&mut self, version: i16, request: impl Into<Request>) -> Response {
        let key = self.send(version, request);
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut bytes).unwrap();
        frame::decode_response(key, version, bytes.into()).unwrap().1
    }

    /// Joins the group; gives the topic's id.
    fn join(&mut self) -> Uuid {
        let text = StrBytes::from_static_str;
        let config = AlterableConfig::default();
        let configs = [("share.auto.offset.reset", "earliest"), ("share.delivery.count.limit", DELIVERIES)]
            .map(|(name, value)| config.clone().with_name(text(name)).with_value(Some(text(value))));
        let resource = AlterConfigsResource::default().with_resource_type(GROUP_RESOURCE);
        let resource = resource.with_resource_name(text("g")).with_configs(configs.into());
        let set = self.call(1, IncrementalAlterConfigsRequest::default().with_resources(vec![resource]));
        let Response::IncrementalAlterConfigs(set) = set else { panic!() };
        assert_eq!(set.responses[0].error_code, 0);
        // The coordinator is there once its topic is durable: that takes as long as the disk and the machine's other work make it.
        awaited("a partition of the group", || {
            self.call(4, FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]));
            let beat = ShareGroupHeartbeatRequest::default()
                .with_group_id(GroupId(text("g")))
                .with_member_id(text("m"))
                .with_subscribed_topic_names(Some(vec![TopicName(text("t"))]));
            let Response::ShareGroupHeartbeat(joined) = self.call(1, beat) else { panic!() };
            joined.assignment?.topic_partitions.first().map(|told| told.topic_id)
        })
    }

    /// Acquires all there is: offsets with their delivery counts.
    fn acquire(&mut self, topic: Uuid) -> BTreeMap<i64, i16> {
        let mut acquired = BTreeMap::new();
        loop {
            let request = ShareFetchRequest {
                group_id: Some(Arc::from("g")),
                member_id: Some(Arc::from("m")),
                share_session_epoch: self.epoch,
                max_bytes: 1 << 20,
                max_records: 500,
                batch_size: 500,
                topics: vec![told(topic, Vec::new())],
                ..Default::default()
            };
            self.epoch += 1;
            let Response::ShareFetch(response) = self.call(2, request) else { panic!() };
            assert_eq!(response.error_code, 0);
            let before = acquired.len();
            for partition in response.responses.iter().flat_map(|topic| &topic.partitions) {
                assert_eq!(partition.error_code, 0);
                for run in &partition.acquired_records {
                    acquired.extend((run.first_offset..=run.last_offset).map(|offset| (offset, run.delivery_count)));
                }
            }
            if acquired.len() == before {
                return acquired;
            }
        }
    }

    fn acknowledgement(&mut self, topic: Uuid, types: &[(i64, i8)]) -> ShareAcknowledgeRequest {
        let batches = types.iter().map(|(offset, kind)| AcknowledgementBatch {
            first_offset: *offset,
            last_offset: *offset,
            acknowledge_types: vec![*kind],
        });
        self.epoch += 1;
        ShareAcknowledgeRequest {
            group_id: Some(Arc::from("g")),
            member_id: Some(Arc::from("m")),
            share_session_epoch: self.epoch - 1,
            is_renew_ack: false,
            topics: vec![told(topic, batches.collect())],
        }
    }

    fn acknowledge(&mut self, topic: Uuid, types: &[(i64, i8)]) {
        let request = self.acknowledgement(topic, types);
        let Response::ShareAcknowledge(response) = self.call(2, request) else { panic!() };
        assert_eq!((response.error_code, response.responses[0].partitions[0].error_code), (0, 0));
    }

    /// Start offset and lag.
    fn stands(&mut self) -> (i64, i64) {
        let group = DescribeShareGroup { group_id: Arc::from("g"), topics: None };
        let described = self.call(1, DescribeShareGroupOffsetsRequest { groups: vec![group] });
        let Response::DescribeShareGroupOffsets(described) = described else { panic!() };
        let partition = &described.groups[0].topics[0].partitions[0];
        (partition.start_offset, partition.lag)
    }
}

fn told(topic: Uuid, acknowledgement_batches: Vec<AcknowledgementBatch>) -> ShareFetchTopic {
    ShareFetchTopic {
        topic_id: topic,
        partitions: vec![ShareFetchPartition { partition_index: 0, acknowledgement_batches }],
    }
}

/// What was handed out must be what is not done with, as often as it was released and once more.
fn check(known: &mut [Known], acquired: &BTreeMap<i64, i16>) {
    for (offset, known) in known.iter_mut().enumerate() {
        match acquired.get(&(offset as i64)) {
            None => {
                assert!(known.is_done || known.may_be_done, "record {offset} was lost: {known:?}");
                known.is_done = true;
            }
            Some(count) => {
                assert!(!known.is_done, "record {offset} was handed out again: {known:?}");
                let possible = known.releases + 1..=known.releases + known.maybe_released + 1;
                assert!(possible.contains(count), "record {offset} was handed out {count} times: {known:?}");
                known.releases = count - 1;
            }
        }
        (known.may_be_done, known.maybe_released) = (false, 0);
    }
}

/// Settles two thirds of what was acquired, some of it without waiting for the answer.
fn settle(peer: &mut Peer, topic: Uuid, rng: &mut Rng, known: &mut [Known], acquired: &BTreeMap<i64, i16>) {
    let offsets: Vec<i64> = acquired.keys().copied().collect();
    let chunk = 1 + rng.below(40) as usize;
    let chunks: Vec<&[i64]> = offsets.chunks(chunk).collect();
    let answered = rng.below(chunks.len() as u64 + 1) as usize;
    for (index, offsets) in chunks.iter().enumerate().take(answered + 1) {
        let mut types = Vec::new();
        for offset in *offsets {
            let Some(kind) = [None, Some(RELEASE), Some(RELEASE), Some(ACCEPT), Some(REJECT), None]
                .get(rng.below(6) as usize)
                .copied()
                .flatten()
            else {
                continue;
            };
            types.push((*offset, kind));
        }
        if types.is_empty() {
            continue;
        }
        let is_answered = index < answered;
        match is_answered {
            true => peer.acknowledge(topic, &types),
            false => {
                let request = peer.acknowledgement(topic, &types);
                peer.send(2, request);
            }
        }
        for (offset, kind) in types {
            let known = &mut known[offset as usize];
            match (kind, is_answered) {
                (RELEASE, true) => known.releases += 1,
                (RELEASE, false) => known.maybe_released += 1,
                (_, true) => known.is_done = true,
                (_, false) => known.may_be_done = true,
            }
        }
    }
}

#[test]
fn what_a_share_group_has_settled_stays_settled_over_kills() {
    let seed = std::env::var("MILLSTREAM_CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| Rng::from_entropy().next_u64());
    println!("MILLSTREAM_CRASH_SEED={seed}");
    let mut rng = Rng::from_seed(seed);
    let data = directory();
    let mut broker = BrokerProcess::start(data.path(), &[]);
    let address = broker.address.clone();
    block_on(broker.admin().create_topics(&[NewTopic::new("t", 1)])).unwrap()[0].1.as_ref().unwrap();
    broker.tell(&["produce", "t"], &(0..RECORDS).map(|number| format!("{number}\n")).collect::<String>());
    let topic = Peer::new(&address).join();
    let mut known = vec![Known::default(); RECORDS as usize];
    for round in 0..ROUNDS {
        let mut peer = Peer::new(&address);
        let acquired = peer.acquire(topic);
        check(&mut known, &acquired);
        settle(&mut peer, topic, &mut rng, &mut known, &acquired);
        println!("round {round}: {} records were handed out", acquired.len());
        broker.kill();
        broker = BrokerProcess::start_on(&address, data.path(), &[]);
    }
    let mut peer = Peer::new(&address);
    let acquired = peer.acquire(topic);
    check(&mut known, &acquired);
    peer.acknowledge(topic, &acquired.keys().map(|offset| (*offset, ACCEPT)).collect::<Vec<_>>());
    broker.kill();
    broker = BrokerProcess::start_on(&address, data.path(), &[]);
    let mut peer = Peer::new(&address);
    assert_eq!(peer.acquire(topic), BTreeMap::new(), "everything was settled");
    assert_eq!(peer.stands().1, 0, "nothing is left to do");
    drop(peer);
    broker.stop();
}
