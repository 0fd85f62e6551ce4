//! A topology as a Mermaid flowchart.

use std::fmt::Write;

use super::graph::{Graph, NodeShape, TopicKind};

/// Text between double quotes. Mermaid knows entities by `#`, and takes a label for HTML, and one between backticks for Markdown.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '"' | '#' | '&' | '<' | '>' | '`' | ';' | '\\' => {
                // Writing to a String cannot fail.
                let _ = write!(escaped, "#{};", u32::from(char));
            }
            char if char.is_control() => escaped.push(' '),
            char => escaped.push(char),
        }
    }
    escaped
}

pub(super) fn render(graph: &Graph) -> String {
    let mut text = String::from("flowchart TD\n");
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    for topic in &graph.topics {
        let class = match topic.kind {
            TopicKind::External => "topic",
            TopicKind::Internal => "internal",
            TopicKind::Pattern => "pattern",
            TopicKind::Extracted => "extracted",
        };
        line(format!("  {}[/\"{}\"/]:::{class}", topic.id, escape(&topic.name)));
    }
    for group in &graph.groups {
        line(format!("  subgraph {}[\"{}\"]", group.id, escape(&group.title)));
        for node in &group.nodes {
            let (id, name) = (&node.id, escape(&node.name));
            line(match node.shape {
                NodeShape::Source => format!("    {id}([\"{name}\"]):::source"),
                NodeShape::Processor => format!("    {id}[\"{name}\"]:::processor"),
                NodeShape::Sink => format!("    {id}([\"{name}\"]):::sink"),
            });
        }
        for store in &group.stores {
            line(format!("    {}[(\"{}\")]:::store", store.id, escape(&store.name)));
        }
        for (from, to) in &group.edges {
            line(format!("    {} --> {}", group.nodes[*from].id, group.nodes[*to].id));
        }
        for store in &group.stores {
            for user in &store.users {
                line(format!("    {} -.- {}", group.nodes[*user].id, store.id));
            }
        }
        line("  end".to_owned());
    }
    for link in &graph.reads {
        line(format!("  {} --> {}", graph.topics[link.topic].id, graph.groups[link.group].nodes[link.node].id));
    }
    for link in &graph.writes {
        line(format!("  {} --> {}", graph.groups[link.group].nodes[link.node].id, graph.topics[link.topic].id));
    }
    text.push_str(CLASSES);
    text
}

const CLASSES: &str = "\
\x20 classDef topic fill:#fdf6e3,stroke:#8a6d1b
\x20 classDef internal fill:#f3f3f3,stroke:#666,stroke-dasharray:4 3
\x20 classDef pattern fill:#fdf6e3,stroke:#8a6d1b,stroke-dasharray:2 2
\x20 classDef extracted fill:#fdf6e3,stroke:#8a6d1b,stroke-dasharray:2 2
\x20 classDef source fill:#e3f4e7,stroke:#2f7d43
\x20 classDef processor fill:#e8eefb,stroke:#3a5ba0
\x20 classDef sink fill:#fbe9e3,stroke:#b0522d
\x20 classDef store fill:#efe6f7,stroke:#6f3fa0
";
