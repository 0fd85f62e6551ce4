//! What can be wrong with a record batch.

use super::Compression;

/// Why bytes are not a readable record batch, or why one cannot be written.
///
/// Cut by what the reader can do: [`Truncated`](RecordError::Truncated) may heal with more bytes; a wrong magic or
/// codec needs other software; everything else is corruption.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end inside this.
    #[error("{what} ends too early")]
    Truncated {
        /// What was being read.
        what: &'static str,
    },
    /// The bytes contradict themselves.
    #[error("corrupt batch: {what}: {value}")]
    Corrupt {
        /// Which rule they break.
        what: &'static str,
        /// The value that breaks it.
        value: i64,
    },
    /// The checksum does not match.
    #[error("corrupt batch: crc {stored:#010x}, computed {computed:#010x}")]
    BadCrc {
        /// What the batch says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// A message set of Kafka before 0.11, or nonsense.
    #[error("record batch with magic {0}; only magic 2 is supported")]
    UnsupportedMagic(i8),
    /// A codec number that nobody defined.
    #[error("compression codec {0} does not exist")]
    UnknownCodec(i16),
    /// A codec name that nobody defined.
    #[error("unknown compression type '{0}'; one of none, gzip, snappy, lz4, zstd")]
    UnknownCodecName(Box<str>),
    /// The compressed bytes cannot be read.
    #[error("cannot decompress {codec}: {reason}")]
    BadCompression {
        /// Which codec.
        codec: Compression,
        /// What it said.
        reason: Box<str>,
    },
    /// More bytes than allowed.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// What is.
        what: &'static str,
        /// What it may be at most.
        limit: u64,
    },
}

impl RecordError {
    #[cold]
    pub(super) fn truncated(what: &'static str) -> Self {
        Self::Truncated { what }
    }

    #[cold]
    pub(super) fn corrupt(what: &'static str, value: impl Into<i64>) -> Self {
        Self::Corrupt { what, value: value.into() }
    }
}
