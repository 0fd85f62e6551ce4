//! Reads records: alone from chosen partitions, or as a member of a group that shares out the partitions of its topics.
//!
//! [`Consumer`] is what most programs use: `poll`, `commit`, `seek`, with heartbeats between polls. [`ConsumerCore`] is
//! the machine under it: stepped by its owner, it hands over whole batches without a copy.
//!
//! A record's way: `fetcher` (sessions, one long poll per broker) → `batch_filter` (aborted and control batches) →
//! `partitions` (buffers, positions) → [`ConsumerCore::take_fetched`] → `shell` (records). Beside it: a `membership`, that
//! is `group` (the classic protocol: joining, with an [`assignor`]) or `consumer_group` (KIP-848: the broker assigns), with
//! its `keep_alive` (heartbeats, from any thread); `commits`, `lookups` (offsets by time, resets), `validation`
//! (truncation after a change of leader).

pub mod assignor;
mod batch_filter;
mod commits;
mod config;
mod consumer_group;
mod core;
mod driver;
mod embedded_protocol;
mod fetcher;
mod group;
mod keep_alive;
mod lookups;
mod membership;
mod partitions;
mod read_buffers;
mod record;
mod shell;
mod types;
mod validation;

pub use self::core::{CommittedResult, ConsumerCore, ListOffsetsResult};
pub use assignor::{
    Assignment, Assignor, ClusterMetadata, CooperativeStickyAssignor, GroupAssignment, GroupMember, GroupSubscription,
    RangeAssignor, RebalanceProtocol, RoundRobinAssignor, StickyAssignor, Subscription, assignors_by_name,
};
pub use config::{ConsumerConfig, GroupProtocol, IsolationLevel};
pub use embedded_protocol::{
    MalformedProtocol, decode_assignment, decode_subscription, encode_assignment, encode_subscription,
};
pub use keep_alive::KeepAlive;
pub use record::{ConsumerRecord, ConsumerRecords};
pub use shell::{Consumer, Rebalance, RebalanceListener, Wakeup};
pub use types::{
    CommitTicket, CommittedTicket, ConsumerEvent, Fetched, GroupMetadata, OffsetAndMetadata, OffsetAndTimestamp,
    OffsetReset, OffsetSpec, OffsetsTicket,
};
