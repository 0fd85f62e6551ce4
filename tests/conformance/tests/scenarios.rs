//! All scenarios that come with the project: 384 written by hand and 1,501 random ones.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use conformance::{Strictness, check_all, files, report};

#[test]
fn scenarios_come_out_as_in_kafka_streams() {
    let scenarios = files::own().unwrap();
    assert_eq!(scenarios.len(), 1885);
    let outcome = check_all(&scenarios, Strictness { describe: true, ..Strictness::default() });
    assert!(outcome.failures.is_empty(), "{}", report::text(&outcome, false));
}

#[test]
fn every_description_can_be_read_back_and_drawn() {
    let mut read = 0;
    for scenario in files::own().unwrap() {
        let Some(text) = scenario["expect"]["describe"].as_str() else { continue };
        let description: streams_core::topology::TopologyDescription = text.parse().unwrap();
        assert_eq!(description.to_string(), text);
        assert!(description.to_svg().ends_with("</svg>\n"));
        read += 1;
    }
    assert!(read > 1000);
}
