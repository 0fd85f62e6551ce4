//! Settings of topics and of the broker: described, changed, kept over a restart.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says where it failed")]

mod support;

use broker::properties::PROPERTIES;
use protocol::api::messages::describe_configs_request::DescribeConfigsResource;
use protocol::api::messages::describe_configs_response::DescribeConfigsResourceResult;
use protocol::api::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use protocol::api::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};
use protocol::api::{ErrorCode, Response};
use protocol::record::{BatchBuilder, BuilderOptions, Compression, HeadersRef};
use support::*;

fn describe(peer: &mut Peer, kind: i8, name: &str, keys: &[&str]) -> Result<Vec<DescribeConfigsResourceResult>, i16> {
    let keys = (!keys.is_empty()).then(|| keys.iter().map(|key| text(key)).collect());
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(keys);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
    let Response::DescribeConfigs(mut response) = peer.call(4, request) else { panic!() };
    let result = response.results.remove(0);
    if result.error_code == 0 { Ok(result.configs) } else { Err(result.error_code) }
}

/// (value, source) of one setting.
fn setting(peer: &mut Peer, kind: i8, name: &str, key: &str) -> (String, i8) {
    let found = describe(peer, kind, name, &[key]).unwrap().remove(0);
    (found.value.unwrap().to_string(), found.config_source)
}

fn alter(peer: &mut Peer, kind: i8, name: &str, changes: &[(&str, i8, Option<&str>)]) -> i16 {
    let configs = changes.iter().map(|(key, operation, value)| {
        AlterableConfig::default().with_name(text(key)).with_config_operation(*operation).with_value(value.map(text))
    });
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(configs.collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let Response::IncrementalAlterConfigs(response) = peer.call(1, request) else { panic!() };
    response.responses[0].error_code
}

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;

#[test]
fn a_topics_settings_say_where_they_come_from() {
    on_each_target(&[("log.retention.hours", "2")], |peer| {
        peer.create_topic("t", 1, &[("segment.bytes", "2097152")]);
        let all = describe(peer, TOPIC, "t", &[]).unwrap();
        assert_eq!(all.len(), 33, "all but internal.segment.bytes");
        assert_eq!(setting(peer, TOPIC, "t", "segment.bytes"), ("2097152".into(), 1));
        assert_eq!(setting(peer, TOPIC, "t", "retention.ms"), ("7200000".into(), 4));
        assert_eq!(setting(peer, TOPIC, "t", "cleanup.policy"), ("delete".into(), 5));
        assert!(describe(peer, TOPIC, "t", &["no.such"]).unwrap().is_empty());
        assert_eq!(describe(peer, TOPIC, "no", &[]), Err(3));
        assert_eq!(describe(peer, 99, "t", &[]), Err(42));
    });
}

#[test]
fn a_topics_settings_are_changed_one_by_one() {
    on_each_target(&[], |peer| {
        peer.create_topic("t", 1, &[]);
        assert_eq!(alter(peer, TOPIC, "t", &[("max.message.bytes", 0, Some("100"))]), 0);
        assert_eq!(setting(peer, TOPIC, "t", "max.message.bytes"), ("100".into(), 1));
        let large = "x".repeat(200);
        assert_eq!(peer.produce("t", 0, -1, batch(&[&large])).error_code, ErrorCode::MessageTooLarge);
        assert_eq!(alter(peer, TOPIC, "t", &[("max.message.bytes", 1, None)]), 0);
        assert_eq!(setting(peer, TOPIC, "t", "max.message.bytes"), ("1048588".into(), 5));
        assert_eq!(peer.produce("t", 0, -1, batch(&[&large])).error_code, ErrorCode::None);
        assert_eq!(alter(peer, TOPIC, "t", &[("cleanup.policy", 2, Some("compact"))]), 0);
        assert_eq!(setting(peer, TOPIC, "t", "cleanup.policy").0, "delete,compact");
        assert_eq!(alter(peer, TOPIC, "t", &[("cleanup.policy", 3, Some("delete"))]), 0);
        assert_eq!(setting(peer, TOPIC, "t", "cleanup.policy").0, "compact");
    });
}

#[test]
fn changes_are_refused_with_kafkas_codes_all_or_nothing() {
    on_each_target(&[], |peer| {
        peer.create_topic("t", 1, &[]);
        let good = ("retention.ms", 0, Some("5"));
        assert_eq!(alter(peer, TOPIC, "t", &[good, ("no.such", 0, Some("1"))]), 40);
        assert_eq!(alter(peer, TOPIC, "t", &[good, ("segment.ms", 0, Some("-1"))]), 40);
        assert_eq!(alter(peer, TOPIC, "t", &[good, ("segment.ms", 2, Some("1"))]), 40);
        assert_eq!(alter(peer, TOPIC, "t", &[good, good]), 42);
        assert_eq!(alter(peer, TOPIC, "t", &[good, ("segment.ms", 9, Some("1"))]), -1);
        assert_eq!(alter(peer, TOPIC, "no", &[good]), 3);
        assert_eq!(setting(peer, TOPIC, "t", "retention.ms"), ("604800000".into(), 5));
        assert_eq!(alter(peer, BROKER, "1", &[("log.dirs", 0, Some("/x"))]), 42);
        assert_eq!(alter(peer, BROKER, "7", &[("log.retention.ms", 0, Some("1"))]), 42);
    });
}

#[test]
fn the_brokers_settings_can_be_read_and_the_dynamic_ones_changed() {
    on_each_target(&[("num.partitions", "5")], |peer| {
        peer.create_topic("t", 1, &[]);
        assert_eq!(setting(peer, BROKER, "1", "num.partitions"), ("5".into(), 4));
        assert_eq!(setting(peer, BROKER, "1", "delete.topic.enable"), ("true".into(), 5));
        assert_eq!(describe(peer, BROKER, "2", &[]), Err(42));
        assert_eq!(alter(peer, BROKER, "1", &[("log.retention.ms", 0, Some("1000"))]), 0);
        assert_eq!(setting(peer, BROKER, "1", "log.retention.ms"), ("1000".into(), 2));
        assert_eq!(setting(peer, TOPIC, "t", "retention.ms"), ("1000".into(), 2));
        assert_eq!(alter(peer, GROUP, "g", &[("consumer.session.timeout.ms", 0, Some("50000"))]), 0);
        assert_eq!(setting(peer, GROUP, "g", "consumer.session.timeout.ms"), ("50000".into(), 8));
    });
}

#[test]
fn kafkas_dynamic_properties_that_do_nothing_here_can_be_set_and_are_shown() {
    on_each_target(&[], |peer| {
        let relogin = "sasl.kerberos.min.time.before.relogin";
        assert_eq!(alter(peer, BROKER, "1", &[(relogin, 0, Some("58000")), ("num.io.threads", 0, Some("4"))]), 0);
        assert_eq!(setting(peer, BROKER, "1", relogin), ("58000".into(), 2));
        assert_eq!(alter(peer, BROKER, "1", &[(relogin, 0, Some("soon"))]), ErrorCode::InvalidConfig.code());
        // What has an effect, but only from the start on, is not taken.
        assert_eq!(
            alter(peer, BROKER, "1", &[("num.network.threads", 0, Some("4"))]),
            ErrorCode::InvalidRequest.code()
        );
    });
}

#[test]
fn properties_have_kafkas_types_and_passwords_are_not_shown() {
    on_each_target(&[("ssl.key.password", "secret"), ("advertised.listeners", "PLAINTEXT://here:1")], |peer| {
        let all = describe(peer, BROKER, "1", &[]).unwrap();
        let of = |name: &str| all.iter().find(|setting| &*setting.name == name).unwrap();
        let password = of("ssl.key.password");
        assert_eq!((password.config_type, password.is_sensitive, &password.value), (9, true, &None));
        assert!(password.synonyms.iter().all(|synonym| synonym.value.is_none()));
        assert_eq!(of("offsets.topic.replication.factor").config_type, 4);
        assert_eq!(of("group.initial.rebalance.delay.ms").config_type, 3);
        let listeners = of("advertised.listeners");
        assert_eq!((listeners.config_source, listeners.read_only, listeners.config_type), (4, true, 7));
        assert!(all.iter().all(|setting| setting.documentation.is_none()), "none was asked for");
    });
}

#[test]
fn settings_are_explained_to_who_asks_and_what_does_nothing_says_so() {
    on_each_target(&[], |peer| {
        peer.create_topic("t", 1, &[]);
        assert_eq!(alter(peer, BROKER, "", &[("num.io.threads", 0, Some("4"))]), 0);
        let resources = [(TOPIC, "t"), (BROKER, "1"), (BROKER, ""), (GROUP, "g")].map(|(kind, name)| {
            DescribeConfigsResource::default().with_resource_type(kind).with_resource_name(text(name))
        });
        let request = DescribeConfigsRequest::default().with_resources(resources.to_vec());
        let Response::DescribeConfigs(response) = peer.call(3, request.with_include_documentation(true)) else {
            panic!()
        };
        // One that was set for all brokers just now, and the cluster's min.insync.replicas.
        for (result, count) in response.results.iter().zip([33, PROPERTIES.len(), 2, 17]) {
            assert_eq!((result.error_code, result.configs.len()), (0, count));
            for setting in &result.configs {
                assert!(setting.documentation.as_ref().is_some_and(|text| text.ends_with('.')), "{}", &*setting.name);
            }
        }
        let of = |result: usize, name: &str| {
            let mut settings = response.results[result].configs.iter();
            settings.find(|setting| &*setting.name == name).unwrap().documentation.clone().unwrap().to_string()
        };
        assert!(of(0, "retention.ms").contains("in ms"));
        assert!(of(0, "flush.ms").contains("No effect here"));
        assert!(!of(1, "num.partitions").contains("No effect"));
        for (result, name) in [(1, "ssl.protocol"), (1, "num.io.threads"), (2, "num.io.threads")] {
            assert!(of(result, name).contains("No effect in this broker"), "{name}");
        }
        assert!(of(3, "share.isolation.level").contains("`read_committed`"));
    });
}

#[test]
fn what_is_set_for_all_brokers_holds_where_this_one_sets_nothing_and_survives_a_restart() {
    let mut broker = TestBroker::start(&[("log.retention.hours", "2")]);
    let mut peer = broker.in_process();
    let peer = &mut peer;
    peer.create_topic("t", 1, &[]);
    assert_eq!(setting(peer, TOPIC, "t", "retention.ms"), ("7200000".into(), 4));
    let both = [("log.retention.ms", 0, Some("1000")), ("max.connections", 0, Some("77"))];
    assert_eq!(alter(peer, BROKER, "", &both), 0);
    assert_eq!(setting(peer, TOPIC, "t", "retention.ms"), ("1000".into(), 3));
    assert_eq!(setting(peer, BROKER, "1", "max.connections"), ("77".into(), 3));
    let listed = describe(peer, BROKER, "", &[]).unwrap();
    let listed: Vec<_> =
        listed.iter().map(|found| (&*found.name, found.value.as_deref(), found.config_source)).collect();
    assert_eq!(
        listed,
        [
            ("log.retention.ms", Some("1000"), 3),
            ("max.connections", Some("77"), 3),
            ("min.insync.replicas", Some("1"), 3)
        ]
    );

    assert_eq!(alter(peer, BROKER, "1", &[("log.retention.ms", 0, Some("500"))]), 0);
    assert_eq!(setting(peer, TOPIC, "t", "retention.ms"), ("500".into(), 2));
    let of_broker = describe(peer, BROKER, "1", &["log.retention.ms"]).unwrap().remove(0);
    let layers: Vec<_> = of_broker.synonyms.iter().map(|layer| (layer.value.as_deref(), layer.source)).collect();
    assert_eq!(layers, [(Some("500"), 2), (Some("1000"), 3)]);

    broker.restart();
    let peer = &mut broker.tcp();
    assert_eq!(setting(peer, TOPIC, "t", "retention.ms"), ("500".into(), 2));
    assert_eq!(alter(peer, BROKER, "1", &[("log.retention.ms", 1, None)]), 0);
    assert_eq!(setting(peer, TOPIC, "t", "retention.ms"), ("1000".into(), 3));
    assert_eq!(alter(peer, BROKER, "", &[("log.retention.ms", 1, None)]), 0);
    assert_eq!(setting(peer, TOPIC, "t", "retention.ms"), ("7200000".into(), 4));
    assert_eq!(alter(peer, BROKER, "", &[("num.partitions", 0, Some("3"))]), ErrorCode::InvalidRequest.code());
    assert_eq!(alter(peer, BROKER, "", &[("log.retention.ms", 0, Some("soon"))]), ErrorCode::InvalidConfig.code());
}

/// Settings that Kafka changes while it runs: those with a meaning here have their effect, others are refused by name.
#[test]
fn what_the_broker_follows_can_be_changed_and_the_rest_says_why_not() {
    on_each_target(&[], |peer| {
        for (name, value) in [
            ("log.cleaner.backoff.ms", "5"),
            ("log.cleaner.dedupe.buffer.size", "2000000"),
            ("max.connection.creation.rate", "1000"),
            ("message.max.bytes", "100000"),
            ("producer.id.expiration.ms", "60000"),
            ("transaction.partition.verification.enable", "false"),
            ("group.share.assignment.interval.ms", "5"),
        ] {
            for (layer, source) in [("", 3), ("1", 2)] {
                assert_eq!(alter(peer, BROKER, layer, &[(name, 0, Some(value))]), 0, "{name}");
                assert_eq!(setting(peer, BROKER, "1", name), (value.into(), source), "{name}");
            }
            assert!(!describe(peer, BROKER, "1", &[name]).unwrap()[0].read_only, "{name}");
        }
        assert_eq!(setting(peer, GROUP, "g", "share.assignment.interval.ms"), ("5".into(), 2));
        for name in ["num.network.threads", "ssl.keystore.location", "listeners"] {
            let change = AlterableConfig::default().with_name(text(name)).with_value(Some(text("4")));
            let resource = AlterConfigsResource::default().with_resource_type(BROKER).with_resource_name(text("1"));
            let request = IncrementalAlterConfigsRequest::default();
            let request = request.with_resources(vec![resource.with_configs(vec![change])]);
            let Response::IncrementalAlterConfigs(response) = peer.call(1, request) else { panic!() };
            assert_eq!(response.responses[0].error_code, ErrorCode::InvalidRequest.code(), "{name}");
            assert!(response.responses[0].error_message.as_ref().unwrap().contains(name), "{response:?}");
            assert!(describe(peer, BROKER, "1", &[name]).unwrap()[0].read_only, "{name}");
        }
        for (name, value) in [
            ("log.cleaner.backoff.ms", "-1"),
            ("log.cleaner.dedupe.buffer.size", "9"),
            ("producer.id.expiration.ms", "0"),
            ("max.connection.creation.rate", "0"),
            ("group.share.assignment.interval.ms", "99999999"),
        ] {
            assert_eq!(alter(peer, BROKER, "", &[(name, 0, Some(value))]), ErrorCode::InvalidConfig.code(), "{name}");
        }
    });
}

#[test]
fn a_shorter_pause_of_the_cleaner_holds_at_once() {
    let broker = TestBroker::start(&[("log.cleaner.backoff.ms", "3600000")]);
    let mut peer = broker.tcp();
    let compacted = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0"), ("segment.ms", "1")];
    peer.create_topic("t", 1, &compacted);
    let keyed = |timestamp: i64, value: &str| {
        let mut builder = BatchBuilder::new(Compression::None, BuilderOptions::default());
        builder.append(timestamp, Some(b"k"), Some(value.as_bytes()), HeadersRef::EMPTY).unwrap();
        builder.build().unwrap()
    };
    for (timestamp, value) in [(1_000, "old"), (2_000, "new"), (3_000, "active")] {
        assert_eq!(peer.produce("t", 0, 1, keyed(timestamp, value)).error_code, ErrorCode::None);
    }
    assert_eq!(peer.values("t", 0, 0).first().map(String::as_str), Some("old"));
    assert_eq!(alter(&mut peer, BROKER, "1", &[("log.cleaner.backoff.ms", 0, Some("1"))]), 0);
    let is_cleaned = |_| peer.values("t", 0, 0).first().is_none_or(|first| first != "old");
    assert!((0..1_000_000).any(is_cleaned), "the old value is still there");
}

#[test]
fn larger_messages_are_taken_once_the_broker_allows_them() {
    on_each_target(&[], |peer| {
        peer.create_topic("t", 1, &[]);
        let large = "x".repeat(2_000);
        assert_eq!(alter(peer, BROKER, "", &[("message.max.bytes", 0, Some("1000"))]), 0);
        let refused = peer.produce("t", 0, 1, batch(&[&large]));
        assert_eq!(refused.error_code, ErrorCode::MessageTooLarge);
        assert_eq!(alter(peer, BROKER, "", &[("message.max.bytes", 0, Some("3000"))]), 0);
        assert_eq!(peer.produce("t", 0, 1, batch(&[&large])).error_code, ErrorCode::None);
    });
}

#[test]
fn settings_survive_a_restart() {
    let mut broker = TestBroker::start(&[]);
    let mut peer = broker.in_process();
    peer.create_topic("t", 1, &[("retention.ms", "7000")]);
    assert_eq!(alter(&mut peer, TOPIC, "t", &[("segment.ms", 0, Some("8000"))]), 0);
    broker.restart();
    let mut peer = broker.tcp();
    assert_eq!(setting(&mut peer, TOPIC, "t", "retention.ms"), ("7000".into(), 1));
    assert_eq!(setting(&mut peer, TOPIC, "t", "segment.ms"), ("8000".into(), 1));
}
