//! Answers Kafka requests from the log: partitions, groups, cluster metadata, over TCP and in process.
//!
//! [`Broker::open`] gives a broker without threads, stepped by its owner; [`Broker::start`] adds the drivers (flusher,
//! timer). [`Broker::transport`] is a connection in process, [`server::listen`] one listener over TCP; both end in the
//! same handlers. Knows no client and no streams.
//!
//! Start reading at [`dispatch`] (which request goes where), then `handlers::produce` and `handlers::fetch`.

pub mod admin;
pub mod broker;
mod client_quotas;
pub mod config;
mod connection;
mod connection_limits;
mod controller;
mod data_directory;
mod descriptions;
pub mod dispatch;
mod driver;
mod dynamic;
pub mod effects;
pub mod error;
pub mod group;
pub mod handlers;
pub mod metadata;
pub mod partition;
pub mod properties;
mod replies;
mod request_memory;
mod request_order;
mod send_file;
pub mod server;
mod sessions;
mod shards;
pub mod share;
pub mod state;
mod tcp;
pub mod topics;
pub mod transaction;
pub mod waiters;
mod warn_limit;

pub use broker::{Broker, BrokerSeams, Step};
pub use config::BrokerConfig;
pub use connection_limits::ConnectionLimits;
pub use driver::RunningBroker;
pub use error::BrokerError;
pub use state::BrokerState;
