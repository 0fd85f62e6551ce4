//! Operators that ask something of the runtime: global tables, topics by pattern, dead letters.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use millstream::base::TopicPartition;
use millstream::client::consumer::{Consumer, ConsumerConfig};
use millstream::prelude::*;

const PATIENCE: Duration = Duration::from_secs(60);

fn send(broker: &Embedded, topic: &str, records: &[(&str, &str)]) {
    let producer = Producer::new(broker.client(), ProducerConfig::default()).unwrap();
    for (key, value) in records {
        producer.send_blocking(ProducerRecord::to(topic).key((*key).to_owned()).value((*value).to_owned())).unwrap();
    }
}

/// The first `count` records of a topic with one partition: key, value, and names of headers.
fn read(broker: &Embedded, topic: &str, count: usize) -> Vec<(String, String, Vec<String>)> {
    read_partition(broker, topic, 0, count)
}

fn read_partition(broker: &Embedded, topic: &str, partition: i32, count: usize) -> Vec<(String, String, Vec<String>)> {
    let settings = ConsumerConfig::from_properties([("auto.offset.reset", "earliest")]).unwrap();
    let mut consumer = Consumer::new(broker.client(), settings).unwrap();
    consumer.assign([TopicPartition::new(topic, partition)]).unwrap();
    let text = |bytes: &Option<_>| {
        bytes.as_deref().map_or_else(String::new, |bytes: &[u8]| String::from_utf8_lossy(bytes).into())
    };
    let mut found = Vec::new();
    while found.len() < count {
        let records = consumer.poll_blocking(PATIENCE).unwrap();
        assert!(!records.is_empty(), "{topic} has {found:?} only");
        for record in records {
            let headers = record.headers.iter().map(|header| header.key.to_string()).collect();
            found.push((text(&record.key), text(&record.value), headers));
        }
    }
    found
}

fn config(broker: &Embedded, name: &str) -> StreamsConfig {
    StreamsConfig::new(name).with("state.dir", broker.state_dir().display()).unwrap()
}

#[test]
fn a_global_table_is_whole_before_the_first_record_and_goes_on_being_read() {
    let broker = Embedded::temporary().unwrap();
    for (topic, partitions) in [("countries", 3), ("people", 1), ("out", 1)] {
        broker.create_topic(topic, partitions).unwrap();
    }
    send(&broker, "countries", &[("ch", "Switzerland"), ("fr", "France"), ("at", "Austria")]);
    send(&broker, "people", &[("ada", "fr"), ("bob", "ch")]);
    let topology = || {
        let builder = StreamsBuilder::new();
        let countries =
            builder.global_table("countries", Consumed::<String, String>::default(), Materialized::named("countries"));
        builder
            .stream("people", Consumed::<String, String>::default())
            .join_global(&countries, |_, code| code.clone(), |code, name| format!("{code}={name}"))
            .to("out", Produced::default());
        builder.build().unwrap()
    };
    let streams = Streams::start(topology(), config(&broker, "global"), broker.client()).unwrap();
    let values = |count| -> BTreeMap<String, String> {
        read(&broker, "out", count).into_iter().map(|(key, value, _)| (key, value)).collect()
    };
    assert_eq!(values(2)["ada"], "fr=France");
    let store = streams.global_store::<String, ValueAndTimestamp<String>>("countries").unwrap();
    assert_eq!(store.all().unwrap().len(), 3);
    send(&broker, "countries", &[("it", "Italy")]);
    while store.get(&"it".to_owned()).unwrap().is_none() {
        std::thread::yield_now();
    }
    send(&broker, "people", &[("carla", "it")]);
    assert_eq!(values(3)["carla"], "it=Italy");
    streams.close().unwrap();
    // Again, with the stores that are there.
    let streams = Streams::start(topology(), config(&broker, "global"), broker.client()).unwrap();
    send(&broker, "people", &[("dan", "at")]);
    assert_eq!(values(4)["dan"], "at=Austria");
    streams.close().unwrap();
    broker.shutdown().unwrap();
}

#[test]
fn topics_that_match_a_pattern_are_read() {
    let broker = Embedded::temporary().unwrap();
    for topic in ["in-1", "in-22", "in-x", "out"] {
        broker.create_topic(topic, 1).unwrap();
    }
    for topic in ["in-1", "in-22", "in-x"] {
        send(&broker, topic, &[("k", topic)]);
    }
    let builder = StreamsBuilder::new();
    builder.stream_matching("in-[0-9]+", Consumed::<String, String>::default()).to("out", Produced::default());
    let streams = Streams::start(builder.build().unwrap(), config(&broker, "pattern"), broker.client()).unwrap();
    let mut values: Vec<String> = read(&broker, "out", 2).into_iter().map(|(_, value, _)| value).collect();
    values.sort();
    assert_eq!(values, ["in-1", "in-22"]);
    streams.close().unwrap();
    broker.shutdown().unwrap();
}

#[test]
fn what_fails_goes_to_the_dead_letter_topic() {
    let broker = Embedded::temporary().unwrap();
    for topic in ["in", "out", "dead"] {
        broker.create_topic(topic, 1).unwrap();
    }
    send(&broker, "in", &[("a", "1"), ("b", "one"), ("c", "3")]);
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::<String, String>::default())
        .try_map_values(|_, text| {
            Ok(text.map(|text| text.parse::<i64>()).transpose()?.map(|number| number.to_string()))
        })
        .to("out", Produced::default());
    let config = config(&broker, "letters")
        .with("errors.dead.letter.queue.topic.name", "dead")
        .and_then(|config| config.with("processing.exception.handler", "LogAndContinueProcessingExceptionHandler"))
        .unwrap();
    let streams = Streams::start(builder.build().unwrap(), config, broker.client()).unwrap();
    let keys: Vec<String> = read(&broker, "out", 2).into_iter().map(|(key, ..)| key).collect();
    assert_eq!(keys, ["a", "c"]);
    let (key, value, headers) = read(&broker, "dead", 1).remove(0);
    assert_eq!((key.as_str(), value.as_str()), ("b", "one"));
    assert_eq!(headers[0], "__streams.errors.exception");
    assert_eq!(headers.len(), 6);
    streams.close().unwrap();
    broker.shutdown().unwrap();
}

#[test]
fn tables_are_joined_by_a_foreign_key_over_several_partitions() {
    let broker = Embedded::temporary().unwrap();
    for (topic, partitions) in [("orders", 2), ("customers", 3), ("bills", 1)] {
        broker.create_topic(topic, partitions).unwrap();
    }
    send(&broker, "customers", &[("c1", "Ada"), ("c2", "Bob")]);
    send(&broker, "orders", &[("o1", "c2"), ("o2", "c1"), ("o3", "c9")]);
    let builder = StreamsBuilder::new();
    let orders = builder.table("orders", Consumed::<String, String>::default(), Materialized::unnamed());
    let customers = builder.table("customers", Consumed::<String, String>::default(), Materialized::unnamed());
    orders
        .join_foreign_key(
            &customers,
            |_, customer| Some(customer.clone()),
            |_, name| name.clone(),
            TableJoined::new(),
            Materialized::unnamed(),
        )
        .to_stream()
        .to("bills", Produced::default());
    let app = Streams::start(builder.build().unwrap(), config(&broker, "foreign-keys"), broker.client()).unwrap();
    app.wait_until_caught_up().unwrap();
    send(&broker, "customers", &[("c9", "Cyd"), ("c1", "Eve")]);
    app.wait_until_caught_up().unwrap();
    let last: BTreeMap<String, String> =
        read(&broker, "bills", 4).into_iter().map(|(key, value, _)| (key, value)).collect();
    let expected = [("o1", "Bob"), ("o2", "Eve"), ("o3", "Cyd")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(last, BTreeMap::from(expected));
    app.close().unwrap();
}

/// The last partition of any topic.
fn to_the_last_partition(
    _: &str,
    _: Option<&String>,
    _: Option<&String>,
    partitions: i32,
) -> millstream::streams_core::topology::PartitionChoice {
    millstream::streams_core::topology::PartitionChoice::One(partitions - 1)
}

#[test]
fn a_topic_that_a_record_names_first_is_looked_up_before_the_record_is_written() {
    let broker = Embedded::temporary().unwrap();
    for (topic, partitions) in [("in", 1), ("many", 3), ("few", 2)] {
        broker.create_topic(topic, partitions).unwrap();
    }
    send(&broker, "in", &[("a", "many"), ("b", "few"), ("c", "made-on-first-use"), ("d", "many")]);
    let builder = StreamsBuilder::new();
    builder.stream("in", Consumed::<String, String>::default()).to_dynamic(
        |_: Option<&String>, value: Option<&String>, _: &millstream::streams_core::topology::TopicContext<'_>| {
            value.cloned().unwrap_or_default()
        },
        Produced::default().with_partitioner(to_the_last_partition),
    );
    let streams = Streams::start(builder.build().unwrap(), config(&broker, "dynamic"), broker.client()).unwrap();
    streams.wait_until_caught_up().unwrap();
    streams.close().unwrap();
    let keys = |topic: &str, partition: i32, count: usize| -> Vec<String> {
        read_partition(&broker, topic, partition, count).into_iter().map(|(key, ..)| key).collect()
    };
    assert_eq!(keys("many", 2, 2), ["a", "d"]);
    assert_eq!(keys("few", 1, 1), ["b"]);
    assert_eq!(keys("made-on-first-use", 0, 1), ["c"]);
    broker.shutdown().unwrap();
}

#[test]
fn a_topic_that_does_not_exist_ends_the_application_with_its_name() {
    let broker = Embedded::temporary_builder().unwrap().set("auto.create.topics.enable", false).start().unwrap();
    broker.create_topic("in", 1).unwrap();
    send(&broker, "in", &[("a", "nowhere")]);
    let builder = StreamsBuilder::new();
    builder.stream("in", Consumed::<String, String>::default()).to_dynamic(
        |_: Option<&String>, value: Option<&String>, _: &millstream::streams_core::topology::TopicContext<'_>| {
            value.cloned().unwrap_or_default()
        },
        Produced::default(),
    );
    let config = config(&broker, "nowhere").with("producer.max.block.ms", 200).unwrap();
    let streams = Streams::start(builder.build().unwrap(), config, broker.client()).unwrap();
    streams.wait_until_ended();
    let error = streams.error().unwrap().to_string();
    assert!(error.contains("topic nowhere") && error.contains("200 ms"), "{error}");
    drop(streams);
    broker.shutdown().unwrap();
}
