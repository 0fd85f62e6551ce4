//! JoinGroup: how a member comes into a classic group, comes back, or is replaced by a new process of its instance.

use std::sync::Arc;

use base::Now;
use bytes::Bytes;
use protocol::api::ErrorCode;

use super::classic::{ClassicGroup, Join, State};
use super::config::GroupConfig;
use super::member::Member;
use super::output::{Continuation, JoinAnswer, Output, SyncAnswer};

impl ClassicGroup {
    /// JoinGroup. The answer comes through `out`, now or later.
    pub fn join(&mut self, join: Join, now: Now, config: &GroupConfig, out: &mut Output) {
        let refuse = |out: &mut Output, error| {
            out.joins.push((join.ticket, JoinAnswer::error(error, Arc::clone(&join.member_id))));
        };
        if !self.accepts(&join.member_id, config.max_size) {
            self.pending.remove(&join.member_id);
            let left = self.remove_member(&join.member_id, out);
            out.joins.push((join.ticket, JoinAnswer::error(ErrorCode::GroupMaxSizeReached, Arc::from(""))));
            return self.after_removal(left, now, config, out);
        }
        if self.state == State::Dead {
            return refuse(out, ErrorCode::CoordinatorNotAvailable);
        }
        if !self.supports(&join) {
            return refuse(out, ErrorCode::InconsistentGroupProtocol);
        }
        if join.member_id.is_empty() {
            return self.join_new(join, now, config, out);
        }
        if self.pending.contains_key(&join.member_id) {
            // An id is pending only for a dynamic member; one that now names an instance keeps the id all the same.
            return self.add_member(Arc::clone(&join.member_id), join, now, config, out);
        }
        if let Err(error) = self.check_member(&join.member_id, join.instance_id.as_deref()) {
            return refuse(out, error);
        }
        self.rejoin(join, now, config, out);
    }

    /// A full group takes members that it knows; while rebalancing, those that came back first.
    fn accepts(&self, member_id: &str, max_size: usize) -> bool {
        match self.state {
            State::Empty | State::Dead => true,
            State::PreparingRebalance => {
                self.members.get(member_id).is_some_and(|member| member.join.is_some())
                    || self.members.values().filter(|member| member.join.is_some()).count() < max_size
            }
            State::CompletingRebalance | State::Stable => {
                self.members.contains_key(member_id) || self.members.len() < max_size
            }
        }
    }

    fn supports(&self, join: &Join) -> bool {
        if self.state == State::Empty {
            return !join.protocol_type.is_empty() && !join.protocols.is_empty();
        }
        self.protocol_type.as_ref() == Some(&join.protocol_type)
            && join.protocols.iter().any(|(name, _)| self.all_offer(name))
    }

    pub(super) fn all_offer(&self, protocol: &str) -> bool {
        self.members.values().all(|member| member.protocols.iter().any(|(name, _)| name.as_ref() == protocol))
    }

    fn join_new(&mut self, join: Join, now: Now, config: &GroupConfig, out: &mut Output) {
        let prefix = join.instance_id.as_ref().unwrap_or(&join.client_id);
        let new_id: Arc<str> = Arc::from(format!("{prefix}-{}", join.fresh_uuid));
        match &join.instance_id {
            Some(instance_id) => match self.static_members.get(instance_id).cloned() {
                Some(old_id) => self.replace_static(&old_id, new_id, join, now, config, out),
                None => self.add_member(new_id, join, now, config, out),
            },
            None if join.version >= 4 => {
                let lapses = now.ticks_ms.saturating_add(i64::from(join.session_timeout_ms));
                self.pending.insert(Arc::clone(&new_id), lapses);
                out.joins.push((join.ticket, JoinAnswer::error(ErrorCode::MemberIdRequired, new_id)));
            }
            None => self.add_member(new_id, join, now, config, out),
        }
    }

    fn rejoin(&mut self, join: Join, now: Now, config: &GroupConfig, out: &mut Output) {
        let Some(member) = self.members.get(&join.member_id) else { return };
        let same = member.protocols == join.protocols;
        let is_leader = self.leader.as_ref() == Some(&join.member_id);
        match self.state {
            State::CompletingRebalance if same => {
                // It may not have got the answer to its first join.
                let members = if is_leader { self.joined_members() } else { Vec::new() };
                out.joins.push((join.ticket, self.join_answer(&join.member_id, members)));
            }
            // A follower with nothing new; the leader rejoins because it wants to assign again.
            State::Stable if same && !is_leader => {
                out.joins.push((join.ticket, self.join_answer(&join.member_id, Vec::new())));
            }
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                self.update_member(join, now, out);
                return self.rebalance_or_complete(now, config, out);
            }
            State::Empty | State::Dead => {
                out.joins.push((join.ticket, JoinAnswer::error(ErrorCode::UnknownMemberId, join.member_id)));
                return;
            }
        }
        if let Some(member) = self.members.get_mut(&join.member_id) {
            member.touch(now.ticks_ms);
        }
    }

    fn update_member(&mut self, join: Join, now: Now, out: &mut Output) {
        let Some(member) = self.members.get_mut(&join.member_id) else { return };
        member.protocols = join.protocols;
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.session_timeout_ms = join.session_timeout_ms;
        member.touch(now.ticks_ms);
        if let Some(earlier) = member.join.replace(join.ticket) {
            // The same member asks again: its first connection is gone, but an answer is owed.
            out.joins.push((earlier, JoinAnswer::error(ErrorCode::RebalanceInProgress, join.member_id)));
        }
    }

    fn add_member(&mut self, id: Arc<str>, join: Join, now: Now, config: &GroupConfig, out: &mut Output) {
        if self.state == State::PreparingRebalance && self.previous_state == State::Empty {
            self.new_member_added = true;
        }
        self.pending.remove(&id);
        if self.members.is_empty() {
            self.protocol_type = Some(Arc::clone(&join.protocol_type));
        }
        self.leader.get_or_insert_with(|| Arc::clone(&id));
        if let Some(instance_id) = &join.instance_id {
            self.static_members.insert(Arc::clone(instance_id), Arc::clone(&id));
        }
        self.members.insert(
            Arc::clone(&id),
            Member {
                id,
                instance_id: join.instance_id,
                client_id: join.client_id,
                client_host: join.client_host,
                rebalance_timeout_ms: join.rebalance_timeout_ms,
                session_timeout_ms: join.session_timeout_ms,
                protocols: join.protocols,
                assignment: Bytes::new(),
                is_new: true,
                join: Some(join.ticket),
                sync: None,
                // It cannot send heartbeats before it has its answer, so its session is bounded by the join instead.
                session_deadline: now.ticks_ms.saturating_add(config.new_member_join_timeout_ms),
            },
        );
        self.rebalance_or_complete(now, config, out);
    }

    /// A known instance under a new member id: the old id is fenced. A stable group whose protocol stays the same keeps
    /// its generation; the new id is written first.
    fn replace_static(
        &mut self,
        old_id: &Arc<str>,
        new_id: Arc<str>,
        join: Join,
        now: Now,
        config: &GroupConfig,
        out: &mut Output,
    ) {
        let Some(old) = self.members.remove(old_id) else { return };
        let old_leader = self.leader.clone().unwrap_or_else(|| Arc::from(""));
        if let Some(ticket) = old.join {
            out.joins.push((ticket, JoinAnswer::error(ErrorCode::FencedInstanceId, Arc::clone(old_id))));
        }
        if let Some(ticket) = old.sync {
            out.syncs.push((ticket, SyncAnswer::error(ErrorCode::FencedInstanceId)));
        }
        self.pending_sync.remove(old_id);
        let mut old = old;
        old.join = None;
        old.sync = None;
        let mut member = old.clone();
        member.id = Arc::clone(&new_id);
        member.client_id = join.client_id;
        member.client_host = join.client_host;
        member.protocols = join.protocols;
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.session_timeout_ms = join.session_timeout_ms;
        member.join = Some(join.ticket);
        member.touch(now.ticks_ms);
        self.insert_in_place_of(old_id, member);
        match self.state {
            State::Stable if self.select_protocol() == self.protocol => {
                out.records.push(self.record(self.to_value()));
                out.continuation = Some(Continuation::StaticMember {
                    group: Arc::clone(&self.id),
                    old: Box::new(old),
                    new_member_id: new_id,
                    old_leader,
                    ticket: join.ticket,
                    skips_assignment: join.version >= 9,
                });
            }
            // The old id may already be with the leader for assignment: only a new generation mends that.
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(now, config, out),
            State::PreparingRebalance => self.complete_if_all_joined(now, out),
            State::Empty | State::Dead => {}
        }
    }

    pub(super) fn insert_in_place_of(&mut self, old_id: &Arc<str>, member: Member) {
        if self.leader.as_ref() == Some(old_id) {
            self.leader = Some(Arc::clone(&member.id));
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(Arc::clone(instance_id), Arc::clone(&member.id));
        }
        self.members.insert(Arc::clone(&member.id), member);
    }
}
