//! What a topology asks of the topics: how many partitions its internal topics are to have, which of them are missing, and
//! how many tasks each subtopology has. A pure function of the topology and of the topics that there are.
//!
//! A repartition topic has the number of partitions it was given, or as many as the widest topic that what writes it reads;
//! topics that are read together must have the same number; a changelog topic has one partition for each task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::api::streams_group_heartbeat::{StreamsSubtopology, StreamsTopicInfo, StreamsTopology};

use super::assignor;

/// Why a group cannot run, as members are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Status {
    /// The member's topology is older than the group's.
    StaleTopology = 0,
    /// Topics that the application reads do not exist.
    MissingSourceTopics = 1,
    /// Topics do not have the number of partitions that they need.
    IncorrectlyPartitionedTopics = 2,
    /// Topics that belong to the application do not exist yet.
    MissingInternalTopics = 3,
    /// A member asks all to shut down.
    ShutdownApplication = 4,
    /// Tasks are not distributed yet.
    AssignmentDelayed = 5,
}

/// What keeps a topology from being run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It may pass: the members are told and wait.
    Topics(Status, String),
    /// The topology itself is wrong.
    Topology(String),
}

/// A topology whose topics are as they must be, or only wait to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// Number of tasks and whether there is state, by subtopology.
    pub subtopologies: Vec<assignor::Subtopology>,
    /// Number of partitions of each internal topic.
    pub internal_topics: BTreeMap<Arc<str>, i32>,
    /// Internal topics that do not exist, with their number of partitions.
    pub missing: Vec<StreamsTopicInfo>,
}

impl Configured {
    /// What keeps the topology from being run, if it is that topics are still to be made.
    pub fn problem(&self) -> Option<Problem> {
        let names: Vec<&str> = self.missing.iter().map(|topic| &*topic.name).collect();
        let message = || format!("Internal topics are missing: [{}]", names.join(", "));
        (!names.is_empty()).then(|| Problem::Topics(Status::MissingInternalTopics, message()))
    }

    /// Whether there is such a task.
    pub fn has_task(&self, task: &super::tasks::TaskId) -> bool {
        let known = self.subtopologies.iter().find(|subtopology| subtopology.id == task.subtopology);
        known.is_some_and(|subtopology| (0..subtopology.tasks).contains(&task.partition))
    }
}

/// Names of all topics of a topology, sorted.
pub fn topics_of(topology: &StreamsTopology) -> BTreeSet<&Arc<str>> {
    let topics = topology.subtopologies.iter().flat_map(|subtopology| {
        let internal = subtopology.repartition_source_topics.iter().chain(&subtopology.state_changelog_topics);
        subtopology
            .source_topics
            .iter()
            .chain(&subtopology.repartition_sink_topics)
            .chain(internal.map(|topic| &topic.name))
    });
    topics.collect()
}

/// Decides about the topics of `topology`; `partitions` gives the number of partitions of a topic that exists.
///
/// # Errors
/// What keeps the topology from being run.
pub fn configure(topology: &StreamsTopology, partitions: &dyn Fn(&str) -> Option<i32>) -> Result<Configured, Problem> {
    let sources = topology.subtopologies.iter().flat_map(|subtopology| &subtopology.source_topics);
    let missing: BTreeSet<&str> = sources.map(AsRef::as_ref).filter(|topic| partitions(topic).is_none()).collect();
    if !missing.is_empty() {
        let names: Vec<&str> = missing.into_iter().collect();
        let message = format!("Source topics {} are missing.", names.join(", "));
        return Err(Problem::Topics(Status::MissingSourceTopics, message));
    }
    let mut counts = Counts { topology, partitions, decided: BTreeMap::new() };
    counts.decide_repartition_topics()?;
    for subtopology in &topology.subtopologies {
        for topics in copartition_groups(subtopology)? {
            counts.make_equal(&topics)?;
        }
    }
    let mut configured = Configured::default();
    for subtopology in &topology.subtopologies {
        let Some(tasks) = counts.widest_source(subtopology) else {
            let reason = format!("No source topics found for subtopology {}", subtopology.subtopology_id);
            return Err(Problem::Topology(reason));
        };
        for changelog in non_source_changelogs(subtopology) {
            counts.decided.insert(Arc::clone(&changelog.name), tasks);
        }
        configured.subtopologies.push(assignor::Subtopology {
            id: Arc::clone(&subtopology.subtopology_id),
            tasks,
            is_stateful: !subtopology.state_changelog_topics.is_empty(),
        });
    }
    configured.missing = missing_internal_topics(topology, &counts)?;
    configured.internal_topics = counts.decided;
    Ok(configured)
}

/// Changelog topics but those that are source topics at the same time.
fn non_source_changelogs(subtopology: &StreamsSubtopology) -> impl Iterator<Item = &StreamsTopicInfo> {
    subtopology.state_changelog_topics.iter().filter(|topic| !subtopology.source_topics.contains(&topic.name))
}

fn incorrectly_partitioned<T>(message: String) -> Result<T, Problem> {
    Err(Problem::Topics(Status::IncorrectlyPartitionedTopics, message))
}

/// Numbers of partitions, as they are being decided.
struct Counts<'a> {
    topology: &'a StreamsTopology,
    partitions: &'a dyn Fn(&str) -> Option<i32>,
    decided: BTreeMap<Arc<str>, i32>,
}

impl Counts<'_> {
    /// Of an internal topic as decided, of another as it is.
    fn of(&self, topic: &str) -> Option<i32> {
        self.decided.get(topic).copied().or_else(|| (self.partitions)(topic))
    }

    fn widest_source(&self, subtopology: &StreamsSubtopology) -> Option<i32> {
        let repartition = subtopology.repartition_source_topics.iter().map(|topic| &topic.name);
        subtopology.source_topics.iter().chain(repartition).filter_map(|topic| self.of(topic)).max()
    }

    fn repartition_topics(&self) -> impl Iterator<Item = &StreamsTopicInfo> {
        self.topology.subtopologies.iter().flat_map(|subtopology| &subtopology.repartition_source_topics)
    }

    fn decide_repartition_topics(&mut self) -> Result<(), Problem> {
        let topology = self.topology;
        let all: Vec<&StreamsTopicInfo> =
            topology.subtopologies.iter().flat_map(|subtopology| &subtopology.repartition_source_topics).collect();
        let mut open: Vec<&Arc<str>> = Vec::new();
        for topic in all {
            if topic.partitions > 0 {
                self.decided.insert(Arc::clone(&topic.name), topic.partitions);
            } else {
                open.push(&topic.name);
            }
        }
        // Topics may feed one another: as long as one can be decided, another may follow from it. In a circle, what is known must do.
        while !open.is_empty() {
            let before = open.len();
            self.decide_some(&mut open, false)?;
            if open.len() == before {
                self.decide_some(&mut open, true)?;
            }
            if open.len() == before {
                return Err(Problem::Topology(
                    "Failed to compute number of partitions for all repartition topics. There may be loops in the topology \
                     that cannot be resolved."
                        .to_owned(),
                ));
            }
        }
        Ok(())
    }

    /// Decides those of `open` whose writers read nothing undecided; with `guess` one of those that read something decided.
    fn decide_some(&mut self, open: &mut Vec<&Arc<str>>, guess: bool) -> Result<(), Problem> {
        let mut left = Vec::with_capacity(open.len());
        let mut guessed = false;
        for topic in open.drain(..) {
            let writers: Vec<&StreamsSubtopology> =
                self.topology.subtopologies.iter().filter(|one| one.repartition_sink_topics.contains(topic)).collect();
            if writers.is_empty() {
                return Err(Problem::Topology(
                    "Failed to compute number of partitions for all repartition topics, because a repartition source topic \
                     is never used as a sink topic."
                        .to_owned(),
                ));
            }
            let is_open = |topic: &StreamsTopicInfo| topic.partitions <= 0 && !self.decided.contains_key(&topic.name);
            let waits = writers.iter().any(|writer| writer.repartition_source_topics.iter().any(is_open));
            let widest = writers.iter().filter_map(|writer| self.widest_source_decided(writer)).max();
            match widest {
                Some(count) if !waits || (guess && !guessed) => {
                    guessed = waits;
                    self.decided.insert(Arc::clone(topic), count);
                }
                _ => left.push(topic),
            }
        }
        *open = left;
        Ok(())
    }

    /// As [`Counts::widest_source`], but of repartition topics only those that are decided, whatever exists under their names.
    fn widest_source_decided(&self, subtopology: &StreamsSubtopology) -> Option<i32> {
        let repartition =
            subtopology.repartition_source_topics.iter().filter_map(|topic| self.decided.get(&topic.name).copied());
        subtopology.source_topics.iter().filter_map(|topic| self.of(topic)).chain(repartition).max()
    }

    /// Gives the repartition topics among `topics` the number of partitions that all of them must have.
    fn make_equal(&mut self, topics: &BTreeSet<&Arc<str>>) -> Result<(), Problem> {
        let fixed: BTreeSet<&Arc<str>> =
            self.repartition_topics().filter(|topic| topic.partitions > 0).map(|topic| &topic.name).collect();
        let repartition: BTreeSet<&Arc<str>> = self.repartition_topics().map(|topic| &topic.name).collect();
        let counts_of = |chosen: &dyn Fn(&Arc<str>) -> bool| -> BTreeMap<&str, i32> {
            let chosen = topics.iter().filter(|topic| chosen(topic));
            chosen.filter_map(|topic| Some((&***topic, self.of(topic)?))).collect()
        };
        let external = counts_of(&|topic| !repartition.contains(topic));
        let given = counts_of(&|topic| fixed.contains(topic));
        let wanted = if !external.is_empty() {
            the_same(&external)?
        } else if !given.is_empty() {
            the_same(&given)?
        } else {
            counts_of(&|_| true).into_values().max()
        };
        let Some(wanted) = wanted else { return Ok(()) };
        for (topic, count) in given {
            if count != wanted {
                return incorrectly_partitioned(format!(
                    "Number of partitions [{count}] of repartition topic [{topic}] doesn't match number of partitions \
                     [{wanted}] of the source topic."
                ));
            }
        }
        let open: Vec<Arc<str>> =
            topics.iter().filter(|topic| repartition.contains(*topic)).map(|topic| Arc::clone(topic)).collect();
        self.decided.extend(open.into_iter().map(|topic| (topic, wanted)));
        Ok(())
    }
}

/// The number of partitions that all have.
fn the_same(counts: &BTreeMap<&str, i32>) -> Result<Option<i32>, Problem> {
    let first = counts.values().next().copied();
    if counts.values().any(|count| Some(*count) != first) {
        let listed: Vec<String> = counts.iter().map(|(topic, count)| format!("{topic}={count}")).collect();
        return incorrectly_partitioned(format!(
            "Following topics do not have the same number of partitions: [{{{}}}]",
            listed.join(", ")
        ));
    }
    Ok(first)
}

/// Names of the topics of each copartition group, whose indexes may be wrong.
fn copartition_groups(subtopology: &StreamsSubtopology) -> Result<Vec<BTreeSet<&Arc<str>>>, Problem> {
    let at = |index: i16| usize::try_from(index).unwrap_or(usize::MAX);
    let groups = subtopology.copartition_groups.iter().map(|group| {
        let sources = group.source_topics.iter().map(|index| subtopology.source_topics.get(at(*index)));
        let repartition = group.repartition_source_topics.iter();
        let repartition =
            repartition.map(|index| subtopology.repartition_source_topics.get(at(*index)).map(|topic| &topic.name));
        sources.chain(repartition).collect::<Option<BTreeSet<_>>>().ok_or_else(|| {
            let id = &subtopology.subtopology_id;
            Problem::Topology(format!("A copartition group of subtopology {id} names a topic that is not there."))
        })
    });
    groups.collect()
}

fn missing_internal_topics(topology: &StreamsTopology, counts: &Counts<'_>) -> Result<Vec<StreamsTopicInfo>, Problem> {
    let mut missing: BTreeMap<&Arc<str>, StreamsTopicInfo> = BTreeMap::new();
    for subtopology in &topology.subtopologies {
        for topic in subtopology.repartition_source_topics.iter().chain(non_source_changelogs(subtopology)) {
            let Some(expected) = counts.decided.get(&topic.name).copied() else { continue };
            match (counts.partitions)(&topic.name) {
                None => {
                    missing.insert(&topic.name, StreamsTopicInfo { partitions: expected, ..topic.clone() });
                }
                Some(found) if found != expected => {
                    return incorrectly_partitioned(format!(
                        "Existing topic {} has different number of partitions: expected {expected}, found {found}",
                        topic.name
                    ));
                }
                Some(_) => {}
            }
        }
    }
    Ok(missing.into_values().collect())
}

#[cfg(test)]
mod tests;
