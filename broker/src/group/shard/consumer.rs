//! Heartbeats of consumer groups, and by whom such a group comes to be.

use std::sync::Arc;

use base::Now;
use protocol::api::ErrorCode;

use super::migration::{Before, upgraded};
use super::{Group, Shard};
use crate::group::config::GroupConfig;
use crate::group::consumer::ConsumerGroup;
use crate::group::consumer::heartbeat::{Answer, Heartbeat, Refusal};
use crate::group::consumer::member::JOIN_EPOCH;
use crate::group::environment::Cluster;
use crate::group::kind::Kind;
use crate::group::output::Output;

impl Shard {
    /// ConsumerGroupHeartbeat in group `id`; whoever joins first makes the group, of an empty one of another kind if there is one, or
    /// of a classic one at work.
    /// The answer may leave once the output is durable.
    ///
    /// # Errors
    /// As the answer; nothing has changed then.
    pub fn consumer_heartbeat(
        &mut self,
        id: &Arc<str>,
        beat: &Heartbeat,
        cluster: &dyn Cluster,
        now: Now,
        config: &GroupConfig,
    ) -> Result<(Answer, Output), Refusal> {
        let not_found = |text: &str| Refusal::new(ErrorCode::GroupIdNotFound, format!("group {id} {text}"));
        let settings = config.consumer.with_settings(&cluster.group_settings(id));
        let mut out = Output::default();
        let joins = beat.epoch == JOIN_EPOCH;
        let answer = match self.groups.get_mut(id) {
            Some(Group { kind: Kind::Consumer(group), .. }) => {
                let before = Before::leave(group);
                let done = if beat.epoch >= JOIN_EPOCH {
                    group.heartbeat(beat, cluster, now, &settings)
                } else {
                    group.leave(beat)
                };
                let (answer, records) = done?;
                out.records = records;
                self.maybe_downgrade(id, before, cluster, now, config, &mut out);
                answer
            }
            Some(group) if joins && group.kind.is_vacant() => {
                let mut made = ConsumerGroup::new(Arc::clone(id));
                let (answer, records) = made.heartbeat(beat, cluster, now, &settings)?;
                if group.written {
                    out.records = group.kind.removals(id);
                }
                out.records.extend(records);
                group.kind = Kind::Consumer(made);
                answer
            }
            None if joins => {
                let mut made = ConsumerGroup::new(Arc::clone(id));
                let (answer, records) = made.heartbeat(beat, cluster, now, &settings)?;
                out.records = records;
                self.groups.insert(Arc::clone(id), Group::new(Kind::Consumer(made)));
                answer
            }
            Some(Group { kind: Kind::Classic(classic), .. }) if joins => {
                let (mut made, upgrade) = upgraded(classic, cluster, now, &settings)?;
                let (answer, records) = made.heartbeat(beat, cluster, now, &settings)?;
                out = upgrade;
                out.records.extend(records);
                if let Some(group) = self.groups.get_mut(id) {
                    group.kind = Kind::Consumer(made);
                }
                answer
            }
            Some(_) => return Err(not_found("is not a consumer group")),
            None => return Err(not_found("does not exist")),
        };
        self.changed_consumer_group(id, &mut out);
        Ok((answer, out))
    }
}
