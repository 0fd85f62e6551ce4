//! Groups whose assignments the broker makes (KIP-848), with their members.

use std::sync::Arc;

use base::TopicPartition;
use protocol::api::messages::consumer_group_describe_response::Assignment;
use protocol::api::messages::{ConsumerGroupDescribeRequest, GroupId};
use protocol::api::{ApiKey, Request};

use super::{Admin, Results, Route, check};
use crate::error::ClientError;
use crate::wire::{expect_response, text};

/// A group of the consumer protocol and its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupDescription {
    /// Its id.
    pub group: String,
    /// `Empty`, `Assigning`, `Reconciling`, `Stable` or `Dead`.
    pub state: String,
    /// Its epoch; grows whenever members or subscriptions change.
    pub epoch: i32,
    /// The server's assignor in use.
    pub assignor: String,
    /// Its members.
    pub members: Vec<ConsumerGroupMember>,
}

/// A member of such a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupMember {
    /// Its id.
    pub member_id: String,
    /// Its static id, if it has one.
    pub instance_id: Option<String>,
    /// Its client id.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// The epoch it has come to.
    pub epoch: i32,
    /// Topics it subscribes to.
    pub topics: Vec<String>,
    /// Partitions it has.
    pub assignment: Vec<TopicPartition>,
    /// Partitions it is to have.
    pub target: Vec<TopicPartition>,
}

impl Admin {
    /// Groups of the consumer protocol, with their members.
    ///
    /// # Errors
    /// Per group, for example `GroupIdNotFound` for one that is of another protocol; `Unsupported` by brokers before Kafka 4.
    pub async fn describe_consumer_groups(
        &self,
        groups: &[&str],
    ) -> Result<Results<Arc<str>, ConsumerGroupDescription>, ClientError> {
        let mut results = Vec::with_capacity(groups.len());
        for group in groups {
            let build = |connection: &crate::Connection| {
                let mut request = ConsumerGroupDescribeRequest::default();
                request.group_ids = vec![GroupId(text(group))];
                Ok((Request::ConsumerGroupDescribe(request), connection.version(ApiKey::ConsumerGroupDescribe)?))
            };
            let what = format!("describing group {group}");
            let result = self
                .ask(&what, Route::Group(group), build, |response, address| {
                    let response = expect_response!(response, ConsumerGroupDescribe, address)?;
                    let Some(described) = response.groups.into_iter().next() else {
                        return Err(ClientError::malformed(address, format!("no answer about group {group}")));
                    };
                    check(format!("group {group}"), described.error_code, described.error_message.as_ref())?;
                    let members = described.members.into_iter().map(|member| ConsumerGroupMember {
                        member_id: member.member_id.to_string(),
                        instance_id: member.instance_id.map(|id| id.to_string()),
                        client_id: member.client_id.to_string(),
                        host: member.client_host.to_string(),
                        epoch: member.member_epoch,
                        topics: member.subscribed_topic_names.iter().map(|topic| topic.to_string()).collect(),
                        assignment: partitions(&member.assignment),
                        target: partitions(&member.target_assignment),
                    });
                    Ok(ConsumerGroupDescription {
                        group: described.group_id.to_string(),
                        state: described.group_state.to_string(),
                        epoch: described.group_epoch,
                        assignor: described.assignor_name.to_string(),
                        members: members.collect(),
                    })
                })
                .await;
            results.push((Arc::from(*group), result));
        }
        Ok(results)
    }
}

fn partitions(assignment: &Assignment) -> Vec<TopicPartition> {
    let mut all = Vec::new();
    for topic in &assignment.topic_partitions {
        let name: Arc<str> = Arc::from(topic.topic_name.as_str());
        all.extend(topic.partitions.iter().map(|index| TopicPartition::new(Arc::clone(&name), *index)));
    }
    all
}
