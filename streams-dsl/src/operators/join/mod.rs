//! Joins, one file per pair of kinds.

mod partitioned;
mod self_join;
mod stream_global;
mod stream_stream;
mod stream_table;
mod streams;
mod waiting;
