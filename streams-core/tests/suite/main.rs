//! Behaviour of topologies, tasks, stores and the test driver, through the public interface.

mod describe;
mod driver;
mod model;
mod stores;
mod support;
mod tasks;
