//! The snippets of `docs/guide/`, compiled and run as documentation tests.

#[doc = include_str!("../docs/guide/streams-and-tables.md")]
struct StreamsAndTables;

#[doc = include_str!("../docs/guide/time-and-windows.md")]
struct TimeAndWindows;

#[doc = include_str!("../docs/guide/joins.md")]
struct Joins;

#[doc = include_str!("../docs/guide/state.md")]
struct State;

#[doc = include_str!("../docs/guide/testing.md")]
struct Testing;

#[doc = include_str!("../docs/guide/from-java.md")]
struct FromJava;
