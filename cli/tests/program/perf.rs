//! `perf`: each measurement counts all its records and says so.

use super::support::{BrokerProcess, directory};

#[test]
fn each_measurement_counts_all_its_records() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &["durability=process"]);
    let perf = |arguments: &[&str]| {
        let said = broker.ask(&[&["perf"], arguments, &["--json"]].concat());
        serde_json::from_str::<serde_json::Value>(&said).unwrap()
    };
    broker.ask(&["topics", "create", "load", "--partitions", "2"]);
    let produced = perf(&["produce", "load", "--records", "5000", "--size", "50"]);
    assert_eq!(produced["records"], 5000);
    assert!(
        produced["acknowledged"]["p99_us"].as_u64().unwrap() >= produced["acknowledged"]["p50_us"].as_u64().unwrap()
    );
    let limited =
        perf(&["produce", "load", "--records", "100", "--size", "50", "--rate", "1000", "--set", "linger.ms=0"]);
    // The last one is due then, and none is sent before it is due.
    assert!(limited["seconds"].as_f64().unwrap() >= 0.099, "{limited}");
    let consumed = perf(&["consume", "load", "--records", "5100"]);
    assert_eq!((&consumed["records"], &consumed["bytes"]), (&5100.into(), &(5100 * 50).into()));
    assert_eq!(perf(&["consume", "load", "--records", "5100", "--group", "g"])["records"], 5100);
    // These make their topic, and tell their records from others'.
    broker.tell(&["produce", "probe"], "not a probe\n");
    let latency = perf(&["latency", "probe", "--records", "50", "--warmup", "5", "--size", "16"]);
    assert_eq!(latency["records"], 50);
    assert!(latency["end_to_end"]["p99.9_us"].as_u64().unwrap() > 0);
    assert_eq!(perf(&["end-to-end", "probe", "--records", "50", "--rate", "1000"])["records"], 50);
    assert_eq!(broker.ask(&["offsets", "probe"]), "probe:0:106\n");
    let text = broker.ask(&["perf", "latency", "probe", "--records", "10", "--warmup", "0"]);
    assert!(text.contains("MICROSECONDS") && text.contains("end to end") && text.contains("p99.9"), "{text}");
}

#[test]
fn what_cannot_be_measured_is_explained() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &[]);
    broker.ask(&["topics", "create", "load"]);
    insta::assert_snapshot!(broker.refuses(&[
        &["perf", "produce", "load"],
        &["perf", "produce", "load", "--records", "0"],
        &["perf", "produce", "load", "--records", "1", "--set", "ack=1"],
        &["perf", "latency", "load", "--size", "8"],
        &["perf", "consume", "load", "--records", "1", "--timeout-ms", "100"],
        &["perf", "consume", "lod", "--records", "1"],
    ]));
}
