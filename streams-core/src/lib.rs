//! Runs topologies: the typed Processor API, tasks, state stores with caches and changelogs, and the test driver.
//!
//! A [`Topology`] is built by name from sources, processors, sinks and stores. It is cut into sub-topologies; each
//! partition of a sub-topology is one [`task::Task`], a synchronous state machine that is fed fetched batches and the
//! present time and hands its output to a [`Collector`]. Stream threads ([`runtime`]) drive tasks against a broker, the
//! [`TopologyTestDriver`] drives the same tasks in memory.
//!
//! Only [`runtime`] knows the client; everything else does no network I/O and takes time as an argument.
//!
//! Semantics, names and bytes are those of Kafka Streams 4.3.

pub mod collector;
pub mod config;
pub mod error;
pub mod processor;
pub mod record;
pub mod runtime;
pub mod serde;
pub mod store;
pub mod task;
pub mod test_driver;
pub mod topology;
pub mod windowed;

pub use base::{Offset, PartitionId, Timestamp, TopicPartition};
pub use collector::{Collector, CollectorRef, TopicHandle};
pub use config::StreamsConfig;
pub use error::{BoxError, ErrorKind, StreamsError};
pub use processor::{
    FixedKeyContext, FixedKeyProcessor, FixedKeyRecord, Processor, ProcessorContext, PunctuationType, Receive,
    RecordMetadata, ScheduleId, TimestampExtractor,
};
pub use protocol::record::{Header, Headers};
pub use record::{Change, Record};
pub use serde::{Serde, SerdeError, SerdeRef};
pub use store::{
    KeyValueStore, SessionStore, StateStore, StoreBuilder, TimestampedKeyValueStore, TimestampedWindowStore,
    ValueAndTimestamp, WindowStore,
};
pub use task::TaskId;
pub use test_driver::TopologyTestDriver;
pub use topology::{AutoOffsetReset, SinkOptions, SourceOptions, Topology};
pub use windowed::{Window, Windowed};
