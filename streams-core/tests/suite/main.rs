//! Behaviour of topologies, tasks, stores and the test driver, through the public interface.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod describe;
mod diff;
mod driver;
mod handlers;
mod headers;
mod model;
mod pictures;
mod settings;
mod shared;
mod stores;
mod support;
mod tasks;
mod versioned;
mod wrapper;
