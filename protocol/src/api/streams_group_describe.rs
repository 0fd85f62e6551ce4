//! StreamsGroupDescribe (KIP-1071), version 0: our own structs, because `kafka-protocol` does not know the API. Field for field as in Kafka's
//! `StreamsGroupDescribeRequest.json` and `StreamsGroupDescribeResponse.json` of 4.3.

use std::sync::Arc;

use bytes::Bytes;

use super::fields::{Field, wire_bodies, wire_structs};
use super::pieces::PieceWriter;
use super::streams_group_heartbeat::{StreamsEndpoint, StreamsKeyValue, StreamsTopicInfo, TaskIds, TaskOffset};
use super::wire::{CodecError, Reader, WireMessage, Writer};

wire_structs! {
    /// Asks what streams groups are and do.
    StreamsGroupDescribeRequest {
        /// The groups.
        group_ids: Vec<Arc<str>>,
        /// Whether to say what the client may do with them.
        include_authorized_operations: bool,
    }

    /// What the groups are and do.
    StreamsGroupDescribeResponse {
        /// How long the client was held back, in milliseconds.
        throttle_time_ms: i32,
        /// One for each that was asked for.
        groups: Vec<DescribedStreamsGroup>,
    }

    /// A streams group.
    DescribedStreamsGroup {
        /// What went wrong; 0 for nothing.
        error_code: i16,
        /// The same in words.
        error_message: Option<Arc<str>>,
        /// The group.
        group_id: Arc<str>,
        /// Its state.
        group_state: Arc<str>,
        /// Its epoch.
        group_epoch: i32,
        /// The epoch its tasks were distributed for.
        assignment_epoch: i32,
        /// Its topology; `None` before a member brought one.
        topology: Option<DescribedTopology>,
        /// Its members.
        members: Vec<DescribedStreamsMember>,
        /// What the client may do with the group, as bits; the lowest number if not asked for.
        authorized_operations: i32,
    }

    /// The topology of a group.
    DescribedTopology {
        /// Which version of the topology.
        epoch: i32,
        /// Its parts; `None` while its topics are not as they must be.
        subtopologies: Option<Vec<DescribedSubtopology>>,
    }

    /// A part of a topology, with the number of partitions of its internal topics.
    DescribedSubtopology {
        /// Name within the topology.
        subtopology_id: Arc<str>,
        /// Topics it reads.
        source_topics: Vec<Arc<str>>,
        /// Repartition topics it writes.
        repartition_sink_topics: Vec<Arc<str>>,
        /// Changelog topics of its stores.
        state_changelog_topics: Vec<StreamsTopicInfo>,
        /// Repartition topics it reads.
        repartition_source_topics: Vec<StreamsTopicInfo>,
    }

    /// A member.
    DescribedStreamsMember {
        /// Its id.
        member_id: Arc<str>,
        /// The epoch it has reached.
        member_epoch: i32,
        /// `group.instance.id`.
        instance_id: Option<Arc<str>>,
        /// Its rack.
        rack_id: Option<Arc<str>>,
        /// Client id of its connection.
        client_id: Arc<str>,
        /// Address of its connection.
        client_host: Arc<str>,
        /// Epoch of its topology.
        topology_epoch: i32,
        /// The process that it is a thread of.
        process_id: Arc<str>,
        /// Where interactive queries reach the process.
        user_endpoint: Option<StreamsEndpoint>,
        /// For rack-aware standby tasks.
        client_tags: Vec<StreamsKeyValue>,
        /// Sums of changelog offsets by task.
        task_offsets: Vec<TaskOffset>,
        /// Sums of changelog end offsets by task.
        task_end_offsets: Vec<TaskOffset>,
        /// The tasks it has.
        assignment: DescribedTasks,
        /// The tasks it is to have.
        target_assignment: DescribedTasks,
        /// It speaks the classic protocol still.
        is_classic: bool,
    }

    /// Tasks of a member.
    DescribedTasks {
        /// That process records.
        active_tasks: Vec<TaskIds>,
        /// That keep a copy of the state.
        standby_tasks: Vec<TaskIds>,
        /// That build a copy of the state, to become active.
        warmup_tasks: Vec<TaskIds>,
    }
}

wire_bodies! {
    StreamsGroupDescribeRequest, 2;
    StreamsGroupDescribeResponse, 1;
}

#[cfg(test)]
mod tests {
    use super::super::streams_group_heartbeat::{StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse};
    use super::*;

    /// Written by the message classes of Kafka 4.3.1.
    const HEARTBEAT: &str = "04617070046d2d31000000000000000202690272000493e00100000003020231020675736572730204782e2a02156170702d636f756e7473\
                             2d6368616e67656c6f6700000000ffff020f636c65616e75702e706f6c69637908636f6d70616374000002156170702d6d6f72652d72\
                             65706172746974696f6e02166170702d776f7264732d7265706172746974696f6e000000060001010002020000010200000000000202\
                             310300000000000000050001010270010268ffff00020f636c65616e75702e706f6c69637908636f6d70616374000202310000000500\
                             0000000000004d00000100";
    const HEARTBEAT_UNCHANGED: &str = "04617070046d2d3100000004000000000000ffffffffff00000000ff0000000000";
    const ANSWER: &str = "00000001000000046d2d31000000030000138800000000000000000201026400020231030000000000000005000101000000020202680050\
                          000206757365727303000000000000000500010000";
    const DESCRIBE: &str = "02046170700100";
    const DESCRIBED: &str = "00000000020000000461707007537461626c650000000300000003010000000302023102067573657273020273021561\
                             70702d636f756e74732d6368616e67656c6f67000000060001010001000002046d2d3100000003000002630b2f3132\
                             372e302e302e3100000000027001026800500001010102023103000000000000000500010100020231030000000000\
                             000005000101000000800000000000";

    fn bytes(hex: &str) -> Bytes {
        let pairs =
            hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
        pairs.collect::<Vec<u8>>().into()
    }

    /// Reads Kafka's bytes, writes them again, and refuses all their beginnings.
    fn read<T: WireMessage>(hex: &str) -> T {
        let bytes = bytes(hex);
        let message = T::decode_wire(bytes.clone(), 0).unwrap();
        let mut out = PieceWriter::default();
        message.encode_wire(&mut out, 0).unwrap();
        assert_eq!(out.finish().to_bytes().unwrap(), bytes);
        for end in 0..bytes.len() {
            assert!(T::decode_wire(bytes.slice(..end), 0).is_err(), "cut at {end}");
        }
        message
    }

    #[test]
    fn messages_of_kafka_are_read_and_written_back_unchanged() {
        let request: StreamsGroupHeartbeatRequest = read(HEARTBEAT);
        let topology = request.topology.unwrap();
        assert_eq!(
            (topology.epoch, &*topology.subtopologies[0].state_changelog_topics[0].name),
            (3, "app-counts-changelog")
        );
        assert_eq!(request.user_endpoint, Some(StreamsEndpoint { host: "h".into(), port: 65535 }));
        assert_eq!(request.active_tasks.unwrap()[0].partitions, [0, 5]);
        assert!(request.shutdown_application);
        let request: StreamsGroupHeartbeatRequest = read(HEARTBEAT_UNCHANGED);
        assert_eq!((request.member_epoch, request.rebalance_timeout_ms, request.active_tasks), (4, -1, None));
        let response: StreamsGroupHeartbeatResponse = read(ANSWER);
        assert_eq!(response.partitions_by_user_endpoint.unwrap()[0].active_partitions[0].partitions, [0, 5]);
        assert_eq!(&*read::<StreamsGroupDescribeRequest>(DESCRIBE).group_ids[0], "app");
        let described: StreamsGroupDescribeResponse = read(DESCRIBED);
        assert_eq!(described.groups[0].members[0].target_assignment.active_tasks[0].partitions, [0, 5]);
    }

    #[test]
    fn no_room_is_made_for_a_length_that_is_only_claimed() {
        let claims = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 2, b'a']);
        assert!(StreamsGroupDescribeRequest::decode_wire(claims, 0).is_err());
    }
}
