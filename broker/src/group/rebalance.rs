//! How a classic group passes from generation to generation, and its timers.
//!
//! A rebalance starts when a member joins, changes, leaves or falls silent. The join phase ends when all known members
//! have joined, or in time: after `group.initial.rebalance.delay.ms` for a group that was empty, else after the longest
//! rebalance timeout of its members. Then the generation counts up, the members are answered, and the leader assigns.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::Now;
use protocol::api::ErrorCode;

use super::classic::{ClassicGroup, JoinTimer, State};
use super::config::GroupConfig;
use super::output::{Continuation, JoinAnswer, Output, SyncAnswer};

impl ClassicGroup {
    fn transition(&mut self, to: State, now: Now) {
        debug_assert!(
            matches!(
                (self.state, to),
                (State::Stable | State::CompletingRebalance | State::Empty, State::PreparingRebalance)
                    | (State::PreparingRebalance, State::CompletingRebalance | State::Empty)
                    | (State::CompletingRebalance, State::Stable)
            ),
            "group {} may not go from {:?} to {to:?}",
            self.id,
            self.state
        );
        self.previous_state = self.state;
        self.state = to;
        self.state_timestamp = Some(now.wall_ms);
    }

    /// Starts a rebalance if none is under way, else ends its join phase if that is possible now.
    pub(super) fn rebalance_or_complete(&mut self, now: Now, config: &GroupConfig, out: &mut Output) {
        match self.state {
            State::Stable | State::CompletingRebalance | State::Empty => self.prepare_rebalance(now, config, out),
            State::PreparingRebalance => self.complete_if_all_joined(now, out),
            State::Dead => {}
        }
    }

    pub(super) fn prepare_rebalance(&mut self, now: Now, config: &GroupConfig, out: &mut Output) {
        if self.state == State::CompletingRebalance {
            self.fail_syncs(ErrorCode::RebalanceInProgress, now, out);
        }
        self.sync_deadline = None;
        let initial = self.state == State::Empty;
        self.transition(State::PreparingRebalance, now);
        if !initial {
            if self.all_joined() {
                self.complete_join(now, out);
            } else {
                self.join_timer = Some(self.rebalance_timer(now));
            }
            return;
        }
        let delay_ms = config.initial_rebalance_delay_ms;
        self.new_member_added = false;
        if delay_ms == 0 {
            self.complete_join(now, out);
        } else {
            let remaining_ms = self.rebalance_timeout_ms().saturating_sub(delay_ms).max(0);
            self.join_timer = Some(JoinTimer::Initial { at: now.ticks_ms + delay_ms, delay_ms, remaining_ms });
        }
    }

    fn rebalance_timer(&self, now: Now) -> JoinTimer {
        JoinTimer::Rebalance { at: now.ticks_ms.saturating_add(self.rebalance_timeout_ms()) }
    }

    /// The longest rebalance timeout of the members.
    fn rebalance_timeout_ms(&self) -> i64 {
        self.members.values().map(|member| i64::from(member.rebalance_timeout_ms)).max().unwrap_or(0).max(0)
    }

    fn all_joined(&self) -> bool {
        self.pending.is_empty() && self.members.values().all(|member| member.join.is_some())
    }

    /// Ends the join phase when everybody is there; a group that was empty waits out its delay instead.
    pub(super) fn complete_if_all_joined(&mut self, now: Now, out: &mut Output) {
        if self.state == State::PreparingRebalance && self.previous_state != State::Empty && self.all_joined() {
            self.complete_join(now, out);
        }
    }

    /// Ends the join phase: drops dynamic members that did not come, counts the generation up and answers the others.
    fn complete_join(&mut self, now: Now, out: &mut Output) {
        self.join_timer = None;
        let absent: Vec<Arc<str>> = self
            .members
            .values()
            .filter(|member| member.join.is_none() && member.instance_id.is_none())
            .map(|member| Arc::clone(&member.id))
            .collect();
        for id in absent {
            self.remove_member(&id, out);
        }
        if !self.members.is_empty() && !self.elect_joined_leader() {
            // Only static members are left and none came: wait until their sessions end or they come back.
            self.join_timer = Some(self.rebalance_timer(now));
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.pending_sync.clear();
        self.assignment_in_flight = false;
        if self.members.is_empty() {
            self.protocol = None;
            self.subscribed_topics = self.subscriptions();
            self.transition(State::Empty, now);
            out.records.push(self.record(self.to_value()));
            return;
        }
        self.protocol = self.select_protocol();
        self.subscribed_topics = self.subscriptions();
        self.transition(State::CompletingRebalance, now);
        self.answer_joins(now, out);
        self.sync_deadline = Some(now.ticks_ms.saturating_add(self.rebalance_timeout_ms()));
    }

    fn answer_joins(&mut self, now: Now, out: &mut Output) {
        let everyone = self.joined_members();
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            let is_leader = self.leader.as_ref() == Some(&id);
            let answer = self.join_answer(&id, if is_leader { everyone.clone() } else { Vec::new() });
            let Some(member) = self.members.get_mut(&id) else { continue };
            if let Some(ticket) = member.join.take() {
                out.joins.push((ticket, answer));
                // A static member that did not come keeps its old session: nobody has heard of it.
                member.touch(now.ticks_ms);
            }
            member.is_new = false;
            self.pending_sync.insert(id);
        }
    }

    /// The leader if it came back, else any member that did; false when nobody did.
    fn elect_joined_leader(&mut self) -> bool {
        let came = |id: &Arc<str>| self.members.get(id).is_some_and(|member| member.join.is_some());
        if self.leader.as_ref().is_some_and(came) {
            return true;
        }
        match self.members.values().find(|member| member.join.is_some()) {
            Some(member) => {
                self.leader = Some(Arc::clone(&member.id));
                true
            }
            None => false,
        }
    }

    /// The protocol with most votes among those that all members offer; ties go to the name that sorts last.
    pub(super) fn select_protocol(&self) -> Option<Arc<str>> {
        let offered = &self.members.values().next()?.protocols;
        let shared: Vec<&str> =
            offered.iter().map(|(name, _)| name.as_ref()).filter(|name| self.all_offer(name)).collect();
        let mut votes = BTreeMap::<&Arc<str>, usize>::new();
        for member in self.members.values() {
            if let Some(choice) = member.vote(|name| shared.contains(&name)) {
                *votes.entry(choice).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| Arc::clone(name))
    }

    /// Whoever waits for the group is told that it must join again: the group becomes another.
    pub(super) fn fail_waiting(&self, out: &mut Output) {
        let error = ErrorCode::RebalanceInProgress;
        for member in self.members.values() {
            out.joins.extend(member.join.map(|ticket| (ticket, JoinAnswer::error(error, Arc::clone(&member.id)))));
            out.syncs.extend(member.sync.map(|ticket| (ticket, SyncAnswer::error(error))));
        }
    }

    fn fail_syncs(&mut self, error: ErrorCode, now: Now, out: &mut Output) {
        for member in self.members.values_mut() {
            if let Some(ticket) = member.sync.take() {
                member.touch(now.ticks_ms);
                out.syncs.push((ticket, SyncAnswer::error(error)));
            }
        }
    }

    /// Takes a member out, answering what it waits for; false when it is not a member. The caller then calls
    /// [`ClassicGroup::after_removal`].
    pub(super) fn remove_member(&mut self, id: &Arc<str>, out: &mut Output) -> bool {
        let Some(member) = self.members.remove(id) else { return false };
        if let Some(ticket) = member.join {
            out.joins.push((ticket, JoinAnswer::error(ErrorCode::UnknownMemberId, Arc::from(""))));
        }
        if let Some(ticket) = member.sync {
            out.syncs.push((ticket, SyncAnswer::error(ErrorCode::UnknownMemberId)));
        }
        if let Some(instance_id) = &member.instance_id
            && self.static_members.get(instance_id) == Some(id)
        {
            self.static_members.remove(instance_id);
        }
        self.pending_sync.remove(id);
        if self.leader.as_ref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
        true
    }

    /// What follows when members have gone, or only pending ids: those are in no generation, so that nothing needs to be
    /// assigned anew, but a join phase may have waited for them.
    pub(super) fn after_removal(&mut self, members_left: bool, now: Now, config: &GroupConfig, out: &mut Output) {
        match self.state {
            State::Stable | State::CompletingRebalance if members_left => self.prepare_rebalance(now, config, out),
            State::PreparingRebalance => self.complete_if_all_joined(now, out),
            _ => {}
        }
    }

    /// The records of an operation of this group are durable (`Ok`), or could not be written.
    pub fn stored(
        &mut self,
        continuation: Continuation,
        result: Result<(), ErrorCode>,
        now: Now,
        config: &GroupConfig,
        out: &mut Output,
    ) {
        match continuation {
            Continuation::Assignment { generation, assignments, .. } => {
                if generation == self.generation {
                    self.assignment_in_flight = false;
                }
                // Another member may have joined meanwhile: then there is a new generation to come, and nothing to do.
                if self.state != State::CompletingRebalance || generation != self.generation {
                    return;
                }
                if let Err(error) = result {
                    self.fail_syncs(error, now, out);
                    return self.prepare_rebalance(now, config, out);
                }
                for member in self.members.values_mut() {
                    member.assignment = assignments.get(&member.id).cloned().unwrap_or_default();
                }
                self.transition(State::Stable, now);
                let waiting: Vec<_> =
                    self.members.values().filter_map(|member| Some((member.sync?, Arc::clone(&member.id)))).collect();
                for (ticket, id) in waiting {
                    let answer = self.sync_answer(&id);
                    out.syncs.push((ticket, answer));
                    if let Some(member) = self.members.get_mut(&id) {
                        member.sync = None;
                        member.touch(now.ticks_ms);
                    }
                }
            }
            Continuation::StaticMember { old, new_member_id, old_leader, ticket, skips_assignment, .. } => {
                let Some(member) = self.members.get_mut(&new_member_id) else { return };
                if member.join != Some(ticket) {
                    return; // answered by a rebalance that came between
                }
                if self.state != State::Stable {
                    return; // the rebalance that is under way answers it
                }
                member.join = None;
                member.touch(now.ticks_ms);
                if let Err(error) = result {
                    self.members.remove(&new_member_id);
                    let mut old = *old;
                    old.touch(now.ticks_ms);
                    self.insert_in_place_of(&new_member_id, old);
                    out.joins.push((ticket, JoinAnswer::error(error, Arc::from(""))));
                    return;
                }
                let is_leader = self.leader.as_ref() == Some(&new_member_id);
                let members = if is_leader && skips_assignment { self.joined_members() } else { Vec::new() };
                let mut answer = self.join_answer(&new_member_id, members);
                answer.skip_assignment = is_leader && skips_assignment;
                if !skips_assignment {
                    // An old client that found itself the leader would assign anew; the old id hides that from it.
                    answer.leader = old_leader;
                }
                out.joins.push((ticket, answer));
            }
            Continuation::Apply | Continuation::AheadOfLog | Continuation::Pending | Continuation::End { .. } => {}
        }
    }

    /// Does what is due at `now`: sessions, pending ids, the ends of the join and the sync phase.
    pub fn expire(&mut self, now: Now, config: &GroupConfig, out: &mut Output) {
        let lapsed: Vec<Arc<str>> =
            self.pending.iter().filter(|(_, at)| **at <= now.ticks_ms).map(|(id, _)| Arc::clone(id)).collect();
        for id in &lapsed {
            self.pending.remove(id);
        }
        let mut silent = Vec::new();
        for member in self.members.values_mut().filter(|member| member.session_deadline <= now.ticks_ms) {
            if !member.is_new && (member.join.is_some() || member.sync.is_some()) {
                // It waits for us, so it cannot be expected to send heartbeats.
                member.touch(now.ticks_ms);
            } else {
                silent.push(Arc::clone(&member.id));
            }
        }
        for id in &silent {
            self.remove_member(id, out);
        }
        if !lapsed.is_empty() || !silent.is_empty() {
            self.after_removal(!silent.is_empty(), now, config, out);
        }
        if let Some(timer) = self.join_timer.filter(|timer| timer.at() <= now.ticks_ms) {
            self.join_timer_due(timer, now, config, out);
        }
        if self.sync_deadline.is_some_and(|at| at <= now.ticks_ms) {
            self.sync_deadline = None;
            let missing: Vec<Arc<str>> = self.pending_sync.iter().cloned().collect();
            for id in &missing {
                self.remove_member(id, out);
            }
            if !missing.is_empty() {
                self.after_removal(true, now, config, out);
            }
        }
    }

    fn join_timer_due(&mut self, timer: JoinTimer, now: Now, config: &GroupConfig, out: &mut Output) {
        self.join_timer = None;
        match timer {
            JoinTimer::Initial { delay_ms, remaining_ms, .. } if self.new_member_added && remaining_ms > 0 => {
                self.new_member_added = false;
                let next = config.initial_rebalance_delay_ms.min(remaining_ms);
                self.join_timer = Some(JoinTimer::Initial {
                    at: now.ticks_ms + next,
                    delay_ms: next,
                    remaining_ms: (remaining_ms - delay_ms).max(0),
                });
            }
            _ => self.complete_join(now, out),
        }
    }

    /// When [`ClassicGroup::expire`] has something to do, in ticks.
    pub fn next_deadline(&self) -> Option<i64> {
        let sessions = self.members.values().map(|member| member.session_deadline);
        let pending = self.pending.values().copied();
        let phases = self.join_timer.map(JoinTimer::at).into_iter().chain(self.sync_deadline);
        sessions.chain(pending).chain(phases).min()
    }
}
