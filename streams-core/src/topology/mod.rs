//! A topology by name: nodes, stores and how they are joined ([`builder`]), its cut into sub-topologies
//! ([`sub_topology`]) with the internal topics they need ([`internal_topics`]), and its description as text
//! ([`describe`]).

pub mod builder;
pub mod describe;
pub mod internal_topics;
pub(crate) mod node;
pub mod optimization;
pub mod options;
pub(crate) mod pattern;
pub mod sub_topology;

pub use builder::{Redirects, Topology};
pub use internal_topics::{InternalTopicConfig, InternalTopicKind};
pub use optimization::Optimization;
pub use options::{
    AutoOffsetReset, PartitionChoice, RepartitionOptions, SinkOptions, SourceOptions, StreamPartitioner, TopicContext,
    TopicNameExtractor, WindowedPartitioner,
};
pub use sub_topology::{BuiltTopology, SubTopology};
