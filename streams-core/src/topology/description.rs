//! A topology as data without code: its nodes, what they read, write and keep, and the arrows between them. Its text is the
//! one that `describe()` of Kafka Streams prints, byte for byte, and such a text can be read back (`parse`).
//!
//! Names are those of the text: internal topics without the application's prefix, stores without their changelogs.

use std::fmt;

mod parse;

/// A topology: its sub-topologies in the order of their ids.
///
/// Prints as `describe()` of Kafka Streams does; what that printed, from here or from the JVM, is read by `parse()`.
///
/// ```
/// use streams_core::topology::TopologyDescription;
///
/// let text = "Topologies:
///    Sub-topology: 0
///     Source: lines (topics: [text])
///       --> out
///     Sink: out (topic: copy)
///       <-- lines
///
/// ";
/// let description: TopologyDescription = text.parse()?;
/// assert_eq!(description.subtopologies[0].nodes[0].successors, ["out"]);
/// assert_eq!(description.to_string(), text);
/// # Ok::<(), streams_core::StreamsError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopologyDescription {
    /// The sub-topologies in the order of their ids.
    pub subtopologies: Vec<SubTopologyDescription>,
}

/// Nodes that run in one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubTopologyDescription {
    /// Its number, the first part of its tasks' ids.
    pub id: u32,
    /// Whether it fills a global store: then there are no tasks of it.
    pub is_global: bool,
    /// Its nodes, those with most below them first.
    pub nodes: Vec<NodeDescription>,
}

/// A source, processor or sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDescription {
    /// Its name.
    pub name: String,
    /// What it is, and what it reads, uses or writes.
    pub role: NodeRole,
    /// Names of the nodes that get what it forwards; none of a sink.
    pub successors: Vec<String>,
    /// Names of the nodes that it gets records from; none of a source.
    pub predecessors: Vec<String>,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeRole {
    /// Reads topics.
    Source(TopicsDescription),
    /// Processes records.
    Processor {
        /// Names of the stores that it uses.
        stores: Vec<String>,
    },
    /// Writes a topic.
    Sink(SinkTarget),
}

/// What a source reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicsDescription {
    /// These topics.
    Names(Vec<String>),
    /// Every topic that matches this regular expression.
    Pattern(String),
}

/// What a sink writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkTarget {
    /// This topic.
    Topic(String),
    /// The topic that an extractor names for each record; how the extractor is shown.
    Extracted(String),
}

impl TopologyDescription {
    /// The topics that the application creates to pass records from one sub-topology to another, without its prefix, sorted:
    /// those that it both writes and reads and whose name is one of such topics (`..-repartition`, or a foreign-key join's).
    pub fn internal_topics(&self) -> Vec<&str> {
        let mut topics: Vec<&str> = self.read_topics().filter(|topic| is_passed_on(topic)).collect();
        let written: Vec<&str> = self.written_topics().collect();
        topics.retain(|topic| written.contains(topic));
        topics.sort_unstable();
        topics.dedup();
        topics
    }

    /// The topics that it reads or writes by name and that are not [internal](TopologyDescription::internal_topics), in no
    /// particular order; some may come twice.
    pub fn external_topics(&self) -> impl Iterator<Item = &str> {
        let internal = self.internal_topics();
        self.read_topics().chain(self.written_topics()).filter(move |topic| !internal.contains(topic))
    }

    /// Names of all stores, sorted; global ones among them.
    pub fn stores(&self) -> Vec<&str> {
        let mut stores: Vec<&str> = self.nodes().flat_map(NodeDescription::stores).map(String::as_str).collect();
        stores.sort_unstable();
        stores.dedup();
        stores
    }

    /// All nodes of all sub-topologies.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeDescription> {
        self.subtopologies.iter().flat_map(|sub| &sub.nodes)
    }

    fn read_topics(&self) -> impl Iterator<Item = &str> {
        self.nodes()
            .filter_map(|node| match &node.role {
                NodeRole::Source(TopicsDescription::Names(topics)) => Some(topics),
                _ => None,
            })
            .flatten()
            .map(String::as_str)
    }

    fn written_topics(&self) -> impl Iterator<Item = &str> {
        self.nodes().filter_map(|node| match &node.role {
            NodeRole::Sink(SinkTarget::Topic(topic)) => Some(topic.as_str()),
            _ => None,
        })
    }
}

/// Whether a topic has the name of one by which sub-topologies pass records on, whoever made it.
pub(crate) fn is_passed_on(topic: &str) -> bool {
    let Some(join) = topic.strip_suffix("-topic") else { return topic.ends_with("-repartition") };
    let generated = join.rsplit_once('-').is_some_and(|(kind, number)| {
        number.len() == 10
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && (kind.ends_with("KTABLE-FK-JOIN-SUBSCRIPTION-REGISTRATION")
                || kind.ends_with("KTABLE-FK-JOIN-SUBSCRIPTION-RESPONSE"))
    });
    generated || join.ends_with("-subscription-registration") || join.ends_with("-subscription-response")
}

impl NodeDescription {
    /// Names of the stores that it uses; none of a source or sink.
    pub fn stores(&self) -> &[String] {
        match &self.role {
            NodeRole::Processor { stores } => stores,
            NodeRole::Source(_) | NodeRole::Sink(_) => &[],
        }
    }
}

fn arrows(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

impl fmt::Display for TopologyDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Topologies:\n ")?;
        self.subtopologies.iter().try_for_each(|sub| write!(f, "  {sub}"))
    }
}

impl fmt::Display for SubTopologyDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let note = if self.is_global { " for global store (will not generate tasks)" } else { "" };
        writeln!(f, "Sub-topology: {}{note}", self.id)?;
        self.nodes.iter().try_for_each(|node| write!(f, "    {node}"))?;
        // The JVM ends all but those of global stores with an empty line.
        if self.is_global { Ok(()) } else { writeln!(f) }
    }
}

impl fmt::Display for NodeDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.role {
            NodeRole::Source(topics) => writeln!(f, "Source: {name} (topics: {topics})")?,
            NodeRole::Processor { stores } => writeln!(f, "Processor: {name} (stores: [{}])", stores.join(", "))?,
            NodeRole::Sink(target) => writeln!(f, "Sink: {name} ({target})")?,
        }
        if !matches!(self.role, NodeRole::Sink(_)) {
            writeln!(f, "      --> {}", arrows(&self.successors))?;
        }
        if !matches!(self.role, NodeRole::Source(_)) {
            writeln!(f, "      <-- {}", arrows(&self.predecessors))?;
        }
        Ok(())
    }
}

impl fmt::Display for TopicsDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Names(topics) => write!(f, "[{}]", topics.join(", ")),
            Self::Pattern(pattern) => f.write_str(pattern),
        }
    }
}

impl fmt::Display for SinkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(topic) => write!(f, "topic: {topic}"),
            Self::Extracted(extractor) => write!(f, "extractor class: {extractor}"),
        }
    }
}
