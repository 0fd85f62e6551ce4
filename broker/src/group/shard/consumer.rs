//! Heartbeats of consumer groups.

use std::sync::Arc;

use base::Now;
use protocol::api::ErrorCode;

use super::{Group, Shard};
use crate::group::consumer::ConsumerGroup;
use crate::group::consumer::config::ConsumerConfig;
use crate::group::consumer::heartbeat::{Answer, Heartbeat, Refusal};
use crate::group::consumer::member::JOIN_EPOCH;
use crate::group::environment::Cluster;
use crate::group::kind::Kind;
use crate::group::output::{Continuation, Output};

impl Shard {
    /// ConsumerGroupHeartbeat in group `id`; whoever joins first makes the group, of an empty one of another kind if there is one.
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
        config: &ConsumerConfig,
    ) -> Result<(Answer, Output), Refusal> {
        let not_found = |text: &str| Refusal::new(ErrorCode::GroupIdNotFound, format!("group {id} {text}"));
        let mut out = Output { continuation: Some(Continuation::AheadOfLog), ..Output::default() };
        let joins = beat.epoch == JOIN_EPOCH;
        let answer = match self.groups.get_mut(id) {
            Some(Group { kind: Kind::Consumer(group), .. }) => {
                let done = if beat.epoch >= JOIN_EPOCH {
                    group.heartbeat(beat, cluster, now, config)
                } else {
                    group.leave(beat)
                };
                let (answer, records) = done?;
                out.records = records;
                answer
            }
            Some(group) if joins && group.kind.is_vacant() => {
                let mut made = ConsumerGroup::new(Arc::clone(id));
                let (answer, records) = made.heartbeat(beat, cluster, now, config)?;
                if group.written {
                    out.records = group.kind.removals(id);
                }
                out.records.extend(records);
                group.kind = Kind::Consumer(made);
                answer
            }
            None if joins => {
                let mut made = ConsumerGroup::new(Arc::clone(id));
                let (answer, records) = made.heartbeat(beat, cluster, now, config)?;
                out.records = records;
                self.groups.insert(Arc::clone(id), Group::new(Kind::Consumer(made)));
                answer
            }
            Some(_) if joins => {
                return Err(not_found(
                    "is not a consumer group and has members: they cannot be taken over while they are at work",
                ));
            }
            Some(_) => return Err(not_found("is not a consumer group")),
            None => return Err(not_found("does not exist")),
        };
        if out.records.is_empty() {
            out.continuation = None;
        }
        self.note_written(&out);
        self.schedule(id);
        Ok((answer, out))
    }
}
