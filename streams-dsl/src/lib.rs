//! KStream, KTable and their operators: words for building a [`Topology`].
//!
//! Begin with a [`StreamsBuilder`]; its streams and tables have an operator for each of Kafka Streams', with the same names
//! for nodes, stores and internal topics. Types carry through: an operator whose types do not fit does not compile.
//!
//! ```
//! use streams_dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder};
//!
//! let builder = StreamsBuilder::new();
//! builder
//!     .stream("lines", Consumed::<String, String>::default())
//!     .flat_map_values(|line| line.split(' ').map(str::to_lowercase).collect::<Vec<_>>())
//!     .group_by(|_, word| word.clone(), Grouped::default())
//!     .count(Materialized::named("counts"))
//!     .to_stream()
//!     .to("word-counts", Produced::inherited());
//! let topology = builder.build()?;
//! assert!(topology.describe().contains("counts-repartition"));
//! # Ok::<(), streams_core::StreamsError>(())
//! ```
//!
//! Knows no client and no file.

mod builder;
mod global_table;
mod graph;
mod grouped;
mod grouped_table;
mod kstream;
mod ktable;
mod materialized;
mod naming;
mod operators;
mod optimize;
mod options;
mod stream_joined;
mod suppressed;
mod windows;

pub use builder::StreamsBuilder;
pub use global_table::GlobalKTable;
pub use grouped::{KGroupedStream, SessionWindowedKStream, TimeWindowedKStream};
pub use grouped_table::KGroupedTable;
pub use kstream::KStream;
pub use ktable::KTable;
pub use materialized::Materialized;
pub use operators::{
    BranchedKStream, Branches, CogroupedKStream, SessionWindowedCogroupedKStream, TimeWindowedCogroupedKStream,
    ValueTransformer,
};
pub use options::{Consumed, Grouped, Joined, Printed, Produced, Repartitioned, TableJoined};
pub use stream_joined::StreamJoined;
pub use streams_core::Topology;
pub use suppressed::{BufferConfig, EagerBuffer, StrictBuffer, Suppressed};
pub use windows::{EmitStrategy, JoinWindows, SessionWindows, SlidingWindows, TimeWindows, UnlimitedWindows, Windows};
