//! A group with its offsets, and what all kinds of groups answer alike. What only one kind knows stays in its own module.
//!
//! A group has one kind at a time; an empty one takes the kind of whoever joins next, and keeps its offsets.

use std::sync::Arc;

use base::{Now, Timestamp};
use protocol::api::ErrorCode;

use super::classic::{self, ClassicGroup};
use super::config::GroupConfig;
use super::consumer::{self, ConsumerGroup};
use super::offsets::Offsets;
use super::output::Output;
use super::records::GroupRecord;
use super::share::{self, ShareGroup};
use super::streams::{self, StreamsGroup};
use super::subscription::CONSUMER_PROTOCOL_TYPE;

/// Kind of protocol that members of streams groups speak, which is also the name of the kind.
const STREAMS_PROTOCOL_TYPE: &str = "streams";

/// Kind of protocol that members of share groups speak, which is also the name of the kind.
const SHARE_PROTOCOL_TYPE: &str = "share";

/// A group with its offsets.
#[derive(Clone, Debug)]
pub struct Group {
    /// Members, and what they share out.
    pub kind: Kind,
    /// Committed offsets.
    pub offsets: Offsets,
    /// The earliest entry of the shard's timers for this group.
    pub(super) timer: Option<i64>,
    /// A record of the group itself (not only of offsets) is in the log, or on its way there.
    pub(super) written: bool,
}

/// What kind of group it is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Its members share out the partitions themselves, by JoinGroup and SyncGroup; also a group that has only offsets.
    Classic(ClassicGroup),
    /// The coordinator shares out the partitions, by ConsumerGroupHeartbeat.
    Consumer(ConsumerGroup),
    /// Its members share partitions and work on records one by one, by ShareGroupHeartbeat.
    Share(Box<ShareGroup>),
    /// The coordinator shares out the tasks of a topology, by StreamsGroupHeartbeat.
    Streams(Box<StreamsGroup>),
}

impl Group {
    /// A group that has no record of its own yet.
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, offsets: Offsets::default(), timer: None, written: false }
    }

    /// A classic group without members that has no record of its own yet: one that has at most offsets.
    pub(super) fn simple(id: &Arc<str>, now: Now) -> Self {
        Self::new(Kind::Classic(ClassicGroup::new(Arc::clone(id), now)))
    }

    /// The group, if it is classic.
    pub fn classic(&self) -> Option<&ClassicGroup> {
        match &self.kind {
            Kind::Classic(group) => Some(group),
            Kind::Consumer(_) | Kind::Share(_) | Kind::Streams(_) => None,
        }
    }

    pub(super) fn classic_mut(&mut self) -> Option<&mut ClassicGroup> {
        match &mut self.kind {
            Kind::Classic(group) => Some(group),
            Kind::Consumer(_) | Kind::Share(_) | Kind::Streams(_) => None,
        }
    }

    /// The group, if it is a consumer group.
    pub fn consumer(&self) -> Option<&ConsumerGroup> {
        match &self.kind {
            Kind::Consumer(group) => Some(group),
            Kind::Classic(_) | Kind::Share(_) | Kind::Streams(_) => None,
        }
    }

    /// The group, if it is a share group.
    pub fn share(&self) -> Option<&ShareGroup> {
        match &self.kind {
            Kind::Share(group) => Some(group),
            Kind::Classic(_) | Kind::Consumer(_) | Kind::Streams(_) => None,
        }
    }

    /// The group, if it is a streams group.
    pub fn streams(&self) -> Option<&StreamsGroup> {
        match &self.kind {
            Kind::Streams(group) => Some(group),
            Kind::Classic(_) | Kind::Consumer(_) | Kind::Share(_) => None,
        }
    }
}

/// What the states of all kinds have in common.
#[derive(PartialEq, Eq)]
enum Life {
    /// It is being deleted.
    Dead,
    /// It has no members.
    Empty,
    Used,
}

impl Kind {
    /// The name of the kind, as ListGroups gives it.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Classic(_) => "classic",
            Kind::Consumer(_) => "consumer",
            Kind::Share(_) => SHARE_PROTOCOL_TYPE,
            Kind::Streams(_) => STREAMS_PROTOCOL_TYPE,
        }
    }

    /// The name of the state that the group is in.
    pub fn state_name(&self) -> &'static str {
        match self {
            Kind::Classic(group) => group.state().name(),
            Kind::Consumer(group) => group.state().name(),
            Kind::Share(group) => group.state().name(),
            Kind::Streams(group) => group.state().name(),
        }
    }

    /// Kind of protocol that its members speak; `None` for a group that never had a member.
    pub fn protocol_type(&self) -> Option<&str> {
        match self {
            Kind::Classic(group) => group.protocol_type().map(AsRef::as_ref),
            Kind::Consumer(_) => Some(CONSUMER_PROTOCOL_TYPE),
            Kind::Share(_) => Some(SHARE_PROTOCOL_TYPE),
            Kind::Streams(_) => Some(STREAMS_PROTOCOL_TYPE),
        }
    }

    /// It has no members, and nobody is about to join; of a share group there is no share state either.
    pub fn is_vacant(&self) -> bool {
        let has_traces = match self {
            Kind::Classic(group) => group.has_pending_members(),
            Kind::Share(group) => !group.state_partitions().initialized.is_empty(),
            Kind::Consumer(_) | Kind::Streams(_) => false,
        };
        self.life() == Life::Empty && !has_traces
    }

    /// Whether it can be deleted now.
    ///
    /// # Errors
    /// `GroupIdNotFound` while it is being deleted; `NonEmptyGroup` while it has members.
    pub fn check_deletable(&self) -> Result<(), ErrorCode> {
        match self.life() {
            Life::Dead => Err(ErrorCode::GroupIdNotFound),
            Life::Empty => Ok(()),
            Life::Used => Err(ErrorCode::NonEmptyGroup),
        }
    }

    /// Whether offsets of single partitions may be deleted now.
    ///
    /// # Errors
    /// As [`Kind::check_deletable`], but that consumers may be at work on other topics.
    pub fn check_offsets_deletable(&self) -> Result<(), ErrorCode> {
        match (self.check_deletable(), self) {
            (_, Kind::Share(_)) => Err(ErrorCode::GroupIdNotFound),
            (Err(ErrorCode::NonEmptyGroup), Kind::Consumer(_) | Kind::Streams(_)) => Ok(()),
            (Err(ErrorCode::NonEmptyGroup), Kind::Classic(group)) if group.is_consumer() => Ok(()),
            (result, _) => result,
        }
    }

    /// Whether offsets may be read by whoever names this member and epoch.
    ///
    /// # Errors
    /// As the answer to the request.
    pub fn check_fetch(&self, member_id: Option<&str>, member_epoch: i32) -> Result<(), ErrorCode> {
        match self {
            Kind::Classic(_) => Ok(()),
            Kind::Consumer(group) => group.check_fetch(member_id, member_epoch),
            // It has no committed offsets: none are told.
            Kind::Share(_) => Ok(()),
            Kind::Streams(group) => group.check_fetch(member_id, member_epoch),
        }
    }

    /// Whether it is being deleted.
    pub fn is_dead(&self) -> bool {
        self.life() == Life::Dead
    }

    fn life(&self) -> Life {
        match self {
            Kind::Classic(group) => match group.state() {
                classic::State::Dead => Life::Dead,
                classic::State::Empty => Life::Empty,
                _ => Life::Used,
            },
            Kind::Consumer(group) => match group.state() {
                consumer::group::State::Dead => Life::Dead,
                consumer::group::State::Empty => Life::Empty,
                _ => Life::Used,
            },
            Kind::Share(group) => match group.state() {
                share::group::State::Dead => Life::Dead,
                share::group::State::Empty => Life::Empty,
                share::group::State::Stable => Life::Used,
            },
            Kind::Streams(group) => match group.state() {
                streams::group::State::Dead => Life::Dead,
                streams::group::State::Empty => Life::Empty,
                _ => Life::Used,
            },
        }
    }

    /// Marks the group as being deleted, or no longer so.
    pub fn set_dead(&mut self, dead: bool) {
        match self {
            Kind::Classic(group) => group.set_dead(dead),
            Kind::Consumer(group) => group.set_dead(dead),
            Kind::Share(group) => group.set_dead(dead),
            Kind::Streams(group) => group.set_dead(dead),
        }
    }

    /// Records that remove the group itself (not its offsets).
    pub fn removals(&self, id: &Arc<str>) -> Vec<GroupRecord> {
        match self {
            Kind::Classic(_) => vec![GroupRecord::Group { group: Arc::clone(id), value: None }],
            Kind::Consumer(group) => group.removals(),
            Kind::Share(group) => group.removals(),
            Kind::Streams(group) => group.removals(),
        }
    }

    /// Whether offsets of `topic` are in use by members.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        match self {
            Kind::Classic(group) => group.is_subscribed(topic),
            Kind::Consumer(group) => group.is_subscribed(topic),
            Kind::Share(group) => group.is_subscribed(topic),
            Kind::Streams(group) => group.is_subscribed(topic),
        }
    }

    /// From when on the retention of an offset of `topic`, committed at `committed`, is counted; `None` while it is kept.
    pub fn retention_base(&self, topic: &str, committed: Timestamp) -> Option<Timestamp> {
        match self {
            Kind::Classic(group) => match (group.protocol_type(), group.state()) {
                // Never had members: counted from the commit.
                (None, _) => Some(committed),
                // Counted from the moment when the last member left.
                (Some(_), classic::State::Empty) => Some(group.state_timestamp.unwrap_or(committed)),
                // Members at work: only what none of them reads.
                (Some(_), classic::State::Stable) if group.is_consumer() => {
                    (!group.is_subscribed(topic)).then_some(committed)
                }
                _ => None,
            },
            Kind::Consumer(group) => (!group.is_subscribed(topic)).then_some(committed),
            // Left from before it was a share group.
            Kind::Share(_) => Some(committed),
            Kind::Streams(group) => (!group.is_subscribed(topic)).then_some(committed),
        }
    }

    /// Does what is due at `now`.
    pub(super) fn expire(&mut self, now: Now, config: &GroupConfig, out: &mut Output) {
        match self {
            Kind::Classic(group) => group.expire(now, config, out),
            Kind::Consumer(group) => out.records.extend(group.expire(now.ticks_ms)),
            Kind::Share(group) => out.records.extend(group.expire(now.ticks_ms)),
            Kind::Streams(group) => out.records.extend(group.expire(now)),
        }
    }

    /// When `Kind::expire` has something to do, in ticks.
    pub fn next_deadline(&self) -> Option<i64> {
        match self {
            Kind::Classic(group) => group.next_deadline(),
            Kind::Consumer(group) => group.next_deadline(),
            Kind::Share(group) => group.next_deadline(),
            Kind::Streams(group) => group.next_deadline(),
        }
    }
}
