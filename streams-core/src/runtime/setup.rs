//! What comes before the first thread: the members of a dead predecessor leave the group, source topics are looked for, existing state is
//! checked against the topology, internal topics are created.
//!
//! Every process does this at its start; creating a topic that is there is no error. (Kafka Streams leaves it to the group's leader, in the middle
//! of a rebalance; doing it before joining needs no rebalance to fail, and reports a missing topic to whoever calls `start`.)

use std::collections::BTreeMap;
use std::sync::Arc;

use client::admin::{MemberToRemove, NewTopic};
use client::{Admin, ClientError};
use protocol::api::ErrorCode;

use super::application::Application;
use super::state_check;
use crate::error::{ErrorKind, StreamsError};
use crate::topology::{BuiltTopology, InternalTopicConfig};

fn unavailable(what: &str, error: ClientError) -> StreamsError {
    StreamsError::new(ErrorKind::Unavailable, format!("{what}: {error}"))
}

/// Does it all.
///
/// # Errors
/// A source topic is missing, topics that must be co-partitioned are not, existing state would be lost or misread, an internal topic has
/// another number of partitions, or the brokers cannot be reached.
pub async fn set_up(application: Arc<Application>) -> Result<(), StreamsError> {
    let admin = application.admin.clone();
    let built = &application.built;
    leave_for_the_dead(&application, &admin).await;
    let mut counts = existing_topics(built, &admin).await?;
    let plan = plan(built, &counts)?;
    state_check::check(&application, &admin).await?;
    create(&application, &admin, &plan, &mut counts).await?;
    state_check::note(&application)
}

/// The lock on the state directory proves that the members it names are dead: they need not be waited for.
async fn leave_for_the_dead(application: &Application, admin: &Admin) {
    let members: Vec<MemberToRemove> =
        application.directory.former_members().into_iter().map(MemberToRemove::MemberId).collect();
    if members.is_empty() {
        return;
    }
    let group = application.built.config().application_id();
    if let Err(error) = admin.remove_members_from_group(group, &members).await {
        // They may have been removed already; at worst their session is waited for.
        tracing::info!(%error, group, "former members of this directory did not have to leave");
    }
}

/// Partition counts of the topics that are read or kept and exist.
async fn existing_topics(built: &BuiltTopology, admin: &Admin) -> Result<BTreeMap<String, i32>, StreamsError> {
    let mut names: Vec<String> = Vec::new();
    for sub in built.subtopologies() {
        names.extend(sub.source_topics.iter().cloned());
        names.extend(sub.changelogs.values().map(|changelog| changelog.name.clone()));
    }
    partition_counts(admin, &names).await
}

async fn partition_counts(admin: &Admin, names: &[String]) -> Result<BTreeMap<String, i32>, StreamsError> {
    let failed = |error| unavailable("the topics cannot be looked up", error);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut counts = BTreeMap::new();
    for (name, described) in admin.describe_topics(&names).await.map_err(failed)? {
        match described {
            Ok(topic) => {
                counts.insert(name.to_string(), topic.partitions.len() as i32);
            }
            Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(counts)
}

/// An internal topic with the number of partitions it must have.
#[derive(Debug, PartialEq, Eq)]
struct Planned<'a> {
    topic: &'a InternalTopicConfig,
    partitions: i32,
}

/// Partition counts of all internal topics.
fn plan<'a>(built: &'a BuiltTopology, existing: &BTreeMap<String, i32>) -> Result<Vec<Planned<'a>>, StreamsError> {
    let repartitions: BTreeMap<&str, &InternalTopicConfig> = built
        .subtopologies()
        .iter()
        .flat_map(|sub| &sub.repartition_sources)
        .map(|topic| (topic.name.as_str(), topic))
        .collect();
    let mut counts: BTreeMap<&str, i32> = BTreeMap::new();
    let mut missing = Vec::new();
    for topic in built.subtopologies().iter().flat_map(|sub| &sub.source_topics) {
        match (repartitions.get(topic.as_str()), existing.get(topic)) {
            (Some(_), _) => {}
            (None, Some(count)) => {
                counts.insert(topic, *count);
            }
            (None, None) => missing.push(topic.as_str()),
        }
    }
    if !missing.is_empty() {
        missing.sort_unstable();
        missing.dedup();
        let message = format!("source topic {} does not exist: create it before starting", missing.join(", "));
        return Err(StreamsError::new(ErrorKind::Topology, message));
    }
    count_repartitions(built, &repartitions, &mut counts)?;
    let mut planned: Vec<Planned<'a>> = Vec::new();
    for (name, topic) in &repartitions {
        if let Some(partitions) = counts.get(name) {
            planned.push(Planned { topic, partitions: *partitions });
        }
    }
    for sub in built.subtopologies().iter().filter(|sub| !sub.is_global) {
        let tasks = sub.source_topics.iter().filter_map(|topic| counts.get(topic.as_str())).max().copied().unwrap_or(0);
        planned.extend(sub.changelogs.values().map(|topic| Planned { topic, partitions: tasks }));
    }
    Ok(planned)
}

/// Numbers of partitions of the repartition topics: enforced, or of what they are joined with, or of what flows into them.
fn count_repartitions<'a>(
    built: &'a BuiltTopology,
    repartitions: &BTreeMap<&'a str, &'a InternalTopicConfig>,
    counts: &mut BTreeMap<&'a str, i32>,
) -> Result<(), StreamsError> {
    for (name, topic) in repartitions {
        if let Some(enforced) = topic.enforced_partitions {
            counts.insert(name, enforced);
        }
    }
    // Each round settles at least one topic; what depends only on itself stays unsettled and is reported.
    let mut settled = usize::MAX;
    while settled != counts.len() {
        settled = counts.len();
        settle(built, repartitions, counts, true);
        if settled == counts.len() {
            // Topics that flow in a circle, as the two of a foreign-key join do, follow from those of their sources that are known.
            settle(built, repartitions, counts, false);
        }
    }
    if let Some(name) = repartitions.keys().find(|name| !counts.contains_key(**name)) {
        let message = format!("the number of partitions of {name} follows from nothing: give one in Repartitioned");
        return Err(StreamsError::new(ErrorKind::Topology, message));
    }
    for group in built.subtopologies().iter().flat_map(|sub| &sub.copartition_groups) {
        equalise(group, repartitions, counts)?;
    }
    Ok(())
}

/// Counts the topics whose sources are all counted, or, if not `needs_all`, of which one is.
fn settle<'a>(
    built: &BuiltTopology,
    repartitions: &BTreeMap<&'a str, &'a InternalTopicConfig>,
    counts: &mut BTreeMap<&'a str, i32>,
    needs_all: bool,
) {
    for name in repartitions.keys() {
        if !counts.contains_key(name)
            && let Some(count) = upstream_count(built, name, counts, needs_all)
        {
            counts.insert(name, count);
        }
    }
}

/// The most partitions of any topic read by a sub-topology that writes `name`; `None` while one, or if not `needs_all` each, is unknown.
fn upstream_count(built: &BuiltTopology, name: &str, counts: &BTreeMap<&str, i32>, needs_all: bool) -> Option<i32> {
    let writers = built.subtopologies().iter().filter(|sub| sub.repartition_sinks.iter().any(|sink| sink == name));
    let sources = writers.flat_map(|sub| &sub.source_topics).filter(|topic| *topic != name);
    let counts = sources.map(|topic| counts.get(topic.as_str()).copied());
    if needs_all { counts.collect::<Option<Vec<i32>>>()?.into_iter().max() } else { counts.flatten().max() }
}

/// Gives all topics of a co-partition group the same number of partitions, or says why that cannot be.
fn equalise<'a>(
    group: &'a [String],
    repartitions: &BTreeMap<&'a str, &'a InternalTopicConfig>,
    counts: &mut BTreeMap<&'a str, i32>,
) -> Result<(), StreamsError> {
    let fixed = |topic: &str| repartitions.get(topic).is_none_or(|known| known.enforced_partitions.is_some());
    let fixed_counts: Vec<(&str, i32)> = group
        .iter()
        .filter(|topic| fixed(topic))
        .filter_map(|topic| Some((topic.as_str(), *counts.get(topic.as_str())?)))
        .collect();
    let wanted = match fixed_counts.first() {
        Some((_, first)) => *first,
        None => group.iter().filter_map(|topic| counts.get(topic.as_str())).max().copied().unwrap_or(0),
    };
    if fixed_counts.iter().any(|(_, count)| *count != wanted) {
        let list: Vec<String> = fixed_counts.iter().map(|(topic, count)| format!("{topic} ({count})")).collect();
        let message = format!(
            "topics are not co-partitioned, a join needs equal numbers of partitions: {}; repartition one of them",
            list.join(", ")
        );
        return Err(StreamsError::new(ErrorKind::Topology, message));
    }
    for topic in group {
        counts.insert(topic, wanted);
    }
    Ok(())
}

/// An internal topic, with its store.
fn describe(prefix: &str, topic: &str) -> String {
    let own = topic.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-'));
    match own.and_then(|own| own.strip_suffix("-changelog")) {
        Some(store) => format!("changelog {topic} of store {store}"),
        None => format!("repartition topic {topic}"),
    }
}

/// Creates what is missing; what exists must have the right number of partitions.
async fn create(
    application: &Application,
    admin: &Admin,
    plan: &[Planned<'_>],
    existing: &mut BTreeMap<String, i32>,
) -> Result<(), StreamsError> {
    let config = application.built.config();
    let names: Vec<String> = plan.iter().map(|planned| planned.topic.name.clone()).collect();
    existing.extend(partition_counts(admin, &names).await?);
    let mut wanted = Vec::new();
    for Planned { topic, partitions } in plan {
        match existing.get(&topic.name) {
            Some(actual) if actual == partitions => {}
            Some(actual) => {
                let message = format!(
                    "{} has {actual} partition(s) and must have {partitions}, since what flows into it has changed: \
                     give the input the partitions that it had, or start again with an application.id of its own, or delete the topic and what it keeps",
                    describe(config.internal_topic_prefix(), &topic.name)
                );
                return Err(StreamsError::new(ErrorKind::Topology, message));
            }
            None => {
                let new =
                    NewTopic::new(topic.name.as_str(), *partitions).replication_factor(config.replication_factor());
                wanted.push(topic.configs.iter().fold(new, |new, (name, value)| new.config(name, value)));
            }
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let failed = |error| unavailable("internal topics could not be created", error);
    for (_, created) in admin.create_topics(&wanted).await.map_err(failed)? {
        match created {
            // Another process of the application was quicker.
            Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => {}
            created => created.map(|_| ()).map_err(failed)?,
        }
    }
    Ok(())
}
