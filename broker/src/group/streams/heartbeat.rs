//! What a heartbeat does in a streams group: a member comes, stays or goes; what changed by it is written; tasks are
//! distributed anew if they must be; and the member takes its next step towards what it is to have.
//!
//! All checks come before the first change: a heartbeat that is refused leaves the group as it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::{Now, Timestamp};
use protocol::api::ErrorCode;
use protocol::api::streams_group_heartbeat::{
    StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse, StreamsGroupStatus, StreamsTopicInfo, StreamsTopology,
    TaskIds,
};
use uuid::Uuid;

use super::assignor;
use super::config::StreamsConfig;
use super::configure::{Configured, Problem, Status, configure, topics_of};
use super::group::StreamsGroup;
use super::member::Member;
use super::reconcile::{Current, MemberState, reconcile};
use super::records::{GroupEpoch, StreamsRecord};
use super::tasks::{TaskIdSet, Tasks, from_wire, to_wire};
use super::{endpoints, topics_hash};
use crate::group::records::GroupRecord;
use crate::group::target_epoch::TargetEpoch;

/// Epoch by which a member says that it leaves; -2 is for static members, who would come back.
const LEAVE: i32 = -1;

/// How many internal topics that could not be made are named to members.
const FAILURES_NAMED: usize = 3;

/// A heartbeat with what is known around it.
pub struct Beat<'a> {
    /// The request, whose own rules have been checked.
    pub request: &'a StreamsGroupHeartbeatRequest,
    /// Client id of the connection.
    pub client_id: Arc<str>,
    /// Address of the connection.
    pub client_host: Arc<str>,
    /// When it came.
    pub now: Now,
    /// Settings of the group.
    pub config: &'a StreamsConfig,
    /// Id and number of partitions of a topic that exists.
    pub topic: &'a dyn Fn(&str) -> Option<(Uuid, i32)>,
}

/// Why a heartbeat is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Code of the response.
    pub code: ErrorCode,
    /// The same in words.
    pub message: String,
}

/// A refusal in these words.
pub fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code, message: message.into() })
}

/// What follows from a heartbeat.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// To be sent once the records are durable.
    pub response: StreamsGroupHeartbeatResponse,
    /// To be written.
    pub records: Vec<GroupRecord>,
    /// Internal topics to be made.
    pub to_create: Vec<StreamsTopicInfo>,
}

/// The topology as of now, and what it asks of the topics.
struct Plan {
    topology: Arc<StreamsTopology>,
    is_new: bool,
    hash: i64,
    configured: Result<Arc<Configured>, Problem>,
}

impl Plan {
    fn problem(&self) -> Option<Problem> {
        match &self.configured {
            Ok(configured) => configured.problem(),
            Err(problem) => Some(problem.clone()),
        }
    }

    fn ready(&self) -> Option<&Arc<Configured>> {
        self.configured.as_ref().ok().filter(|configured| configured.missing.is_empty())
    }
}

impl StreamsGroup {
    /// Takes a heartbeat up.
    ///
    /// # Errors
    /// When the member, its epoch or its topology are not as they must be.
    pub fn heartbeat(&mut self, beat: &Beat<'_>) -> Result<Answer, Refusal> {
        let request = beat.request;
        if request.member_epoch < 0 {
            return self.leave(request);
        }
        let before = self.member_of(beat)?;
        let plan = self.plan(beat)?;
        if let Some(configured) = plan.ready() {
            check_tasks(configured, request)?;
        }
        let joins = request.member_epoch == 0;
        let was_empty = self.members.is_empty();
        let mut statuses = Vec::new();
        let mut records = self.update(beat, &before, &plan, &mut statuses);
        if was_empty && beat.config.initial_rebalance_delay_ms > 0 && self.initial_delay_until.is_none() {
            self.initial_delay_until = Some(beat.now.ticks_ms.saturating_add(beat.config.initial_rebalance_delay_ms));
        }
        let (target_epoch, target) = self.target_for(beat, &mut records, &mut statuses);
        let after = self.step_member(beat, target_epoch, &target, &mut records);
        let mut response = StreamsGroupHeartbeatResponse {
            member_id: Arc::clone(&request.member_id),
            member_epoch: after.epoch,
            heartbeat_interval_ms: beat.config.heartbeat_interval_ms,
            ..StreamsGroupHeartbeatResponse::default()
        };
        if joins || after.assigned != before.current.assigned {
            self.tell_tasks(&request.member_id, &after, &mut response);
        }
        self.tell_endpoints(beat, &mut response);
        let to_create = self.tell_problem(&plan, beat.now.ticks_ms, &mut statuses);
        if request.shutdown_application {
            self.shutdown_requested_by = Some(Arc::clone(&request.member_id));
        }
        if let Some(member) = &self.shutdown_requested_by {
            let detail = format!(
                "Streams group member {member} encountered a fatal error and requested a shutdown for the entire application."
            );
            statuses.push(status(Status::ShutdownApplication, detail));
        }
        response.status = Some(statuses);
        Ok(Answer { response, records, to_create })
    }

    /// A member goes, and its tasks become free.
    fn leave(&mut self, request: &StreamsGroupHeartbeatRequest) -> Result<Answer, Refusal> {
        self.known_member(&request.member_id)?;
        let removals = self.without(std::slice::from_ref(&request.member_id));
        let records = self.take(removals);
        let response = StreamsGroupHeartbeatResponse {
            member_id: Arc::clone(&request.member_id),
            member_epoch: LEAVE,
            status: Some(Vec::new()),
            ..StreamsGroupHeartbeatResponse::default()
        };
        Ok(Answer { response, records, ..Answer::default() })
    }

    fn known_member(&self, id: &str) -> Result<&Member, Refusal> {
        let unknown = || Refusal {
            code: ErrorCode::UnknownMemberId,
            message: format!("Member {id} is not a member of group {}.", self.id),
        };
        self.members.get(id).ok_or_else(unknown)
    }

    /// The member as it is; a new one for a join.
    fn member_of(&self, beat: &Beat<'_>) -> Result<Member, Refusal> {
        let request = beat.request;
        if request.member_epoch == 0 {
            let known = self.members.get(&request.member_id);
            if known.is_none() && self.members.len() >= beat.config.max_size {
                let max = beat.config.max_size;
                let message = format!("The streams group has reached its maximum capacity of {max} members.");
                return refuse(ErrorCode::GroupMaxSizeReached, message);
            }
            return Ok(known.cloned().unwrap_or_default());
        }
        let member = self.known_member(&request.member_id)?;
        let (said, known) = (request.member_epoch, member.current.epoch);
        let relation = match said.cmp(&known) {
            std::cmp::Ordering::Equal => return Ok(member.clone()),
            std::cmp::Ordering::Greater => "greater",
            // The answer with the newer epoch may have been lost: then it has nothing that it should not have.
            std::cmp::Ordering::Less
                if said == member.current.previous_epoch
                    && owned(request).is_some_and(|owned| owned.is_within(&member.current.assigned)) =>
            {
                return Ok(member.clone());
            }
            std::cmp::Ordering::Less => "smaller",
        };
        refuse(
            ErrorCode::FencedMemberEpoch,
            format!(
                "The streams group member has a {relation} member epoch ({said}) than the one known by the group coordinator \
                 ({known}). The member must abandon all its partitions and rejoin."
            ),
        )
    }

    /// The topology that counts after this heartbeat, with what it asks of the topics as they are now.
    fn plan(&self, beat: &Beat<'_>) -> Result<Plan, Refusal> {
        let (topology, is_new) = match (&self.topology, &beat.request.topology) {
            (None, None) => {
                let message = format!("Streams group {} has no topology; the member must rejoin.", self.id);
                return refuse(ErrorCode::FencedMemberEpoch, message);
            }
            (None, Some(brought)) => (Arc::new(brought.clone()), true),
            (Some(known), Some(brought)) if brought.epoch >= known.epoch && !same_topology(known, brought) => {
                return refuse(ErrorCode::InvalidRequest, "Topology updates are not supported yet.");
            }
            (Some(known), _) => (Arc::clone(known), false),
        };
        let hash = topics_hash(topics_of(&topology).into_iter().map(|topic| (&**topic, (beat.topic)(topic))));
        let configured = match &self.configured {
            Some((of, configured)) if *of == hash && !is_new => Ok(Arc::clone(configured)),
            _ => configure(&topology, &|topic| (beat.topic)(topic).map(|(_, partitions)| partitions)).map(Arc::new),
        };
        if let Err(Problem::Topology(message)) = configured {
            return refuse(ErrorCode::StreamsInvalidTopology, message);
        }
        Ok(Plan { topology, is_new, hash, configured })
    }

    /// Notes what the member says of itself, the topology and the state of the topics; with a change the group's epoch rises.
    fn update(
        &mut self,
        beat: &Beat<'_>,
        before: &Member,
        plan: &Plan,
        statuses: &mut Vec<StreamsGroupStatus>,
    ) -> Vec<GroupRecord> {
        let id = &beat.request.member_id;
        let info = before.info.updated(beat.request, &beat.client_id, &beat.client_host);
        let mut changed = info != before.info || !self.members.contains_key(id);
        if info.topology_epoch < plan.topology.epoch {
            let detail = format!(
                "The member's topology epoch {} is behind the group's topology epoch {}.",
                info.topology_epoch, plan.topology.epoch
            );
            statuses.push(status(Status::StaleTopology, detail));
        }
        let mut records = Vec::new();
        if changed {
            records.push(StreamsRecord::Member { member_id: Arc::clone(id), value: Some(info) });
        }
        if plan.is_new {
            records.push(StreamsRecord::Topology(Some(StreamsTopology::clone(&plan.topology))));
        }
        let next = GroupEpoch {
            epoch: if self.written.epoch == 0 { 2 } else { self.written.epoch.saturating_add(1) },
            metadata_hash: plan.hash,
            validated_topology_epoch: if plan.ready().is_some() { plan.topology.epoch } else { -1 },
            assignment_configs: beat.config.for_assignment(),
        };
        changed |= next != GroupEpoch { epoch: next.epoch, ..self.written.clone() };
        if changed {
            records.push(StreamsRecord::Group(Some(next)));
        }
        let records = self.take(records);
        self.configured = plan.configured.as_ref().ok().map(|configured| (plan.hash, Arc::clone(configured)));
        records
    }

    /// What the member is to have, and as of which epoch; distributes the tasks if that must be done and may be done now.
    fn target_for(
        &mut self,
        beat: &Beat<'_>,
        records: &mut Vec<GroupRecord>,
        statuses: &mut Vec<StreamsGroupStatus>,
    ) -> (i32, Tasks) {
        let known = |group: &Self| group.targets.get(&beat.request.member_id).cloned().unwrap_or_default();
        if self.written.epoch <= self.target_epoch {
            return (self.target_epoch, known(self));
        }
        if self.initial_delay_until.is_some() {
            let detail = "Assignment delayed due to the configured initial rebalance delay.";
            statuses.push(status(Status::AssignmentDelayed, detail.to_owned()));
            return (self.target_epoch.max(1), Tasks::default());
        }
        let since = beat.now.wall_ms.saturating_sub(self.target_timestamp);
        if (0..beat.config.assignment_interval_ms).contains(&since) {
            let detail = "Assignment delayed due to the configured assignment interval.";
            statuses.push(status(Status::AssignmentDelayed, detail.to_owned()));
            return (self.target_epoch, known(self));
        }
        let targets = self.distribute(beat.now.wall_ms);
        records.extend(self.take(targets));
        (self.target_epoch, known(self))
    }

    /// Records that say what each member is to have as of the group's epoch: nothing while the topics are not as they must be.
    pub(super) fn distribute(&self, timestamp: Timestamp) -> Vec<StreamsRecord> {
        let ready = self.configured.as_ref().filter(|(_, configured)| configured.missing.is_empty());
        let subtopologies = ready.map_or(&[][..], |(_, configured)| &configured.subtopologies);
        let members = self.members.iter().map(|(id, member)| (id, (&member.info.process_id, self.targets.get(id))));
        let standby_replicas = StreamsConfig::standby_replicas_of(&self.written.assignment_configs);
        let targets = assignor::assign(&members.collect(), subtopologies, standby_replicas);
        let changed = targets.into_iter().filter(|(id, tasks)| self.targets.get(id) != Some(tasks));
        let mut records: Vec<StreamsRecord> =
            changed.map(|(member_id, tasks)| StreamsRecord::Target { member_id, value: Some(tasks) }).collect();
        records.push(StreamsRecord::TargetEpoch(Some(TargetEpoch { epoch: self.written.epoch, timestamp })));
        records
    }

    /// The member's next step; its session and the time it has to give tasks up run anew.
    fn step_member(
        &mut self,
        beat: &Beat<'_>,
        target_epoch: i32,
        target: &Tasks,
        records: &mut Vec<GroupRecord>,
    ) -> Current {
        let id = &beat.request.member_id;
        let Some(member) = self.members.get(id) else { return Current::default() };
        let current = &member.current;
        let settled = current.state == MemberState::Stable && current.epoch == target_epoch;
        let next = if settled {
            current.clone()
        } else {
            let owned = owned(beat.request);
            reconcile(current, &member.info.process_id, target_epoch, target, owned.as_ref(), &self.owners())
        };
        if next != member.current {
            records.extend(
                self.take(vec![StreamsRecord::Current { member_id: Arc::clone(id), value: Some(next.clone()) }]),
            );
            if let Some(member) = self.members.get_mut(id) {
                let timeout = i64::from(member.info.rebalance_timeout_ms.max(0));
                member.revocation_deadline =
                    (next.state == MemberState::UnrevokedTasks).then(|| beat.now.ticks_ms.saturating_add(timeout));
            }
        }
        if let Some(member) = self.members.get_mut(id) {
            member.session_deadline = beat.now.ticks_ms.saturating_add(beat.config.session_timeout_ms);
        }
        next
    }

    fn tell_tasks(&mut self, member_id: &str, current: &Current, response: &mut StreamsGroupHeartbeatResponse) {
        response.active_tasks = Some(to_wire(current.assigned.active.keys()));
        response.standby_tasks = Some(to_wire(&current.assigned.standby));
        response.warmup_tasks = Some(to_wire(&current.assigned.warmup));
        if self.members.get(member_id).is_some_and(|member| member.info.user_endpoint.is_some()) {
            self.endpoint_epoch = self.endpoint_epoch.wrapping_add(1);
        }
    }

    fn tell_endpoints(&self, beat: &Beat<'_>, response: &mut StreamsGroupHeartbeatResponse) {
        response.endpoint_information_epoch = self.endpoint_epoch;
        if beat.request.endpoint_information_epoch != self.endpoint_epoch {
            response.partitions_by_user_endpoint = Some(endpoints::of(self, beat.topic));
        }
    }

    /// Says what is wrong with the topics; gives those that are to be made.
    fn tell_problem(&mut self, plan: &Plan, now: i64, statuses: &mut Vec<StreamsGroupStatus>) -> Vec<StreamsTopicInfo> {
        let to_create = plan.configured.as_ref().map(|configured| configured.missing.clone()).unwrap_or_default();
        let missing = |topic: &str| to_create.iter().any(|info| &*info.name == topic);
        self.creation_failures.retain(|topic, (_, until)| *until > now && missing(topic));
        if let Some(Problem::Topics(code, mut detail)) = plan.problem() {
            let failures = self.creation_failures.iter().take(FAILURES_NAMED);
            let failures: Vec<String> = failures.map(|(topic, (reason, _))| format!("{topic} ({reason})")).collect();
            if !failures.is_empty() {
                detail = format!("{detail}; Creation failed: {}.", failures.join(", "));
            }
            statuses.push(status(code, detail));
        }
        to_create
    }
}

fn status(code: Status, detail: String) -> StreamsGroupStatus {
    StreamsGroupStatus { status_code: code as i8, status_detail: detail.into() }
}

/// What the member says it has, if it says so.
fn owned(request: &StreamsGroupHeartbeatRequest) -> Option<Tasks> {
    let set = |lists: &Option<Vec<TaskIds>>| -> Option<TaskIdSet> { lists.as_deref().map(from_wire) };
    Some(Tasks {
        active: set(&request.active_tasks)?,
        standby: set(&request.standby_tasks)?,
        warmup: set(&request.warmup_tasks)?,
    })
}

/// Whether the member names only tasks that there are.
fn check_tasks(configured: &Configured, request: &StreamsGroupHeartbeatRequest) -> Result<(), Refusal> {
    let Some(owned) = owned(request) else { return Ok(()) };
    let Some(task) = owned.iter().find(|task| !configured.has_task(task)) else { return Ok(()) };
    let subtopology = configured.subtopologies.iter().find(|one| one.id == task.subtopology);
    let message = match subtopology {
        Some(known) => format!(
            "Task {} for subtopology {} is invalid. Number of tasks for this subtopology: {}",
            task.partition, known.id, known.tasks
        ),
        None => format!("Subtopology {} does not exist in the topology.", task.subtopology),
    };
    refuse(ErrorCode::InvalidRequest, message)
}

/// Whether both have the same epoch and the same subtopologies, in whatever order.
fn same_topology(one: &StreamsTopology, other: &StreamsTopology) -> bool {
    let by_id = |topology: &'_ StreamsTopology| -> BTreeMap<Arc<str>, _> {
        topology.subtopologies.iter().map(|part| (Arc::clone(&part.subtopology_id), part.clone())).collect()
    };
    one.epoch == other.epoch && by_id(one) == by_id(other)
}
