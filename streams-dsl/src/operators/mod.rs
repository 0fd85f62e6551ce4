//! One file per operator: its method on the stream or table, and its processor.

mod aggregate;
mod branch;
mod filter;
mod flat_map;
mod group;
mod join;
mod map;
mod merge;
mod peek;
mod process;
mod repartition;
mod select_key;
mod sink;
mod store;
mod table_filter;
mod table_map_values;
pub(crate) mod table_source;
mod to_stream;
mod to_table;
mod window_aggregate;

pub use branch::{BranchedKStream, Branches};
