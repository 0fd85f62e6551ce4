//! `describe()` against the texts that Kafka Streams printed: each is taken apart, built again by name and described.

use std::collections::BTreeMap;

use streams_core::config::StreamsConfig;
use streams_core::store::Stores;
use streams_core::topology::{BuiltTopology, RepartitionOptions};
use streams_core::{SinkOptions, SourceOptions, Topology};

use crate::support::Nothing;

const GOLDEN: &str = include_str!("../data/topology-golden.txt");

#[derive(Debug, Default)]
struct GoldenNode {
    kind: String,
    name: String,
    /// Topics, stores or topic.
    detail: String,
    parents: Vec<String>,
}

/// The nodes of each sub-topology of a text, with whether it is global.
fn parse(text: &str) -> Vec<(bool, Vec<GoldenNode>)> {
    let mut groups: Vec<(bool, Vec<GoldenNode>)> = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with("Sub-topology:") {
            groups.push((line.contains("global store"), Vec::new()));
        } else if let Some((kind, rest)) =
            line.split_once(": ").filter(|(kind, _)| ["Source", "Processor", "Sink"].contains(kind))
        {
            let (name, detail) = rest.split_once(" (").unwrap();
            let detail = detail.trim_end_matches(')').to_owned();
            let node = GoldenNode { kind: kind.to_owned(), name: name.to_owned(), detail, parents: Vec::new() };
            groups.last_mut().unwrap().1.push(node);
        } else if let Some(parents) = line.strip_prefix("<-- ") {
            let nodes = &mut groups.last_mut().unwrap().1;
            nodes.last_mut().unwrap().parents = parents.split(", ").map(str::to_owned).collect();
        }
    }
    groups
}

fn list(detail: &str, prefix: &str) -> Vec<String> {
    let inner = detail.strip_prefix(prefix).unwrap().trim_start_matches('[').trim_end_matches(']');
    inner.split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Names in an order in which parents come first: by the number at the end where there is one.
fn insertion_order(nodes: &[GoldenNode]) -> Vec<&GoldenNode> {
    let number = |name: &str| name.rsplit('-').next().and_then(|tail| tail.parse::<u64>().ok()).unwrap_or(u64::MAX);
    let mut left: Vec<&GoldenNode> = nodes.iter().collect();
    left.sort_by_key(|node| number(&node.name));
    let mut done: Vec<&GoldenNode> = Vec::new();
    while !left.is_empty() {
        let ready = |node: &GoldenNode| node.parents.iter().all(|parent| done.iter().any(|node| node.name == *parent));
        let next = left.iter().position(|node| ready(node)).unwrap();
        done.push(left.remove(next));
    }
    done
}

fn build(text: &str) -> Topology {
    let mut topology = Topology::new();
    let mut stores: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let unit = || SourceOptions::<(), ()>::default();
    for (is_global, nodes) in parse(text) {
        if is_global {
            let (source, processor) = (&nodes[0], &nodes[1]);
            let topic = &list(&source.detail, "topics: ")[0];
            let store = Stores::key_value(
                &list(&processor.detail, "stores: ")[0],
                streams_core::serde::UnitSerde,
                streams_core::serde::UnitSerde,
            );
            topology.add_global_store(store, &source.name, unit(), topic, &processor.name, || Nothing).unwrap();
            continue;
        }
        for node in insertion_order(&nodes) {
            let parents: Vec<&str> = node.parents.iter().map(String::as_str).collect();
            match node.kind.as_str() {
                "Source" if node.detail.starts_with("topics: [") => {
                    topology.add_source(&node.name, unit(), list(&node.detail, "topics: ")).unwrap();
                }
                "Source" => {
                    let pattern = node.detail.strip_prefix("topics: ").unwrap();
                    topology.add_pattern_source(&node.name, unit(), pattern).unwrap();
                }
                "Processor" => {
                    topology.add_processor(&node.name, || Nothing, &parents).unwrap();
                    for store in list(&node.detail, "stores: ") {
                        stores.entry(store).or_default().push(node.name.clone());
                    }
                }
                _ if node.detail.starts_with("topic: ") => {
                    let topic = node.detail.strip_prefix("topic: ").unwrap();
                    topology.add_sink(&node.name, SinkOptions::<(), ()>::default(), topic, &parents).unwrap();
                }
                _ => {
                    let name = node.detail.strip_prefix("extractor class: ").unwrap().to_owned();
                    let extractor = std::sync::Arc::new(Named(name));
                    topology
                        .add_dynamic_sink(&node.name, SinkOptions::<(), ()>::default(), extractor, &parents)
                        .unwrap();
                }
            }
        }
    }
    for (store, users) in stores {
        let users: Vec<&str> = users.iter().map(String::as_str).collect();
        let builder = Stores::key_value(store, streams_core::serde::UnitSerde, streams_core::serde::UnitSerde);
        topology.add_state_store(builder, &users).unwrap();
    }
    topology
}

struct Named(String);

impl streams_core::topology::TopicNameExtractor<(), ()> for Named {
    fn topic(&self, _: Option<&()>, _: Option<&()>, _: &streams_core::topology::TopicContext<'_>) -> String {
        self.0.clone()
    }

    fn describe(&self) -> String {
        self.0.clone()
    }
}

#[test]
fn every_text_of_the_reference_is_reproduced() {
    let mut compared = 0;
    for section in GOLDEN.split("##### ").skip(1) {
        let (title, body) = section.split_once('\n').unwrap();
        let is_described = |line: &&str| {
            !line.starts_with("   R ") && !line.starts_with("   C ") && !line.starts_with("   copartition")
        };
        let text = body.lines().skip_while(|line| !line.starts_with("Topologies:"));
        let expected: Vec<&str> = text.filter(is_described).collect();
        let described = build(body).describe();
        let described: Vec<&str> = described.lines().collect();
        let trim = |lines: Vec<&str>| lines.join("\n").trim_end().to_owned();
        assert_eq!(trim(described), trim(expected), "{title}");
        compared += 1;
    }
    assert_eq!(compared, 57);
}

#[test]
fn a_topology_by_name_is_described() {
    let mut topology = Topology::new();
    topology.add_source("s1", SourceOptions::<(), ()>::default(), ["a", "b"]).unwrap();
    topology.add_processor("p1", || Nothing, &["s1"]).unwrap();
    topology.add_processor("p2", || Nothing, &["s1"]).unwrap();
    let store = Stores::key_value("z", streams_core::serde::UnitSerde, streams_core::serde::UnitSerde);
    topology.add_state_store(store, &["p1", "p2"]).unwrap();
    topology.add_sink("k", SinkOptions::<(), ()>::default(), "o", &["p1", "p2"]).unwrap();
    insta::assert_snapshot!(topology.describe(), @r"
    Topologies:
       Sub-topology: 0
        Source: s1 (topics: [a, b])
          --> p1, p2
        Processor: p1 (stores: [z])
          --> k
          <-- s1
        Processor: p2 (stores: [z])
          --> k
          <-- s1
        Sink: k (topic: o)
          <-- p1, p2
    ");
}

#[test]
fn internal_topics_are_named_and_configured_as_in_the_reference() {
    let mut topology = Topology::new();
    let unit = || SourceOptions::<(), ()>::default();
    let serde = streams_core::serde::UnitSerde;
    topology.add_source("source", unit(), ["in"]).unwrap();
    topology.add_repartition_topic("x-repartition", RepartitionOptions::default()).unwrap();
    topology.add_sink("sink", SinkOptions::<(), ()>::default(), "x-repartition", &["source"]).unwrap();
    topology.add_source("again", unit(), ["x-repartition"]).unwrap();
    topology.add_processor("p", || Nothing, &["again"]).unwrap();
    topology.add_state_store(Stores::key_value("kv", serde, serde), &["p"]).unwrap();
    topology.add_state_store(Stores::window("win", 120_000, 60_000, serde, serde), &["p"]).unwrap();
    topology.add_state_store(Stores::window("join", 120_000, 60_000, serde, serde).with_duplicates(), &["p"]).unwrap();
    topology.add_state_store(Stores::session("sess", i64::MAX, serde, serde), &["p"]).unwrap();
    let overrides = BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]);
    let kept = Stores::window("kept", 120_000, 60_000, serde, serde).with_logging(overrides);
    topology.add_state_store(kept, &["p"]).unwrap();
    topology.add_state_store(Stores::key_value("off", serde, serde).without_logging(), &["p"]).unwrap();
    let config = StreamsConfig::new("app").with("topic.segment.bytes", 7_000_000).unwrap();
    let built = BuiltTopology::new(&topology, &config).unwrap();
    let [first, second] = built.subtopologies() else { panic!("two sub-topologies") };
    assert_eq!(first.repartition_sinks, ["app-x-repartition"]);
    let mut text = String::new();
    for topic in second.repartition_sources.iter().chain(second.changelogs.values()) {
        text.push_str(&format!("{} {:?}\n", topic.name, topic.configs));
    }
    insta::assert_snapshot!(text, @r#"
    app-x-repartition {"cleanup.policy": "delete", "message.timestamp.type": "CreateTime", "retention.ms": "-1", "segment.bytes": "7000000"}
    app-join-changelog {"cleanup.policy": "delete", "message.timestamp.type": "CreateTime", "retention.ms": "86520000", "segment.bytes": "7000000"}
    app-kept-changelog {"cleanup.policy": "compact,delete", "message.timestamp.type": "CreateTime", "retention.ms": "5", "segment.bytes": "7000000"}
    app-kv-changelog {"cleanup.policy": "compact", "message.timestamp.type": "CreateTime", "segment.bytes": "7000000"}
    app-sess-changelog {"cleanup.policy": "compact,delete", "message.timestamp.type": "CreateTime", "retention.ms": "9223372036854775807", "segment.bytes": "7000000"}
    app-win-changelog {"cleanup.policy": "compact,delete", "message.timestamp.type": "CreateTime", "retention.ms": "86520000", "segment.bytes": "7000000"}
    "#);
}

#[test]
fn mistakes_name_both_sides() {
    let mut topology = Topology::new();
    topology.add_source("s", SourceOptions::<String, i64>::default(), ["a"]).unwrap();
    let error = topology.add_sink("k", SinkOptions::<String, String>::default(), "o", &["s"]).err().unwrap();
    insta::assert_snapshot!(error, @"invalid topology: s sends records of <alloc::string::String, i64>, but k below it takes <alloc::string::String, alloc::string::String>");
    let error = topology.add_source("t", SourceOptions::<String, i64>::default(), ["a"]).err().unwrap();
    insta::assert_snapshot!(error, @"invalid topology: topic a has already been registered by another source, s");
    let error = topology.add_source("s", SourceOptions::<String, i64>::default(), ["b"]).err().unwrap();
    insta::assert_snapshot!(error, @"invalid topology: processor s is already added");
    let error = topology.add_sink("k", SinkOptions::<String, i64>::default(), "o", &["x"]).err().unwrap();
    insta::assert_snapshot!(error, @"invalid topology: k names the parent x, which is not added yet");
}
