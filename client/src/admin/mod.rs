//! Creates, describes and changes topics, configurations and groups.

use crate::client::Client;

/// Admin calls on a cluster.
#[derive(Clone)]
pub struct Admin {
    client: Client,
}

impl Admin {
    /// Admin calls over `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }
}
