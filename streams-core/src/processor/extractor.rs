//! Which timestamp a source record gets.

use std::sync::Arc;

use base::{Offset, PartitionId, Timestamp};
use protocol::record::Headers;

use crate::error::{BoxError, ErrorKind, StreamsError};

/// A source record as an extractor sees it, already typed.
#[derive(Debug)]
pub struct SourceRecord<'a, K, V> {
    /// Topic it was read from.
    pub topic: &'a str,
    /// Partition it was read from.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: Offset,
    /// The timestamp in the log, -1 if it has none.
    pub timestamp: Timestamp,
    /// Key.
    pub key: Option<&'a K>,
    /// Value.
    pub value: Option<&'a V>,
    /// Headers.
    pub headers: &'a Headers,
}

/// Gives a source record its event time.
pub trait TimestampExtractor<K, V>: Send + Sync {
    /// The event time of `record`; a negative one drops the record, counted. `partition_time` is the greatest time so
    /// far in this partition, -1 if unknown; `wall_clock` the task's present wall-clock time.
    ///
    /// # Errors
    /// Any error fails the task.
    fn extract(
        &self,
        record: &SourceRecord<'_, K, V>,
        partition_time: Timestamp,
        wall_clock: Timestamp,
    ) -> Result<Timestamp, BoxError>;
}

/// The log's timestamp; a negative one fails the task. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct FailOnInvalidTimestamp;

/// The log's timestamp; a record with a negative one is logged and dropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogAndSkipOnInvalidTimestamp;

/// The log's timestamp, or, if negative, the partition's time so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct UsePartitionTime;

/// The wall clock at reading.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallclockTimestamp;

impl<K, V> TimestampExtractor<K, V> for FailOnInvalidTimestamp {
    fn extract(&self, record: &SourceRecord<'_, K, V>, _: Timestamp, _: Timestamp) -> Result<Timestamp, BoxError> {
        if record.timestamp < 0 {
            return Err(format!(
                "the record has the invalid timestamp {}; use another extractor to handle such records",
                record.timestamp
            )
            .into());
        }
        Ok(record.timestamp)
    }
}

impl<K, V> TimestampExtractor<K, V> for LogAndSkipOnInvalidTimestamp {
    fn extract(&self, record: &SourceRecord<'_, K, V>, _: Timestamp, _: Timestamp) -> Result<Timestamp, BoxError> {
        if record.timestamp < 0 {
            tracing::warn!(
                topic = record.topic,
                partition = record.partition,
                offset = record.offset,
                timestamp = record.timestamp,
                "record dropped: its timestamp is negative"
            );
        }
        Ok(record.timestamp)
    }
}

impl<K, V> TimestampExtractor<K, V> for UsePartitionTime {
    fn extract(
        &self,
        record: &SourceRecord<'_, K, V>,
        partition_time: Timestamp,
        _: Timestamp,
    ) -> Result<Timestamp, BoxError> {
        match record.timestamp {
            known @ 0.. => Ok(known),
            _ if partition_time >= 0 => Ok(partition_time),
            negative => {
                Err(format!("the record has the invalid timestamp {negative} and its partition no time yet").into())
            }
        }
    }
}

impl<K, V> TimestampExtractor<K, V> for WallclockTimestamp {
    fn extract(&self, _: &SourceRecord<'_, K, V>, _: Timestamp, wall_clock: Timestamp) -> Result<Timestamp, BoxError> {
        Ok(wall_clock)
    }
}

/// One of the extractors above, by the name that Kafka Streams gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultExtractor {
    /// [`FailOnInvalidTimestamp`].
    #[default]
    FailOnInvalid,
    /// [`LogAndSkipOnInvalidTimestamp`].
    LogAndSkipOnInvalid,
    /// [`UsePartitionTime`].
    UsePartitionTime,
    /// [`WallclockTimestamp`].
    Wallclock,
}

impl DefaultExtractor {
    /// By the last part of the class's name.
    ///
    /// # Errors
    /// None of them has that name.
    pub fn named(class: &str) -> Result<Self, StreamsError> {
        Ok(match class.rsplit('.').next().unwrap_or(class) {
            "FailOnInvalidTimestamp" => Self::FailOnInvalid,
            "LogAndSkipOnInvalidTimestamp" => Self::LogAndSkipOnInvalid,
            "UsePartitionTimeOnInvalidTimestamp" => Self::UsePartitionTime,
            "WallclockTimestampExtractor" => Self::Wallclock,
            _ => {
                let message = format!(
                    "default.timestamp.extractor must be FailOnInvalidTimestamp, LogAndSkipOnInvalidTimestamp, \
                     UsePartitionTimeOnInvalidTimestamp or WallclockTimestampExtractor, not {class}; others are given to sources"
                );
                return Err(StreamsError::new(ErrorKind::Config, message));
            }
        })
    }

    /// For records of these types.
    pub(crate) fn extractor<K, V>(self) -> Arc<dyn TimestampExtractor<K, V>> {
        match self {
            Self::FailOnInvalid => Arc::new(FailOnInvalidTimestamp),
            Self::LogAndSkipOnInvalid => Arc::new(LogAndSkipOnInvalidTimestamp),
            Self::UsePartitionTime => Arc::new(UsePartitionTime),
            Self::Wallclock => Arc::new(WallclockTimestamp),
        }
    }
}
