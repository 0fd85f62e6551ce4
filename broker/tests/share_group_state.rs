//! The share coordinator's own calls (InitializeShareGroupState and its like), with the answers of Apache Kafka 4.3.1, and how the topic that
//! the state is kept in is pruned.

#![allow(clippy::unwrap_used, reason = "a test says where it failed")]

mod support;

use std::sync::Arc;

use protocol::api::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use protocol::api::messages::{
    BrokerId, DeleteShareGroupStateRequest, InitializeShareGroupStateRequest, ListOffsetsRequest,
    ReadShareGroupStateRequest, delete_share_group_state_request as delete,
    initialize_share_group_state_request as init, read_share_group_state_request as read,
};
use protocol::api::share_group_state::*;
use protocol::api::{ErrorCode, Response, Uuid};
use support::*;

const AVAILABLE: i8 = 0;
const ACKNOWLEDGED: i8 = 2;
const ARCHIVED: i8 = 4;
const NOT_THERE: Uuid = Uuid::from_u128(7);

/// First and last offset, delivery state and count.
type Batch = (i64, i64, i8, i16);

struct Caller {
    peer: Peer,
    group: &'static str,
}

impl Caller {
    fn initialize(&mut self, topic: Uuid, partition: i32, state_epoch: i32, start: i64) -> i16 {
        let part = init::PartitionData::default().with_partition(partition);
        let part = part.with_state_epoch(state_epoch).with_start_offset(start);
        let topic = init::InitializeStateData::default().with_topic_id(topic).with_partitions(vec![part]);
        let request = InitializeShareGroupStateRequest::default().with_group_id(text(self.group));
        let Response::InitializeShareGroupState(response) = self.peer.call(0, request.with_topics(vec![topic])) else {
            panic!()
        };
        response.results[0].partitions[0].error_code
    }

    /// State and leader epoch, start offset and how many records are done with.
    fn write(&mut self, topic: Uuid, part: i32, epochs: (i32, i32), to: (i64, i32), batches: &[Batch]) -> i16 {
        let batches =
            batches.iter().map(|(first_offset, last_offset, delivery_state, delivery_count)| ShareStateBatch {
                first_offset: *first_offset,
                last_offset: *last_offset,
                delivery_state: *delivery_state,
                delivery_count: *delivery_count,
            });
        let part = WriteShareStatePartition {
            partition: part,
            state_epoch: epochs.0,
            leader_epoch: epochs.1,
            start_offset: to.0,
            delivery_complete_count: to.1,
            state_batches: batches.collect(),
        };
        let topics = vec![ShareStateTopic { topic_id: topic, partitions: vec![part] }];
        let request = WriteShareGroupStateRequest { group_id: Arc::from(self.group), topics };
        let Response::WriteShareGroupState(response) = self.peer.call(1, request) else { panic!() };
        response.results[0].partitions[0].error_code
    }

    /// State epoch, start offset and batches, or the error.
    fn read(&mut self, topic: Uuid, partition: i32, leader_epoch: i32) -> Result<(i32, i64, Vec<Batch>), ErrorCode> {
        let part = read::PartitionData::default().with_partition(partition).with_leader_epoch(leader_epoch);
        let topic = read::ReadStateData::default().with_topic_id(topic).with_partitions(vec![part]);
        let request = ReadShareGroupStateRequest::default().with_group_id(text(self.group)).with_topics(vec![topic]);
        let Response::ReadShareGroupState(response) = self.peer.call(0, request) else { panic!() };
        let part = &response.results[0].partitions[0];
        ErrorCode::from_code(part.error_code).into_result()?;
        let batch = |batch: &protocol::api::messages::read_share_group_state_response::StateBatch| {
            (batch.first_offset, batch.last_offset, batch.delivery_state, batch.delivery_count)
        };
        Ok((part.state_epoch, part.start_offset, part.state_batches.iter().map(batch).collect()))
    }

    /// State and leader epoch, start offset and how many records are done with, or the error.
    fn summary(&mut self, topic: Uuid, partition: i32) -> Result<(i32, i32, i64, i32), ErrorCode> {
        let partitions = vec![SummaryOfSharePartition { partition, leader_epoch: 0 }];
        let topics = vec![ShareStateTopic { topic_id: topic, partitions }];
        let request = ReadShareGroupStateSummaryRequest { group_id: Arc::from(self.group), topics };
        let Response::ReadShareGroupStateSummary(response) = self.peer.call(1, request) else { panic!() };
        let part = &response.results[0].partitions[0];
        ErrorCode::from_code(part.error_code).into_result()?;
        Ok((part.state_epoch, part.leader_epoch, part.start_offset, part.delivery_complete_count))
    }

    fn delete(&mut self, topic: Uuid, partition: i32) -> i16 {
        let part = delete::PartitionData::default().with_partition(partition);
        let topic = delete::DeleteStateData::default().with_topic_id(topic).with_partitions(vec![part]);
        let request = DeleteShareGroupStateRequest::default().with_group_id(text(self.group)).with_topics(vec![topic]);
        let Response::DeleteShareGroupState(response) = self.peer.call(0, request) else { panic!() };
        response.results[0].partitions[0].error_code
    }
}

fn world(settings: &[(&str, &str)]) -> (TestBroker, Caller, Uuid) {
    let broker = TestBroker::start(settings);
    let mut peer = broker.tcp();
    let id = peer.create_topic("t", 2, &[]);
    (broker, Caller { peer, group: "g" }, id)
}

#[test]
fn a_state_is_made_read_written_and_deleted() {
    let (mut broker, mut caller, id) = world(&[]);
    assert_eq!(caller.read(id, 0, 0), Err(ErrorCode::InvalidRequest), "nobody made it");
    assert_eq!(caller.write(id, 0, (1, 0), (5, 1), &[]), ErrorCode::InvalidRequest.code());
    assert_eq!(caller.summary(id, 0), Ok((0, 0, -1, -1)));
    assert_eq!(caller.delete(id, 0), 0);
    assert_eq!(caller.initialize(id, 0, 1, -1), 0);
    assert_eq!(caller.read(id, 0, 0), Ok((1, -1, vec![])));
    assert_eq!(caller.summary(id, 0), Ok((1, 0, -1, -1)));
    assert_eq!(caller.initialize(id, 0, 2, 10), 0);
    assert_eq!(caller.summary(id, 0), Ok((2, 0, 10, 0)));
    assert_eq!(caller.write(id, 0, (2, 1), (12, 3), &[(12, 14, ACKNOWLEDGED, 1), (15, 19, AVAILABLE, 2)]), 0);
    assert_eq!(caller.read(id, 0, 0), Ok((2, 12, vec![(12, 14, ACKNOWLEDGED, 1), (15, 19, AVAILABLE, 2)])));
    assert_eq!(caller.write(id, 0, (2, 1), (-1, -1), &[(14, 16, ARCHIVED, 3)]), 0);
    let batches = vec![(12, 13, ACKNOWLEDGED, 1), (14, 16, ARCHIVED, 3), (17, 19, AVAILABLE, 2)];
    assert_eq!(caller.read(id, 0, -1), Ok((2, 12, batches.clone())));
    assert_eq!(caller.summary(id, 0), Ok((2, 0, 12, -1)));
    drop(caller);
    broker.restart();
    let mut caller = Caller { peer: broker.tcp(), group: "g" };
    assert_eq!(caller.read(id, 0, 0), Ok((2, 12, batches)), "read from the log");
    assert_eq!(caller.delete(id, 0), 0);
    assert_eq!(caller.read(id, 0, 0), Err(ErrorCode::InvalidRequest));
    assert_eq!(caller.initialize(id, 0, 1, 4), 0, "a new state has terms of its own");
    assert_eq!(caller.summary(id, 0), Ok((1, 0, 4, 0)));
}

#[test]
fn who_is_behind_is_fenced_and_what_is_not_there_is_said() {
    let (_broker, mut caller, id) = world(&[]);
    let fenced = (ErrorCode::FencedStateEpoch.code(), ErrorCode::FencedLeaderEpoch.code());
    assert_eq!(caller.initialize(id, 0, 2, 10), 0);
    assert_eq!(caller.initialize(id, 0, 1, 0), fenced.0);
    assert_eq!(caller.initialize(id, 0, 2, 11), 0, "the same term may");
    assert_eq!(caller.write(id, 0, (1, 0), (12, 0), &[]), fenced.0);
    assert_eq!(caller.write(id, 0, (9, 7), (12, 0), &[]), 0);
    assert_eq!(caller.summary(id, 0), Ok((2, 0, 12, 0)), "a write changes no terms");
    assert!(caller.read(id, 0, 8).is_ok());
    assert_eq!(caller.summary(id, 0), Ok((2, 8, 12, 0)), "a leader that reads does");
    assert_eq!(caller.read(id, 0, 7), Err(ErrorCode::FencedLeaderEpoch));
    assert_eq!(caller.write(id, 0, (2, 7), (13, 0), &[]), fenced.1);
    assert_eq!(caller.write(id, 0, (-1, -1), (13, 0), &[]), 0, "-1 is of any term");

    let (unknown, invalid) = (ErrorCode::UnknownTopicOrPartition, ErrorCode::InvalidRequest);
    for (topic, partition, missing) in [(NOT_THERE, 0, unknown), (id, 9, unknown), (id, -1, invalid)] {
        assert_eq!(caller.initialize(topic, partition, 1, 0), missing.code());
        assert_eq!(caller.delete(topic, partition), missing.code());
        assert_eq!(caller.summary(topic, partition), Err(missing));
        assert_eq!(caller.write(topic, partition, (1, 0), (0, 0), &[]), invalid.code());
        assert_eq!(caller.read(topic, partition, 0), Err(invalid));
    }
    for batch in [(20, 18, ACKNOWLEDGED, 1), (-5, -2, ACKNOWLEDGED, 1)] {
        assert_eq!(caller.write(id, 0, (2, 8), (13, 0), &[batch]), invalid.code(), "no range of offsets");
    }
    let empty = WriteShareGroupStateRequest { group_id: Arc::from(""), topics: vec![Default::default()] };
    let Response::WriteShareGroupState(response) = caller.peer.call(0, empty) else { panic!() };
    assert_eq!(response.results, []);
}

#[test]
fn snapshots_that_were_superseded_go() {
    let settings = [
        ("share.coordinator.state.topic.num.partitions", "1"),
        ("share.coordinator.state.topic.prune.interval.ms", "1"),
        ("share.coordinator.snapshot.update.records.per.snapshot", "1"),
        // Has the timer look often from the start.
        ("replica.high.watermark.checkpoint.interval.ms", "10"),
    ];
    let (mut broker, mut caller, id) = world(&settings);
    assert_eq!(caller.initialize(id, 0, 1, 0), 0);
    let first = |peer: &mut Peer, timestamp: i64| {
        let partition = ListOffsetsPartition::default().with_timestamp(timestamp).with_current_leader_epoch(-1);
        let topic = ListOffsetsTopic::default().with_name(name_of("__share_group_state"));
        let topic = topic.with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        let Response::ListOffsets(response) = peer.call(1, request) else { panic!() };
        response.topics[0].partitions[0].offset
    };
    // Each other write is a snapshot: once one is in the log, nothing below it is of use.
    let (mut writes, mut begin) = (0, 0);
    while begin < 20 {
        writes += 1;
        assert_eq!(caller.write(id, 0, (1, 0), (writes, 0), &[]), 0);
        let next = first(&mut caller.peer, -2);
        assert!(next >= begin);
        begin = next;
        assert!(writes < 100_000, "nothing was let go of");
    }
    // A second state holds its own snapshot, whatever becomes of the first.
    assert_eq!(caller.initialize(id, 1, 1, 77), 0);
    let held = first(&mut caller.peer, -1) - 1;
    for start in writes..writes + 200 {
        assert_eq!(caller.write(id, 0, (1, 0), (start, 0), &[]), 0);
    }
    assert!(first(&mut caller.peer, -2) <= held, "the second state was let go of");
    drop(caller);
    broker.restart();
    let mut caller = Caller { peer: broker.tcp(), group: "g" };
    assert_eq!(caller.summary(id, 1), Ok((1, 0, 77, 0)));
    assert_eq!(caller.summary(id, 0), Ok((1, 0, writes + 199, 0)));
    // Nothing holds the old records of a state that is gone.
    assert_eq!(caller.delete(id, 1), 0);
    while first(&mut caller.peer, -2) <= held {
        writes += 1;
        assert_eq!(caller.write(id, 0, (1, 0), (writes, 0), &[]), 0);
        assert!(writes < 100_000, "the state that is gone is held");
    }
}
