//! Reads records: alone from chosen partitions, or as a member of a group that shares out the partitions of its topics.
//!
//! [`ConsumerCore`] is the machine: stepped by its owner, it hands over whole batches without a copy.

pub mod assignor;
mod batch_filter;
mod commits;
mod config;
mod core;
mod embedded_protocol;
mod fetcher;
mod group;
mod keep_alive;
mod lookups;
mod partitions;
mod types;
mod validation;

pub use self::core::{CommittedResult, ConsumerCore, ListOffsetsResult};
pub use assignor::{
    Assignment, Assignor, ClusterMetadata, CooperativeStickyAssignor, GroupAssignment, GroupMember, GroupSubscription,
    RangeAssignor, RebalanceProtocol, RoundRobinAssignor, StickyAssignor, Subscription, assignors_by_name,
};
pub use config::{ConsumerConfig, IsolationLevel};
pub use embedded_protocol::{
    MalformedProtocol, decode_assignment, decode_subscription, encode_assignment, encode_subscription,
};
pub use keep_alive::KeepAlive;
pub use types::{
    CommitTicket, CommittedTicket, ConsumerEvent, Fetched, GroupMetadata, OffsetAndMetadata, OffsetAndTimestamp,
    OffsetReset, OffsetSpec, OffsetsTicket,
};
