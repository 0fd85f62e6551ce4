//! Byte stores under state stores: memory, RocksDB and a file store for simulation, with window and session layouts.
