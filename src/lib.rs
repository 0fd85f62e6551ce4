//! Millstream: stream processing for Rust with the broker built in.
//!
//! What Kafka Streams is to the JVM, with nothing to install: topologies of streams, tables, windows and joins run in your process, on a
//! log and broker in the same process ([`Embedded`]), or on any Apache Kafka cluster ([`Client::connect`]).
//!
//! ```
//! use millstream::prelude::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = Embedded::temporary()?;
//! broker.create_topic("lines", 1)?;
//!
//! let builder = StreamsBuilder::new();
//! builder
//!     .stream("lines", Consumed::<String, String>::default())
//!     .flat_map_values(|line| line.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>())
//!     .group_by(|_, word| word.clone(), Grouped::default())
//!     .count(Materialized::named("counts"));
//! let config = StreamsConfig::new("word-count").with("state.dir", broker.state_dir().display())?;
//! let app = Streams::start(builder.build()?, config, broker.client())?;
//!
//! let producer = Producer::new(broker.client(), ProducerConfig::default())?;
//! producer.send_blocking(ProducerRecord::to("lines").value("to be or not to be"))?;
//! app.wait_until_caught_up()?;
//!
//! let counts = app.with_store("counts", |store: &TimestampedKeyValueStore<String, i64>| {
//!     store.get(&"be".to_owned()).ok().flatten().map(|found| found.value)
//! })?;
//! assert_eq!(counts, [Some(2)]);
//! app.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! The crates below are re-exported under their names; [`prelude`] holds what most programs need.

mod embedded;
#[cfg(doctest)]
mod guide;

pub use base;
pub use broker;
pub use client;
pub use protocol;
pub use storage;
pub use streams_core;
pub use streams_dsl;

pub use client::Client;
pub use embedded::{Embedded, EmbeddedBuilder, EmbeddedError};
pub use streams_core::runtime::Streams;

/// What most programs need.
pub mod prelude {
    pub use client::{Admin, Client, ClientConfig, Producer, ProducerConfig, ProducerRecord, block_on};
    pub use streams_core::runtime::{State, Streams, UncaughtErrorResponse};
    pub use streams_core::serde::{
        Bincode, BoolSerde, ByteArraySerde, BytesSerde, F64Serde, I32Serde, I64Serde, Json, StringSerde,
    };
    pub use streams_core::windowed::{Window, Windowed};
    pub use streams_core::{
        BoxError, Change, FixedKeyContext, FixedKeyProcessor, FixedKeyRecord, Headers, KeyValueStore, Processor,
        ProcessorContext, PunctuationType, Record, Serde, SerdeRef, StreamsConfig, StreamsError,
        TimestampedKeyValueStore, TimestampedWindowStore, Topology, TopologyTestDriver, ValueAndTimestamp,
    };
    pub use streams_dsl::{
        CogroupedKStream, Consumed, EagerBuffer, EmitStrategy, GlobalKTable, Grouped, JoinWindows, Joined,
        KGroupedStream, KGroupedTable, KStream, KTable, Materialized, Printed, Produced, Repartitioned, SessionWindows,
        SlidingWindows, StreamJoined, StreamsBuilder, StrictBuffer, Suppressed, TableJoined, TimeWindows,
        UnlimitedWindows,
    };

    pub use crate::embedded::Embedded;
}
