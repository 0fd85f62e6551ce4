//! Groups with members that change their kind, and what members of the classic protocol ask of a consumer group.

use std::sync::Arc;

use base::Now;
use protocol::api::ErrorCode;

use super::Shard;
use crate::group::classic::{ClassicGroup, Join};
use crate::group::config::GroupConfig;
use crate::group::consumer::ConsumerGroup;
use crate::group::consumer::config::ConsumerConfig;
use crate::group::consumer::heartbeat::Refusal;
use crate::group::environment::Cluster;
use crate::group::kind::Kind;
use crate::group::output::{Continuation, JoinAnswer, Output};
use crate::group::records::GroupRecord;

/// The consumer group that a classic one becomes, what that writes, and whom it tells to join again.
pub(super) fn upgraded(
    classic: &ClassicGroup,
    cluster: &dyn Cluster,
    now: Now,
    config: &ConsumerConfig,
) -> Result<(ConsumerGroup, Output), Refusal> {
    let refuse = |text: String| Err(Refusal::new(ErrorCode::GroupIdNotFound, text));
    if !classic.can_upgrade(config.migration, config.max_size) {
        return refuse(format!(
            "group {} is a classic group with members, and does not become a consumer group while they are at work: by \
             group.consumer.migration.policy or group.consumer.max.size, or because they are no consumers",
            classic.id()
        ));
    }
    let mut out = Output::default();
    match ConsumerGroup::from_classic(classic, cluster, now) {
        Ok((group, records)) => {
            out.records.push(GroupRecord::Group { group: Arc::clone(classic.id()), value: None });
            out.records.extend(records);
            classic.fail_waiting(&mut out);
            Ok((group, out))
        }
        Err(error) => refuse(format!(
            "group {} does not become a consumer group: what its members exchange is malformed: {error}",
            classic.id()
        )),
    }
}

/// A consumer group before something that may take the last member of its protocol away.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    had_consumer_protocol: bool,
    /// The members' generation in a classic group that follows; they are then told to join again. `None` where one has just joined in
    /// place of another: then it is the epoch that it has been told.
    generation: Option<i32>,
}

impl Before {
    /// Before members go.
    pub(super) fn leave(group: &ConsumerGroup) -> Self {
        Self { had_consumer_protocol: group.has_consumer_protocol_member(), generation: Some(group.epoch()) }
    }

    /// Before a member joins.
    fn join(group: &ConsumerGroup) -> Self {
        Self { generation: None, ..Self::leave(group) }
    }
}

impl Shard {
    /// JoinGroup of a member of the classic protocol in a consumer group that has members.
    pub(super) fn join_consumer_group(
        &mut self,
        id: &Arc<str>,
        join: &Join,
        cluster: &dyn Cluster,
        now: Now,
        config: &GroupConfig,
    ) -> Output {
        let mut out = Output::default();
        let Some(Kind::Consumer(group)) = self.groups.get_mut(id).map(|group| &mut group.kind) else { return out };
        let before = Before::join(group);
        let settings = config.consumer.with_settings(&cluster.group_settings(id));
        match group.join_classic(join, cluster, now, &settings) {
            Ok((answer, records)) => {
                out.records = records;
                out.joins.push((join.ticket, answer));
            }
            Err(refusal) => {
                tracing::debug!(group = %id, member = %join.member_id, "a JoinGroup is refused: {}", refusal.message);
                out.joins.push((join.ticket, JoinAnswer::error(refusal.code, Arc::clone(&join.member_id))));
            }
        }
        // A static member may have taken the place of the last one of the consumer protocol: nobody has to join again for that.
        self.maybe_downgrade(id, before, cluster, now, config, &mut out);
        self.changed_consumer_group(id, &mut out);
        out
    }

    /// A consumer group has changed with the records of `out`, if there are any.
    pub(super) fn changed_consumer_group(&mut self, id: &Arc<str>, out: &mut Output) {
        if !out.records.is_empty() {
            out.continuation = Some(Continuation::AheadOfLog);
        }
        self.note_written(out);
        self.schedule(id);
    }

    /// Makes a classic group of a consumer group that had members of the consumer protocol and has only others now.
    pub(super) fn maybe_downgrade(
        &mut self,
        id: &Arc<str>,
        before: Before,
        cluster: &dyn Cluster,
        now: Now,
        config: &GroupConfig,
        out: &mut Output,
    ) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let Kind::Consumer(consumer) = &group.kind else { return };
        let members = consumer.members().count();
        if !before.had_consumer_protocol || consumer.has_consumer_protocol_member() || members == 0 {
            return;
        }
        if !config.consumer.migration.downgrades || members > config.max_size {
            tracing::info!(
                group = %id,
                "stays a consumer group, by group.consumer.migration.policy or group.max.size, though no member speaks its protocol"
            );
            return;
        }
        match consumer.to_classic(before.generation, cluster, now) {
            Ok(mut classic) => {
                out.records.extend(consumer.removals());
                out.records.push(classic.record(classic.to_value()));
                if before.generation.is_some() {
                    classic.prepare_rebalance(now, config, out);
                }
                group.kind = Kind::Classic(classic);
            }
            Err(error) => {
                tracing::warn!(group = %id, %error, "stays a consumer group: what a member offered is malformed");
            }
        }
    }
}
