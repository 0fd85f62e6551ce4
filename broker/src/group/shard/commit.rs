//! Committing offsets, alone or in a transaction: who may, and what is written.

use std::sync::Arc;

use base::{Now, Offset, PartitionId, Timestamp};
use protocol::api::ErrorCode;
use uuid::Uuid;

use super::{Group, Shard};
use crate::group::consumer::commits::{Accepted, FIRST_WITH_EPOCHS};
use crate::group::kind::Kind;
use crate::group::output::{Continuation, InTransaction, Output};
use crate::group::records::{GroupRecord, OffsetValue};

/// Who commits offsets, and for how long.
#[derive(Clone, Debug)]
pub struct Committer {
    /// The group.
    pub group: Arc<str>,
    /// The member's id; empty for a consumer without membership.
    pub member_id: Arc<str>,
    /// `group.instance.id`.
    pub instance_id: Option<Arc<str>>,
    /// The member's generation; -1 without membership.
    pub generation: i32,
    /// When the offsets expire, for old clients that say so.
    pub expire_timestamp: Option<Timestamp>,
    /// Version of the OffsetCommit; `None` for a TxnOffsetCommit.
    pub version: Option<i16>,
}

impl Committer {
    /// The client knows `GROUP_ID_NOT_FOUND`.
    fn knows_group_not_found(&self) -> bool {
        self.version.is_some_and(|version| version >= FIRST_WITH_EPOCHS)
    }
}

/// One offset to commit.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The topic.
    pub topic: Arc<str>,
    /// Its id; nil when unknown.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: PartitionId,
    /// The offset, as given.
    pub offset: Offset,
    /// Leader epoch of the last record consumed, or -1.
    pub leader_epoch: i32,
    /// What the client attaches.
    pub metadata: Arc<str>,
}

impl Commit {
    fn into_record(self, committer: &Committer, now: Now) -> GroupRecord {
        GroupRecord::Offset {
            group: Arc::clone(&committer.group),
            topic: self.topic,
            partition: self.partition,
            value: Some(OffsetValue {
                offset: self.offset,
                leader_epoch: self.leader_epoch,
                metadata: self.metadata,
                commit_timestamp: now.wall_ms,
                expire_timestamp: committer.expire_timestamp,
                topic_id: self.topic_id,
            }),
        }
    }
}

impl Shard {
    /// OffsetCommit: those of `commits` that are taken, in one batch; and what is answered for each, in their order. They are read back
    /// once stored.
    ///
    /// # Errors
    /// When the group takes none from this committer.
    pub fn commit(
        &mut self,
        committer: &Committer,
        commits: Vec<Commit>,
        now: Now,
    ) -> Result<(Vec<Result<(), ErrorCode>>, Output), ErrorCode> {
        let known =
            if committer.knows_group_not_found() { ErrorCode::GroupIdNotFound } else { ErrorCode::IllegalGeneration };
        let Some(group) = self.group_for_commit(committer, known, !commits.is_empty(), now)? else {
            return Ok(Default::default());
        };
        let accepted = group.kind.check_commit(committer, &commits, now)?;
        let results: Vec<_> = commits.iter().map(|commit| accepted.check(commit.topic_id, commit.partition)).collect();
        let mut out = Output { continuation: Some(Continuation::Apply), ..Output::default() };
        for (commit, result) in commits.into_iter().zip(&results) {
            if result.is_ok() {
                group.offsets.begin(&commit.topic, commit.partition);
                out.records.push(commit.into_record(committer, now));
            }
        }
        Ok((results, out))
    }

    /// TxnOffsetCommit: those of `commits` that are taken, in one batch of the transaction; and what is answered for each, in their
    /// order. They are read back once the transaction is committed.
    ///
    /// # Errors
    /// When the group takes none from this committer.
    pub fn commit_in_transaction(
        &mut self,
        committer: &Committer,
        transaction: InTransaction,
        commits: Vec<Commit>,
        now: Now,
    ) -> Result<(Vec<Result<(), ErrorCode>>, Output), ErrorCode> {
        let unknown = ErrorCode::IllegalGeneration;
        let Some(group) = self.group_for_commit(committer, unknown, !commits.is_empty(), now)? else {
            return Ok(Default::default());
        };
        let accepted = group.kind.check_transactional_commit(committer, &commits, now)?;
        let results: Vec<_> = commits.iter().map(|commit| accepted.check(commit.topic_id, commit.partition)).collect();
        let mut out = Output::default();
        for (commit, result) in commits.into_iter().zip(&results) {
            if result.is_ok() {
                group.offsets.begin_pending(&commit.topic, commit.partition);
                out.records.push(commit.into_record(committer, now));
            }
        }
        if !out.records.is_empty() {
            out.transaction = Some(transaction);
            out.continuation = Some(Continuation::Pending);
        }
        Ok((results, out))
    }

    /// The group of a commit; one without members is made by its first commit.
    fn group_for_commit(
        &mut self,
        committer: &Committer,
        unknown: ErrorCode,
        creates: bool,
        now: Now,
    ) -> Result<Option<&mut Group>, ErrorCode> {
        let id = &committer.group;
        if !self.groups.contains_key(id) {
            if committer.generation >= 0 {
                return Err(unknown);
            }
            if creates {
                self.groups.insert(Arc::clone(id), Group::simple(id, now));
            }
        }
        Ok(self.groups.get_mut(id))
    }
}

impl Kind {
    /// Whether offsets may be taken from whoever names this member and generation, and of which partitions.
    fn check_commit(&mut self, committer: &Committer, commits: &[Commit], now: Now) -> Result<Accepted<'_>, ErrorCode> {
        let (member_id, instance_id) = (&committer.member_id, committer.instance_id.as_deref());
        match self {
            Kind::Classic(group) => {
                group.check_commit(member_id, instance_id, committer.generation, now).map(|()| Accepted::All)
            }
            Kind::Consumer(group) => group.check_commit(member_id, committer.generation, committer.version),
            Kind::Share(_) => Err(ErrorCode::GroupIdNotFound),
            Kind::Streams(group) => {
                group.check_commit(member_id, committer.generation, partitions(commits))?;
                // An older request cannot come from a member: what it names is no epoch.
                if !group.is_vacant() && !committer.knows_group_not_found() {
                    return Err(ErrorCode::UnsupportedVersion);
                }
                Ok(Accepted::All)
            }
        }
    }

    /// As [`Kind::check_commit`], for offsets in a transaction.
    fn check_transactional_commit(
        &mut self,
        committer: &Committer,
        commits: &[Commit],
        now: Now,
    ) -> Result<Accepted<'_>, ErrorCode> {
        let (member_id, instance_id) = (&committer.member_id, committer.instance_id.as_deref());
        match self {
            Kind::Classic(group) => group
                .check_transactional_commit(member_id, instance_id, committer.generation, now)
                .map(|()| Accepted::All),
            Kind::Consumer(group) => group.check_commit(member_id, committer.generation, None),
            Kind::Share(_) => Err(ErrorCode::GroupIdNotFound),
            Kind::Streams(group) if committer.generation < 0 && member_id.is_empty() && instance_id.is_none() => {
                group.check_alive().map(|()| Accepted::All)
            }
            Kind::Streams(group) => {
                group.check_commit(member_id, committer.generation, partitions(commits)).map(|()| Accepted::All)
            }
        }
    }
}

fn partitions(commits: &[Commit]) -> impl Iterator<Item = (&str, PartitionId)> {
    commits.iter().map(|commit| (&*commit.topic, commit.partition))
}
