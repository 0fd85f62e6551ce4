//! One file per operator: its method on the stream or table, and its processor.

mod aggregate;
mod branch;
mod cogroup;
mod emit_on_close;
mod fallible;
mod filter;
mod flat_map;
mod group;
mod join;
mod map;
mod merge;
mod peek;
pub(crate) mod print;
mod process;
mod repartition;
pub(crate) mod results;
mod select_key;
mod session_aggregate;
mod sink;
mod sliding_aggregate;
pub(crate) mod store;
mod suppress;
mod suppress_buffer;
mod table_aggregate;
mod table_filter;
mod table_group;
mod table_map_values;
pub(crate) mod table_source;
mod table_transform_values;
mod to_stream;
mod to_table;
mod window_aggregate;
mod window_state;

pub use branch::{BranchedKStream, Branches};
pub use cogroup::{CogroupedKStream, SessionWindowedCogroupedKStream, TimeWindowedCogroupedKStream};
pub use table_transform_values::ValueTransformer;
