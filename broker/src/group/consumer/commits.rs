//! Who may commit and fetch offsets of a consumer group.

use base::PartitionId;
use protocol::api::ErrorCode;
use uuid::Uuid;

use super::group::ConsumerGroup;
use super::records::CurrentAssignment;

/// First version of OffsetCommit that knows member epochs.
pub const FIRST_WITH_EPOCHS: i16 = 9;

/// Whose offsets are committed, once the member is known.
#[derive(Clone, Copy, Debug)]
pub enum Accepted<'a> {
    /// Any partition.
    All,
    /// A member that has not heard of its new epoch yet: partitions that it had already in the one it names.
    Since(&'a CurrentAssignment, i32),
}

impl Accepted<'_> {
    /// Whether the commit of one partition is taken.
    ///
    /// # Errors
    /// `StaleMemberEpoch` for one that was assigned to the member later, or is not assigned to it.
    pub fn check(&self, topic: Uuid, partition: PartitionId) -> Result<(), ErrorCode> {
        let Self::Since(current, epoch) = self else { return Ok(()) };
        let since = |side: &super::records::AssignedPartitions| side.get(&topic)?.get(&partition).copied();
        match since(&current.assigned).or_else(|| since(&current.pending_revocation)) {
            Some(since) if since <= *epoch => Ok(()),
            _ => Err(ErrorCode::StaleMemberEpoch),
        }
    }
}

impl ConsumerGroup {
    /// Whether requests of members can be answered now.
    ///
    /// # Errors
    /// `CoordinatorNotAvailable` while the group is being deleted.
    pub fn check_alive(&self) -> Result<(), ErrorCode> {
        if self.dead { Err(ErrorCode::CoordinatorNotAvailable) } else { Ok(()) }
    }

    /// Whether a commit of offsets may be taken from whoever names this member and epoch, by OffsetCommit of `version`, or by
    /// TxnOffsetCommit (`None`).
    ///
    /// # Errors
    /// As the answer to the commit.
    pub fn check_commit(&self, member_id: &str, epoch: i32, version: Option<i16>) -> Result<Accepted<'_>, ErrorCode> {
        self.check_alive()?;
        // An operator or an application without membership, while nobody is at work; and transactions of such, always.
        if epoch < 0 && (self.members.is_empty() || version.is_none() && member_id.is_empty()) {
            return Ok(Accepted::All);
        }
        let member = self.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        let is_classic = member.metadata.classic.is_some();
        if version.is_some_and(|version| version < FIRST_WITH_EPOCHS) && !is_classic {
            return Err(ErrorCode::UnsupportedVersion);
        }
        match epoch.cmp(&member.current.epoch) {
            std::cmp::Ordering::Equal => Ok(Accepted::All),
            _ if is_classic => Err(ErrorCode::IllegalGeneration),
            std::cmp::Ordering::Less => Ok(Accepted::Since(&member.current, epoch)),
            std::cmp::Ordering::Greater => Err(ErrorCode::StaleMemberEpoch),
        }
    }

    /// Whether offsets may be fetched by whoever names this member and epoch; nobody need name one.
    ///
    /// # Errors
    /// As the answer to the fetch.
    pub fn check_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        let Some(member_id) = member_id.filter(|id| !id.is_empty() || epoch >= 0) else { return Ok(()) };
        let member = self.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        match epoch == member.current.epoch {
            true => Ok(()),
            false if member.metadata.classic.is_some() => Err(ErrorCode::IllegalGeneration),
            false => Err(ErrorCode::StaleMemberEpoch),
        }
    }
}
