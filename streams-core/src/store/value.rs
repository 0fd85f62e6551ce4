//! How a typed value lies in a store: plain, or behind its timestamp and headers.

use base::Timestamp;
use protocol::record::Headers;

use crate::serde::{SerdeError, SerdeRef};
use crate::store::api::ValueAndTimestamp;
use crate::store::with_headers::{split_headers, write_headers};

/// The byte form of the values of one store.
pub(crate) trait ValueFormat<V>: Send + Sync {
    /// Appends the local form.
    fn write(&self, topic: &str, value: &V, out: &mut Vec<u8>) -> Result<(), SerdeError>;
    /// Reads the local form.
    fn read(&self, topic: &str, bytes: &[u8]) -> Result<V, SerdeError>;
    fn is_infallible(&self) -> bool;
    fn size_hint(&self, value: &V) -> usize;
    fn kind(&self) -> FormatKind;
}

/// What lies before the serialised value locally; the changelog carries the value alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FormatKind {
    /// Nothing.
    Plain,
    /// The 8-byte timestamp, which in the changelog is the record's.
    Timestamped,
    /// Nothing: the timestamp goes to the changelog and is forgotten.
    TimeForgotten,
    /// The headers, then the 8-byte timestamp; in the changelog both are the record's.
    TimestampedWithHeaders,
    /// The headers, which in the changelog are the record's.
    WithHeaders,
}

/// A written value, as it goes to the changelog.
#[derive(Clone, Copy)]
pub(crate) struct Split<'a> {
    pub(crate) value: &'a [u8],
    /// `None`: the record context's.
    pub(crate) timestamp: Option<Timestamp>,
    /// Encoded, empty if there are none; `None`: the format has none.
    pub(crate) headers: Option<&'a [u8]>,
}

impl FormatKind {
    /// Name kept with the store.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain | Self::TimeForgotten => "plain",
            Self::Timestamped => "timestamped",
            Self::TimestampedWithHeaders => "timestamped-with-headers",
            Self::WithHeaders => "with-headers",
        }
    }

    /// Whether values lie behind headers.
    pub(crate) fn has_headers(self) -> bool {
        matches!(self, Self::TimestampedWithHeaders | Self::WithHeaders)
    }

    /// Splits a value that [`ValueFormat::write`] has written into what goes to the changelog.
    #[inline]
    pub(crate) fn split(self, written: &[u8]) -> Split<'_> {
        let (headers, rest) = match self {
            Self::TimestampedWithHeaders | Self::WithHeaders => {
                split_headers(written).map_or((None, written), |(headers, rest)| (Some(headers), rest))
            }
            Self::Plain | Self::Timestamped | Self::TimeForgotten => (None, written),
        };
        match (self, rest.split_first_chunk::<8>()) {
            (Self::Timestamped | Self::TimeForgotten | Self::TimestampedWithHeaders, Some((timestamp, value))) => {
                Split { value, timestamp: Some(i64::from_be_bytes(*timestamp)), headers }
            }
            _ => Split { value: rest, timestamp: None, headers },
        }
    }

    /// What is stored of a value that [`ValueFormat::write`] has written.
    #[inline]
    pub(crate) fn stored(self, written: &[u8]) -> &[u8] {
        if self == Self::TimeForgotten { self.split(written).value } else { written }
    }

    /// Appends the local form of a changelog value.
    pub(crate) fn join(self, timestamp: Timestamp, value: &[u8], headers: &Headers, out: &mut Vec<u8>) {
        if self.has_headers() {
            write_headers(headers, out);
        }
        if matches!(self, Self::Timestamped | Self::TimestampedWithHeaders) {
            out.extend_from_slice(&timestamp.to_be_bytes());
        }
        out.extend_from_slice(value);
    }
}

/// The value alone.
pub(crate) struct PlainFormat<V>(pub(crate) SerdeRef<V>);

/// `timestamp(8) | value`.
pub(crate) struct TimestampedFormat<V>(pub(crate) SerdeRef<V>);

fn no_headers() -> &'static Headers {
    static NONE: std::sync::LazyLock<Headers> = std::sync::LazyLock::new(Headers::default);
    &NONE
}

impl<V> ValueFormat<V> for PlainFormat<V> {
    fn write(&self, topic: &str, value: &V, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        self.0.serialize(topic, no_headers(), value, out)
    }

    fn read(&self, topic: &str, bytes: &[u8]) -> Result<V, SerdeError> {
        self.0.deserialize(topic, no_headers(), bytes)
    }

    fn is_infallible(&self) -> bool {
        self.0.is_infallible()
    }

    fn size_hint(&self, value: &V) -> usize {
        self.0.size_hint(value)
    }

    fn kind(&self) -> FormatKind {
        FormatKind::Plain
    }
}

/// The value alone, though it has a timestamp while it is cached; read back, its time is -1.
pub(crate) struct TimeForgottenFormat<V>(pub(crate) SerdeRef<V>);

impl<V> ValueFormat<ValueAndTimestamp<V>> for TimeForgottenFormat<V> {
    fn write(&self, topic: &str, value: &ValueAndTimestamp<V>, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        out.extend_from_slice(&value.timestamp.to_be_bytes());
        self.0.serialize(topic, no_headers(), &value.value, out)
    }

    fn read(&self, topic: &str, bytes: &[u8]) -> Result<ValueAndTimestamp<V>, SerdeError> {
        Ok(ValueAndTimestamp { value: self.0.deserialize(topic, no_headers(), bytes)?, timestamp: -1 })
    }

    fn is_infallible(&self) -> bool {
        self.0.is_infallible()
    }

    fn size_hint(&self, value: &ValueAndTimestamp<V>) -> usize {
        self.0.size_hint(&value.value) + 8
    }

    fn kind(&self) -> FormatKind {
        FormatKind::TimeForgotten
    }
}

impl<V> ValueFormat<ValueAndTimestamp<V>> for TimestampedFormat<V> {
    fn write(&self, topic: &str, value: &ValueAndTimestamp<V>, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        out.extend_from_slice(&value.timestamp.to_be_bytes());
        self.0.serialize(topic, no_headers(), &value.value, out)
    }

    fn read(&self, topic: &str, bytes: &[u8]) -> Result<ValueAndTimestamp<V>, SerdeError> {
        match bytes.split_first_chunk::<8>() {
            Some((timestamp, value)) => Ok(ValueAndTimestamp {
                value: self.0.deserialize(topic, no_headers(), value)?,
                timestamp: i64::from_be_bytes(*timestamp),
            }),
            None => Err(SerdeError::Size { type_name: "timestamped value", expected: 8, actual: bytes.len() }),
        }
    }

    fn is_infallible(&self) -> bool {
        self.0.is_infallible()
    }

    fn size_hint(&self, value: &ValueAndTimestamp<V>) -> usize {
        self.0.size_hint(&value.value) + 8
    }

    fn kind(&self) -> FormatKind {
        FormatKind::Timestamped
    }
}
