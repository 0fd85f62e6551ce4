//! Settings: what is refused, with which advice, and that everything accepted is used.

use std::path::Path;

use streams_core::StreamsConfig;
use streams_core::config::{SETTINGS, Use};

#[test]
fn unknown_settings_are_refused_with_the_nearest_name() {
    let error = |name: &str, value: &str| StreamsConfig::new("app").with(name, value).unwrap_err().to_string();
    insta::assert_snapshot!(error("num.stream.thread", "2"), @"invalid configuration: num.stream.thread is not a setting; did you mean num.stream.threads?");
    insta::assert_snapshot!(error("num.stream.threads", "two"), @"invalid configuration: num.stream.threads must be a whole number, not two");
    insta::assert_snapshot!(error("processing.guarantee", "exactly_once"), @r#"invalid configuration: processing.guarantee must be one of ["at_least_once", "exactly_once_v2"], not exactly_once"#);
    assert!(StreamsConfig::from_properties([("num.stream.threads", 2)]).is_err(), "application.id is missing");
    let config = StreamsConfig::from_properties([("application.id", "a"), ("producer.linger.ms", "5")]).unwrap();
    assert_eq!(config.with_prefix("producer.")["linger.ms"], "5");
    assert_eq!((config.commit_interval_ms(), config.cache_max_bytes()), (100, 10_485_760));
}

fn refused(name: &str, value: &str) -> String {
    StreamsConfig::new("app").with(name, value).unwrap_err().to_string()
}

/// The text of all sources of the library that may use settings: not of the configuration itself, not of the test driver.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "config" && name != "test_driver" {
            text += &sources(&path);
        } else if name.ends_with(".rs") && name != "config.rs" {
            let source = std::fs::read_to_string(&path).unwrap();
            text += source.split("#[cfg(test)]").next().unwrap();
        }
    }
    text
}

#[test]
fn every_setting_that_is_accepted_is_read_by_someone() {
    let this = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = sources(&this.join("src")) + &sources(&this.join("../streams-dsl/src"));
    text.retain(|char| !char.is_whitespace());
    for setting in SETTINGS {
        if let Use::ReadBy(method) = setting.used {
            let call = format!(".{method}()");
            assert!(text.contains(&call), "{}: nothing outside config.rs calls {call}", setting.name);
        }
    }
}

#[test]
fn every_default_is_allowed_and_what_is_not_used_is_refused() {
    for setting in SETTINGS {
        match setting.used {
            Use::ReadBy("handlers") => {}
            Use::ReadBy(_) | Use::NotBuilt(Some(_)) => {
                if let Some(default) = setting.default {
                    assert!(StreamsConfig::new("app").with(setting.name, default).is_ok(), "{}", setting.name);
                }
            }
            Use::NotBuilt(None) | Use::Elsewhere(_) => assert!(refused(setting.name, "1").contains(setting.name)),
        }
    }
    let asked = [("application.server", "a:1"), ("bootstrap.servers", "localhost:9092"), ("num.stream.threads", "0")];
    insta::assert_snapshot!(asked.map(|(name, value)| refused(name, value)).join("\n"), @"
    invalid configuration: application.server=a:1 is not built yet: leave it out
    invalid configuration: bootstrap.servers is not set here: the application uses the Client that it is given: name brokers in Client::connect
    invalid configuration: num.stream.threads must be at least 1, not 0
    ");
}

#[test]
fn settings_behind_a_prefix_are_checked_by_whoever_uses_them() {
    let asked = [
        ("consumer.fetch.max.byte", "1"),
        ("restore.consumer.fetch.max.bytes", "all"),
        ("producer.linger.mss", "1"),
        ("admin.retry.backof.ms", "1"),
        ("topic.retention.msec", "1"),
        ("producer.reconnect.backoff.ms", "1"),
        ("consumer.client.id", "me"),
        ("main.consumer.group.id", "me"),
        ("restore.consumer.session.timeout.ms", "1000"),
        ("global.consumer.session.timeout.ms", "1000"),
        ("client.tag.zone", "a"),
    ];
    insta::assert_snapshot!(asked.map(|(name, value)| refused(name, value)).join("\n"), @"
    invalid configuration: consumer.*: configuration: unknown setting fetch.max.byte; did you mean fetch.max.bytes?
    invalid configuration: restore.consumer.*: configuration: fetch.max.bytes=all: must be a whole number from -2147483648 to 2147483647
    invalid configuration: producer.*: configuration: unknown setting linger.mss; did you mean linger.ms?
    invalid configuration: admin.*: configuration: unknown setting retry.backof.ms; did you mean retry.backoff.ms?
    invalid configuration: topic.*: unknown topic config name retention.msec; the nearest known one is retention.ms
    invalid configuration: producer.reconnect.backoff.ms is not set here: stream threads share their connections: set it on the Client that the application is given
    invalid configuration: consumer.client.id is not set here: the runtime names its clients: use client.id without prefix
    invalid configuration: main.consumer.group.id is not set here: it is the application's id: use application.id
    invalid configuration: restore.consumer.session.timeout.ms is not set here: changelogs are read outside any group: use main.consumer.
    invalid configuration: global.consumer.session.timeout.ms is not set here: global stores are read outside any group: use main.consumer.
    invalid configuration: client.tag.zone has no effect: standby replicas are not built yet
    ");
    for (name, value) in [
        ("consumer.session.timeout.ms", "10000"),
        ("main.consumer.group.instance.id", "one"),
        ("restore.consumer.fetch.max.bytes", "1000"),
        ("global.consumer.fetch.max.bytes", "1000"),
        ("producer.linger.ms", "5"),
        ("admin.default.api.timeout.ms", "5000"),
        ("topic.retention.ms", "-1"),
    ] {
        assert!(StreamsConfig::new("app").with(name, value).is_ok(), "{name}");
    }
}
