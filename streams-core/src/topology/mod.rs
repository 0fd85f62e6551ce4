//! A topology by name: nodes, stores and how they are joined ([`builder`]), its cut into sub-topologies
//! ([`sub_topology`]) with the internal topics they need ([`internal_topics`]), and its description as text
//! ([`describe`]).

pub mod builder;
pub mod describe;
pub mod internal_topics;
pub(crate) mod node;
pub mod options;
pub mod sub_topology;

pub use builder::Topology;
pub use internal_topics::{InternalTopicConfig, InternalTopicKind};
pub use options::{
    AutoOffsetReset, PartitionChoice, RepartitionOptions, SinkOptions, SourceOptions, StreamPartitioner,
    TopicNameExtractor, WindowedPartitioner,
};
pub use sub_topology::{BuiltTopology, SubTopology};
