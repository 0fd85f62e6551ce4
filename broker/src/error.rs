//! Why a broker could not be opened, started or shut down; at most three lines, saying what and what to do.

/// A failure of the broker as a whole. Failures of single requests are Kafka error codes in their responses.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// A setting is unknown or has a value that is not allowed: correct it.
    #[error("{0}")]
    Config(String),
    /// The data directory cannot be used: in use, unreadable, or of another version or cluster.
    #[error("{0}")]
    DataDirectory(String),
    /// The address cannot be listened on.
    #[error("{0}")]
    Listen(String),
    /// The medium failed; what was acknowledged under the chosen durability is kept.
    #[error("{0}")]
    Storage(String),
}
