//! Consumer groups and their members.

use std::sync::Arc;

use bytes::Bytes;
use protocol::api::messages::leave_group_request::MemberIdentity;
use protocol::api::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, GroupId, LeaveGroupRequest, ListGroupsRequest,
};
use protocol::api::{ApiKey, Request};

use super::{Admin, Results, Route, check};
use crate::client::Target;
use crate::error::ClientError;
use crate::wire::{expect_response, text};

/// One group of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub group: String,
    /// `consumer`, or empty for a group that only holds offsets.
    pub protocol_type: String,
    /// `Stable`, `Empty`, ..; empty when the broker does not say.
    pub state: String,
    /// `classic`, `consumer`, `streams`, ..; empty when the broker does not say.
    pub kind: String,
}

/// A group and its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub group: String,
    /// `Stable`, `Empty`, `PreparingRebalance`, `CompletingRebalance` or `Dead` (there is no such group).
    pub state: String,
    /// `consumer`, ..
    pub protocol_type: String,
    /// The assignor in use.
    pub protocol: String,
    /// Its members.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id.
    pub member_id: String,
    /// Its static id, if it has one.
    pub instance_id: Option<String>,
    /// Its client id.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// What it subscribes to, as the assignor encoded it.
    pub metadata: Bytes,
    /// What it was assigned, as the assignor encoded it.
    pub assignment: Bytes,
}

/// A member to be removed from its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberToRemove {
    /// By member id.
    MemberId(String),
    /// By static id.
    InstanceId(String),
}

impl Admin {
    /// All groups of the cluster, by id.
    ///
    /// # Errors
    /// `Timeout` or `Unreachable`.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, ClientError> {
        let mut groups: Vec<GroupListing> = Vec::new();
        for node in self.nodes().await? {
            let build = |connection: &crate::Connection| {
                Ok((Request::ListGroups(ListGroupsRequest::default()), connection.version(ApiKey::ListGroups)?))
            };
            let listed = self
                .ask("listing groups", Route::To(Target::Node(node)), build, |response, address| {
                    let response = expect_response!(response, ListGroups, address)?;
                    check(format!("groups of broker {node}"), response.error_code, None)?;
                    Ok(response.groups)
                })
                .await?;
            groups.extend(listed.into_iter().map(|group| GroupListing {
                group: group.group_id.to_string(),
                protocol_type: group.protocol_type.to_string(),
                state: group.group_state.to_string(),
                kind: group.group_type.to_string(),
            }));
        }
        groups.sort_unstable_by(|a, b| a.group.cmp(&b.group));
        groups.dedup_by(|a, b| a.group == b.group);
        Ok(groups)
    }

    /// Groups of the classic protocol, with their members.
    ///
    /// # Errors
    /// Per group, for example `GroupIdNotFound`.
    pub async fn describe_groups(&self, groups: &[&str]) -> Result<Results<Arc<str>, GroupDescription>, ClientError> {
        let mut results = Vec::with_capacity(groups.len());
        for group in groups {
            let build = |connection: &crate::Connection| {
                let mut request = DescribeGroupsRequest::default();
                request.groups = vec![GroupId(text(group))];
                Ok((Request::DescribeGroups(request), connection.version(ApiKey::DescribeGroups)?))
            };
            let what = format!("describing group {group}");
            let result = self
                .ask(&what, Route::Group(group), build, |response, address| {
                    let response = expect_response!(response, DescribeGroups, address)?;
                    let Some(described) = response.groups.into_iter().next() else {
                        return Err(ClientError::malformed(address, format!("no answer about group {group}")));
                    };
                    check(format!("group {group}"), described.error_code, described.error_message.as_ref())?;
                    let members = described.members.into_iter().map(|member| GroupMember {
                        member_id: member.member_id.to_string(),
                        instance_id: member.group_instance_id.map(|id| id.to_string()),
                        client_id: member.client_id.to_string(),
                        host: member.client_host.to_string(),
                        metadata: member.member_metadata,
                        assignment: member.member_assignment,
                    });
                    Ok(GroupDescription {
                        group: described.group_id.to_string(),
                        state: described.group_state.to_string(),
                        protocol_type: described.protocol_type.to_string(),
                        protocol: described.protocol_data.to_string(),
                        members: members.collect(),
                    })
                })
                .await;
            results.push((Arc::from(*group), result));
        }
        Ok(results)
    }

    /// Deletes groups without members, with their offsets.
    ///
    /// # Errors
    /// Per group, for example `NonEmptyGroup` or `GroupIdNotFound`.
    pub async fn delete_groups(&self, groups: &[&str]) -> Result<Results<Arc<str>, ()>, ClientError> {
        let mut results = Vec::with_capacity(groups.len());
        for group in groups {
            let build = |connection: &crate::Connection| {
                let mut request = DeleteGroupsRequest::default();
                request.groups_names = vec![GroupId(text(group))];
                Ok((Request::DeleteGroups(request), connection.version(ApiKey::DeleteGroups)?))
            };
            let what = format!("deleting group {group}");
            let result = self
                .ask(&what, Route::Group(group), build, |response, address| {
                    let response = expect_response!(response, DeleteGroups, address)?;
                    match response.results.first() {
                        Some(result) => check(what.as_str(), result.error_code, None),
                        None => Err(ClientError::malformed(address, format!("no answer about group {group}"))),
                    }
                })
                .await;
            results.push((Arc::from(*group), result));
        }
        Ok(results)
    }

    /// Removes members from a group, as if they had left; a rebalance follows.
    ///
    /// # Errors
    /// Per member, `UnknownMemberId` if it is not there.
    pub async fn remove_members_from_group(
        &self,
        group: &str,
        members: &[MemberToRemove],
    ) -> Result<Vec<Result<(), ClientError>>, ClientError> {
        let build = |connection: &crate::Connection| {
            let identity = |member: &MemberToRemove| {
                let mut identity = MemberIdentity::default();
                match member {
                    MemberToRemove::MemberId(id) => identity.member_id = text(id),
                    MemberToRemove::InstanceId(id) => identity.group_instance_id = Some(text(id)),
                }
                identity
            };
            let mut request = LeaveGroupRequest::default();
            request.group_id = GroupId(text(group));
            request.members = members.iter().map(identity).collect();
            Ok((Request::LeaveGroup(request), connection.version_within(ApiKey::LeaveGroup, 3, i16::MAX)?))
        };
        let what = format!("removing members from group {group}");
        self.ask(&what, Route::Group(group), build, |response, address| {
            let response = expect_response!(response, LeaveGroup, address)?;
            check(what.as_str(), response.error_code, None)?;
            let results = members.iter().map(|member| {
                let answered = response.members.iter().find(|answered| match member {
                    MemberToRemove::MemberId(id) => answered.member_id.as_str() == id,
                    MemberToRemove::InstanceId(id) => {
                        answered.group_instance_id.as_ref().is_some_and(|known| known.as_str() == id)
                    }
                });
                match answered {
                    Some(answered) => check(format!("{member:?} of group {group}"), answered.error_code, None),
                    None => Err(ClientError::malformed(address, format!("no answer about {member:?}"))),
                }
            });
            Ok(results.collect())
        })
        .await
    }
}
