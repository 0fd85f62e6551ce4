//! What a consumer's core asks of a membership in a group, whichever protocol it speaks, and what both protocols share.

use std::sync::Arc;

use base::{TopicName, TopicPartition};
use protocol::api::ErrorCode;

use super::assignor::Assignor;
use super::config::ConsumerConfig;
use super::core::Context;
use super::types::{ConsumerEvent, GroupMetadata};
use crate::client::{AllTopics, Lane};
use crate::error::ClientError;
use crate::step::Step;

/// A membership: stepped with the core, it adds and removes partitions and tells the owner of it by events.
pub(crate) trait Membership: Send {
    /// Who the member is, as commits name it.
    fn member(&self) -> &GroupMetadata;

    /// Topics subscribed, in order of names.
    fn topics(&self) -> &[TopicName];

    /// Whether it is in the group with an assignment that is complete.
    fn is_stable(&self) -> bool;

    /// Whether the group is left.
    fn is_left(&self) -> bool;

    /// Other topics, and other assignors unless there are none.
    ///
    /// # Errors
    /// `Invalid` if the assignors do not fit.
    fn change(
        &mut self,
        topics: Vec<TopicName>,
        wanted: Wanted,
        assignors: Vec<Box<dyn Assignor>>,
    ) -> Result<(), ClientError>;

    /// Asks for a rebalance.
    fn request_rejoin(&mut self, reason: &str);

    /// The owner has cleaned up what was revoked or lost.
    fn acknowledge(&mut self);

    /// Begins to leave.
    fn leave(&mut self);

    /// An answer to a commit of this generation or epoch said that it is over.
    fn generation_lost(&mut self, code: ErrorCode, generation: i32, context: &mut Context<'_>);

    /// Goes on as far as it can without waiting. `lane` is for requests that are held back, `quick_lane` for others.
    fn step(&mut self, context: &mut Context<'_>, lane: &Lane, quick_lane: &Lane, commits_idle: bool) -> (Step, Wish);
}

/// What the core must do for the group after its step.
#[derive(Default)]
pub(crate) struct Wish {
    /// Commit all positions now, if commits are automatic.
    pub commit: bool,
}

/// Which topics a member wants.
pub(crate) enum Wanted {
    Names,
    /// Those whose names satisfy a function of the program.
    Matching {
        wanted: Arc<dyn Fn(&str) -> bool + Send + Sync>,
        _all: AllTopics,
    },
    /// Those whose names match a regular expression, which the broker resolves. All topics are kept in the metadata, since
    /// assignments name topics by id.
    Pattern {
        pattern: String,
        _all: AllTopics,
    },
}

/// Where the owner is with partitions that are revoked or lost.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Acknowledged {
    /// Not announced yet.
    Unasked,
    Waiting,
    Yes,
}

/// Hands out nothing more of these partitions, so that what is committed for them now is the end.
pub(crate) fn hold(context: &mut Context<'_>, giving_up: &[TopicPartition]) {
    for name in giving_up {
        if let Some(partition) = context.partitions.get_mut(name) {
            partition.revoking = true;
        }
    }
}

/// Tells the owner what it is about to lose; nothing to lose needs no acknowledgement.
pub(crate) fn announce(context: &mut Context<'_>, giving_up: &[TopicPartition], lost: bool) -> Acknowledged {
    if giving_up.is_empty() {
        return Acknowledged::Yes;
    }
    hold(context, giving_up);
    let partitions = giving_up.to_vec();
    context.events.push_back(if lost { ConsumerEvent::Lost(partitions) } else { ConsumerEvent::Revoked(partitions) });
    Acknowledged::Waiting
}

/// Who this consumer is outside the group.
pub(crate) fn outsider(config: &ConsumerConfig) -> GroupMetadata {
    GroupMetadata {
        group_id: config.group_id.clone().unwrap_or_default(),
        generation: -1,
        member_id: String::new(),
        group_instance_id: config.group_instance_id.clone(),
    }
}

/// Takes in new metadata: which topics are subscribed now. Topics that are not there, or not to be read, are asked for again
/// or reported.
pub(crate) fn subscribed(context: &mut Context<'_>, wanted: &Wanted, before: &[TopicName]) -> Vec<TopicName> {
    let mut topics = before.to_vec();
    if let Wanted::Matching { wanted, .. } = wanted {
        let visible = |topic: &&Arc<crate::metadata::TopicMetadata>| {
            !(topic.internal && context.config.exclude_internal_topics) && wanted(&topic.name)
        };
        topics = context.metadata.topics.values().filter(visible).map(|topic| topic.name.clone()).collect();
        topics.sort();
    }
    let retriable = |topic: &TopicName| context.metadata.missing.get(topic).is_some_and(|code| code.is_retriable());
    if topics.iter().any(retriable) {
        // Topics may be about to be created.
        context.client.refresh_metadata();
    }
    for topic in &topics {
        if let Some(code) = context.metadata.missing.get(topic)
            && matches!(code, ErrorCode::TopicAuthorizationFailed | ErrorCode::InvalidTopicException)
        {
            context.errors.push_back(ClientError::broker(format!("topic {topic}"), *code, None));
        }
    }
    topics
}
