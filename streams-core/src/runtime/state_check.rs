//! Before internal topics are created: would this start lose state that an earlier topology of the application left, or take it
//! for something else? Then it is refused, unless `state.mismatch=accept`.
//!
//! Existing state is what lies in the internal topics, and in folders of stores without a changelog. What those were is known from
//! the note in the state directory ([`KnownTopology`]); without it, as on a new disk or after Kafka Streams on the JVM, the topics
//! must tell: their names, that they are not empty, and what their configuration says of a store's kind. An application that
//! has neither note nor committed offsets is new: nothing is asked of it.

use std::collections::{BTreeMap, BTreeSet};

use base::TopicPartition;
use client::admin::{ConfigResource, OffsetSpec};
use client::{Admin, ClientError};

use super::application::Application;
use super::known_topology::KnownTopology;
use crate::config::StateMismatch;
use crate::error::{ErrorKind, StreamsError};
use crate::topology::{BuiltTopology, Fate, InternalTopicConfig, StateKind, TopologyDiff, diff};

mod verdict;

use verdict::{Loss, is_certainly_ours, is_internal_name, is_owned_by_another, store_family, topic_family};

fn unavailable(error: ClientError) -> StreamsError {
    StreamsError::new(ErrorKind::Unavailable, format!("the application's existing state cannot be looked up: {error}"))
}

/// What is asked of, gathered once.
struct Inquiry<'a> {
    admin: &'a Admin,
    built: &'a BuiltTopology,
    known: Option<KnownTopology>,
    /// Offsets that the group has committed.
    committed: BTreeMap<TopicPartition, i64>,
    /// Topics whose names begin as the application's internal ones do, with their partitions.
    existing: BTreeMap<String, i32>,
    /// What the topology keeps to and reads back, by full name.
    planned: BTreeMap<&'a str, &'a InternalTopicConfig>,
}

/// Refuses a start that would lose or misread existing state.
///
/// # Errors
/// [`ErrorKind::Topology`] names each store and topic and what keeps its state; `Unavailable` when the brokers do not answer.
pub(super) async fn check(application: &Application, admin: &Admin) -> Result<(), StreamsError> {
    let built = &application.built;
    let known = KnownTopology::read(&application.directory);
    let group = built.config().application_id();
    let committed = admin.list_group_offsets(group).await.map_err(unavailable)?;
    if known.is_none() && committed.is_empty() {
        return Ok(());
    }
    let committed = committed.into_iter().map(|(partition, offset)| (partition, offset.offset)).collect();
    let inquiry = Inquiry::new(built, admin, known, committed).await?;
    let mut losses = inquiry.orphans().await?;
    losses.extend(inquiry.misread().await?);
    losses.extend(inquiry.orphaned_folders(application));
    report(built, &losses)
}

/// Notes what is started, for the next start.
///
/// # Errors
/// `Store` when the note cannot be written.
pub(super) fn note(application: &Application) -> Result<(), StreamsError> {
    KnownTopology::of(&application.built).write(&application.directory)
}

fn report(built: &BuiltTopology, losses: &[Loss]) -> Result<(), StreamsError> {
    let Some(first) = losses.first() else { return Ok(()) };
    if built.config().state_mismatch() == StateMismatch::Accept {
        for loss in losses {
            tracing::warn!("state.mismatch=accept: {loss}");
        }
        return Ok(());
    }
    let list: Vec<String> = losses.iter().map(ToString::to_string).collect();
    let message = format!(
        "this start would lose or misread state of {}: {}. If that is meant, set state.mismatch=accept",
        built.config().application_id(),
        list.join("; ")
    );
    let error = StreamsError::new(ErrorKind::Topology, message);
    Err(match first.store() {
        Some(store) => error.in_store(store),
        None => error,
    })
}

impl<'a> Inquiry<'a> {
    async fn new(
        built: &'a BuiltTopology,
        admin: &'a Admin,
        known: Option<KnownTopology>,
        committed: BTreeMap<TopicPartition, i64>,
    ) -> Result<Self, StreamsError> {
        let prefix = format!("{}-", built.config().internal_topic_prefix());
        let topics = admin.list_topics().await.map_err(unavailable)?;
        let existing = topics
            .into_iter()
            .filter(|topic| topic.name.starts_with(&prefix))
            .map(|topic| (topic.name.to_string(), topic.partitions.len() as i32))
            .collect();
        let mut planned = BTreeMap::new();
        for sub in built.subtopologies() {
            let topics = sub.repartition_sources.iter().chain(sub.changelogs.values());
            planned.extend(topics.map(|topic| (topic.name.as_str(), topic)));
        }
        Ok(Self { admin, built, known, committed, existing, planned })
    }

    /// `X` of `<application.id>-X`.
    fn own_name<'t>(&self, topic: &'t str) -> &'t str {
        let prefix = self.built.config().internal_topic_prefix();
        topic.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-')).unwrap_or(topic)
    }

    /// Stores and topics of the topology for which nothing is there yet.
    fn missing(&self) -> Vec<&str> {
        let missing = self.planned.keys().filter(|topic| !self.existing.contains_key(**topic));
        missing.map(|topic| self.own_name(topic)).map(|name| name.strip_suffix("-changelog").unwrap_or(name)).collect()
    }

    /// Internal topics that hold something and that the topology does not use.
    async fn orphans(&self) -> Result<Vec<Loss>, StreamsError> {
        let mut losses = Vec::new();
        let diff = self.known_diff();
        for topic in self.unused().await? {
            if !self.holds_something(&topic).await? {
                continue;
            }
            let name = self.own_name(&topic).to_owned();
            let (kind, place) = match name.strip_suffix("-changelog") {
                Some(store) => (StateKind::Store, store.to_owned()),
                None => (StateKind::InternalTopic, name),
            };
            let known = diff
                .as_ref()
                .and_then(|diff| diff.changes.iter().find(|change| change.kind == kind && change.name == place));
            let renamed_to = match known.map(|change| &change.fate) {
                Some(Fate::Renamed { to }) => Some(to.clone()),
                _ => None,
            };
            let candidates = if renamed_to.is_some() { Vec::new() } else { self.missing() };
            losses.push(Loss::orphaned(kind, place, topic, renamed_to, &candidates));
        }
        Ok(losses)
    }

    fn known_diff(&self) -> Option<TopologyDiff> {
        let old = self.known.as_ref()?.description()?;
        Some(diff(&old, &self.built.topology.description()))
    }

    /// Internal topics of the application that exist and that the topology has no use for.
    async fn unused(&self) -> Result<Vec<String>, StreamsError> {
        let restored: BTreeSet<String> = self
            .built
            .subtopologies()
            .iter()
            .flat_map(|sub| sub.source_changelogs.keys())
            // Its source topic, which it is restored from now, holds all that its changelog did.
            .map(|store| self.built.changelog_name(store))
            .collect();
        let is_unused = |topic: &String| !self.planned.contains_key(topic.as_str()) && !restored.contains(topic);
        if let Some(known) = &self.known {
            let topics = known.internal_topics.iter().filter(|topic| self.existing.contains_key(*topic));
            return Ok(topics.filter(|topic| is_unused(topic)).cloned().collect());
        }
        // What the program reads or writes by name is no internal topic, whatever it is called.
        let description = self.built.topology.description();
        let others: BTreeSet<&str> = description.external_topics().collect();
        let is_internal = |topic: &String| is_internal_name(self.own_name(topic)) && !others.contains(topic.as_str());
        let unused: Vec<&String> =
            self.existing.keys().filter(|topic| is_unused(topic) && is_internal(topic)).collect();
        if unused.is_empty() {
            return Ok(Vec::new());
        }
        // Who may not list groups is told of topics that may be others'.
        let groups = self.admin.list_groups().await.unwrap_or_default();
        let groups: Vec<String> = groups.into_iter().map(|group| group.group).collect();
        let is_changed = !self.missing().is_empty();
        let prefix = self.built.config().internal_topic_prefix();
        let ours = unused.into_iter().filter(|topic| {
            if is_owned_by_another(topic, prefix, &groups) {
                return false;
            }
            match self.own_name(topic).strip_suffix("-changelog") {
                Some(store) => is_changed || is_certainly_ours(store),
                // One that the group never read is not its own.
                None => self.committed.keys().any(|partition| *partition.topic == ***topic),
            }
        });
        Ok(ours.cloned().collect())
    }

    /// Whether records of the topic would be lost: any of a changelog, those not processed of another.
    async fn holds_something(&self, topic: &str) -> Result<bool, StreamsError> {
        let partitions = self.existing.get(topic).copied().unwrap_or(0);
        let partitions: Vec<TopicPartition> = (0..partitions).map(|index| TopicPartition::new(topic, index)).collect();
        let specs = |spec: OffsetSpec| partitions.iter().map(|one| (one.clone(), spec)).collect::<Vec<_>>();
        let starts = self.admin.list_offsets(&specs(OffsetSpec::Earliest)).await.map_err(unavailable)?;
        let ends = self.admin.list_offsets(&specs(OffsetSpec::Latest)).await.map_err(unavailable)?;
        let is_changelog = topic.ends_with("-changelog");
        for ((partition, start), (_, end)) in starts.into_iter().zip(ends) {
            let (start, end) = (start.map_err(unavailable)?.offset, end.map_err(unavailable)?.offset);
            let processed = self.committed.get(&partition).filter(|_| !is_changelog).copied();
            if end > processed.unwrap_or(start).max(start) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Stores and topics that keep their name, but not what they are.
    async fn misread(&self) -> Result<Vec<Loss>, StreamsError> {
        let mut losses = Vec::new();
        let changelogs = self.built.subtopologies().iter().flat_map(|sub| &sub.changelogs);
        let mut asked: Vec<(&str, &InternalTopicConfig)> = Vec::new();
        for (store, topic) in changelogs.filter(|(_, topic)| self.existing.contains_key(&topic.name)) {
            let now = self.built.topology.stores.get(store).map_or("", |entry| entry.builder.kind_name());
            match self.known.as_ref().and_then(|known| known.store(store)) {
                Some(known) if known.kind == now => {}
                Some(known) => {
                    if self.holds_something(&topic.name).await? {
                        losses.push(Loss::kind(store, &topic.name, &known.kind, now));
                    }
                }
                None => asked.push((store, topic)),
            }
        }
        losses.extend(self.misread_by_configuration(&asked).await?);
        for change in self.known_diff().iter().flat_map(|diff| &diff.changes) {
            let topic = match change.kind {
                StateKind::Store => self.built.changelog_name(&change.name),
                StateKind::InternalTopic => self.built.topic_name(&change.name),
                StateKind::GlobalStore => continue,
            };
            let is_used = change.is_taken_over && self.existing.contains_key(&topic);
            if is_used && self.planned.contains_key(topic.as_str()) && self.holds_something(&topic).await? {
                losses.push(Loss::taken_over(change, topic));
            }
        }
        Ok(losses)
    }

    /// What the configuration of the changelogs says of kinds, where nothing else does.
    async fn misread_by_configuration(
        &self,
        asked: &[(&str, &InternalTopicConfig)],
    ) -> Result<Vec<Loss>, StreamsError> {
        let resources: Vec<ConfigResource> =
            asked.iter().map(|(_, topic)| ConfigResource::Topic(topic.name.clone())).collect();
        let described = self.admin.describe_configs(&resources).await.map_err(unavailable)?;
        let mut losses = Vec::new();
        for ((store, topic), (_, entries)) in asked.iter().zip(described) {
            // Who may not read configurations is not told of kinds.
            let Ok(entries) = entries else { continue };
            let was = topic_family(|name| {
                entries.iter().find(|entry| entry.name == name).and_then(|entry| entry.value.as_deref())
            });
            let Some(entry) = self.built.topology.stores.get(*store) else { continue };
            let Some(is) = store_family(topic, entry.builder.kind()) else { continue };
            if was != is && self.holds_something(&topic.name).await? {
                losses.push(Loss::kind(store, &topic.name, was.name(), is.name()));
            }
        }
        Ok(losses)
    }

    /// Stores without a changelog whose folder is here and which the topology does not have.
    fn orphaned_folders(&self, application: &Application) -> Vec<Loss> {
        let stores = self.known.iter().flat_map(|known| &known.stores);
        let local = stores.filter(|store| store.is_persistent && store.changelog.is_none());
        let gone = local.filter(|store| !self.built.topology.stores.contains_key(&store.name));
        gone.filter_map(|store| {
            let folder = application.directory.folder_of_store(&store.name)?;
            Some(Loss::folder(&store.name, &folder))
        })
        .collect()
    }
}
