//! Kafka's primitive types on the wire, for the messages that are our own, and the trait that both kinds of messages
//! share.
//!
//! Every read is checked against what is left; nothing is allocated by a length that the input merely declares.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message};
use uuid::Uuid;

use super::guard;
use super::pieces::PieceWriter;

/// Why a message could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes end inside a field.
    #[error("{field} ends {missing} bytes too early")]
    Truncated {
        /// What was being read.
        field: &'static str,
        /// How many bytes more it needed at least.
        missing: usize,
    },
    /// A field holds what it must not.
    #[error("{field} is invalid: {reason}")]
    Invalid {
        /// What was being read.
        field: &'static str,
        /// What was wrong with it.
        reason: String,
    },
    /// No such API key.
    #[error("unknown API key {0}")]
    UnknownApiKey(i16),
    /// The API does not have this version here.
    #[error("{api} version {version} is not supported")]
    UnsupportedVersion {
        /// Name of the API.
        api: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A message cannot be written: a field is set that the version does not have, or something is too long.
    #[error("cannot encode {message}: {reason}")]
    Unencodable {
        /// Which message.
        message: &'static str,
        /// What stood in the way.
        reason: String,
    },
}

impl CodecError {
    pub(crate) fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { field, reason: reason.into() }
    }
}

/// A request or response body.
pub(crate) trait WireMessage: Sized {
    fn encode_wire(&self, out: &mut PieceWriter, version: i16) -> Result<(), CodecError>;
    fn decode_wire(bytes: Bytes, version: i16) -> Result<Self, CodecError>;
    fn header_version_of(version: i16) -> i16;
}

fn short_type_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    name.rsplit("::").next().unwrap_or(name)
}

impl<T: Message + Encodable + Decodable + HeaderVersion> WireMessage for T {
    fn encode_wire(&self, out: &mut PieceWriter, version: i16) -> Result<(), CodecError> {
        self.encode(&mut out.buffer, version)
            .map_err(|error| CodecError::Unencodable { message: short_type_name::<T>(), reason: error.to_string() })
    }

    fn decode_wire(bytes: Bytes, version: i16) -> Result<Self, CodecError> {
        guard::decode(bytes, version, short_type_name::<T>())
    }

    fn header_version_of(version: i16) -> i16 {
        T::header_version(version)
    }
}

/// Reads fields one after the other; `flexible` versions have compact lengths and tagged fields.
pub(crate) struct Reader {
    bytes: Bytes,
    flexible: bool,
    /// How many array elements may still come.
    elements_left: usize,
}

impl Reader {
    pub(crate) fn new(bytes: Bytes, flexible: bool) -> Self {
        Self { bytes, flexible, elements_left: usize::MAX }
    }

    /// Refuses arrays of more than `elements` elements altogether: a few bytes of a request may take a hundred in memory.
    pub(crate) fn with_elements_max(mut self, elements: usize) -> Self {
        self.elements_left = elements;
        self
    }

    pub(crate) fn into_rest(self) -> Bytes {
        self.bytes
    }

    fn need(&self, count: usize, field: &'static str) -> Result<(), CodecError> {
        match count.checked_sub(self.bytes.len()) {
            None | Some(0) => Ok(()),
            Some(missing) => Err(CodecError::Truncated { field, missing }),
        }
    }

    pub(crate) fn i8(&mut self, field: &'static str) -> Result<i8, CodecError> {
        self.need(1, field)?;
        Ok(self.bytes.get_i8())
    }

    pub(crate) fn i16(&mut self, field: &'static str) -> Result<i16, CodecError> {
        self.need(2, field)?;
        Ok(self.bytes.get_i16())
    }

    pub(crate) fn i32(&mut self, field: &'static str) -> Result<i32, CodecError> {
        self.need(4, field)?;
        Ok(self.bytes.get_i32())
    }

    pub(crate) fn i64(&mut self, field: &'static str) -> Result<i64, CodecError> {
        self.need(8, field)?;
        Ok(self.bytes.get_i64())
    }

    pub(crate) fn uuid(&mut self, field: &'static str) -> Result<Uuid, CodecError> {
        self.need(16, field)?;
        let mut id = [0; 16];
        self.bytes.copy_to_slice(&mut id);
        Ok(Uuid::from_bytes(id))
    }

    pub(crate) fn unsigned_varint(&mut self, field: &'static str) -> Result<u32, CodecError> {
        let mut value = 0_u32;
        for index in 0..5 {
            self.need(1, field)?;
            let byte = self.bytes.get_u8();
            if index == 4 && byte > 0x0f {
                return Err(CodecError::invalid(field, "varint longer than 32 bits"));
            }
            value |= u32::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    /// A length: `None` for null.
    fn length(&mut self, classic_is_short: bool, field: &'static str) -> Result<Option<usize>, CodecError> {
        if self.flexible {
            let value = self.unsigned_varint(field)? as usize;
            return Ok(value.checked_sub(1));
        }
        let value = if classic_is_short { i32::from(self.i16(field)?) } else { self.i32(field)? };
        match value {
            -1 => Ok(None),
            _ => usize::try_from(value).map(Some).map_err(|_| CodecError::invalid(field, format!("length {value}"))),
        }
    }

    fn take(&mut self, count: usize, field: &'static str) -> Result<Bytes, CodecError> {
        self.need(count, field)?;
        Ok(self.bytes.split_to(count))
    }

    pub(crate) fn nullable_str<T>(
        &mut self,
        field: &'static str,
        make: impl FnOnce(&str) -> T,
    ) -> Result<Option<T>, CodecError> {
        match self.length(true, field)? {
            None => Ok(None),
            Some(count) => {
                let bytes = self.take(count, field)?;
                let text = std::str::from_utf8(&bytes).map_err(|_| CodecError::invalid(field, "not UTF-8"))?;
                Ok(Some(make(text)))
            }
        }
    }

    pub(crate) fn nullable_string(&mut self, field: &'static str) -> Result<Option<String>, CodecError> {
        self.nullable_str(field, str::to_owned)
    }

    pub(crate) fn string(&mut self, field: &'static str) -> Result<String, CodecError> {
        self.nullable_string(field)?.ok_or_else(|| CodecError::invalid(field, "null"))
    }

    pub(crate) fn shared_str(&mut self, field: &'static str) -> Result<Arc<str>, CodecError> {
        self.nullable_str(field, |text| Arc::from(text))?.ok_or_else(|| CodecError::invalid(field, "null"))
    }

    pub(crate) fn nullable_bytes(&mut self, field: &'static str) -> Result<Option<Bytes>, CodecError> {
        match self.length(false, field)? {
            None => Ok(None),
            Some(count) => Ok(Some(self.take(count, field)?)),
        }
    }

    pub(crate) fn nullable_array<T>(
        &mut self,
        field: &'static str,
        mut element: impl FnMut(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Option<Vec<T>>, CodecError> {
        let Some(count) = self.length(false, field)? else { return Ok(None) };
        // Every element takes at least a byte.
        self.need(count, field)?;
        let left = self.elements_left.checked_sub(count);
        self.elements_left = left.ok_or_else(|| CodecError::invalid(field, "more elements than a request may have"))?;
        let mut elements = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    pub(crate) fn array<T>(
        &mut self,
        field: &'static str,
        element: impl FnMut(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Vec<T>, CodecError> {
        self.nullable_array(field, element)?.ok_or_else(|| CodecError::invalid(field, "null"))
    }

    /// Tagged fields of a flexible version; `known` gets each tag with a reader over that field alone and ignores what
    /// it does not know.
    pub(crate) fn tagged_fields(
        &mut self,
        mut known: impl FnMut(u32, &mut Reader) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        const FIELD: &str = "tagged fields";
        if !self.flexible {
            return Ok(());
        }
        let count = self.unsigned_varint(FIELD)?;
        for _ in 0..count {
            let tag = self.unsigned_varint(FIELD)?;
            let size = self.unsigned_varint(FIELD)? as usize;
            let mut value = Reader::new(self.take(size, FIELD)?, true);
            known(tag, &mut value)?;
        }
        Ok(())
    }

    pub(crate) fn skip_tagged_fields(&mut self) -> Result<(), CodecError> {
        self.tagged_fields(|_, _| Ok(()))
    }
}

pub(crate) fn put_unsigned_varint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Writes fields one after the other, the counterpart of [`Reader`].
pub(crate) struct Writer<'a> {
    pub(crate) out: &'a mut PieceWriter,
    pub(crate) flexible: bool,
    pub(crate) message: &'static str,
}

impl Writer<'_> {
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.out.buffer
    }

    fn too_long(&self, what: &str, length: usize) -> CodecError {
        CodecError::Unencodable { message: self.message, reason: format!("{what} of {length} is too long") }
    }

    fn length(&mut self, length: Option<usize>, classic_is_short: bool) -> Result<(), CodecError> {
        let limit = if classic_is_short { i16::MAX as usize } else { i32::MAX as usize - 1 };
        if let Some(length) = length
            && length > limit
        {
            return Err(self.too_long("field or array", length));
        }
        if self.flexible {
            put_unsigned_varint(self.buffer(), length.map_or(0, |length| length as u32 + 1));
        } else if classic_is_short {
            self.buffer().put_i16(length.map_or(-1, |length| length as i16));
        } else {
            self.buffer().put_i32(length.map_or(-1, |length| length as i32));
        }
        Ok(())
    }

    pub(crate) fn string(&mut self, value: Option<&str>) -> Result<(), CodecError> {
        self.length(value.map(str::len), true)?;
        self.buffer().put_slice(value.unwrap_or_default().as_bytes());
        Ok(())
    }

    pub(crate) fn pieces(&mut self, value: Option<&super::Pieces>) -> Result<(), CodecError> {
        self.length(value.map(super::Pieces::len_bytes), false)?;
        if let Some(value) = value {
            self.out.put_pieces(value);
        }
        Ok(())
    }

    pub(crate) fn array<T>(
        &mut self,
        elements: Option<&[T]>,
        mut element: impl FnMut(&mut Self, &T) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        self.length(elements.map(<[T]>::len), false)?;
        elements.unwrap_or_default().iter().try_for_each(|value| element(self, value))
    }

    /// Ends a struct of a flexible version with these tagged fields, each of them written by itself beforehand.
    pub(crate) fn tagged_fields(&mut self, fields: &[(u32, BytesMut)]) {
        if self.flexible {
            put_unsigned_varint(self.buffer(), fields.len() as u32);
            for (tag, bytes) in fields {
                put_unsigned_varint(self.buffer(), *tag);
                put_unsigned_varint(self.buffer(), bytes.len() as u32);
                self.buffer().put_slice(bytes);
            }
        }
    }
}
