//! The end of offsets that have lived their time, and of groups that have nothing left.

use std::sync::Arc;

use base::Timestamp;

use super::{Group, Shard};
use crate::group::offsets::Offsets;
use crate::group::output::Output;
use crate::group::records::GroupRecord;

impl Shard {
    pub(super) fn expire_offsets(&mut self, now: Timestamp, retention_ms: i64) -> Vec<Output> {
        let mut all = Vec::new();
        for (id, group) in self.living_groups() {
            let mut records = expired_offsets(id, group, now, retention_ms);
            let everything_goes = group.offsets.removals(id, |_, _, _| true).len() == records.len();
            if group.kind.is_vacant() && everything_goes && !group.offsets.has_open_commits() {
                records.extend(group.kind.removals(id));
                group.kind.set_dead(true);
            }
            if !records.is_empty() {
                all.push(records);
            }
        }
        all.into_iter().map(|records| self.removal(records)).collect()
    }
}

/// Removals of the offsets of `group` that have lived their time, by the rules for its kind of use.
fn expired_offsets(id: &Arc<str>, group: &Group, now: Timestamp, retention_ms: i64) -> Vec<GroupRecord> {
    group.offsets.removals(id, |topic, partition, value| {
        let Some(value) = value else { return false };
        if group.offsets.is_pending(topic, partition) {
            return false;
        }
        let base = group.kind.retention_base(topic, value.commit_timestamp);
        base.is_some_and(|base| Offsets::is_expired(value, base, now, retention_ms))
    })
}
