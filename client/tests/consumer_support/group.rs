//! The classic group coordinator of the fake brokers, and committed offsets.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::api::messages::join_group_response::JoinGroupResponseMember;
use protocol::api::messages::leave_group_response::MemberResponse;
use protocol::api::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use protocol::api::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use protocol::api::messages::{
    ConsumerGroupHeartbeatResponse, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest,
    OffsetFetchResponse, SyncGroupRequest, SyncGroupResponse,
};
use protocol::api::{ErrorCode, FetchResponse, Request, Response};

use super::{State, text};

#[derive(Default)]
pub struct FakeGroup {
    pub generation: i32,
    pub members: BTreeMap<String, FakeMember>,
    pub leader: String,
    pub protocol: String,
    /// Members are being waited for.
    pub rebalancing: bool,
    /// The leader's assignment came.
    pub synced: bool,
}

#[derive(Default)]
pub struct FakeMember {
    pub protocols: Vec<(String, Bytes)>,
    pub joined: bool,
    pub answered: bool,
    pub assignment: Bytes,
    pub alive_until: i64,
    pub session_ms: i64,
}

impl State {
    /// The member's session is renewed by whatever it sends.
    fn touch(&mut self, group: &str, member: &str) {
        let now = self.now_ms;
        if let Some(member) = self.groups.get_mut(group).and_then(|group| group.members.get_mut(member)) {
            member.alive_until = now + member.session_ms;
        }
    }

    pub fn expire_members(&mut self) {
        for group in self.groups.values_mut() {
            let before = group.members.len();
            group.members.retain(|_, member| member.alive_until > self.now_ms || member.joined);
            group.rebalancing |= group.members.len() != before;
            group.complete();
        }
    }

    pub fn join_begin(&mut self, request: &JoinGroupRequest) {
        let id = request.member_id.to_string();
        let now = self.now_ms;
        let group = self.groups.entry(request.group_id.to_string()).or_default();
        if id.is_empty() || (!group.members.contains_key(&id) && !id.ends_with("-new")) {
            return;
        }
        let id = id.trim_end_matches("-new").to_owned();
        let member = group.members.entry(id).or_default();
        member.session_ms = i64::from(request.session_timeout_ms);
        member.alive_until = now + member.session_ms;
        member.protocols =
            request.protocols.iter().map(|known| (known.name.to_string(), known.metadata.clone())).collect();
        (member.joined, member.answered) = (true, false);
        group.rebalancing = true;
        group.complete();
    }

    pub fn join_answer(&mut self, request: &JoinGroupRequest, node: i32) -> Option<JoinGroupResponse> {
        let mut response = JoinGroupResponse::default();
        if node != self.coordinator {
            response.error_code = ErrorCode::NotCoordinator.code();
            return Some(response);
        }
        if request.member_id.is_empty() {
            self.next_id += 1;
            response.error_code = ErrorCode::MemberIdRequired.code();
            response.member_id = text(&format!("m{}-new", self.next_id));
            return Some(response);
        }
        let id = request.member_id.trim_end_matches("-new").to_owned();
        let group = self.groups.entry(request.group_id.to_string()).or_default();
        let Some(member) = group.members.get_mut(&id) else {
            response.error_code = ErrorCode::UnknownMemberId.code();
            return Some(response);
        };
        if group.rebalancing {
            return None;
        }
        (member.joined, member.answered) = (false, true);
        response.generation_id = group.generation;
        response.protocol_type = Some(text("consumer"));
        response.protocol_name = Some(text(&group.protocol));
        response.leader = text(&group.leader);
        response.member_id = text(&id);
        if group.leader == id {
            for (id, member) in &group.members {
                let mut listed = JoinGroupResponseMember::default();
                listed.member_id = text(id);
                let metadata = member.protocols.iter().find(|(name, _)| *name == group.protocol);
                listed.metadata = metadata.map(|(_, metadata)| metadata.clone()).unwrap_or_default();
                response.members.push(listed);
            }
        }
        Some(response)
    }

    pub fn sync_begin(&mut self, request: &SyncGroupRequest) {
        let Some(group) = self.groups.get_mut(request.group_id.as_str()) else { return };
        if request.generation_id != group.generation || group.rebalancing {
            return;
        }
        if request.member_id.as_str() == group.leader {
            group.members.values_mut().for_each(|member| member.assignment = Bytes::new());
            for assignment in &request.assignments {
                if let Some(member) = group.members.get_mut(assignment.member_id.as_str()) {
                    member.assignment = assignment.assignment.clone();
                }
            }
            group.synced = true;
        }
    }

    pub fn sync_answer(&mut self, request: &SyncGroupRequest, node: i32) -> Option<SyncGroupResponse> {
        let mut response = SyncGroupResponse::default();
        let code = self.member_code(&request.group_id, &request.member_id, request.generation_id, node);
        if code.is_error() {
            response.error_code = code.code();
            return Some(response);
        }
        self.touch(&request.group_id, &request.member_id);
        let group = &self.groups[request.group_id.as_str()];
        if !group.synced {
            return None;
        }
        response.assignment = group.members[request.member_id.as_str()].assignment.clone();
        Some(response)
    }

    fn member_code(&self, group: &str, member: &str, generation: i32, node: i32) -> ErrorCode {
        if node != self.coordinator {
            return ErrorCode::NotCoordinator;
        }
        match self.groups.get(group) {
            Some(group) if group.members.contains_key(member) => {
                if group.generation != generation {
                    ErrorCode::IllegalGeneration
                } else if group.rebalancing {
                    ErrorCode::RebalanceInProgress
                } else {
                    ErrorCode::None
                }
            }
            _ => ErrorCode::UnknownMemberId,
        }
    }

    pub fn heartbeat(&mut self, request: &HeartbeatRequest, node: i32) -> HeartbeatResponse {
        let mut response = HeartbeatResponse::default();
        let code = self.member_code(&request.group_id, &request.member_id, request.generation_id, node);
        response.error_code = code.code();
        self.touch(&request.group_id, &request.member_id);
        response
    }

    pub fn leave(&mut self, request: &LeaveGroupRequest) -> LeaveGroupResponse {
        let mut response = LeaveGroupResponse::default();
        let group = self.groups.entry(request.group_id.to_string()).or_default();
        for leaving in &request.members {
            let mut answer = MemberResponse::default();
            answer.member_id = leaving.member_id.clone();
            if group.members.remove(leaving.member_id.as_str()).is_none() {
                answer.error_code = ErrorCode::UnknownMemberId.code();
            }
            response.members.push(answer);
        }
        group.rebalancing = !group.members.is_empty();
        group.complete();
        response
    }

    pub fn commit(&mut self, request: &OffsetCommitRequest, node: i32) -> OffsetCommitResponse {
        let epoch = request.generation_id_or_member_epoch;
        let code = if node == self.coordinator && self.modern.contains_key(request.group_id.as_str()) {
            self.modern_code(&request.group_id, &request.member_id, epoch)
        } else if epoch < 0 && node == self.coordinator {
            ErrorCode::None
        } else {
            let generation = request.generation_id_or_member_epoch;
            match self.member_code(&request.group_id, &request.member_id, generation, node) {
                ErrorCode::RebalanceInProgress => ErrorCode::None,
                code => code,
            }
        };
        if code.is_ok() {
            for topic in &request.topics {
                for partition in &topic.partitions {
                    let key = (request.group_id.to_string(), topic.name.to_string(), partition.partition_index);
                    let metadata = partition.committed_metadata.as_ref().map(ToString::to_string).unwrap_or_default();
                    self.committed
                        .insert(key, (partition.committed_offset, partition.committed_leader_epoch, metadata));
                }
            }
        }
        commit_response(request, code)
    }

    pub fn offset_fetch(&self, request: &OffsetFetchRequest, node: i32) -> OffsetFetchResponse {
        let mut response = OffsetFetchResponse::default();
        for asked in &request.groups {
            let mut group = OffsetFetchResponseGroup::default();
            group.group_id = asked.group_id.clone();
            if node != self.coordinator {
                group.error_code = ErrorCode::NotCoordinator.code();
            } else if let Some(member) = &asked.member_id {
                group.error_code = self.modern_code(&asked.group_id, member, asked.member_epoch).code();
            }
            for topic in asked.topics.iter().flatten() {
                let mut of_topic = OffsetFetchResponseTopics::default();
                of_topic.name = topic.name.clone();
                for index in &topic.partition_indexes {
                    let mut partition = OffsetFetchResponsePartitions::default();
                    let key = (asked.group_id.to_string(), topic.name.to_string(), *index);
                    partition.partition_index = *index;
                    let nothing = (-1, -1, String::new());
                    let (offset, epoch, metadata) = self.committed.get(&key).cloned().unwrap_or(nothing);
                    (partition.committed_offset, partition.committed_leader_epoch) = (offset, epoch);
                    partition.metadata = Some(text(&metadata));
                    of_topic.partitions.push(partition);
                }
                group.topics.push(of_topic);
            }
            response.groups.push(group);
        }
        response
    }

    fn refused_fetch(&self, request: &OffsetFetchRequest, code: ErrorCode) -> OffsetFetchResponse {
        let mut response = self.offset_fetch(request, self.coordinator);
        response.groups.iter_mut().for_each(|group| group.error_code = code.code());
        response
    }

    pub fn refusal(&self, request: &Request, code: ErrorCode) -> Response {
        match request {
            Request::OffsetCommit(request) => Response::OffsetCommit(commit_response(request, code)),
            Request::Heartbeat(_) => {
                let mut response = HeartbeatResponse::default();
                response.error_code = code.code();
                Response::Heartbeat(response)
            }
            Request::ConsumerGroupHeartbeat(_) => {
                let mut response = ConsumerGroupHeartbeatResponse::default();
                response.error_code = code.code();
                response.error_message = Some(text("told to"));
                Response::ConsumerGroupHeartbeat(response)
            }
            Request::OffsetFetch(request) => Response::OffsetFetch(self.refused_fetch(request, code)),
            Request::JoinGroup(_) => {
                let mut response = JoinGroupResponse::default();
                response.error_code = code.code();
                Response::JoinGroup(response)
            }
            Request::SyncGroup(_) => {
                let mut response = SyncGroupResponse::default();
                response.error_code = code.code();
                Response::SyncGroup(response)
            }
            Request::Fetch(_) => Response::Fetch(FetchResponse { error_code: code, ..FetchResponse::default() }),
            other => panic!("no refusal of {:?}", other.api_key()),
        }
    }
}

fn commit_response(request: &OffsetCommitRequest, code: ErrorCode) -> OffsetCommitResponse {
    let mut response = OffsetCommitResponse::default();
    for topic in &request.topics {
        let mut of_topic = OffsetCommitResponseTopic::default();
        of_topic.name = topic.name.clone();
        for partition in &topic.partitions {
            let mut answer = OffsetCommitResponsePartition::default();
            answer.partition_index = partition.partition_index;
            answer.error_code = code.code();
            of_topic.partitions.push(answer);
        }
        response.topics.push(of_topic);
    }
    response
}

impl FakeGroup {
    /// Begins the next generation once everybody has joined.
    fn complete(&mut self) {
        if !self.rebalancing || self.members.is_empty() || !self.members.values().all(|member| member.joined) {
            return;
        }
        self.rebalancing = false;
        self.synced = false;
        self.generation += 1;
        let (id, first) = self.members.iter().next().map(|(id, member)| (id.clone(), member)).unwrap();
        if !self.members.contains_key(&self.leader) {
            self.leader = id;
        }
        let shared =
            |name: &String| self.members.values().all(|member| member.protocols.iter().any(|(known, _)| known == name));
        self.protocol = first.protocols.iter().map(|(name, _)| name).find(|name| shared(name)).unwrap().clone();
    }
}
