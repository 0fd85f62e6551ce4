//! Joins, one file per pair of kinds.

mod stream_global;
mod stream_table;
mod stream_table_grace;
