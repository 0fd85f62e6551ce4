//! How typed keys and values become bytes and back: the [`Serde`] trait and the built-in serdes, in Kafka's layouts.
//!
//! Integers and floats are big-endian, strings UTF-8, a UUID its 36 characters of text. Serdes are values, passed where
//! a topic or store is named; [`DefaultSerde`] only saves typing for the built-in types.

use std::marker::PhantomData;
use std::sync::Arc;

use base::Timestamp;
use bytes::Bytes;
use protocol::record::Headers;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::windowed::{Window, Windowed};

mod list;

pub use list::{FixedSize, ListSerde};

/// Why bytes could not be made typed, or a value could not be made bytes.
#[derive(Debug, thiserror::Error)]
pub enum SerdeError {
    /// A fixed-size type was given another number of bytes.
    #[error("{type_name} takes {expected} bytes, got {actual}")]
    Size {
        /// What was to be read.
        type_name: &'static str,
        /// Bytes it takes (the least, for types with a variable part).
        expected: usize,
        /// Bytes given.
        actual: usize,
    },
    /// The bytes have the right size but no meaning.
    #[error("not a {type_name}: {reason}")]
    Malformed {
        /// What was to be read.
        type_name: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A serialiser or deserialiser of the user failed.
    #[error(transparent)]
    Other(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// Makes a `T` into bytes and back. Null never reaches a serde: it stays null.
///
/// `topic` is the topic the bytes are of (for stores, their changelog topic), `headers` the record's.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a serde of `{T}`",
    label = "this does not read and write `{T}`",
    note = "serdes of the usual types are `StringSerde`, `I64Serde`, `F64Serde`, `BytesSerde`, ...; any type that implements serde's \
            `Serialize` and `Deserialize` has `Json::<{T}>::new()` and `Bincode::<{T}>::new()`"
)]
pub trait Serde<T>: Send + Sync {
    /// Appends the bytes of `value` to `out`.
    ///
    /// # Errors
    /// When `value` has no byte form. `out` may then hold a part of it; the caller throws it away.
    fn serialize(&self, topic: &str, headers: &Headers, value: &T, out: &mut Vec<u8>) -> Result<(), SerdeError>;

    /// The value whose bytes these are.
    ///
    /// # Errors
    /// When they are not the bytes of a `T`.
    fn deserialize(&self, topic: &str, headers: &Headers, bytes: &[u8]) -> Result<T, SerdeError>;

    /// True when [`Serde::serialize`] never fails. A cache then puts off serialising until the value is flushed;
    /// otherwise each put serialises at once, so that the failure is that of the record that caused it.
    fn is_infallible(&self) -> bool {
        false
    }

    /// About how many bytes `value` takes, for the accounting of caches; need not be exact.
    fn size_hint(&self, value: &T) -> usize {
        size_of_val(value)
    }

    /// The part of a serialised key by which a sink chooses the partition, where that is not all of it: windowed keys go where the keys in
    /// them go. `None`, which it then is for all keys, leaves the choice to the producer.
    fn partition_bytes<'a>(&self, serialized: &'a [u8]) -> Option<&'a [u8]> {
        let _ = serialized;
        None
    }

    /// This serde, ready to be shared.
    fn into_ref(self) -> SerdeRef<T>
    where
        Self: Sized + 'static,
    {
        Arc::new(self)
    }
}

/// A shared serde.
pub type SerdeRef<T> = Arc<dyn Serde<T>>;

impl<T> Serde<T> for SerdeRef<T> {
    fn serialize(&self, topic: &str, headers: &Headers, value: &T, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        (**self).serialize(topic, headers, value, out)
    }

    fn deserialize(&self, topic: &str, headers: &Headers, bytes: &[u8]) -> Result<T, SerdeError> {
        (**self).deserialize(topic, headers, bytes)
    }

    fn is_infallible(&self) -> bool {
        (**self).is_infallible()
    }

    fn size_hint(&self, value: &T) -> usize {
        (**self).size_hint(value)
    }

    fn partition_bytes<'a>(&self, serialized: &'a [u8]) -> Option<&'a [u8]> {
        (**self).partition_bytes(serialized)
    }

    fn into_ref(self) -> SerdeRef<T> {
        self
    }
}

/// A type with a serde to be used where none is given.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no default serde",
    label = "no serde is known for `{Self}`",
    note = "say which with `with(key serde, value serde)` in place of `default()`; `Json::<{Self}>::new()` or `Bincode::<{Self}>::new()` \
            fit if `{Self}` implements serde's `Serialize` and `Deserialize`",
    note = "or implement `DefaultSerde` for `{Self}`"
)]
pub trait DefaultSerde: Sized + 'static {
    /// That serde.
    fn default_serde() -> SerdeRef<Self>;
}

/// The default serde of `T`.
pub fn of<T: DefaultSerde>() -> SerdeRef<T> {
    T::default_serde()
}

macro_rules! number_serde {
    ($(#[$doc:meta])* $name:ident, $type:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default)]
        pub struct $name;

        impl Serde<$type> for $name {
            #[inline]
            fn serialize(&self, _: &str, _: &Headers, value: &$type, out: &mut Vec<u8>) -> Result<(), SerdeError> {
                out.extend_from_slice(&value.to_be_bytes());
                Ok(())
            }

            #[inline]
            fn deserialize(&self, _: &str, _: &Headers, bytes: &[u8]) -> Result<$type, SerdeError> {
                match bytes.try_into() {
                    Ok(array) => Ok(<$type>::from_be_bytes(array)),
                    Err(_) => Err(SerdeError::Size {
                        type_name: stringify!($type),
                        expected: size_of::<$type>(),
                        actual: bytes.len(),
                    }),
                }
            }

            fn is_infallible(&self) -> bool {
                true
            }
        }

        impl DefaultSerde for $type {
            fn default_serde() -> SerdeRef<Self> {
                $name.into_ref()
            }
        }
    };
}

number_serde!(
    /// Big-endian two's complement, 2 bytes: Kafka's `ShortSerde`.
    I16Serde, i16
);
number_serde!(
    /// Big-endian two's complement, 4 bytes: Kafka's `IntegerSerde`.
    I32Serde, i32
);
number_serde!(
    /// Big-endian two's complement, 8 bytes: Kafka's `LongSerde`.
    I64Serde, i64
);
number_serde!(
    /// Big-endian IEEE 754 bits, 4 bytes: Kafka's `FloatSerde`.
    F32Serde, f32
);
number_serde!(
    /// Big-endian IEEE 754 bits, 8 bytes: Kafka's `DoubleSerde`.
    F64Serde, f64
);

fn utf8(bytes: &[u8]) -> Result<&str, SerdeError> {
    std::str::from_utf8(bytes)
        .map_err(|error| SerdeError::Malformed { type_name: "UTF-8 string", reason: error.to_string() })
}

/// A serde whose values are their bytes: `$bytes` of a value, and `$from` bytes back.
macro_rules! plain_serde {
    ($(#[$doc:meta])* $name:ident, $type:ty, $bytes:expr, $from:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default)]
        pub struct $name;

        impl Serde<$type> for $name {
            #[inline]
            fn serialize(&self, _: &str, _: &Headers, value: &$type, out: &mut Vec<u8>) -> Result<(), SerdeError> {
                let bytes: fn(&$type) -> &[u8] = $bytes;
                out.extend_from_slice(bytes(value));
                Ok(())
            }

            #[inline]
            fn deserialize(&self, _: &str, _: &Headers, bytes: &[u8]) -> Result<$type, SerdeError> {
                ($from)(bytes)
            }

            fn is_infallible(&self) -> bool {
                true
            }

            fn size_hint(&self, value: &$type) -> usize {
                value.len()
            }
        }

        impl DefaultSerde for $type {
            fn default_serde() -> SerdeRef<Self> {
                $name.into_ref()
            }
        }
    };
}

plain_serde!(
    /// UTF-8 text as `String`: Kafka's `StringSerde`.
    StringSerde, String, |text| text.as_bytes(), |bytes: &[u8]| utf8(bytes).map(Into::into)
);
plain_serde!(
    /// UTF-8 text as `Arc<str>`, for values that are cloned often.
    SharedStringSerde, Arc<str>, |text| text.as_bytes(), |bytes: &[u8]| utf8(bytes).map(Into::into)
);
plain_serde!(
    /// UTF-8 text as `Box<str>`, for many small values.
    BoxedStringSerde, Box<str>, |text| text.as_bytes(), |bytes: &[u8]| utf8(bytes).map(Into::into)
);

/// One byte, 1 or 0: Kafka's `BooleanSerde`.
#[derive(Clone, Copy, Debug, Default)]
pub struct BoolSerde;

impl Serde<bool> for BoolSerde {
    fn serialize(&self, _: &str, _: &Headers, value: &bool, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        out.push(u8::from(*value));
        Ok(())
    }

    fn deserialize(&self, _: &str, _: &Headers, bytes: &[u8]) -> Result<bool, SerdeError> {
        match bytes {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(SerdeError::Malformed { type_name: "bool", reason: format!("byte {other}") }),
            _ => Err(SerdeError::Size { type_name: "bool", expected: 1, actual: bytes.len() }),
        }
    }

    fn is_infallible(&self) -> bool {
        true
    }
}

impl DefaultSerde for bool {
    fn default_serde() -> SerdeRef<Self> {
        BoolSerde.into_ref()
    }
}

plain_serde!(
    /// Bytes as they are, as `Vec<u8>`: Kafka's `ByteArraySerde`.
    ByteArraySerde, Vec<u8>, |bytes| bytes, |bytes: &[u8]| Ok(bytes.to_vec())
);
plain_serde!(
    /// Bytes as they are, as `Bytes`, which are cloned without copying: Kafka's `BytesSerde`.
    BytesSerde, Bytes, |bytes| bytes, |bytes: &[u8]| Ok(Bytes::copy_from_slice(bytes))
);

/// The 36 characters of the text form, as Kafka's `UUIDSerde` (not 16 bytes).
#[derive(Clone, Copy, Debug, Default)]
pub struct UuidSerde;

impl Serde<Uuid> for UuidSerde {
    fn serialize(&self, _: &str, _: &Headers, value: &Uuid, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        let mut text = Uuid::encode_buffer();
        out.extend_from_slice(value.hyphenated().encode_lower(&mut text).as_bytes());
        Ok(())
    }

    fn deserialize(&self, _: &str, _: &Headers, bytes: &[u8]) -> Result<Uuid, SerdeError> {
        Uuid::parse_str(utf8(bytes)?)
            .map_err(|error| SerdeError::Malformed { type_name: "UUID", reason: error.to_string() })
    }

    fn is_infallible(&self) -> bool {
        true
    }

    fn size_hint(&self, _: &Uuid) -> usize {
        36
    }
}

impl DefaultSerde for Uuid {
    fn default_serde() -> SerdeRef<Self> {
        UuidSerde.into_ref()
    }
}

/// No bytes at all; for keys or values that carry nothing. Kafka's `VoidSerde` knows null only, which never reaches a
/// serde; `()` itself is written as zero bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnitSerde;

impl Serde<()> for UnitSerde {
    fn serialize(&self, _: &str, _: &Headers, (): &(), _: &mut Vec<u8>) -> Result<(), SerdeError> {
        Ok(())
    }

    fn deserialize(&self, _: &str, _: &Headers, bytes: &[u8]) -> Result<(), SerdeError> {
        match bytes {
            [] => Ok(()),
            _ => Err(SerdeError::Size { type_name: "unit", expected: 0, actual: bytes.len() }),
        }
    }

    fn is_infallible(&self) -> bool {
        true
    }
}

impl DefaultSerde for () {
    fn default_serde() -> SerdeRef<Self> {
        UnitSerde.into_ref()
    }
}

/// JSON through serde.
///
/// ```
/// use streams_core::serde::{Json, Serde};
/// use streams_core::Headers;
///
/// let serde = Json::<Vec<u32>>::new();
/// let mut bytes = Vec::new();
/// serde.serialize("topic", &Headers::default(), &vec![1, 2], &mut bytes)?;
/// assert_eq!(bytes, b"[1,2]");
/// # Ok::<(), streams_core::SerdeError>(())
/// ```
pub struct Json<T>(PhantomData<fn() -> T>);

/// bincode 2 (standard configuration: little-endian, variable-length integers) through serde. Compact, but only this
/// project's programs read it.
pub struct Bincode<T>(PhantomData<fn() -> T>);

macro_rules! generic_serde {
    ($name:ident) => {
        impl<T> $name<T> {
            /// The serde of `T`.
            pub fn new() -> Self {
                Self(PhantomData)
            }
        }

        impl<T> Default for $name<T> {
            fn default() -> Self {
                Self::new()
            }
        }

        impl<T> Clone for $name<T> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<T> Copy for $name<T> {}
    };
}

generic_serde!(Json);
generic_serde!(Bincode);

impl<T: Serialize + DeserializeOwned> Serde<T> for Json<T> {
    fn serialize(&self, _: &str, _: &Headers, value: &T, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        serde_json::to_writer(out, value).map_err(|error| SerdeError::Other(error.into()))
    }

    fn deserialize(&self, _: &str, _: &Headers, bytes: &[u8]) -> Result<T, SerdeError> {
        serde_json::from_slice(bytes).map_err(|error| SerdeError::Other(error.into()))
    }
}

impl<T: Serialize + DeserializeOwned> Serde<T> for Bincode<T> {
    fn serialize(&self, _: &str, _: &Headers, value: &T, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        bincode::serde::encode_into_std_write(value, out, bincode::config::standard())
            .map(drop)
            .map_err(|error| SerdeError::Other(error.into()))
    }

    fn deserialize(&self, _: &str, _: &Headers, bytes: &[u8]) -> Result<T, SerdeError> {
        match bincode::serde::decode_from_slice(bytes, bincode::config::standard()) {
            Ok((value, read)) if read == bytes.len() => Ok(value),
            Ok((_, read)) => Err(SerdeError::Size { type_name: "bincode value", expected: read, actual: bytes.len() }),
            Err(error) => Err(SerdeError::Other(error.into())),
        }
    }
}

/// Time-windowed keys in topics: `key | start(8)`. The end is not written; reading adds the window size.
#[derive(Clone)]
pub struct TimeWindowedSerde<K> {
    key: SerdeRef<K>,
    size_ms: Option<i64>,
}

impl<K> TimeWindowedSerde<K> {
    /// Reads windows of `size_ms`; `None` reads them as ending at `i64::MAX`, as Kafka Streams does without a size.
    pub fn new(key: impl Serde<K> + 'static, size_ms: Option<i64>) -> Self {
        Self { key: key.into_ref(), size_ms }
    }
}

/// Session-windowed keys in topics: `key | end(8) | start(8)`, end first.
#[derive(Clone)]
pub struct SessionWindowedSerde<K> {
    key: SerdeRef<K>,
}

impl<K> SessionWindowedSerde<K> {
    /// With `key` for the inner key.
    pub fn new(key: impl Serde<K> + 'static) -> Self {
        Self { key: key.into_ref() }
    }
}

fn split_time<'a>(bytes: &'a [u8], type_name: &'static str) -> Result<(&'a [u8], Timestamp), SerdeError> {
    match bytes.split_last_chunk::<8>() {
        Some((head, time)) => Ok((head, i64::from_be_bytes(*time))),
        None => Err(SerdeError::Size { type_name, expected: 8, actual: bytes.len() }),
    }
}

impl<K> Serde<Windowed<K>> for TimeWindowedSerde<K> {
    fn serialize(
        &self,
        topic: &str,
        headers: &Headers,
        value: &Windowed<K>,
        out: &mut Vec<u8>,
    ) -> Result<(), SerdeError> {
        self.key.serialize(topic, headers, &value.key, out)?;
        out.extend_from_slice(&value.window.start.to_be_bytes());
        Ok(())
    }

    fn deserialize(&self, topic: &str, headers: &Headers, bytes: &[u8]) -> Result<Windowed<K>, SerdeError> {
        let (key, start) = split_time(bytes, "time-windowed key")?;
        let end = self.size_ms.map_or(i64::MAX, |size| start.saturating_add(size));
        Ok(Windowed::new(self.key.deserialize(topic, headers, key)?, Window::new(start, end)))
    }

    fn is_infallible(&self) -> bool {
        self.key.is_infallible()
    }

    fn partition_bytes<'a>(&self, serialized: &'a [u8]) -> Option<&'a [u8]> {
        serialized.get(..serialized.len().saturating_sub(8))
    }

    fn size_hint(&self, value: &Windowed<K>) -> usize {
        self.key.size_hint(&value.key) + 8
    }
}

impl<K> Serde<Windowed<K>> for SessionWindowedSerde<K> {
    fn serialize(
        &self,
        topic: &str,
        headers: &Headers,
        value: &Windowed<K>,
        out: &mut Vec<u8>,
    ) -> Result<(), SerdeError> {
        self.key.serialize(topic, headers, &value.key, out)?;
        out.extend_from_slice(&value.window.end.to_be_bytes());
        out.extend_from_slice(&value.window.start.to_be_bytes());
        Ok(())
    }

    fn deserialize(&self, topic: &str, headers: &Headers, bytes: &[u8]) -> Result<Windowed<K>, SerdeError> {
        let (rest, start) = split_time(bytes, "session-windowed key")?;
        let (key, end) = split_time(rest, "session-windowed key")?;
        Ok(Windowed::new(self.key.deserialize(topic, headers, key)?, Window::new(start, end)))
    }

    fn is_infallible(&self) -> bool {
        self.key.is_infallible()
    }

    fn partition_bytes<'a>(&self, serialized: &'a [u8]) -> Option<&'a [u8]> {
        serialized.get(..serialized.len().saturating_sub(16))
    }

    fn size_hint(&self, value: &Windowed<K>) -> usize {
        self.key.size_hint(&value.key) + 16
    }
}
