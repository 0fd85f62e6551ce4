//! What a heartbeat says: everything when the member joins and after a failure, only what changed otherwise.

use std::collections::{BTreeMap, BTreeSet};

use base::TopicName;
use protocol::api::Uuid;
use protocol::api::messages::consumer_group_heartbeat_request::TopicPartitions;
use protocol::api::messages::{ConsumerGroupHeartbeatRequest, GroupId};

use crate::consumer::config::ConsumerConfig;
use crate::wire::{text, topic};

/// Member epoch of a heartbeat that joins.
pub(super) const JOIN_EPOCH: i32 = 0;
/// Member epoch of a heartbeat that leaves.
const LEAVE_EPOCH: i32 = -1;
/// Member epoch of a heartbeat of a static member that leaves and may come back to its partitions.
const LEAVE_STATIC_EPOCH: i32 = -2;

/// Partitions by topic id, as the coordinator names them.
pub(crate) type Assigned = BTreeMap<Uuid, BTreeSet<i32>>;

/// What of a member never changes.
pub(super) struct Identity {
    pub group_id: String,
    pub member_id: String,
    instance_id: Option<String>,
    rack: String,
    assignor: Option<String>,
    rebalance_timeout_ms: i32,
}

/// Which topics the member wants: by name, or by a regular expression that the broker resolves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Topics {
    pub names: Vec<TopicName>,
    pub pattern: Option<String>,
}

/// What the coordinator was told last; nothing when that is not sure.
#[derive(Default)]
pub(super) struct Told {
    topics: Option<Topics>,
    /// The count of the member's reports about its partitions.
    report: u64,
    /// A regular expression was sent at some time: its end must be said.
    pattern: bool,
}

impl Told {
    /// The coordinator may not have got the last heartbeat, or is another one.
    pub fn forget(&mut self) {
        self.topics = None;
    }
}

impl Identity {
    pub fn new(config: &ConsumerConfig, member_id: String) -> Self {
        Self {
            group_id: config.group_id.clone().unwrap_or_default(),
            member_id,
            instance_id: config.group_instance_id.clone(),
            rack: config.client_rack.clone(),
            assignor: config.group_remote_assignor.clone(),
            rebalance_timeout_ms: config.max_poll_interval_ms,
        }
    }

    /// A heartbeat of a member in `epoch` that has `owned`, as its report number `report` says.
    pub fn heartbeat(
        &self,
        epoch: i32,
        topics: &Topics,
        (owned, report): (&Assigned, u64),
        told: &mut Told,
    ) -> ConsumerGroupHeartbeatRequest {
        let mut request = self.begin(epoch);
        let before = told.topics.take().filter(|_| epoch != JOIN_EPOCH);
        if before.is_none() {
            request.rebalance_timeout_ms = self.rebalance_timeout_ms;
            request.server_assignor = self.assignor.as_deref().map(text);
            request.rack_id = (!self.rack.is_empty()).then(|| text(&self.rack));
        }
        if before.as_ref().is_none_or(|before| before.names != topics.names) {
            request.subscribed_topic_names = Some(topics.names.iter().map(|name| topic(name)).collect());
        }
        if before.as_ref().is_none_or(|before| before.pattern != topics.pattern) {
            let end = told.pattern.then_some("");
            request.subscribed_topic_regex = topics.pattern.as_deref().or(end).map(text);
        }
        if before.is_none() || told.report != report {
            request.topic_partitions = Some(owned.iter().map(of_topic).collect());
        }
        told.pattern |= topics.pattern.is_some();
        told.topics = Some(topics.clone());
        told.report = report;
        request
    }

    /// The heartbeat by which the member leaves.
    pub fn farewell(&self) -> ConsumerGroupHeartbeatRequest {
        self.begin(if self.instance_id.is_some() { LEAVE_STATIC_EPOCH } else { LEAVE_EPOCH })
    }

    fn begin(&self, epoch: i32) -> ConsumerGroupHeartbeatRequest {
        let mut request = ConsumerGroupHeartbeatRequest::default();
        request.group_id = GroupId(text(&self.group_id));
        request.member_id = text(&self.member_id);
        request.member_epoch = epoch;
        request.instance_id = self.instance_id.as_deref().map(text);
        request
    }

    pub fn instance_id(&self) -> &str {
        self.instance_id.as_deref().unwrap_or_default()
    }
}

fn of_topic((id, partitions): (&Uuid, &BTreeSet<i32>)) -> TopicPartitions {
    let mut of_topic = TopicPartitions::default();
    of_topic.topic_id = *id;
    of_topic.partitions = partitions.iter().copied().collect();
    of_topic
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let config = ConsumerConfig::default()
            .group_id("g".to_owned())
            .group_instance_id("i".to_owned())
            .group_remote_assignor("range".to_owned())
            .client_rack("r")
            .max_poll_interval_ms(7);
        Identity::new(&config, "m".into())
    }

    fn names(names: &[&str]) -> Topics {
        Topics { names: names.iter().map(|name| TopicName::from(*name)).collect(), pattern: None }
    }

    /// What a heartbeat says of itself, without what every one says.
    fn said(request: &ConsumerGroupHeartbeatRequest) -> String {
        let mut said = vec![format!("epoch {}", request.member_epoch)];
        if request.rebalance_timeout_ms >= 0 {
            said.push(format!("timeout {}", request.rebalance_timeout_ms));
        }
        said.extend(request.server_assignor.as_ref().map(|name| format!("assignor {name}")));
        said.extend(request.rack_id.as_ref().map(|rack| format!("rack {rack}")));
        let names = |names: &Vec<protocol::api::messages::TopicName>| {
            names.iter().map(|name| name.to_string()).collect::<Vec<_>>().join(" ")
        };
        said.extend(request.subscribed_topic_names.as_ref().map(|topics| format!("names [{}]", names(topics))));
        said.extend(request.subscribed_topic_regex.as_ref().map(|pattern| format!("regex [{pattern}]")));
        let owned = |topics: &Vec<TopicPartitions>| {
            topics.iter().map(|topic| format!("{:?}", topic.partitions)).collect::<Vec<_>>().join(" ")
        };
        said.extend(request.topic_partitions.as_ref().map(|topics| format!("owned {}", owned(topics))));
        said.join(", ")
    }

    #[test]
    fn a_join_says_everything_and_what_follows_only_what_changed() {
        let (identity, mut told) = (identity(), Told::default());
        let none = Assigned::new();
        let some = Assigned::from([(Uuid::from_u128(1), BTreeSet::from([0, 2]))]);
        let mut beat = |epoch, topics: &Topics, owned, report| {
            let request = identity.heartbeat(epoch, topics, (owned, report), &mut told);
            assert_eq!(request.instance_id.as_deref(), Some("i"));
            assert_eq!((request.group_id.as_str(), request.member_id.as_str()), ("g", "m"));
            said(&request)
        };
        let everything = "timeout 7, assignor range, rack r, names [a b]";
        assert_eq!(beat(0, &names(&["a", "b"]), &none, 0), format!("epoch 0, {everything}, owned "));
        assert_eq!(beat(3, &names(&["a", "b"]), &none, 0), "epoch 3");
        assert_eq!(beat(3, &names(&["a", "b"]), &some, 1), "epoch 3, owned [0, 2]");
        assert_eq!(beat(4, &names(&["a", "b"]), &some, 1), "epoch 4");
        assert_eq!(beat(4, &names(&["a"]), &some, 1), "epoch 4, names [a]");
        assert_eq!(beat(4, &names(&["a"]), &some, 2), "epoch 4, owned [0, 2]", "an assignment taken anew");
        // Rejoined: everything again.
        assert_eq!(beat(0, &names(&["a", "b"]), &none, 2), format!("epoch 0, {everything}, owned "));
    }

    #[test]
    fn after_a_failure_everything_is_said_again() {
        let (identity, mut told) = (identity(), Told::default());
        let some = Assigned::from([(Uuid::from_u128(1), BTreeSet::from([1]))]);
        identity.heartbeat(0, &names(&["a"]), (&Assigned::new(), 0), &mut told);
        identity.heartbeat(1, &names(&["a"]), (&some, 1), &mut told);
        told.forget();
        let request = identity.heartbeat(1, &names(&["a"]), (&some, 1), &mut told);
        assert_eq!(said(&request), "epoch 1, timeout 7, assignor range, rack r, names [a], owned [1]");
    }

    #[test]
    fn the_end_of_a_pattern_is_said() {
        let (identity, mut told) = (identity(), Told::default());
        let none = Assigned::new();
        let pattern = Topics { names: Vec::new(), pattern: Some("a.*".into()) };
        let joined = said(&identity.heartbeat(0, &pattern, (&none, 0), &mut told));
        assert_eq!(joined, "epoch 0, timeout 7, assignor range, rack r, names [], regex [a.*], owned ");
        assert_eq!(said(&identity.heartbeat(1, &pattern, (&none, 0), &mut told)), "epoch 1");
        let to_names = said(&identity.heartbeat(1, &names(&["b"]), (&none, 0), &mut told));
        assert_eq!(to_names, "epoch 1, names [b], regex []");
        told.forget();
        let again = said(&identity.heartbeat(1, &names(&["b"]), (&none, 0), &mut told));
        assert!(again.ends_with("names [b], regex [], owned "), "{again}");
    }

    #[test]
    fn a_static_member_leaves_so_that_it_can_come_back() {
        assert_eq!(identity().farewell().member_epoch, LEAVE_STATIC_EPOCH);
        let dynamic = Identity::new(&ConsumerConfig::default().group_id("g".to_owned()), "m".into());
        assert_eq!(said(&dynamic.farewell()), "epoch -1");
    }
}
