//! Heartbeats of streams groups: which group they reach, and what becomes of it when its records cannot be written.

use std::sync::Arc;

use protocol::api::ErrorCode;

use super::{Group, Shard};
use crate::group::kind::Kind;
use crate::group::output::Output;
use crate::group::records::GroupRecord;
use crate::group::streams::StreamsGroup;
use crate::group::streams::heartbeat::{Answer, Beat, Refusal, refuse};

impl Shard {
    /// StreamsGroupHeartbeat: the answer, to be sent once the output is durable. A member that joins makes the group; an
    /// empty group of another kind becomes a streams group, and keeps its offsets.
    ///
    /// # Errors
    /// When the group is of another kind or not there, or as [`StreamsGroup::heartbeat`].
    pub fn streams_heartbeat(&mut self, id: &Arc<str>, beat: &Beat<'_>) -> Result<(Answer, Output), Refusal> {
        let joins = beat.request.member_epoch == 0;
        let (replaced, mut group) = match self.groups.remove(id) {
            Some(Group { kind: Kind::Streams(group), offsets, timer, written }) => {
                (None, Group { kind: Kind::Streams(group), offsets, timer, written })
            }
            Some(other) if joins && other.kind.is_vacant() => {
                let made = Group::new(Kind::Streams(Box::new(StreamsGroup::new(Arc::clone(id)))));
                (Some(other), made)
            }
            Some(other) => {
                self.groups.insert(Arc::clone(id), other);
                return refuse(ErrorCode::GroupIdNotFound, format!("Group {id} is not a streams group."));
            }
            None if joins => (None, Group::new(Kind::Streams(Box::new(StreamsGroup::new(Arc::clone(id)))))),
            None => return refuse(ErrorCode::GroupIdNotFound, format!("Group {id} not found.")),
        };
        let result = match &mut group.kind {
            Kind::Streams(group) => match group.check_alive() {
                Ok(()) => group.heartbeat(beat),
                Err(code) => refuse(code, format!("Group {id} is being deleted.")),
            },
            Kind::Classic(_) | Kind::Consumer(_) | Kind::Share(_) => refuse(ErrorCode::UnknownServerError, ""),
        };
        let mut answer = match result {
            Ok(answer) => answer,
            Err(refusal) => {
                // As it was; no trace of one that was only made for this.
                let before = replaced.or(Some(group).filter(|group| group.written));
                self.groups.extend(before.map(|before| (Arc::clone(id), before)));
                return Err(refusal);
            }
        };
        let mut out = Output { records: std::mem::take(&mut answer.records), ..Output::default() };
        if let Some(mut before) = replaced {
            out.records.splice(0..0, before.kind.removals(id));
            group.offsets = std::mem::take(&mut before.offsets);
            group.timer = before.timer;
        }
        self.groups.insert(Arc::clone(id), group);
        self.note_written(&out);
        self.schedule(id);
        Ok((answer, out))
    }

    /// The streams group, if there is one of that name.
    pub fn streams_mut(&mut self, id: &str) -> Option<&mut StreamsGroup> {
        match &mut self.groups.get_mut(id)?.kind {
            Kind::Streams(group) => Some(group),
            Kind::Classic(_) | Kind::Consumer(_) | Kind::Share(_) => None,
        }
    }

    /// Records of streams groups could not be written, but have been applied: the members have to join anew, so that what
    /// they have is written then.
    pub(super) fn forget_unwritten_members(&mut self, records: &[GroupRecord]) {
        for record in records {
            if let GroupRecord::Streams { group, record } = record
                && !record.is_removal()
                && let Some(Group { kind: Kind::Streams(group), .. }) = self.groups.get_mut(group)
            {
                group.forget_members();
            }
        }
    }
}
