//! Reads the text of `describe()` back: what this crate prints, what the JVM prints, and the same pasted from a log, with
//! lines of the log before it or other indentation.

use std::str::FromStr;

use super::{
    NodeDescription, NodeRole, SinkTarget, SubTopologyDescription, TopicsDescription, TopologyDescription, arrows,
};
use crate::error::{ErrorKind, StreamsError};
use crate::topology::builder::check_name;

const EXAMPLE: &str = "expected the text that describe() prints";

impl FromStr for TopologyDescription {
    type Err = StreamsError;

    /// Reads the text of `describe()`; lines before `Topologies:` are passed over.
    ///
    /// # Errors
    /// [`ErrorKind::Topology`]: a line is not understood, or an arrow leads to a node that is not there; the message names
    /// the line.
    fn from_str(text: &str) -> Result<Self, StreamsError> {
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        let is_header = |line: &str| line.trim_end_matches([' ', ':']).ends_with("Topologies");
        if !lines.by_ref().any(|(_, line)| is_header(line)) {
            return Err(invalid("there is no line \"Topologies:\"".to_owned()));
        }
        let mut description = Self::default();
        for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
            read_line(&mut description, line)
                .map_err(|problem| invalid(format!("line {number}: {problem}: {line}")))?;
        }
        description.subtopologies.iter().try_for_each(check_arrows)?;
        Ok(description)
    }
}

fn invalid(problem: String) -> StreamsError {
    StreamsError::new(ErrorKind::Topology, format!("{problem}; {EXAMPLE}"))
}

fn read_line(description: &mut TopologyDescription, line: &str) -> Result<(), String> {
    if let Some(rest) = line.strip_prefix("Sub-topology: ") {
        description.subtopologies.push(read_sub_topology(rest)?);
        return Ok(());
    }
    let sub = description.subtopologies.last_mut().ok_or("this stands before the first Sub-topology")?;
    if let Some(names) = line.strip_prefix("--> ") {
        last(sub)?.successors = read_arrows(names);
    } else if let Some(names) = line.strip_prefix("<-- ") {
        last(sub)?.predecessors = read_arrows(names);
    } else {
        sub.nodes.push(read_node(line)?);
    }
    Ok(())
}

fn last(sub: &mut SubTopologyDescription) -> Result<&mut NodeDescription, String> {
    sub.nodes.last_mut().ok_or_else(|| "this stands before the first node".to_owned())
}

fn read_sub_topology(rest: &str) -> Result<SubTopologyDescription, String> {
    let (id, note) = rest.split_once(' ').unwrap_or((rest, ""));
    let id = id.parse().map_err(|_| format!("{id} is not the number of a sub-topology"))?;
    Ok(SubTopologyDescription { id, is_global: note.starts_with("for global store"), nodes: Vec::new() })
}

/// The JVM prints an empty list as `none`.
fn read_arrows(names: &str) -> Vec<String> {
    if names == arrows(&[]) { Vec::new() } else { names.split(", ").map(str::to_owned).collect() }
}

fn read_node(line: &str) -> Result<NodeDescription, String> {
    let not_a_node = || "this is not a source, processor or sink".to_owned();
    let (kind, rest) = line.split_once(": ").ok_or_else(not_a_node)?;
    let rest = rest.strip_suffix(')').ok_or_else(|| "the closing bracket is missing".to_owned())?;
    let part = |mark: &str| rest.split_once(mark).ok_or_else(|| format!("\"{mark}\" is missing"));
    let (name, role) = match kind {
        "Source" => part(" (topics: ").map(|(name, topics)| (name, NodeRole::Source(read_topics(topics))))?,
        "Processor" => {
            let (name, stores) = part(" (stores: [")?;
            let stores = stores.strip_suffix(']').ok_or_else(|| "the list of stores does not end".to_owned())?;
            (name, NodeRole::Processor { stores: read_list(stores) })
        }
        "Sink" if rest.contains(" (topic: ") => {
            part(" (topic: ").map(|(name, topic)| (name, NodeRole::Sink(SinkTarget::Topic(topic.to_owned()))))?
        }
        "Sink" => part(" (extractor class: ")
            .map(|(name, class)| (name, NodeRole::Sink(SinkTarget::Extracted(class.to_owned()))))?,
        _ => return Err(not_a_node()),
    };
    Ok(NodeDescription { name: name.to_owned(), role, successors: Vec::new(), predecessors: Vec::new() })
}

fn read_list(list: &str) -> Vec<String> {
    list.split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// A pattern may stand in brackets too, but hardly looks like a list of topics.
fn read_topics(text: &str) -> TopicsDescription {
    let list = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).map(read_list);
    match list {
        Some(topics) if topics.iter().all(|topic| check_name("topic", topic).is_ok()) => {
            TopicsDescription::Names(topics)
        }
        _ => TopicsDescription::Pattern(text.to_owned()),
    }
}

fn check_arrows(sub: &SubTopologyDescription) -> Result<(), StreamsError> {
    for node in &sub.nodes {
        let mut others = node.successors.iter().chain(&node.predecessors);
        if let Some(missing) = others.find(|name| sub.nodes.iter().all(|known| known.name != **name)) {
            let problem = format!("{} names {missing}, which sub-topology {} does not have", node.name, sub.id);
            return Err(invalid(problem));
        }
    }
    Ok(())
}
