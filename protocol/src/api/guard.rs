//! Keeps `kafka-protocol`'s decoders from allocating by a length that the input merely declares.
//!
//! They reserve room for as many array elements as the bytes say, before reading the first: eight hostile bytes would
//! ask for gigabytes, and a failed allocation ends the process. The reader handed to them here sees every number on
//! its way in:
//!
//! * In flexible versions lengths are unsigned varints, read byte by byte. A varint that claims more than what is left
//!   is refused. (So is a tag number that large, and a boolean that is neither 0 nor 1 in front of the wrong bytes;
//!   nobody sends those.)
//! * In the older versions an array length is an `i32` like any other. The first pass hands out -2 in place of each
//!   value larger than what is left: every length decoder refuses that, a plain number does not mind. Only if
//!   something was replaced and the pass still succeeded, a second pass reads the true values; all the lengths are
//!   known to be sane by then.
//!
//! Up to [`HARMLESS_LENGTH`] a length may lie: the decoder finds out at the end of the bytes.

use std::ops::Range;

use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::protocol::Decodable;
use kafka_protocol::protocol::buf::ByteBuf;

use super::wire::CodecError;

/// Largest body of a message that carries no record batches. An array element may take some hundred bytes of memory
/// per byte on the wire, so this also bounds what a hostile length can reserve.
pub(crate) const MAX_BODY_BYTES: usize = 32 << 20;

/// Elements for which room may be reserved whatever the bytes hold. Above the tag numbers and most of the plain numbers
/// that stand where a length could.
const HARMLESS_LENGTH: usize = 1 << 16;

/// What stands for a length that cannot be one.
const REFUSED_LENGTH: i32 = -2;

struct Guarded {
    bytes: Bytes,
    replace: bool,
    replaced: bool,
}

/// Decodes one message.
pub(crate) fn decode<T: Decodable>(bytes: Bytes, version: i16, message: &'static str) -> Result<T, CodecError> {
    if bytes.len() > MAX_BODY_BYTES {
        return Err(CodecError::invalid(message, format!("body of {} bytes is too large", bytes.len())));
    }
    let refused = |reason: String| CodecError::invalid(message, reason);
    let mut first = Guarded { bytes: bytes.clone(), replace: true, replaced: false };
    let decoded = T::decode(&mut first, version).map_err(|error| refused(error.to_string()))?;
    if !first.replaced {
        return Ok(decoded);
    }
    let mut second = Guarded { bytes, replace: false, replaced: false };
    T::decode(&mut second, version).map_err(|error| refused(error.to_string()))
}

impl Guarded {
    fn is_plausible_length(&self, length: u64) -> bool {
        length <= HARMLESS_LENGTH.max(self.bytes.len()) as u64
    }

    /// The unsigned varint at the front, or more than any length if it never ends.
    fn peek_varint(&self) -> u64 {
        let mut value = 0;
        for (index, byte) in self.bytes.iter().take(5).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                return value;
            }
        }
        u64::MAX
    }
}

impl Buf for Guarded {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        // A boolean, the last byte of a varint, or a short length: below 0x80.
        if self.bytes.first().is_some_and(|first| *first >= 0x80) && !self.is_plausible_length(self.peek_varint()) {
            return Err(TryGetError { requested: self.bytes.len() + 1, available: self.bytes.len() });
        }
        self.bytes.try_get_u8()
    }

    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        let value = self.bytes.try_get_i32()?;
        if self.replace && value > 0 && !self.is_plausible_length(value as u64) {
            self.replaced = true;
            return Ok(REFUSED_LENGTH);
        }
        Ok(value)
    }
}

impl ByteBuf for Guarded {
    fn peek_bytes(&mut self, range: Range<usize>) -> Bytes {
        let end = range.end.min(self.bytes.len());
        self.bytes.slice(range.start.min(end)..end)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.bytes.split_to(size.min(self.bytes.len()))
    }
}
