//! Where an example runs: on a broker in this process, or on a cluster; with its state in `--data`, or in a folder that goes at the end.

use std::path::PathBuf;
use std::sync::Arc;

use millstream::client::admin::NewTopic;
use millstream::prelude::*;
use millstream::protocol::api::ErrorCode;

use super::Failure;
use super::options::Common;

/// Largest line, hence record: 64 MiB.
pub const LINE_BYTES_MAX: usize = 64 << 20;

/// How far event time may be ahead, in ms: a topic would refuse a click of more than an hour from now, but what a file says is counted.
const ANY_TIME: i64 = i64::MAX;

/// How long a record may take to be acknowledged: long enough for a cluster to elect leaders, short enough to tell of a full disk.
pub const DELIVERED_WITHIN_MS: i64 = 20_000;
/// How long a cluster is looked for.
const REACHED_WITHIN_MS: i64 = 5_000;

/// A client, a place for state, and whatever must live as long.
pub struct Home {
    client: Client,
    state_dir: PathBuf,
    embedded: Option<Embedded>,
    _temporary: Option<tempfile::TempDir>,
}

impl Home {
    /// Opens or makes it.
    pub fn open(options: &Common) -> Result<Self, Failure> {
        let Some(bootstrap) = &options.bootstrap else {
            let embedded = match &options.data {
                Some(folder) => Embedded::open(folder)?,
                None => Embedded::temporary()?,
            };
            let (client, state_dir) = (embedded.client(), embedded.state_dir());
            return Ok(Self { client, state_dir, embedded: Some(embedded), _temporary: None });
        };
        // Whether anybody is there shows soon; once it runs, an application is far more patient.
        let probe = Client::connect(bootstrap, ClientConfig::default().default_api_timeout_ms(REACHED_WITHIN_MS))?;
        block_on(Admin::new(probe).describe_cluster())?;
        let client = Client::connect(bootstrap, ClientConfig::default())?;
        let (state_dir, temporary) = match &options.data {
            Some(folder) => (folder.join("state"), None),
            None => {
                let folder = tempfile::Builder::new().prefix("millstream-").tempdir();
                let folder =
                    folder.map_err(|error| Failure::new(format!("cannot make a folder for state: {error}")))?;
                (folder.path().to_owned(), Some(folder))
            }
        };
        Ok(Self { client, state_dir, embedded: None, _temporary: temporary })
    }

    /// A client of the broker or cluster.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Settings of the application `id`: its state here, and the `--set` options of the command line on top.
    pub fn config(&self, id: &str, options: &Common) -> Result<StreamsConfig, Failure> {
        let mut config = StreamsConfig::new(id)
            .with("state.dir", self.state_dir.display())?
            .with("producer.max.request.size", LINE_BYTES_MAX + 1024)?
            .with("producer.buffer.memory", 2 * LINE_BYTES_MAX)?
            .with("producer.delivery.timeout.ms", DELIVERED_WITHIN_MS)?
            .with("topic.max.message.bytes", LINE_BYTES_MAX + 1024)?
            .with("topic.message.timestamp.after.max.ms", ANY_TIME)?;
        for setting in &options.settings {
            let Some((name, value)) = setting.split_once('=') else {
                return Err(Failure::usage(format!("--set {setting} is not NAME=VALUE"))
                    .hint("write it as --set commit.interval.ms=100"));
            };
            config = config.with(name, value).map_err(|error| Failure::usage(format!("--set {setting}: {error}")))?;
        }
        Ok(config)
    }

    /// Makes a topic with these settings; one that is there already is left as it is.
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<(), Failure> {
        let mut topic = NewTopic::new(Arc::<str>::from(name), partitions);
        topic = topic
            .config("max.message.bytes", (LINE_BYTES_MAX + 1024).to_string())
            .config("message.timestamp.after.max.ms", ANY_TIME.to_string());
        for (name, value) in settings {
            topic = topic.config(*name, *value);
        }
        for (_, created) in block_on(Admin::new(self.client()).create_topics(&[topic]))? {
            match created {
                Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => {}
                created => created.map(|_| ())?,
            }
        }
        Ok(())
    }

    /// Shuts down the broker in this process, if there is one.
    pub fn close(self) -> Result<(), Failure> {
        self.embedded.map_or(Ok(()), |embedded| Ok(embedded.shutdown()?))
    }
}
