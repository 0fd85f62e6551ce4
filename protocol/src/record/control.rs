//! Control records: the transaction markers that a coordinator writes into data partitions, and the control records of
//! the metadata log. Each is alone in its batch, takes an offset, and is never handed to an application.

use bytes::Bytes;

use base::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

use super::{BatchBuilder, BuilderOptions, Compression, HeadersRef, RecordError};

/// What a control record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlType {
    /// The producer's transaction was aborted.
    Abort,
    /// The producer's transaction was committed.
    Commit,
    /// A new leader of the metadata log.
    LeaderChange,
    /// Begins a snapshot of the metadata log.
    SnapshotHeader,
    /// Ends one.
    SnapshotFooter,
    /// Version of the metadata quorum.
    KRaftVersion,
    /// Voters of the metadata quorum.
    KRaftVoters,
    /// From a newer Kafka; to be skipped.
    Unknown(i16),
}

impl ControlType {
    /// The number in the record's key.
    pub const fn code(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::LeaderChange => 2,
            Self::SnapshotHeader => 3,
            Self::SnapshotFooter => 4,
            Self::KRaftVersion => 5,
            Self::KRaftVoters => 6,
            Self::Unknown(code) => code,
        }
    }

    const fn from_code(code: i16) -> Self {
        match code {
            0 => Self::Abort,
            1 => Self::Commit,
            2 => Self::LeaderChange,
            3 => Self::SnapshotHeader,
            4 => Self::SnapshotFooter,
            5 => Self::KRaftVersion,
            6 => Self::KRaftVoters,
            _ => Self::Unknown(code),
        }
    }

    /// What the key of a control record says.
    ///
    /// # Errors
    /// If it is shorter than four bytes or its version is negative.
    pub fn of_key(key: &[u8]) -> Result<Self, RecordError> {
        let [a, b, c, d] = *key.first_chunk().ok_or(RecordError::truncated("control record key"))?;
        let version = i16::from_be_bytes([a, b]);
        if version < 0 {
            return Err(RecordError::corrupt("control record key version", version));
        }
        Ok(Self::from_code(i16::from_be_bytes([c, d])))
    }

    /// The key of a control record of this type.
    pub const fn to_key(self) -> [u8; 4] {
        let [c, d] = self.code().to_be_bytes();
        [0, 0, c, d]
    }
}

/// A control record, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// The end of a transaction.
    EndTransaction(EndTransactionMarker),
    /// Anything else; its value is not for clients.
    Other(ControlType),
}

/// The end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTransactionMarker {
    /// Whether it was committed.
    pub committed: bool,
    /// Epoch of the coordinator that wrote it.
    pub coordinator_epoch: i32,
}

impl EndTransactionMarker {
    /// As the type of a control record.
    pub const fn control_type(self) -> ControlType {
        if self.committed { ControlType::Commit } else { ControlType::Abort }
    }

    /// The value of the control record.
    pub const fn to_value(self) -> [u8; 6] {
        let [a, b, c, d] = self.coordinator_epoch.to_be_bytes();
        [0, 0, a, b, c, d]
    }

    fn of_value(committed: bool, value: &[u8]) -> Result<Self, RecordError> {
        let [a, b, c, d, e, f] = *value.first_chunk().ok_or(RecordError::truncated("transaction marker"))?;
        let version = i16::from_be_bytes([a, b]);
        if version < 0 {
            return Err(RecordError::corrupt("transaction marker version", version));
        }
        Ok(Self { committed, coordinator_epoch: i32::from_be_bytes([c, d, e, f]) })
    }
}

/// Reads a control record from its key and value.
///
/// # Errors
/// If either is too short, or has a negative version.
pub fn parse_control(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Control, RecordError> {
    match ControlType::of_key(key.unwrap_or_default())? {
        ControlType::Abort => {
            Ok(Control::EndTransaction(EndTransactionMarker::of_value(false, value.unwrap_or_default())?))
        }
        ControlType::Commit => {
            Ok(Control::EndTransaction(EndTransactionMarker::of_value(true, value.unwrap_or_default())?))
        }
        other => Ok(Control::Other(other)),
    }
}

/// A whole batch with one transaction marker: 78 bytes, base offset and leader epoch as given (the log assigns them
/// anew when it appends).
///
/// `producer_epoch` is the epoch after the bump where transactions have version 2, the data's epoch before.
pub fn control_marker(
    marker: EndTransactionMarker,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    timestamp: Timestamp,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
) -> Result<Bytes, RecordError> {
    let mut builder = BatchBuilder::new(
        Compression::None,
        BuilderOptions {
            base_offset,
            leader_epoch,
            producer_id,
            producer_epoch,
            transactional: true,
            control: true,
            capacity: 80,
            ..BuilderOptions::default()
        },
    );
    let key = marker.control_type().to_key();
    builder.append(timestamp, Some(&key), Some(&marker.to_value()), HeadersRef::EMPTY)?;
    builder.build()
}
