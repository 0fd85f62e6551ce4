//! Connections over TCP.

use std::sync::Arc;

use protocol::transport::{Completion, Connector, RequestEnvelope, Transport, TransportError};

use crate::config::ClientConfig;

/// Makes TCP connections.
#[derive(Clone, Debug)]
pub struct TcpConnector {}

impl TcpConnector {
    /// A connector with the settings of `config`.
    pub fn new(_config: &ClientConfig) -> Self {
        Self {}
    }
}

struct Unconnected(String);

impl Transport for Unconnected {
    fn send(&self, _envelope: RequestEnvelope) -> Completion {
        Completion::ready(Err(TransportError::Disconnected {
            address: self.0.clone(),
            reason: "TCP is not there yet".into(),
        }))
    }

    fn address(&self) -> &str {
        &self.0
    }

    fn close(&self) {}
}

impl Connector for TcpConnector {
    fn connect(&self, host: &str, port: u16) -> Arc<dyn Transport> {
        Arc::new(Unconnected(format!("{host}:{port}")))
    }
}
