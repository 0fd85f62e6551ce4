//! Speaks Kafka's requests: producer, consumer and admin over any [`protocol::transport::Transport`].
//!
//! A [`Client`] owns the connections to a cluster, what is known of its topics ([`Metadata`]), and who coordinates
//! what. On it stand the cores, state machines without threads, sleeps or sockets: [`producer::ProducerCore`] and
//! `consumer::ConsumerCore` are stepped by their owner (`step(now, waker)`), be it a stream thread, a background
//! thread or a simulation. [`Producer`] and [`Admin`] are the thin shells for everyone else; [`block_on`] waits for
//! their futures on a plain thread.
//!
//! Knows neither the broker's insides nor files. Threads, sockets and real sleeping are in `tcp.rs`, `driver.rs` and
//! `producer/shell.rs` only.

pub mod admin;
pub mod config;
pub mod consumer;
pub mod producer;

mod client;
mod connection;
mod coordinator;
mod driver;
mod error;
mod links;
mod metadata;
mod refresh;
mod retry;
mod step;
mod tcp;
mod timers;
mod waiting;
mod wire;

pub use admin::Admin;
pub use client::{AllTopics, Client, ClientSeams, Lane, Lookup, Target};
pub use config::ClientConfig;
pub use connection::{Call, Connection};
pub use coordinator::CoordinatorKind;
pub use driver::block_on;
pub use error::{ClientError, TransactionErrorClass};
pub use metadata::{Broker, Metadata, PartitionMetadata, TopicMetadata};
pub use producer::{
    Acks, FlushMark, Producer, ProducerConfig, ProducerCore, ProducerRecord, RecordMetadata, SendStatus, Ticket,
    TopicHandle,
};
pub use retry::Backoff;
pub use step::Step;
pub use tcp::TcpConnector;
pub use timers::{Pending, Timers};
