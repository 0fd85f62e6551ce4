//! StreamsGroupHeartbeat (KIP-1071), version 0: our own structs, because `kafka-protocol` does not know the API. Field for field as in Kafka's
//! `StreamsGroupHeartbeatRequest.json` and `StreamsGroupHeartbeatResponse.json` of 4.3.

use std::sync::Arc;

use bytes::Bytes;

use super::fields::{Field, wire_bodies, wire_structs};
use super::pieces::PieceWriter;
use super::wire::{CodecError, Reader, WireMessage, Writer};

wire_structs! {
    /// A member of a streams group joins (epoch 0), is alive, or leaves (-1).
    StreamsGroupHeartbeatRequest {
        /// The group, which is the application's id.
        group_id: Arc<str>,
        /// Made by the member.
        member_id: Arc<str>,
        /// What the member has reached; 0 to join, -1 to leave, -2 for a static member that comes back.
        member_epoch: i32,
        /// The endpoints that the member knows.
        endpoint_information_epoch: i32,
        /// `group.instance.id`.
        instance_id: Option<Arc<str>>,
        /// The member's rack; `None` if unchanged.
        rack_id: Option<Arc<str>>,
        /// How long the member may take to give tasks up, in milliseconds; -1 if unchanged.
        rebalance_timeout_ms: i32,
        /// What the application is; only when joining.
        topology: Option<StreamsTopology>,
        /// Active tasks the member has; `None` if unchanged.
        active_tasks: Option<Vec<TaskIds>>,
        /// Standby tasks the member has; `None` if unchanged.
        standby_tasks: Option<Vec<TaskIds>>,
        /// Warm-up tasks the member has; `None` if unchanged.
        warmup_tasks: Option<Vec<TaskIds>>,
        /// The process that the member is a thread of; `None` if unchanged.
        process_id: Option<Arc<str>>,
        /// Where interactive queries reach the process; `None` if unchanged or if there is no such place.
        user_endpoint: Option<StreamsEndpoint>,
        /// For rack-aware standby tasks; `None` if unchanged.
        client_tags: Option<Vec<StreamsKeyValue>>,
        /// Sums of changelog offsets by task; `None` if unchanged.
        task_offsets: Option<Vec<TaskOffset>>,
        /// Sums of changelog end offsets by task; `None` if unchanged.
        task_end_offsets: Option<Vec<TaskOffset>>,
        /// All members are to shut down.
        shutdown_application: bool,
    }

    /// What an application is, as far as its group must know.
    StreamsTopology {
        /// Which version of the topology.
        epoch: i32,
        /// Its parts.
        subtopologies: Vec<StreamsSubtopology>,
    }

    /// A part of a topology whose tasks run on their own.
    StreamsSubtopology {
        /// Name within the topology.
        subtopology_id: Arc<str>,
        /// Topics it reads.
        source_topics: Vec<Arc<str>>,
        /// Patterns of topics it reads.
        source_topic_regex: Vec<Arc<str>>,
        /// Changelog topics of its stores.
        state_changelog_topics: Vec<StreamsTopicInfo>,
        /// Repartition topics it writes.
        repartition_sink_topics: Vec<Arc<str>>,
        /// Repartition topics it reads.
        repartition_source_topics: Vec<StreamsTopicInfo>,
        /// Topics that must have the same number of partitions.
        copartition_groups: Vec<CopartitionGroup>,
    }

    /// Topics of a subtopology that must have the same number of partitions, as indexes into its lists.
    CopartitionGroup {
        /// Into the source topics.
        source_topics: Vec<i16>,
        /// Into the patterns.
        source_topic_regex: Vec<i16>,
        /// Into the repartition topics that are read.
        repartition_source_topics: Vec<i16>,
    }

    /// An internal topic.
    StreamsTopicInfo {
        /// Name.
        name: Arc<str>,
        /// Partitions; 0 to have them decided.
        partitions: i32,
        /// Replication factor; 0 or -1 for the default.
        replication_factor: i16,
        /// Settings of the topic.
        topic_configs: Vec<StreamsKeyValue>,
    }

    /// A name and what it stands for.
    StreamsKeyValue {
        /// The name.
        key: Arc<str>,
        /// What it stands for.
        value: Arc<str>,
    }

    /// Where interactive queries reach a process.
    StreamsEndpoint {
        /// Host name or address.
        host: Arc<str>,
        /// TCP port.
        port: u16,
    }

    /// Tasks of one subtopology.
    TaskIds {
        /// The subtopology.
        subtopology_id: Arc<str>,
        /// The tasks, which are named by their partitions.
        partitions: Vec<i32>,
    }

    /// How far a task's state goes.
    TaskOffset {
        /// The subtopology.
        subtopology_id: Arc<str>,
        /// The partition.
        partition: i32,
        /// Sum of the offsets of its changelog partitions.
        offset: i64,
    }

    /// What a member of a streams group is to do.
    StreamsGroupHeartbeatResponse {
        /// How long the client was held back, in milliseconds.
        throttle_time_ms: i32,
        /// What went wrong; 0 for nothing.
        error_code: i16,
        /// The same in words.
        error_message: Option<Arc<str>>,
        /// The member.
        member_id: Arc<str>,
        /// The epoch the member has reached.
        member_epoch: i32,
        /// How often the member is to send heartbeats, in milliseconds.
        heartbeat_interval_ms: i32,
        /// Largest lag with which a warm-up task counts as caught up, in records.
        acceptable_recovery_lag: i32,
        /// How often the member is to send offsets of its tasks, in milliseconds.
        task_offset_interval_ms: i32,
        /// What keeps the group from running as it should.
        status: Option<Vec<StreamsGroupStatus>>,
        /// Active tasks the member is to have; `None` if unchanged.
        active_tasks: Option<Vec<TaskIds>>,
        /// Standby tasks the member is to have; `None` if unchanged.
        standby_tasks: Option<Vec<TaskIds>>,
        /// Warm-up tasks the member is to have; `None` if unchanged.
        warmup_tasks: Option<Vec<TaskIds>>,
        /// Which endpoints follow.
        endpoint_information_epoch: i32,
        /// Which process has which partitions; `None` if unchanged.
        partitions_by_user_endpoint: Option<Vec<EndpointPartitions>>,
    }

    /// Something that keeps a group from running as it should.
    StreamsGroupStatus {
        /// Which thing.
        status_code: i8,
        /// The same in words.
        status_detail: Arc<str>,
    }

    /// The partitions whose state a process has.
    EndpointPartitions {
        /// Where interactive queries reach it.
        user_endpoint: StreamsEndpoint,
        /// Input partitions of its active tasks.
        active_partitions: Vec<StreamsTopicPartitions>,
        /// Input partitions of its standby tasks.
        standby_partitions: Vec<StreamsTopicPartitions>,
    }

    /// Partitions of one topic.
    StreamsTopicPartitions {
        /// The topic.
        topic: Arc<str>,
        /// Its partitions.
        partitions: Vec<i32>,
    }
}

wire_bodies! {
    StreamsGroupHeartbeatRequest, 2;
    StreamsGroupHeartbeatResponse, 1;
}
