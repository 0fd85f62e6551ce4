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
use kafka_protocol::protocol::buf::ByteBuf;
use kafka_protocol::protocol::{Decodable, HeaderVersion, Message};

use super::apis::ApiKey;
use super::wire::CodecError;

/// Largest body of a request that is not Produce. An element of a few bytes takes some hundred in memory, and is answered by
/// as much: this bounds what one request may take. Those in which members of a group hand over bytes for each other may be
/// larger; they have few elements.
pub(crate) const fn max_request_bytes(key: ApiKey) -> usize {
    match key {
        ApiKey::Produce => usize::MAX,
        ApiKey::JoinGroup | ApiKey::SyncGroup => 8 << 20,
        _ => 2 << 20,
    }
}
/// Largest response that carries no record batches.
pub(crate) const MAX_RESPONSE_BYTES: usize = 32 << 20;

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
pub(crate) fn decode<T>(bytes: Bytes, version: i16, message: &'static str) -> Result<T, CodecError>
where
    T: Decodable + HeaderVersion + Message,
{
    // Requests are told from responses by the caller's limit; this is the larger one.
    if bytes.len() > MAX_RESPONSE_BYTES {
        return Err(CodecError::invalid(message, format!("body of {} bytes is too large", bytes.len())));
    }
    let refused = |reason: String| CodecError::invalid(message, reason);
    // A header of a later version than that of the oldest body means: flexible, so no `i32` is a length. (Messages that
    // always were flexible are not recognised; they may take a needless second pass.)
    let flexible = T::header_version(version) > T::header_version(T::VERSIONS.min);
    let mut first = Guarded { bytes: bytes.clone(), replace: !flexible, replaced: false };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::messages::{JoinGroupRequest, MetadataRequest, MetadataResponse, OffsetCommitRequest};

    /// Each of these would reserve more than the machine has if the length were believed.
    #[test]
    fn lengths_beyond_the_message_are_refused_without_reserving_for_them() {
        let classic = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 0, 1, b'a']);
        assert!(decode::<MetadataRequest>(classic, 1, "MetadataRequest").is_err());
        let flexible = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 2, b'a']);
        assert!(decode::<MetadataRequest>(flexible, 9, "MetadataRequest").is_err());
        // Behind a byte that is neither 0 nor 1 where a boolean is expected.
        let mut nested = vec![2, 2, b'g', 0, 0, 0, 0, 2, b'm', 0, 2, 2, b't'];
        nested.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(decode::<OffsetCommitRequest>(nested.into(), 8, "OffsetCommitRequest").is_err());
        let response = Bytes::from_static(&[0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xf0, 0, 0]);
        assert!(decode::<MetadataResponse>(response, 8, "MetadataResponse").is_err());
    }

    #[test]
    fn large_numbers_that_are_no_lengths_keep_their_value() {
        // JoinGroup v4: group, session timeout, rebalance timeout, member, protocol type, protocols.
        let mut bytes = vec![0, 1, b'g'];
        bytes.extend(i32::MAX.to_be_bytes());
        bytes.extend(300_000_i32.to_be_bytes());
        bytes.extend([0, 0, 0, 1, b'c', 0, 0, 0, 0]);
        let request = decode::<JoinGroupRequest>(bytes.into(), 4, "JoinGroupRequest").expect("request");
        assert_eq!((request.session_timeout_ms, request.rebalance_timeout_ms), (i32::MAX, 300_000));
    }
}
