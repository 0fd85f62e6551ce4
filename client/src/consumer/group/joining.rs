//! From the join to the assignment: JoinGroup, the share-out by the leader, SyncGroup.

use std::sync::Arc;

use base::TopicName;
use bytes::Bytes;
use protocol::api::messages::join_group_request::JoinGroupRequestProtocol;
use protocol::api::messages::sync_group_request::SyncGroupRequestAssignment;
use protocol::api::messages::{GroupId, JoinGroupRequest, JoinGroupResponse, SyncGroupRequest};
use protocol::api::{ApiKey, ErrorCode, Request};

use super::{Group, State};
use crate::client::Lane;
use crate::client::Lookup;
use crate::connection::Connection;
use crate::consumer::assignor::{
    Assignment, Assignor, ClusterMetadata, GroupAssignment, GroupMember, GroupSubscription, Subscription,
};
use crate::consumer::commits::coordinator;
use crate::consumer::core::Context;
use crate::consumer::embedded_protocol::{
    decode_assignment, decode_subscription, encode_assignment, encode_subscription,
};
use crate::consumer::membership::Wanted;
use crate::consumer::types::GroupMetadata;
use crate::error::ClientError;
use crate::step::Step;
use crate::wire::{expect_response, text};

const PROTOCOL_TYPE: &str = "consumer";

/// For how long JoinGroup and SyncGroup may be answered late: the broker waits for all members, at most the longest of their
/// `max.poll.interval.ms`.
fn rebalance_timeout_ms(context: &Context<'_>) -> i64 {
    let timeout_ms = i64::from(context.config.max_poll_interval_ms).saturating_add(5_000);
    timeout_ms.max(context.client.config().request_timeout_ms)
}

impl Group {
    /// Sends JoinGroup, or takes its answer.
    pub(super) fn joining(&mut self, context: &mut Context<'_>, lane: &Lane) -> Step {
        if matches!(self.state, State::Joining { call: None }) {
            if self.topics.is_empty() && matches!(self.wanted, Wanted::Names) {
                self.state = State::Idle;
                return Step::IDLE;
            }
            if context.now.ticks_ms < self.not_before {
                return Step::at(self.not_before);
            }
            let (connection, version) = match self.reach_coordinator(context, lane, ApiKey::JoinGroup) {
                Ok(reached) => reached,
                Err(step) => return step,
            };
            let reason = self.rejoin.take();
            self.session.end();
            let request = join_request(context, &self.member, &mut self.assignors, &self.topics, version, reason);
            let timeout_ms = rebalance_timeout_ms(context);
            let sent = connection.send_within(Request::JoinGroup(request), version, timeout_ms, context.now);
            self.state = State::Joining { call: Some(sent) };
        }
        let State::Joining { call: Some(call) } = &mut self.state else { return Step::IDLE };
        let Some(result) = call.poll(context.now, context.waker) else { return Step::at(call.deadline_ticks_ms()) };
        let address = call.connection().address().to_owned();
        self.state = State::Joining { call: None };
        let response = match result.and_then(|response| expect_response!(response, JoinGroup, &address)) {
            Ok(response) => response,
            Err(error) => return self.again(context, ErrorCode::NetworkException, &error.to_string()),
        };
        self.joined(context, response)
    }

    /// The coordinator's connection and the version in which it takes `api`; without them, how the step ends.
    fn reach_coordinator(
        &mut self,
        context: &mut Context<'_>,
        lane: &Lane,
        api: ApiKey,
    ) -> Result<(Arc<Connection>, i16), Step> {
        let connection = match coordinator(context, lane, &self.member.group_id) {
            Lookup::Ready(connection) => connection,
            Lookup::Wait { until_ticks_ms } => {
                return Err(Step { did_work: false, next_wake_ticks_ms: until_ticks_ms });
            }
            Lookup::Failed(error) => return Err(self.refuse(context, error)),
        };
        match connection.version(api) {
            Ok(version) => Ok((connection, version)),
            Err(error) => Err(self.refuse(context, error)),
        }
    }

    fn joined(&mut self, context: &mut Context<'_>, response: JoinGroupResponse) -> Step {
        let done = Step { did_work: true, next_wake_ticks_ms: None };
        match ErrorCode::from_code(response.error_code) {
            ErrorCode::None => {}
            ErrorCode::MemberIdRequired => {
                self.member.member_id = response.member_id.to_string();
                // Asked for again at once, as the broker told.
                self.not_before = i64::MIN;
                self.state = State::Joining { call: None };
                return done;
            }
            ErrorCode::FencedInstanceId => {
                self.fence(context);
                return done;
            }
            code @ (ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => {
                self.reset(code == ErrorCode::UnknownMemberId);
                self.prepare();
                return done;
            }
            code if code.is_retriable() || code == ErrorCode::RebalanceInProgress => {
                return self.again(context, code, "");
            }
            code => {
                let error = ClientError::broker(format!("joining group {}", self.member.group_id), code, None);
                return self.refuse(context, error);
            }
        }
        self.backoff.reset();
        self.member.generation = response.generation_id;
        self.member.member_id = response.member_id.to_string();
        let chosen = response.protocol_name.as_ref().map(ToString::to_string).unwrap_or_default();
        let Some(index) = self.assignors.iter().position(|assignor| assignor.name() == chosen) else {
            let error = ClientError::malformed("group coordinator", format!("chose the unknown assignor {chosen}"));
            return self.refuse(context, error);
        };
        self.chosen = index;
        self.session.begin(self.member.clone(), context.now);
        self.assigned_from = None;
        let leads = response.leader.as_str() == self.member.member_id && !response.skip_assignment;
        tracing::info!(group = self.member.group_id, generation = self.member.generation, leads, "joined");
        if !leads {
            self.state = State::Syncing { call: None, assignments: Vec::new() };
            return done;
        }
        let mut members = GroupSubscription::default();
        for member in response.members {
            let subscription = match decode_subscription(&member.metadata) {
                Ok(subscription) => subscription,
                Err(error) => {
                    tracing::warn!(member = %member.member_id, %error, "a member's subscription cannot be read");
                    Subscription::default()
                }
            };
            let group_instance_id = member.group_instance_id.map(|id| id.to_string());
            members.members.insert(member.member_id.to_string(), GroupMember { group_instance_id, subscription });
        }
        for topic in members.topics() {
            context.client.want_topic(&topic);
        }
        self.state = State::Assigning { members, index, asked_at_version: context.metadata.version };
        done
    }

    /// Runs the assignor as soon as the metadata of all topics is there.
    pub(super) fn assigning(&mut self, context: &mut Context<'_>) -> Step {
        let State::Assigning { members, index, asked_at_version } = &self.state else { return Step::IDLE };
        let topics = members.topics();
        let known = |topic: &TopicName| {
            context.metadata.topics.contains_key(topic)
                || (context.metadata.missing.contains_key(topic) && context.metadata.version > *asked_at_version)
        };
        if !topics.iter().all(known) {
            context.client.refresh_metadata();
            return Step::IDLE;
        }
        let cluster = ClusterMetadata::new(Arc::clone(context.metadata));
        let polled = self.assignors[*index].assign(members, &cluster, context.now, context.waker);
        let assignment: GroupAssignment = match polled {
            std::task::Poll::Pending => return Step::IDLE,
            std::task::Poll::Ready(Ok(assignment)) => assignment,
            std::task::Poll::Ready(Err(error)) => {
                self.session.end();
                return self.refuse(context, error);
            }
        };
        let counts = topics.into_iter().map(|topic| {
            let count = context.metadata.partition_count(&topic);
            (topic, count)
        });
        self.assigned_from = Some(counts.collect());
        let encode = |(id, assignment): (String, Assignment)| (id, encode_assignment(&assignment));
        self.state = State::Syncing { call: None, assignments: assignment.into_iter().map(encode).collect() };
        Step { did_work: true, next_wake_ticks_ms: None }
    }

    /// Sends SyncGroup, or takes its answer.
    pub(super) fn syncing(&mut self, context: &mut Context<'_>, lane: &Lane) -> Step {
        if matches!(self.state, State::Syncing { call: None, .. }) {
            let (connection, version) = match self.reach_coordinator(context, lane, ApiKey::SyncGroup) {
                Ok(reached) => reached,
                Err(step) => return step,
            };
            let State::Syncing { call, assignments } = &mut self.state else { return Step::IDLE };
            let mut request = SyncGroupRequest::default();
            request.group_id = GroupId(text(&self.member.group_id));
            request.generation_id = self.member.generation;
            request.member_id = text(&self.member.member_id);
            request.group_instance_id = self.member.group_instance_id.as_deref().map(text);
            request.protocol_type = Some(text(PROTOCOL_TYPE));
            request.protocol_name = Some(text(self.assignors[self.chosen].name()));
            for (id, bytes) in assignments.drain(..) {
                let mut assignment = SyncGroupRequestAssignment::default();
                assignment.member_id = text(&id);
                assignment.assignment = bytes;
                request.assignments.push(assignment);
            }
            let timeout_ms = rebalance_timeout_ms(context);
            *call = Some(connection.send_within(Request::SyncGroup(request), version, timeout_ms, context.now));
        }
        let State::Syncing { call: Some(sent), .. } = &mut self.state else { return Step::IDLE };
        let Some(result) = sent.poll(context.now, context.waker) else { return Step::at(sent.deadline_ticks_ms()) };
        let address = sent.connection().address().to_owned();
        let step = Step { did_work: true, next_wake_ticks_ms: None };
        let (code, bytes) = match result.and_then(|response| expect_response!(response, SyncGroup, &address)) {
            Ok(response) => (ErrorCode::from_code(response.error_code), response.assignment),
            Err(_) => (ErrorCode::NetworkException, Bytes::new()),
        };
        match code {
            ErrorCode::None => match decode_assignment(&bytes) {
                Ok(assignment) => self.complete(context, assignment),
                Err(error) => return self.refuse(context, ClientError::malformed(&address, error.to_string())),
            },
            ErrorCode::FencedInstanceId => self.fence(context),
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => {
                self.reset(code == ErrorCode::UnknownMemberId);
                self.prepare();
            }
            code if code.is_retriable() || code == ErrorCode::RebalanceInProgress => {
                self.session.end();
                return self.again(context, code, "");
            }
            code => {
                let error = ClientError::broker(format!("syncing group {}", self.member.group_id), code, None);
                return self.refuse(context, error);
            }
        }
        step
    }
}

fn join_request(
    context: &Context<'_>,
    member: &GroupMetadata,
    assignors: &mut [Box<dyn Assignor>],
    topics: &[TopicName],
    version: i16,
    reason: Option<String>,
) -> JoinGroupRequest {
    let mut request = JoinGroupRequest::default();
    request.group_id = GroupId(text(&member.group_id));
    request.session_timeout_ms = context.config.classic_session_timeout_ms();
    request.rebalance_timeout_ms = context.config.max_poll_interval_ms;
    request.member_id = text(&member.member_id);
    request.group_instance_id = member.group_instance_id.as_deref().map(text);
    request.protocol_type = text(PROTOCOL_TYPE);
    if version >= 8 {
        request.reason = reason.as_deref().map(text);
    }
    let rack = &context.config.client_rack;
    for assignor in assignors {
        let subscription = Subscription {
            topics: topics.to_vec(),
            user_data: assignor.subscription_user_data(topics),
            owned: context.partitions.names(),
            generation: (member.generation >= 0).then_some(member.generation),
            rack: (!rack.is_empty()).then(|| rack.clone()),
        };
        let mut protocol = JoinGroupRequestProtocol::default();
        protocol.name = text(assignor.name());
        protocol.metadata = encode_subscription(&subscription);
        request.protocols.push(protocol);
    }
    request
}
