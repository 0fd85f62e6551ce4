//! Values that are kept together with the headers of the record they came from.
//!
//! Local form: `varint n | n bytes of headers as they stand in a record | timestamp(8) | value`, without the timestamp in session stores; `n` is 0
//! where there are none. The changelog has the value alone; headers and timestamp are those of its record.

use base::Timestamp;
use protocol::record::varint::{push_varint, read_varint};
use protocol::record::{Headers, HeadersRef};

use crate::serde::{SerdeError, SerdeRef};
use crate::store::key_value::KeyValueStore;
use crate::store::session::SessionStore;
use crate::store::value::{FormatKind, ValueFormat};
use crate::store::window::WindowStore;

/// A value with the time and the headers of its last update.
///
/// ```
/// use streams_core::Headers;
/// use streams_core::store::ValueTimestampHeaders;
///
/// let value = ValueTimestampHeaders::new("v", 1_000, Headers::new());
/// assert_eq!((value.value, value.timestamp), ("v", 1_000));
/// assert!(value.headers.is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueTimestampHeaders<V> {
    /// The value.
    pub value: V,
    /// Event time of its last update, in ms.
    pub timestamp: Timestamp,
    /// Headers of its last update.
    pub headers: Headers,
}

impl<V> ValueTimestampHeaders<V> {
    /// `value` as of `timestamp`, from a record with these headers.
    pub fn new(value: V, timestamp: Timestamp, headers: Headers) -> Self {
        Self { value, timestamp, headers }
    }
}

/// The aggregation of a session, with the headers of its last update.
///
/// ```
/// use streams_core::Headers;
/// use streams_core::store::AggregationWithHeaders;
///
/// assert_eq!(AggregationWithHeaders::new(3, Headers::new()).aggregation, 3);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregationWithHeaders<A> {
    /// The aggregation.
    pub aggregation: A,
    /// Headers of its last update.
    pub headers: Headers,
}

impl<A> AggregationWithHeaders<A> {
    /// `aggregation`, from a record with these headers.
    pub fn new(aggregation: A, headers: Headers) -> Self {
        Self { aggregation, headers }
    }
}

/// A key-value store that keeps the time and the headers of each key's last update; made by
/// [`Stores::timestamped_key_value_with_headers`](crate::store::Stores::timestamped_key_value_with_headers).
pub type TimestampedKeyValueStoreWithHeaders<K, V> = KeyValueStore<K, ValueTimestampHeaders<V>>;

/// A window store that keeps the time and the headers of each window's last update; made by
/// [`Stores::timestamped_window_with_headers`](crate::store::Stores::timestamped_window_with_headers).
pub type TimestampedWindowStoreWithHeaders<K, V> = WindowStore<K, ValueTimestampHeaders<V>>;

/// A session store that keeps the headers of each session's last update; made by
/// [`Stores::session_with_headers`](crate::store::Stores::session_with_headers).
pub type SessionStoreWithHeaders<K, A> = SessionStore<K, AggregationWithHeaders<A>>;

/// Appends headers and the number of their bytes.
pub(crate) fn write_headers(headers: &Headers, out: &mut Vec<u8>) {
    if headers.is_empty() {
        out.push(0);
        return;
    }
    let headers = HeadersRef::Owned(headers);
    // A record's headers are smaller than 2 GiB.
    push_varint(out, headers.encoded_size() as i32);
    headers.encode(out);
}

/// Parts bytes that begin with headers: those, encoded (none, if there are none), and what follows.
pub(crate) fn split_headers(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut position = 0;
    let size = usize::try_from(read_varint(bytes, &mut position)?).ok()?;
    bytes.get(position..)?.split_at_checked(size)
}

/// Headers from the bytes that [`split_headers`] has found.
pub(crate) fn decode_headers(encoded: &[u8]) -> Result<Headers, SerdeError> {
    if encoded.is_empty() {
        return Ok(Headers::new());
    }
    Headers::decode(encoded)
        .map_err(|error| SerdeError::Malformed { type_name: "value with headers", reason: error.to_string() })
}

fn read_headers(bytes: &[u8]) -> Result<(Headers, &[u8]), SerdeError> {
    match split_headers(bytes) {
        Some((encoded, rest)) => Ok((decode_headers(encoded)?, rest)),
        None => Err(SerdeError::Size { type_name: "value with headers", expected: 1, actual: bytes.len() }),
    }
}

/// About what headers take in the cache.
fn headers_size(headers: &Headers) -> usize {
    HeadersRef::Owned(headers).encoded_size()
}

/// `headers | timestamp(8) | value`.
pub(crate) struct TimestampedWithHeadersFormat<V>(pub(crate) SerdeRef<V>);

impl<V> ValueFormat<ValueTimestampHeaders<V>> for TimestampedWithHeadersFormat<V> {
    fn write(&self, topic: &str, value: &ValueTimestampHeaders<V>, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        write_headers(&value.headers, out);
        out.extend_from_slice(&value.timestamp.to_be_bytes());
        self.0.serialize(topic, &value.headers, &value.value, out)
    }

    fn read(&self, topic: &str, bytes: &[u8]) -> Result<ValueTimestampHeaders<V>, SerdeError> {
        let (headers, rest) = read_headers(bytes)?;
        let Some((timestamp, value)) = rest.split_first_chunk::<8>() else {
            return Err(SerdeError::Size { type_name: "timestamped value", expected: 8, actual: rest.len() });
        };
        let value = self.0.deserialize(topic, &headers, value)?;
        Ok(ValueTimestampHeaders { value, timestamp: i64::from_be_bytes(*timestamp), headers })
    }

    fn is_infallible(&self) -> bool {
        self.0.is_infallible()
    }

    fn size_hint(&self, value: &ValueTimestampHeaders<V>) -> usize {
        self.0.size_hint(&value.value) + 8 + headers_size(&value.headers)
    }

    fn kind(&self) -> FormatKind {
        FormatKind::TimestampedWithHeaders
    }
}

/// `headers | value`.
pub(crate) struct WithHeadersFormat<A>(pub(crate) SerdeRef<A>);

impl<A> ValueFormat<AggregationWithHeaders<A>> for WithHeadersFormat<A> {
    fn write(&self, topic: &str, value: &AggregationWithHeaders<A>, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        write_headers(&value.headers, out);
        self.0.serialize(topic, &value.headers, &value.aggregation, out)
    }

    fn read(&self, topic: &str, bytes: &[u8]) -> Result<AggregationWithHeaders<A>, SerdeError> {
        let (headers, value) = read_headers(bytes)?;
        Ok(AggregationWithHeaders { aggregation: self.0.deserialize(topic, &headers, value)?, headers })
    }

    fn is_infallible(&self) -> bool {
        self.0.is_infallible()
    }

    fn size_hint(&self, value: &AggregationWithHeaders<A>) -> usize {
        self.0.size_hint(&value.aggregation) + headers_size(&value.headers)
    }

    fn kind(&self) -> FormatKind {
        FormatKind::WithHeaders
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::serde::{Serde, StringSerde};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn local_values_have_the_bytes_of_kafka_streams() {
        let format = TimestampedWithHeadersFormat::<String>(StringSerde.into_ref());
        let mut headers = Headers::new();
        headers.add("h", Some(Bytes::from_static(b"x"))).add("n", None);
        let cases =
            [(headers.clone(), "100402680278026e0100000000000003e876"), (Headers::new(), "0000000000000003e876")];
        for (headers, expected) in cases {
            let value = ValueTimestampHeaders::new("v".to_owned(), 1_000, headers);
            let mut bytes = Vec::new();
            format.write("t", &value, &mut bytes).unwrap();
            assert_eq!(hex(&bytes), expected);
            assert_eq!(format.read("t", &bytes).unwrap(), value);
            let split = format.kind().split(&bytes);
            assert_eq!((split.value, split.timestamp), (&b"v"[..], Some(1_000)));
            let mut joined = Vec::new();
            format.kind().join(1_000, split.value, &value.headers, &mut joined);
            assert_eq!(joined, bytes, "what is restored is what was kept");
        }
        let format = WithHeadersFormat::<String>(StringSerde.into_ref());
        let mut bytes = Vec::new();
        format.write("t", &AggregationWithHeaders::new("v".to_owned(), headers), &mut bytes).unwrap();
        assert_eq!(hex(&bytes), "100402680278026e0176");
    }

    #[test]
    fn bytes_that_are_no_value_with_headers_are_an_error() {
        let format = TimestampedWithHeadersFormat::<String>(StringSerde.into_ref());
        let good = [0x10, 4, 2, 0x68, 2, 0x78, 2, 0x6e, 1, 0, 0, 0, 0, 0, 0, 3, 0xe8, 0x76];
        for length in 0..good.len() - 1 {
            assert!(format.read("t", &good[..length]).is_err(), "{length} bytes");
        }
        assert!(format.read("t", &[0x01, 0, 0]).is_err(), "a negative size");
        assert!(format.read("t", &[4, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0]).is_err(), "no headers");
    }
}
