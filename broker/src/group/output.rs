//! What one operation on a shard of groups yields: records to append, and answers that wait for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::{ProducerEpoch, ProducerId};
use bytes::Bytes;
use protocol::api::ErrorCode;
use protocol::record::EndTransactionMarker;

use super::records::GroupRecord;

/// Names a request whose answer may come later; given by whoever holds the request.
pub type Ticket = u64;

/// A member as the leader of its group learns of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: Arc<str>,
    /// `group.instance.id` of a static member.
    pub group_instance_id: Option<Arc<str>>,
    /// Its metadata for the selected protocol.
    pub metadata: Bytes,
}

/// Answer to a JoinGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinAnswer {
    /// `None` when the member is in the generation named below.
    pub error: ErrorCode,
    /// The generation; -1 with an error.
    pub generation: i32,
    /// Kind of protocol, as the members gave it.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol selected.
    pub protocol: Option<Arc<str>>,
    /// Member id of the leader.
    pub leader: Arc<str>,
    /// The leader need not assign again (static leader that came back).
    pub skip_assignment: bool,
    /// The member's own id.
    pub member_id: Arc<str>,
    /// All members, for the leader only.
    pub members: Vec<JoinedMember>,
}

impl JoinAnswer {
    /// An answer that says only what went wrong.
    pub fn error(error: ErrorCode, member_id: Arc<str>) -> Self {
        Self {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: Arc::from(""),
            skip_assignment: false,
            member_id,
            members: Vec::new(),
        }
    }
}

/// Answer to a SyncGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncAnswer {
    /// `None` when the assignment below is the member's.
    pub error: ErrorCode,
    /// Kind of protocol.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol selected.
    pub protocol: Option<Arc<str>>,
    /// What the leader assigned.
    pub assignment: Bytes,
}

impl SyncAnswer {
    /// An answer that says only what went wrong.
    pub fn error(error: ErrorCode) -> Self {
        Self { error, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

/// What is to happen in a group once the records of an operation are durable, or could not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Continuation {
    /// The leader's assignment of a generation: hand it to the members.
    Assignment {
        /// The group.
        group: Arc<str>,
        /// Its generation when the assignment came.
        generation: i32,
        /// Bytes by member id.
        assignments: BTreeMap<Arc<str>, Bytes>,
    },
    /// A static member came back under a new id in a stable group: answer it.
    StaticMember {
        /// The group.
        group: Arc<str>,
        /// The member as it was, with its old id.
        old: Box<super::member::Member>,
        /// Its new id.
        new_member_id: Arc<str>,
        /// The leader's id before the change.
        old_leader: Arc<str>,
        /// Its JoinGroup.
        ticket: Ticket,
        /// Whether the client understands `skipAssignment` (v9+).
        skips_assignment: bool,
    },
    /// Committed offsets or their removal, or the removal of a group: apply the records.
    Apply,
    /// A group that changes with its records, before they are durable: nothing more, unless they cannot be written.
    AheadOfLog,
    /// Offsets committed in a transaction: they count once it is committed.
    Pending,
    /// The end of a transaction: its offsets count, or are dropped.
    End {
        /// Whether it was committed.
        commit: bool,
    },
}

impl Continuation {
    /// Whether it takes effect whenever the records become durable, also when nobody waits for that any more.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::Apply | Self::AheadOfLog | Self::Pending | Self::End { .. })
    }
}

/// The transaction that a batch belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InTransaction {
    /// The producer.
    pub producer_id: ProducerId,
    /// Its epoch; of a marker, the marker's.
    pub producer_epoch: ProducerEpoch,
    /// The batch is the transaction's end.
    pub marker: Option<EndTransactionMarker>,
    /// The transaction protocol: with 2 a marker's epoch is above that of the data.
    pub version: i16,
    /// How many markers the producer had here when the transaction was found to be open; with another one since, nothing
    /// is written: the transaction is over, and nothing would end a new one.
    pub markers_seen: Option<u32>,
}

/// What one operation yields. With records, everything else in it waits until they are durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// To be appended to the shard's partition, all in one batch; may be none.
    pub records: Vec<GroupRecord>,
    /// The transaction they belong to, or of which the batch is the end (without records, then).
    pub transaction: Option<InTransaction>,
    /// What to do once they are durable.
    pub continuation: Option<Continuation>,
    /// JoinGroups to answer.
    pub joins: Vec<(Ticket, JoinAnswer)>,
    /// SyncGroups to answer.
    pub syncs: Vec<(Ticket, SyncAnswer)>,
}
