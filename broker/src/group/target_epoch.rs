//! The epoch of a target assignment, which consumer and streams groups keep in `__consumer_offsets` in the same layout.
//!
//! Invariant: what `TargetEpoch::encode` writes, `TargetEpoch::decode` gives back unchanged.

use base::Timestamp;

use super::layout::{GroupRecordError, Reader, Writer};

/// The group epoch that a target assignment was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetEpoch {
    /// The group epoch.
    pub epoch: i32,
    /// When it was made, in ms of the wall clock; 0 when unknown.
    pub timestamp: Timestamp,
}

impl TargetEpoch {
    /// The record's value.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::version_0();
        out.i32(self.epoch);
        let timestamp = self.timestamp.to_be_bytes();
        let tags: &[(u32, &[u8])] = &[(0, &timestamp)];
        out.tags(if self.timestamp == 0 { &[] } else { tags });
        out.0
    }

    /// Reads a record's value.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, GroupRecordError> {
        let mut input = Reader { bytes };
        input.version_0("target assignment epoch")?;
        let mut target = Self { epoch: input.i32("assignment epoch")?, timestamp: 0 };
        input.tags(|tag, content| {
            if tag == 0 {
                target.timestamp = Reader { bytes: content }.i64("assignment timestamp")?;
            }
            Ok(())
        })?;
        input.end("target assignment epoch value")?;
        Ok(target)
    }
}
