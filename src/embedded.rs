//! The one file that joins client and broker: a broker in this process, and clients of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker::server::Listener;
use broker::{Broker, BrokerConfig, BrokerError, RunningBroker, server};
use client::admin::NewTopic;
use client::{Admin, Client, ClientError, block_on};
use protocol::api::ErrorCode;

/// A broker in this process with its data in one folder: topics, groups and offsets below `broker`, streams state below `state`.
///
/// Dropping it shuts it down cleanly; close applications first. A folder made by [`Embedded::temporary`] is removed.
pub struct Embedded {
    // Dropped in this order: listeners end connections before the broker stops, the folder goes last.
    listeners: Vec<Listener>,
    broker: RunningBroker,
    data_dir: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

/// Why an embedded broker could not be started or used.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The broker refused.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A request failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// No folder could be made.
    #[error("cannot make a folder for temporary data: {0}")]
    Folder(#[from] std::io::Error),
}

/// Settings of an [`Embedded`].
pub struct EmbeddedBuilder {
    data_dir: PathBuf,
    temporary: Option<tempfile::TempDir>,
    settings: Vec<(String, String)>,
}

impl EmbeddedBuilder {
    /// Sets a broker property by Kafka's name (`num.partitions`), or `durability` (`power`, the default, or `process`).
    #[must_use]
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    /// Opens the data and starts the broker.
    ///
    /// # Errors
    /// A setting is unknown, the folder is in use or cannot be read.
    pub fn start(self) -> Result<Embedded, EmbeddedError> {
        let mut config = BrokerConfig::embedded(self.data_dir.join("broker"));
        for (name, value) in &self.settings {
            config = config.with(name, value)?;
        }
        let broker = Broker::start(config)?;
        Ok(Embedded { listeners: Vec::new(), broker, data_dir: self.data_dir, _temporary: self.temporary })
    }
}

impl Embedded {
    /// A broker whose data lives in `data_dir`, made if it is not there.
    pub fn builder(data_dir: impl AsRef<Path>) -> EmbeddedBuilder {
        EmbeddedBuilder { data_dir: data_dir.as_ref().to_owned(), temporary: None, settings: Vec::new() }
    }

    /// As [`Embedded::builder`], for data that is removed at the end; written without syncing each write.
    ///
    /// # Errors
    /// No temporary folder could be made.
    pub fn temporary_builder() -> Result<EmbeddedBuilder, EmbeddedError> {
        let folder = tempfile::Builder::new().prefix("millstream-").tempdir()?;
        let builder = Self::builder(folder.path()).set("durability", "process");
        Ok(EmbeddedBuilder { temporary: Some(folder), ..builder })
    }

    /// Starts a broker whose data lives in `data_dir`.
    ///
    /// # Errors
    /// As [`EmbeddedBuilder::start`].
    pub fn open(data_dir: impl AsRef<Path>) -> Result<Self, EmbeddedError> {
        Self::builder(data_dir).start()
    }

    /// Starts a broker whose data is removed at the end.
    ///
    /// # Errors
    /// As [`EmbeddedBuilder::start`].
    pub fn temporary() -> Result<Self, EmbeddedError> {
        Self::temporary_builder()?.start()
    }

    /// A client of this broker; requests are calls in this process.
    pub fn client(&self) -> Client {
        let broker = self.broker.broker().clone();
        Client::embedded(move || broker.transport())
    }

    /// Serves Kafka clients of any language at `address` (`host:port`; port 0 for any) as well; the address listened on.
    ///
    /// # Errors
    /// The address is not valid or in use.
    pub fn listen(&mut self, address: &str) -> Result<std::net::SocketAddr, EmbeddedError> {
        let listener = server::listen(self.broker.broker(), address, None)?;
        let address = listener.address();
        self.listeners.push(listener);
        Ok(address)
    }

    /// Creates a topic; one that is there already is left as it is.
    ///
    /// # Errors
    /// The name or number is not allowed.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), EmbeddedError> {
        let admin = Admin::new(self.client());
        let new = [NewTopic::new(Arc::<str>::from(name), partitions)];
        for (_, created) in block_on(admin.create_topics(&new))? {
            match created {
                Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => {}
                created => created.map(|_| ())?,
            }
        }
        Ok(())
    }

    /// The folder of all data.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where applications on this broker keep their local state: for `state.dir`.
    pub fn state_dir(&self) -> PathBuf {
        self.data_dir.join("state")
    }

    /// Shuts down cleanly.
    ///
    /// # Errors
    /// Something could not be written; the next open recovers.
    pub fn shutdown(self) -> Result<(), EmbeddedError> {
        let Self { listeners, broker, _temporary, .. } = self;
        drop(listeners);
        Ok(broker.shutdown()?)
    }
}
