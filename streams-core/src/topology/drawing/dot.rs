//! A topology as a digraph of DOT.

use super::graph::{Graph, NodeShape, TopicKind};

/// Text between double quotes; in labels a backslash would begin an escape.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '"' | '\\' => escaped.extend(['\\', char]),
            char if char.is_control() => escaped.push(' '),
            char => escaped.push(char),
        }
    }
    escaped
}

pub(super) fn render(graph: &Graph) -> String {
    let mut text = String::from(HEAD);
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    for topic in &graph.topics {
        let style = match topic.kind {
            TopicKind::External => "fillcolor=\"#fdf6e3\", color=\"#8a6d1b\"",
            TopicKind::Internal => "fillcolor=\"#f3f3f3\", color=\"#666666\", style=\"filled,dashed\"",
            TopicKind::Pattern | TopicKind::Extracted => {
                "fillcolor=\"#fdf6e3\", color=\"#8a6d1b\", style=\"filled,dotted\""
            }
        };
        line(format!("  {} [label=\"{}\", shape=parallelogram, {style}];", topic.id, escape(&topic.name)));
    }
    for group in &graph.groups {
        line(format!("  subgraph cluster_{} {{", group.id));
        line(format!("    label=\"{}\";", escape(&group.title)));
        line("    color=\"#999999\";".to_owned());
        for node in &group.nodes {
            let style = match node.shape {
                NodeShape::Source => "style=\"filled,rounded\", fillcolor=\"#e3f4e7\", color=\"#2f7d43\"",
                NodeShape::Processor => "fillcolor=\"#e8eefb\", color=\"#3a5ba0\"",
                NodeShape::Sink => "style=\"filled,rounded\", fillcolor=\"#fbe9e3\", color=\"#b0522d\"",
            };
            line(format!("    {} [label=\"{}\", {style}];", node.id, escape(&node.name)));
        }
        for store in &group.stores {
            let style = "shape=cylinder, fillcolor=\"#efe6f7\", color=\"#6f3fa0\"";
            line(format!("    {} [label=\"{}\", {style}];", store.id, escape(&store.name)));
        }
        for (from, to) in &group.edges {
            line(format!("    {} -> {};", group.nodes[*from].id, group.nodes[*to].id));
        }
        for store in &group.stores {
            for user in &store.users {
                line(format!("    {} -> {} [style=dashed, dir=none];", group.nodes[*user].id, store.id));
            }
        }
        line("  }".to_owned());
    }
    for link in &graph.reads {
        line(format!("  {} -> {};", graph.topics[link.topic].id, graph.groups[link.group].nodes[link.node].id));
    }
    for link in &graph.writes {
        line(format!("  {} -> {};", graph.groups[link.group].nodes[link.node].id, graph.topics[link.topic].id));
    }
    text.push_str("}\n");
    text
}

const HEAD: &str = "\
digraph topology {
  node [shape=box, style=filled, fontname=\"sans-serif\", fontsize=11];
  edge [color=\"#555555\"];
  graph [fontname=\"sans-serif\", fontsize=12];
";
