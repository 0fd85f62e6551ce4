//! The fields that keys and values of `__consumer_offsets` are made of, as Kafka lays them out: big-endian integers, strings with an
//! `int16` length, and in flexible versions compact strings, compact arrays and tagged fields.
//!
//! Invariant: what `Writer` writes, `Reader` reads back. Input is never trusted: a field cut short or with a length beyond its
//! end is an error, and nothing is allocated from a declared length alone.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

/// Why a record of `__consumer_offsets` could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupRecordError {
    /// The bytes end before the field does.
    #[error("{field} is cut short")]
    Truncated {
        /// Name of the field.
        field: &'static str,
    },
    /// The field's content is not allowed.
    #[error("{field} is invalid: {reason}")]
    Invalid {
        /// Name of the field.
        field: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// A value version newer than the ones known.
    #[error("{kind} value has unknown version {version}")]
    UnknownVersion {
        /// What the value is of.
        kind: &'static str,
        /// The version found.
        version: i16,
    },
    /// A string or byte array that the layout has no room for.
    #[error("{field} is too long: {size} bytes")]
    TooLong {
        /// Name of the field.
        field: &'static str,
        /// Its size in bytes.
        size: usize,
    },
}

/// Puts fields at the end of a buffer.
#[derive(Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    /// A value of version 0: that of the records of the newer kinds of groups.
    pub(crate) fn version_0() -> Self {
        let mut out = Self::default();
        out.i16(0);
        out
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn length(&mut self, field: &'static str, size: usize) -> Result<(), GroupRecordError> {
        self.i32(i32::try_from(size).map_err(|_| GroupRecordError::TooLong { field, size })?);
        Ok(())
    }

    pub(crate) fn string(&mut self, field: &'static str, text: &str) -> Result<(), GroupRecordError> {
        let size = i16::try_from(text.len()).map_err(|_| GroupRecordError::TooLong { field, size: text.len() })?;
        self.i16(size);
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }

    pub(crate) fn nullable_string(&mut self, field: &'static str, text: Option<&str>) -> Result<(), GroupRecordError> {
        match text {
            Some(text) => self.string(field, text),
            None => {
                self.i16(-1);
                Ok(())
            }
        }
    }

    pub(crate) fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub(crate) fn i8(&mut self, value: i8) {
        self.0.push(value as u8);
    }

    /// The length of a compact string, byte array or array. Requests bound it far below 2^32.
    pub(crate) fn compact_length(&mut self, size: usize) {
        self.varint(size as u32 + 1);
    }

    pub(crate) fn compact_string(&mut self, text: &str) {
        self.compact_bytes(text.as_bytes());
    }

    pub(crate) fn compact_nullable_string(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.compact_string(text),
            None => self.varint(0),
        }
    }

    pub(crate) fn compact_bytes(&mut self, bytes: &[u8]) {
        self.compact_length(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn uuid(&mut self, id: Uuid) {
        self.0.extend_from_slice(id.as_bytes());
    }

    /// The tagged fields of a structure, in the order of their tags.
    pub(crate) fn tags(&mut self, tags: &[(u32, &[u8])]) {
        self.varint(tags.len() as u32);
        for (tag, content) in tags {
            self.varint(*tag);
            self.varint(content.len() as u32);
            self.0.extend_from_slice(content);
        }
    }
}

/// Reads fields off the front of a slice.
pub(crate) struct Reader<'a> {
    /// What is left.
    pub(crate) bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, field: &'static str, size: usize) -> Result<&'a [u8], GroupRecordError> {
        let (head, rest) = self.bytes.split_at_checked(size).ok_or(GroupRecordError::Truncated { field })?;
        self.bytes = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], GroupRecordError> {
        self.take(field, N)?.try_into().map_err(|_| GroupRecordError::Truncated { field })
    }

    pub(crate) fn i16(&mut self, field: &'static str) -> Result<i16, GroupRecordError> {
        self.array(field).map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self, field: &'static str) -> Result<i32, GroupRecordError> {
        self.array(field).map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self, field: &'static str) -> Result<i64, GroupRecordError> {
        self.array(field).map(i64::from_be_bytes)
    }

    pub(crate) fn i8(&mut self, field: &'static str) -> Result<i8, GroupRecordError> {
        self.array(field).map(i8::from_be_bytes)
    }

    pub(crate) fn uuid(&mut self, field: &'static str) -> Result<Uuid, GroupRecordError> {
        self.array(field).map(Uuid::from_bytes)
    }

    /// Reads a value of version 0 to its end, tagged fields (none is known) included; `kind` says in errors what it is.
    pub(crate) fn whole_version_0<T>(
        bytes: &'a [u8],
        kind: &'static str,
        fields: impl FnOnce(&mut Self) -> Result<T, GroupRecordError>,
    ) -> Result<T, GroupRecordError> {
        let mut input = Self { bytes };
        input.version_0(kind)?;
        let value = fields(&mut input)?;
        input.no_tags()?;
        input.end(kind)?;
        Ok(value)
    }

    /// A value's version, which must be 0: that of the records of the newer kinds of groups.
    pub(crate) fn version_0(&mut self, kind: &'static str) -> Result<(), GroupRecordError> {
        match self.i16("value version")? {
            0 => Ok(()),
            version => Err(GroupRecordError::UnknownVersion { kind, version }),
        }
    }

    pub(crate) fn length(&mut self, field: &'static str) -> Result<usize, GroupRecordError> {
        usize::try_from(self.i32(field)?).map_err(|_| GroupRecordError::Invalid { field, reason: "negative length" })
    }

    pub(crate) fn text(&mut self, field: &'static str, size: usize) -> Result<Arc<str>, GroupRecordError> {
        let bytes = self.take(field, size)?;
        let text = std::str::from_utf8(bytes).map_err(|_| GroupRecordError::Invalid { field, reason: "not UTF-8" })?;
        Ok(Arc::from(text))
    }

    pub(crate) fn nullable_string(&mut self, field: &'static str) -> Result<Option<Arc<str>>, GroupRecordError> {
        match self.i16(field)? {
            -1 => Ok(None),
            size => {
                let size = usize::try_from(size)
                    .map_err(|_| GroupRecordError::Invalid { field, reason: "negative length" })?;
                self.text(field, size).map(Some)
            }
        }
    }

    pub(crate) fn string(&mut self, field: &'static str) -> Result<Arc<str>, GroupRecordError> {
        self.nullable_string(field)?.ok_or(GroupRecordError::Invalid { field, reason: "null" })
    }

    pub(crate) fn varint(&mut self, field: &'static str) -> Result<u32, GroupRecordError> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array(field)?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(GroupRecordError::Invalid { field, reason: "varint longer than 32 bits" })
    }

    pub(crate) fn nullable_compact_length(&mut self, field: &'static str) -> Result<Option<usize>, GroupRecordError> {
        Ok(self.varint(field)?.checked_sub(1).map(|size| size as usize))
    }

    pub(crate) fn compact_length(&mut self, field: &'static str) -> Result<usize, GroupRecordError> {
        self.nullable_compact_length(field)?.ok_or(GroupRecordError::Invalid { field, reason: "null" })
    }

    pub(crate) fn compact_string(&mut self, field: &'static str) -> Result<Arc<str>, GroupRecordError> {
        let size = self.compact_length(field)?;
        self.text(field, size)
    }

    pub(crate) fn either_nullable(
        &mut self,
        field: &'static str,
        flexible: bool,
    ) -> Result<Option<Arc<str>>, GroupRecordError> {
        if !flexible {
            return self.nullable_string(field);
        }
        self.nullable_compact_length(field)?.map(|size| self.text(field, size)).transpose()
    }

    pub(crate) fn compact_nullable_string(
        &mut self,
        field: &'static str,
    ) -> Result<Option<Arc<str>>, GroupRecordError> {
        self.either_nullable(field, true)
    }

    /// An array of whatever `element` reads.
    pub(crate) fn compact_array<T>(
        &mut self,
        field: &'static str,
        mut element: impl FnMut(&mut Self) -> Result<T, GroupRecordError>,
    ) -> Result<Vec<T>, GroupRecordError> {
        let count = self.compact_length(field)?;
        let mut elements = Vec::new();
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(elements)
    }

    pub(crate) fn either_bytes(&mut self, field: &'static str, flexible: bool) -> Result<Bytes, GroupRecordError> {
        let size = if flexible { self.compact_length(field)? } else { self.length(field)? };
        self.take(field, size).map(Bytes::copy_from_slice)
    }

    pub(crate) fn tags(
        &mut self,
        mut visit: impl FnMut(u32, &[u8]) -> Result<(), GroupRecordError>,
    ) -> Result<(), GroupRecordError> {
        for _ in 0..self.varint("tag count")? {
            let tag = self.varint("tag")?;
            let size = self.varint("tag size")? as usize;
            visit(tag, self.take("tag content", size)?)?;
        }
        Ok(())
    }

    /// Tagged fields of which none is known.
    pub(crate) fn no_tags(&mut self) -> Result<(), GroupRecordError> {
        self.tags(|_, _| Ok(()))
    }

    pub(crate) fn end(&self, field: &'static str) -> Result<(), GroupRecordError> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(GroupRecordError::Invalid { field, reason: "bytes after its end" })
        }
    }
}
