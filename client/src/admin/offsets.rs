//! Offsets: where partitions begin and end, and what groups have committed.

use base::{LeaderEpoch, Offset, Timestamp, TopicPartition};
use protocol::api::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use protocol::api::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::api::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use protocol::api::messages::offset_fetch_request::OffsetFetchRequestGroup;
use protocol::api::messages::{
    GroupId, ListOffsetsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
};
use protocol::api::{ApiKey, Request, Response};

use super::{Admin, Results, Route, check, in_order, should_retry};
use crate::client::Target;
use crate::connection::Connection;
use crate::error::ClientError;
use crate::retry::Backoff;
use crate::wire::{expect_response, text, topic};

/// Which offset of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first.
    Earliest,
    /// The one after the last that is committed to all replicas.
    Latest,
    /// The one after the last that no open transaction is before.
    LatestStable,
    /// That of the record with the largest timestamp.
    MaxTimestamp,
    /// That of the first record with this timestamp or a later one.
    Timestamp(Timestamp),
}

impl OffsetSpec {
    fn timestamp(self) -> i64 {
        match self {
            Self::Latest | Self::LatestStable => -1,
            Self::Earliest => -2,
            Self::MaxTimestamp => -3,
            Self::Timestamp(timestamp) => timestamp,
        }
    }
}

/// An offset found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset; -1 if there is no such record.
    pub offset: Offset,
    /// Timestamp of that record; -1 for the first and last offset.
    pub timestamp: Timestamp,
    /// Epoch of the leader that wrote it; -1 when the broker does not say.
    pub leader_epoch: LeaderEpoch,
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetAndMetadata {
    /// The next offset to be read.
    pub offset: Offset,
    /// Epoch of the leader of the last record read; -1 if not known.
    pub leader_epoch: LeaderEpoch,
    /// Whatever was committed beside it.
    pub metadata: String,
}

impl Admin {
    /// Offsets of partitions.
    ///
    /// # Errors
    /// Per partition, for example `UnknownTopicOrPartition`.
    pub async fn list_offsets(
        &self,
        specs: &[(TopicPartition, OffsetSpec)],
    ) -> Result<Results<TopicPartition, ListedOffset>, ClientError> {
        // The isolation level is one per request: stable ends are asked for apart.
        let (stable, others): (Vec<_>, Vec<_>) =
            specs.iter().cloned().partition(|(_, spec)| *spec == OffsetSpec::LatestStable);
        let mut results = Vec::with_capacity(specs.len());
        for (specs, isolation) in [(others, 0), (stable, 1)] {
            if !specs.is_empty() {
                results.append(&mut self.offsets_of(&specs, isolation).await?);
            }
        }
        let asked: Vec<TopicPartition> = specs.iter().map(|(partition, _)| partition.clone()).collect();
        Ok(in_order(&asked, results, "the brokers", ToString::to_string))
    }

    async fn offsets_of(
        &self,
        specs: &[(TopicPartition, OffsetSpec)],
        isolation: i8,
    ) -> Result<Results<TopicPartition, ListedOffset>, ClientError> {
        self.by_leader(
            "listing offsets",
            specs,
            |connection, partitions| {
                let mut request = ListOffsetsRequest::default();
                request.replica_id = (-1).into();
                request.isolation_level = isolation;
                let mut lowest = 1;
                for (partition, spec) in partitions {
                    if *spec == OffsetSpec::MaxTimestamp {
                        lowest = 7;
                    }
                    let mut entry = ListOffsetsPartition::default();
                    entry.partition_index = partition.partition;
                    entry.current_leader_epoch = -1;
                    entry.timestamp = spec.timestamp();
                    let name = topic(&partition.topic);
                    match request.topics.iter_mut().find(|known| known.name == name) {
                        Some(known) => known.partitions.push(entry),
                        None => {
                            let mut named = ListOffsetsTopic::default();
                            named.name = name;
                            named.partitions = vec![entry];
                            request.topics.push(named);
                        }
                    }
                }
                let version = connection.version_within(ApiKey::ListOffsets, lowest, i16::MAX)?;
                if version >= 10 {
                    request.timeout_ms = self.timeout_ms();
                }
                Ok((Request::ListOffsets(request), version))
            },
            |response, address| {
                let response = expect_response!(response, ListOffsets, address)?;
                let mut results = Vec::new();
                for answered in response.topics {
                    for result in answered.partitions {
                        let partition = TopicPartition::new(answered.name.as_str(), result.partition_index);
                        let outcome = check(format!("offset of {partition}"), result.error_code, None);
                        let listed = ListedOffset {
                            offset: result.offset,
                            timestamp: result.timestamp,
                            leader_epoch: result.leader_epoch,
                        };
                        results.push((partition, outcome.map(|()| listed)));
                    }
                }
                Ok(results)
            },
        )
        .await
    }

    /// Asks the leaders of partitions, again for those whose leader moved, until the time is over.
    pub(super) async fn by_leader<Q: Clone, T>(
        &self,
        what: &str,
        asked: &[(TopicPartition, Q)],
        build: impl Fn(&Connection, &[(TopicPartition, Q)]) -> Result<(Request, i16), ClientError>,
        read: impl Fn(Response, &str) -> Result<Results<TopicPartition, T>, ClientError>,
    ) -> Result<Results<TopicPartition, T>, ClientError> {
        let client = &self.client;
        let start = client.now().ticks_ms;
        let deadline = self.deadline();
        let mut backoff = Backoff::new(client.config().retry_backoff_ms, client.config().retry_backoff_max_ms);
        let mut rng = client.fork_rng();
        let mut left = asked.to_vec();
        let mut done: Results<TopicPartition, T> = Vec::new();
        loop {
            let mut again: Vec<(TopicPartition, Q)> = Vec::new();
            let mut reason: Option<ClientError> = None;
            let mut by_node: Vec<(i32, Vec<(TopicPartition, Q)>)> = Vec::new();
            for (partition, question) in left {
                client.want_topic(&partition.topic);
                match client.metadata().leader_of(&partition) {
                    Some((node, _)) => match by_node.iter_mut().find(|(known, _)| *known == node) {
                        Some((_, partitions)) => partitions.push((partition, question)),
                        None => by_node.push((node, vec![(partition, question)])),
                    },
                    None => {
                        let missing = client.metadata().missing.get(&partition.topic).copied();
                        reason = missing.map(|code| ClientError::broker(partition.to_string(), code, None));
                        again.push((partition, question));
                    }
                }
            }
            for (node, partitions) in by_node {
                let answered = client
                    .call(Target::Node(node), deadline, |connection| build(connection, &partitions))
                    .await
                    .and_then(|(response, connection)| read(response, connection.address()));
                let asked: Vec<TopicPartition> = partitions.iter().map(|(partition, _)| partition.clone()).collect();
                match answered {
                    Ok(results) => {
                        let results = in_order(&asked, results, &format!("broker {node}"), ToString::to_string);
                        for ((partition, result), question) in results.into_iter().zip(&partitions) {
                            match result {
                                Err(error) if should_retry::<T>(&Err(error.clone())) => {
                                    reason = Some(error);
                                    again.push((partition, question.1.clone()));
                                }
                                result => done.push((partition, result)),
                            }
                        }
                    }
                    Err(error) if error.is_retriable() => {
                        reason = Some(error);
                        again.extend(partitions);
                    }
                    Err(error) => return Err(error),
                }
            }
            if again.is_empty() {
                let asked: Vec<TopicPartition> = asked.iter().map(|(partition, _)| partition.clone()).collect();
                return Ok(in_order(&asked, done, "the brokers", ToString::to_string));
            }
            let first = backoff.attempts() == 0 && reason.is_none();
            let wait_ms = if first { 0 } else { backoff.next_ms(&mut rng).max(1) };
            let now = client.now().ticks_ms;
            if now.saturating_add(wait_ms) >= deadline {
                let names: Vec<String> = again.iter().map(|(partition, _)| partition.to_string()).collect();
                return Err(ClientError::Timeout {
                    what: format!("{what} of {}", names.join(", ")),
                    after_ms: now - start,
                    reason: reason.map(|error| error.to_string()),
                });
            }
            if wait_ms > 0 {
                client.timers().sleep(wait_ms).await;
            }
            client.fresh_metadata(what, deadline, |_| true).await?;
            left = again;
        }
    }

    /// All offsets that a group has committed.
    ///
    /// # Errors
    /// For example `GroupAuthorizationFailed`; a group that does not exist has no offsets.
    pub async fn list_group_offsets(
        &self,
        group: &str,
    ) -> Result<Vec<(TopicPartition, OffsetAndMetadata)>, ClientError> {
        let build = |connection: &Connection| {
            // From version 10 on topics go by id; all of a group's are asked for by none.
            let version = connection.version_within(ApiKey::OffsetFetch, 2, 9)?;
            let mut request = OffsetFetchRequest::default();
            if version >= 8 {
                let mut wanted = OffsetFetchRequestGroup::default();
                wanted.group_id = GroupId(text(group));
                wanted.member_epoch = -1;
                wanted.topics = None;
                request.groups = vec![wanted];
            } else {
                request.group_id = GroupId(text(group));
                request.topics = None;
            }
            Ok((Request::OffsetFetch(request), version))
        };
        let what = format!("listing the offsets of group {group}");
        self.ask(&what, Route::Group(group), build, |response, address| {
            let response = expect_response!(response, OffsetFetch, address)?;
            check(what.as_str(), response.error_code, None)?;
            let mut offsets = Vec::new();
            let mut add = |name: &str, index: i32, offset: i64, epoch: i32, metadata: Option<String>| {
                if offset >= 0 {
                    let metadata = metadata.unwrap_or_default();
                    let committed = OffsetAndMetadata { offset, leader_epoch: epoch, metadata };
                    offsets.push((TopicPartition::new(name, index), committed));
                }
            };
            for answered in response.groups {
                check(what.as_str(), answered.error_code, None)?;
                for topic in answered.topics {
                    for p in topic.partitions {
                        check(format!("{}-{}", topic.name.as_str(), p.partition_index), p.error_code, None)?;
                        let metadata = p.metadata.map(|metadata| metadata.to_string());
                        add(&topic.name, p.partition_index, p.committed_offset, p.committed_leader_epoch, metadata);
                    }
                }
            }
            for topic in response.topics {
                for p in topic.partitions {
                    check(format!("{}-{}", topic.name.as_str(), p.partition_index), p.error_code, None)?;
                    let metadata = p.metadata.map(|metadata| metadata.to_string());
                    add(&topic.name, p.partition_index, p.committed_offset, p.committed_leader_epoch, metadata);
                }
            }
            Ok(offsets)
        })
        .await
    }

    /// Sets offsets of a group that has no members.
    ///
    /// # Errors
    /// Per partition; `UnknownMemberId` if the group has members.
    pub async fn alter_group_offsets(
        &self,
        group: &str,
        offsets: &[(TopicPartition, OffsetAndMetadata)],
    ) -> Result<Results<TopicPartition, ()>, ClientError> {
        let asked: Vec<TopicPartition> = offsets.iter().map(|(partition, _)| partition.clone()).collect();
        let build = |connection: &Connection| {
            let mut request = OffsetCommitRequest::default();
            request.group_id = GroupId(text(group));
            request.generation_id_or_member_epoch = -1;
            for (partition, committed) in offsets {
                let mut entry = OffsetCommitRequestPartition::default();
                entry.partition_index = partition.partition;
                entry.committed_offset = committed.offset;
                entry.committed_leader_epoch = committed.leader_epoch;
                entry.committed_metadata = Some(text(&committed.metadata));
                let name = topic(&partition.topic);
                match request.topics.iter_mut().find(|known| known.name == name) {
                    Some(known) => known.partitions.push(entry),
                    None => {
                        let mut named = OffsetCommitRequestTopic::default();
                        named.name = name;
                        named.partitions = vec![entry];
                        request.topics.push(named);
                    }
                }
            }
            Ok((Request::OffsetCommit(request), connection.version_within(ApiKey::OffsetCommit, 2, 9)?))
        };
        let what = format!("changing the offsets of group {group}");
        self.ask(&what, Route::Group(group), build, |response, address| {
            let response = expect_response!(response, OffsetCommit, address)?;
            let mut results = Vec::new();
            for answered in response.topics {
                for result in answered.partitions {
                    let partition = TopicPartition::new(answered.name.as_str(), result.partition_index);
                    let outcome = check(format!("offset of {partition} in group {group}"), result.error_code, None);
                    match outcome {
                        Err(error) if error.coordinator_moved() => return Err(error),
                        outcome => results.push((partition, outcome)),
                    }
                }
            }
            Ok(in_order(&asked, results, address, ToString::to_string))
        })
        .await
    }

    /// Deletes offsets of a group, for topics that its members do not read.
    ///
    /// # Errors
    /// Per partition, for example `GroupSubscribedToTopic`; for all, for example `GroupIdNotFound`.
    pub async fn delete_group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Results<TopicPartition, ()>, ClientError> {
        let build = |connection: &Connection| {
            let mut request = OffsetDeleteRequest::default();
            request.group_id = GroupId(text(group));
            for partition in partitions {
                let mut entry = OffsetDeleteRequestPartition::default();
                entry.partition_index = partition.partition;
                let name = topic(&partition.topic);
                match request.topics.iter_mut().find(|known| known.name == name) {
                    Some(known) => known.partitions.push(entry),
                    None => {
                        let mut named = OffsetDeleteRequestTopic::default();
                        named.name = name;
                        named.partitions = vec![entry];
                        request.topics.push(named);
                    }
                }
            }
            Ok((Request::OffsetDelete(request), connection.version(ApiKey::OffsetDelete)?))
        };
        let what = format!("deleting offsets of group {group}");
        self.ask(&what, Route::Group(group), build, |response, address| {
            let response = expect_response!(response, OffsetDelete, address)?;
            check(what.as_str(), response.error_code, None)?;
            let mut results = Vec::new();
            for answered in response.topics {
                for result in answered.partitions {
                    let partition = TopicPartition::new(answered.name.as_str(), result.partition_index);
                    let outcome = check(format!("offset of {partition} in group {group}"), result.error_code, None);
                    results.push((partition, outcome));
                }
            }
            Ok(in_order(partitions, results, address, ToString::to_string))
        })
        .await
    }
}
