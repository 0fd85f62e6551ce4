//! What Kafka Streams 4.3.1 answered in its test driver, scenario by scenario: outputs, changelogs, timestamps, headers, store contents,
//! drops, `describe()`. Each scenario whose operators exist here is built with the DSL, driven, and compared byte for byte, with the cache
//! and without.
//!
//! `CONFORMANCE_NAME=part` runs the scenarios whose name contains that, `CONFORMANCE_FILE` another file of scenarios, one a line.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]
#![expect(clippy::type_complexity, reason = "what a scenario's words stand for are functions of functions")]

mod build;
mod drive;
mod failure;
mod functions;
mod processors;
mod value;
mod versioned;

use std::collections::BTreeMap;
use std::io::Read as _;

use serde_json::Value as Json;

/// A scenario uses something that does not exist here.
#[derive(Debug)]
pub struct Skip(pub String);

/// How a run went.
pub enum Outcome {
    /// As recorded.
    Same,
    /// The first difference.
    Differs(String),
}

const SCENARIOS: &[u8] = include_bytes!("../data/scenarios.jsonl.gz");

/// Where the answer here is another one on purpose, and why.
const DEVIATIONS: &[(&str, &str)] =
    &[("proc-headers", "a record's headers are its own: what one processor adds is not seen by its siblings")];

fn scenarios() -> String {
    if let Ok(file) = std::env::var("CONFORMANCE_FILE") {
        return std::fs::read_to_string(file).unwrap();
    }
    let mut text = String::new();
    flate2::read::GzDecoder::new(SCENARIOS).read_to_string(&mut text).unwrap();
    text
}

/// Both runs, with the default cache and without a cache.
fn compare(scenario: &Json) -> Result<Outcome, Skip> {
    let expect = &scenario["expect"];
    let has_cache_size = !scenario["config"]["statestore.cache.max.bytes"].is_null();
    if let Outcome::Differs(difference) = drive::run(scenario, expect, None)? {
        return Ok(Outcome::Differs(format!("cached: {difference}")));
    }
    if has_cache_size {
        return Ok(Outcome::Same);
    }
    let uncached = &scenario["expect_cache0"];
    let uncached = if uncached.is_null() { expect } else { uncached };
    Ok(match drive::run(scenario, uncached, Some(0))? {
        Outcome::Differs(difference) => Outcome::Differs(format!("uncached: {difference}")),
        Outcome::Same => Outcome::Same,
    })
}

#[test]
fn scenarios_come_out_as_in_kafka_streams() {
    let filter = std::env::var("CONFORMANCE_NAME").unwrap_or_default();
    let (mut same, mut failures, mut skipped) = (0, Vec::new(), BTreeMap::<String, usize>::new());
    for line in scenarios().lines() {
        let scenario: Json = serde_json::from_str(line).unwrap();
        let name = scenario["name"].as_str().unwrap_or("").to_owned();
        if !name.contains(&filter) || DEVIATIONS.iter().any(|(known, _)| *known == name) {
            continue;
        }
        match compare(&scenario) {
            Ok(Outcome::Same) => same += 1,
            Ok(Outcome::Differs(difference)) => failures.push(format!("{name}: {difference}")),
            Err(Skip(reason)) => *skipped.entry(reason).or_default() += 1,
        }
    }
    println!("{same} same, {} different, skipped: {skipped:?}", failures.len());
    assert!(failures.is_empty(), "{} of {} differ:\n{}", failures.len(), same + failures.len(), failures.join("\n"));
    // Fewer would mean that scenarios have come to be skipped.
    assert!(!filter.is_empty() || std::env::var_os("CONFORMANCE_FILE").is_some() || same >= 1341, "{same}");
}

#[test]
fn every_description_can_be_read_back_and_drawn() {
    let mut read = 0;
    for line in scenarios().lines() {
        let scenario: Json = serde_json::from_str(line).unwrap();
        let Some(text) = scenario["expect"]["describe"].as_str() else { continue };
        let description: streams_core::topology::TopologyDescription = text.parse().unwrap();
        assert_eq!(description.to_string(), text);
        assert!(description.to_svg().ends_with("</svg>\n"));
        read += 1;
    }
    assert!(read > 0);
}
