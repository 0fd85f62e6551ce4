//! Joins, one file per pair of kinds.

mod stream_table;
