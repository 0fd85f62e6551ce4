//! What a consumer is to read: partitions chosen by hand, or the share of a group's topics.

use std::sync::Arc;

use base::{TopicName, TopicPartition};

use super::ConsumerCore;
use crate::consumer::assignor::Assignor;
use crate::consumer::config::GroupProtocol;
use crate::consumer::consumer_group::ConsumerGroup;
use crate::consumer::fetcher::reset_spec;
use crate::consumer::group::Group;
use crate::consumer::keep_alive::Session;
use crate::consumer::membership::{Wanted, outsider};
use crate::consumer::partitions::Phase;
use crate::consumer::types::{ConsumerEvent, OffsetSpec};
use crate::error::ClientError;
use crate::retry::Backoff;

impl ConsumerCore {
    /// Reads exactly these partitions, outside any group; partitions that were read before keep their position.
    ///
    /// # Errors
    /// `Invalid` while subscribed.
    pub fn assign(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) -> Result<(), ClientError> {
        if self.group.is_some() {
            return Err(ClientError::Invalid("assign: unsubscribe first, and step until that is done".into()));
        }
        let wanted: Vec<TopicPartition> = partitions.into_iter().collect();
        for name in self.partitions.names() {
            if !wanted.contains(&name) {
                self.partitions.remove(&name);
            }
        }
        let phase = match self.config.group_id {
            Some(_) => Phase::NeedsCommitted,
            None => Phase::NeedsLookup(OffsetSpec::Latest),
        };
        let mut unplaced = Vec::new();
        for name in wanted {
            if self.partitions.contains(&name) {
                continue;
            }
            self.client.want_topic(&name.topic);
            self.partitions.add(name.clone(), phase, &self.metadata);
            if self.config.group_id.is_none()
                && let Some(index) = self.partitions.index(&name)
            {
                match reset_spec(self.config.auto_offset_reset, self.client.now().wall_ms) {
                    Some(spec) => self.partitions.enter(index, Phase::NeedsLookup(spec)),
                    None => {
                        self.partitions.enter(index, Phase::NeedsSeek);
                        unplaced.push((name, -1));
                    }
                }
            }
        }
        if !unplaced.is_empty() {
            self.events.push_back(ConsumerEvent::NoOffset(unplaced));
        }
        Ok(())
    }

    /// Joins the group of `group.id` for these topics, or changes the topics of a member. `assignors` in order of
    /// preference; all members of the group must share one. None with `group.protocol=consumer`: the broker assigns.
    ///
    /// # Errors
    /// `Invalid` without `group.id`, without assignors (with `group.protocol=consumer`: with some), with assignors that
    /// share no rebalance protocol, or while partitions are assigned by hand.
    pub fn subscribe(
        &mut self,
        topics: impl IntoIterator<Item = TopicName>,
        assignors: Vec<Box<dyn Assignor>>,
    ) -> Result<(), ClientError> {
        let mut topics: Vec<TopicName> = topics.into_iter().collect();
        topics.sort();
        topics.dedup();
        topics.iter().for_each(|topic| {
            self.client.want_topic(topic);
        });
        self.join(topics, Wanted::Names, assignors)
    }

    /// As [`ConsumerCore::subscribe`] for all topics, present and future, whose name satisfies `wanted`.
    ///
    /// # Errors
    /// As [`ConsumerCore::subscribe`].
    pub fn subscribe_matching(
        &mut self,
        wanted: Arc<dyn Fn(&str) -> bool + Send + Sync>,
        assignors: Vec<Box<dyn Assignor>>,
    ) -> Result<(), ClientError> {
        let all = self.client.want_all_topics();
        self.join(Vec::new(), Wanted::Matching { wanted, _all: all }, assignors)
    }

    /// As [`ConsumerCore::subscribe`] for all topics, present and future, whose whole name matches a regular expression in
    /// RE2 syntax, which the broker resolves (Kafka's `SubscriptionPattern`).
    ///
    /// # Errors
    /// As [`ConsumerCore::subscribe`]; `Invalid` with `group.protocol=classic` or an empty pattern. A pattern that the
    /// broker refuses is an error of a later step.
    pub fn subscribe_pattern(&mut self, pattern: &str) -> Result<(), ClientError> {
        if self.config.group_protocol == GroupProtocol::Classic {
            let text = "subscribe_pattern needs group.protocol=consumer; use subscribe_matching with the classic one";
            return Err(ClientError::Invalid(text.into()));
        }
        if pattern.is_empty() {
            return Err(ClientError::Invalid("subscribe_pattern: the pattern is empty".into()));
        }
        let all = self.client.want_all_topics();
        self.join(Vec::new(), Wanted::Pattern { pattern: pattern.to_owned(), _all: all }, Vec::new())
    }

    /// Changes the topics of a subscription, keeping its assignors; the member rejoins.
    ///
    /// # Errors
    /// `Invalid` when not subscribed.
    pub fn change_topics(&mut self, topics: impl IntoIterator<Item = TopicName>) -> Result<(), ClientError> {
        if self.group.is_none() {
            return Err(ClientError::Invalid("change_topics: not subscribed".into()));
        }
        self.subscribe(topics, Vec::new())
    }

    /// Stops reading. A member first revokes (an event to acknowledge), then leaves its group.
    pub fn unsubscribe(&mut self) {
        match &mut self.group {
            Some(group) => group.leave(),
            None => {
                for name in self.partitions.names() {
                    self.partitions.remove(&name);
                }
            }
        }
    }

    /// Topics subscribed, in order of names; those that match, for a pattern.
    pub fn subscription(&self) -> Vec<TopicName> {
        self.group.as_ref().map(|group| group.topics().to_vec()).unwrap_or_default()
    }

    /// Partitions that are read, in no particular order.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.partitions.names()
    }

    fn join(
        &mut self,
        topics: Vec<TopicName>,
        wanted: Wanted,
        assignors: Vec<Box<dyn Assignor>>,
    ) -> Result<(), ClientError> {
        if self.closing {
            return Err(ClientError::Closed("the consumer"));
        }
        if let Some(group) = &mut self.group {
            return group.change(topics, wanted, assignors);
        }
        if self.config.group_id.is_none() {
            return Err(ClientError::Invalid("subscribe needs group.id; without one, assign partitions".into()));
        }
        if self.partitions.len() > 0 {
            return Err(ClientError::Invalid("subscribe: partitions are assigned by hand; unsubscribe first".into()));
        }
        let member = outsider(&self.config);
        self.group = Some(match &self.keep_alive.0 {
            Session::Classic(session) => {
                let backoff = Backoff::new(self.config.retry_backoff_ms, self.config.retry_backoff_max_ms);
                Box::new(Group::new(member, assignors, wanted, topics, session.clone(), backoff)?)
            }
            Session::Consumer(session) => {
                Box::new(ConsumerGroup::new(member, &assignors, wanted, topics, session.clone())?)
            }
        });
        Ok(())
    }
}
