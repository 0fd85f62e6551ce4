//! What `suppress` is told: until when updates are held back, and how many.

use std::collections::BTreeMap;

use streams_core::store::Logging;
use streams_core::{Timestamp, Windowed};

/// When a held-back update of a key becomes due, of its own.
type DueTime<K> = fn(&K) -> Timestamp;

/// How long updates of a table are held back, so that only the last of several comes out.
pub struct Suppressed<K> {
    pub(crate) name: Option<String>,
    /// Time to wait after the due time; `None` is the grace of the windows.
    pub(crate) wait_ms: Option<i64>,
    /// `None`: the record's timestamp.
    pub(crate) due: Option<DueTime<K>>,
    pub(crate) buffer: BufferConfig,
}

impl<K> Suppressed<K> {
    /// Holds each update back until stream time is `wait_ms` past the first update of its key.
    pub fn until_time_limit_ms(wait_ms: i64, buffer: impl Into<BufferConfig>) -> Self {
        Self { name: None, wait_ms: Some(wait_ms), due: None, buffer: buffer.into() }
    }

    /// Calls the operator's node `name`, its store `<name>-store`.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }
}

impl<K> Suppressed<Windowed<K>> {
    /// Holds the result of each window back until it can no longer change; then it comes out once. The buffer must not give up results
    /// early, so it can only be strict.
    pub fn until_window_closes(buffer: StrictBuffer) -> Self {
        Self { name: None, wait_ms: None, due: Some(|key| key.window.end), buffer: buffer.into() }
    }
}

/// A buffer of either kind.
#[derive(Clone, Debug)]
pub struct BufferConfig {
    pub(crate) records_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) emits_early: bool,
    pub(crate) logging: Logging,
}

/// A buffer that never lets go of an update before its time: when it is full, the application shuts down.
#[derive(Clone, Debug)]
pub struct StrictBuffer(BufferConfig);

/// A buffer that, when it is full, lets go of the updates that would be due first.
#[derive(Clone, Debug)]
pub struct EagerBuffer(BufferConfig);

impl StrictBuffer {
    /// Without limit.
    pub fn unbounded() -> Self {
        Self(BufferConfig {
            records_max: usize::MAX,
            bytes_max: usize::MAX,
            emits_early: false,
            logging: Logging::default(),
        })
    }
}

impl EagerBuffer {
    /// Of at most `records` updates.
    pub fn of_records(records: usize) -> Self {
        let bytes_max = usize::MAX;
        Self(BufferConfig { records_max: records, bytes_max, emits_early: true, logging: Logging::default() })
    }

    /// Of at most `bytes` bytes of keys and values, with about 30 bytes more for each update.
    pub fn of_bytes(bytes: usize) -> Self {
        let records_max = usize::MAX;
        Self(BufferConfig { records_max, bytes_max: bytes, emits_early: true, logging: Logging::default() })
    }
}

macro_rules! buffer_options {
    ($name:ident) => {
        impl $name {
            /// Full beyond that many updates.
            #[must_use]
            pub fn with_max_records(mut self, records: usize) -> Self {
                self.0.records_max = records;
                self
            }

            /// Full beyond that many bytes.
            #[must_use]
            pub fn with_max_bytes(mut self, bytes: usize) -> Self {
                self.0.bytes_max = bytes;
                self
            }

            /// With a changelog of which `configs` overrides the topic configuration.
            #[must_use]
            pub fn with_logging(mut self, configs: BTreeMap<String, String>) -> Self {
                self.0.logging = Logging::Enabled(configs);
                self
            }

            /// Without a changelog: what waits is lost when the task moves or restarts.
            #[must_use]
            pub fn without_logging(mut self) -> Self {
                self.0.logging = Logging::Disabled;
                self
            }
        }

        impl From<$name> for BufferConfig {
            fn from(buffer: $name) -> Self {
                buffer.0
            }
        }
    };
}

buffer_options!(StrictBuffer);
buffer_options!(EagerBuffer);
