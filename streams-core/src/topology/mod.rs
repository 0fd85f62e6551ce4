//! A topology by name: nodes, stores and how they are joined ([`builder`]), its cut into sub-topologies
//! ([`sub_topology`]) with the internal topics they need ([`internal_topics`]), its description as data and text
//! ([`description`]) pictures of that ([`drawing`]),
//! and what a change of it does to the state ([`mod@diff`]).

pub mod builder;
pub(crate) mod describe;
pub mod description;
pub mod diff;
pub mod drawing;
pub mod internal_topics;
mod java_order;
pub(crate) mod node;
pub mod optimization;
pub mod options;
pub(crate) mod pattern;
pub mod sub_topology;

pub use builder::{Redirects, Topology};
pub use description::{
    NodeDescription, NodeRole, SinkTarget, SubTopologyDescription, TopicsDescription, TopologyDescription,
};
pub use diff::{Fate, StateChange, StateKind, TopologyDiff, diff, remedy};
pub use internal_topics::{InternalTopicConfig, InternalTopicKind};
pub use optimization::Optimization;
pub use options::{
    AutoOffsetReset, PartitionChoice, RepartitionOptions, SinkOptions, SourceOptions, StreamPartitioner, TopicContext,
    TopicNameExtractor, WindowedPartitioner,
};
pub use sub_topology::{BuiltTopology, SubTopology};
