//! Joins, one file per pair of kinds.

mod foreign_key;
mod partitioned;
mod self_join;
mod stream_global;
mod stream_stream;
mod stream_table;
mod stream_table_grace;
mod streams;
mod table_table;
mod waiting;
