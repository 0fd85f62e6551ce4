//! The topics that a [`Consumer`] is to read as a member of its group.

use std::sync::Arc;

use base::TopicName;

use super::{Consumer, RebalanceListener};
use crate::consumer::assignor::{Assignor, assignors_by_name};
use crate::consumer::config::GroupProtocol;
use crate::error::ClientError;

impl Consumer {
    /// Joins the group of `group.id` for these topics, or changes them; the group's partitions come with the next polls.
    ///
    /// # Errors
    /// `Invalid` without `group.id`, or while partitions are assigned by hand.
    pub fn subscribe(&mut self, topics: impl IntoIterator<Item = impl Into<TopicName>>) -> Result<(), ClientError> {
        let assignors = self.assignors()?;
        self.core.subscribe(topics.into_iter().map(Into::into), assignors)?;
        self.start_heartbeats();
        Ok(())
    }

    /// As [`Consumer::subscribe`], with a listener.
    ///
    /// # Errors
    /// As [`Consumer::subscribe`].
    pub fn subscribe_with(
        &mut self,
        topics: impl IntoIterator<Item = impl Into<TopicName>>,
        listener: impl RebalanceListener + 'static,
    ) -> Result<(), ClientError> {
        self.subscribe(topics)?;
        self.listener = Some(Box::new(listener));
        Ok(())
    }

    /// As [`Consumer::subscribe`] for all topics, present and future, whose name satisfies `wanted`.
    ///
    /// # Errors
    /// As [`Consumer::subscribe`].
    pub fn subscribe_matching(
        &mut self,
        wanted: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Result<(), ClientError> {
        let assignors = self.assignors()?;
        self.core.subscribe_matching(Arc::new(wanted), assignors)?;
        self.start_heartbeats();
        Ok(())
    }

    /// As [`Consumer::subscribe`] for all topics, present and future, whose whole name matches a regular expression in RE2
    /// syntax, which the broker resolves (Kafka's `SubscriptionPattern`). Needs `group.protocol=consumer`.
    ///
    /// # Errors
    /// As [`Consumer::subscribe`]; `Invalid` with `group.protocol=classic` or an empty pattern. A pattern that the broker
    /// refuses is an error of a later poll.
    ///
    /// ```no_run
    /// # use client::{Client, ClientConfig, consumer::{Consumer, ConsumerConfig}};
    /// # fn main() -> Result<(), client::ClientError> {
    /// let client = Client::connect("localhost:9092", ClientConfig::default())?;
    /// let config = ConsumerConfig::from_properties([("group.id", "readers"), ("group.protocol", "consumer")])?;
    /// let mut consumer = Consumer::new(client, config)?;
    /// consumer.subscribe_pattern("orders-.*")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscribe_pattern(&mut self, pattern: &str) -> Result<(), ClientError> {
        self.core.subscribe_pattern(pattern)?;
        self.start_heartbeats();
        Ok(())
    }

    /// As [`Consumer::subscribe`], with assignors of one's own; of the classic protocol only.
    ///
    /// # Errors
    /// As [`Consumer::subscribe`]; `Invalid` with `group.protocol=consumer`.
    pub fn subscribe_assigned_by(
        &mut self,
        topics: impl IntoIterator<Item = impl Into<TopicName>>,
        assignors: Vec<Box<dyn Assignor>>,
    ) -> Result<(), ClientError> {
        self.core.subscribe(topics.into_iter().map(Into::into), assignors)?;
        self.start_heartbeats();
        Ok(())
    }

    /// Assignors of the settings; none where the broker assigns.
    fn assignors(&self) -> Result<Vec<Box<dyn Assignor>>, ClientError> {
        let config = self.core.config();
        match config.group_protocol {
            GroupProtocol::Classic => assignors_by_name(config.classic_assignment_strategy()),
            GroupProtocol::Consumer => Ok(Vec::new()),
        }
    }
}
