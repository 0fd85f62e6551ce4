//! An application whose topology has changed: it is not started where that would lose state or misread it, whether it was run here
//! before or only its topics are there, as after Kafka Streams on the JVM.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use millstream::prelude::*;

fn send(broker: &Embedded, topic: &str, keys: &[&str]) {
    let producer = Producer::new(broker.client(), ProducerConfig::default()).unwrap();
    for key in keys {
        producer.send_blocking(ProducerRecord::to(topic).key((*key).to_owned()).value("1")).unwrap();
    }
}

fn broker() -> Embedded {
    let broker = Embedded::temporary().unwrap();
    broker.create_topic("in", 1).unwrap();
    send(&broker, "in", &["a", "b", "a"]);
    broker
}

fn config(state: impl AsRef<Path>, id: &str) -> StreamsConfig {
    StreamsConfig::new(id).with("state.dir", state.as_ref().display()).unwrap()
}

fn start(broker: &Embedded, topology: Topology, config: StreamsConfig) -> Result<Streams, String> {
    Streams::start(topology, config, broker.client()).map_err(|error| error.to_string())
}

/// Processes everything that there is.
fn run(broker: &Embedded, topology: Topology, config: StreamsConfig) {
    let app = start(broker, topology, config).unwrap();
    app.wait_until_caught_up().unwrap();
    app.close().unwrap();
}

fn refusal(broker: &Embedded, topology: Topology, config: StreamsConfig) -> String {
    start(broker, topology, config).err().expect("the start is refused")
}

/// Counts by key, in a store with that name; unnamed, below a filter or not.
fn count(name: Option<&str>, has_filter: bool) -> Topology {
    let builder = StreamsBuilder::new();
    let stream = builder.stream("in", Consumed::<String, String>::default());
    let stream = if has_filter { stream.filter(|_, _| true) } else { stream };
    let materialized = name.map_or_else(Materialized::default, Materialized::named);
    stream.group_by_key(Grouped::default()).count(materialized);
    builder.build().unwrap()
}

fn windowed(name: &str) -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::<String, String>::default())
        .group_by_key(Grouped::default())
        .windowed_by(TimeWindows::of_size_ms(60_000))
        .count(Materialized::named(name));
    builder.build().unwrap()
}

#[test]
fn a_store_that_would_get_another_generated_name_is_kept_by_refusing_the_start() {
    let broker = broker();
    let config = config(broker.state_dir(), "app");
    run(&broker, count(None, false), config.clone());
    run(&broker, count(None, false), config.clone());
    insta::assert_snapshot!(refusal(&broker, count(None, true), config.clone()), @r#"invalid topology in store KSTREAM-AGGREGATE-STATE-STORE-0000000002: this start would lose or misread state of app: changelog app-KSTREAM-AGGREGATE-STATE-STORE-0000000002-changelog holds the state of store KSTREAM-AGGREGATE-STATE-STORE-0000000002, which the topology calls KSTREAM-AGGREGATE-STATE-STORE-0000000003: give the operator the store name KSTREAM-AGGREGATE-STATE-STORE-0000000002: Materialized::named("KSTREAM-AGGREGATE-STATE-STORE-0000000002"). If that is meant, set state.mismatch=accept"#);
    // What the message advises.
    let old = "KSTREAM-AGGREGATE-STATE-STORE-0000000002";
    let app = start(&broker, count(Some(old), true), config.clone()).unwrap();
    app.wait_until_caught_up().unwrap();
    let counts = app
        .with_store(old, |store: &TimestampedKeyValueStore<String, i64>| {
            store.get(&"a".to_owned()).unwrap().unwrap().value
        })
        .unwrap();
    assert_eq!(counts, [2]);
    app.close().unwrap();
    // Or to be told otherwise, once.
    run(&broker, count(None, true), config.clone().with("state.mismatch", "accept").unwrap());
    run(&broker, count(None, true), config);
    broker.shutdown().unwrap();
}

#[test]
fn without_a_note_the_topics_alone_tell_what_would_be_lost() {
    let broker = broker();
    run(&broker, count(Some("counts"), false), config(broker.state_dir(), "app"));
    // As if the state had been left by Kafka Streams on the JVM, whose local state does not move.
    let elsewhere = tempfile::tempdir().unwrap();
    let config = config(elsewhere.path(), "app");
    insta::assert_snapshot!(refusal(&broker, count(Some("counted"), false), config.clone()), @r#"invalid topology in store counts: this start would lose or misread state of app: changelog app-counts-changelog holds the state of store counts, which the topology does not have (new in it: counted): give the operator the store name counts: Materialized::named("counts"); if it is not needed any more, delete its changelog topic. If that is meant, set state.mismatch=accept"#);
    run(&broker, count(Some("counts"), true), config);
    broker.shutdown().unwrap();
}

#[test]
fn a_store_that_becomes_another_kind_under_its_name_would_be_misread() {
    let broker = broker();
    let here = config(broker.state_dir(), "app");
    run(&broker, count(Some("counts"), false), here.clone());
    insta::assert_snapshot!(refusal(&broker, windowed("counts"), here), @"invalid topology in store counts: this start would lose or misread state of app: changelog app-counts-changelog holds the state of a key-value store, but counts is a window store now and would misread it: give the new store another name, or delete the topic. If that is meant, set state.mismatch=accept");
    let elsewhere = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(refusal(&broker, windowed("counts"), config(elsewhere.path(), "app")), @"invalid topology in store counts: this start would lose or misread state of app: changelog app-counts-changelog holds the state of a key-value store, but counts is a window or session store now and would misread it: give the new store another name, or delete the topic. If that is meant, set state.mismatch=accept");
    // The other way round.
    run(&broker, windowed("windows"), config(broker.state_dir(), "other"));
    let said = refusal(&broker, count(Some("windows"), false), config(elsewhere.path(), "other"));
    assert!(said.contains("the state of a window or session store, but windows is a key-value store now"), "{said}");
    broker.shutdown().unwrap();
}

#[test]
fn a_changelog_with_other_partitions_is_refused_with_its_store() {
    let broker = broker();
    broker.create_topic("app-counts-changelog", 2).unwrap();
    insta::assert_snapshot!(refusal(&broker, count(Some("counts"), false), config(broker.state_dir(), "app")), @"invalid topology: changelog app-counts-changelog of store counts has 2 partition(s) and must have 1, since what flows into it has changed: give the input the partitions that it had, or start again with an application.id of its own, or delete the topic and what it keeps");
    broker.shutdown().unwrap();
}

#[test]
fn a_new_application_is_never_refused() {
    let broker = broker();
    run(&broker, count(Some("counts"), false), config(broker.state_dir(), "app-2"));
    broker.create_topic("app-old-changelog", 1).unwrap();
    send(&broker, "app-old-changelog", &["a"]);
    run(&broker, count(Some("counts"), false), config(broker.state_dir(), "app"));
    broker.shutdown().unwrap();
}

#[test]
fn applications_whose_ids_begin_alike_are_told_apart() {
    let broker = broker();
    let disks = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for disk in &disks {
        // On the second disk there is no note of what was started.
        run(&broker, count(Some("counts"), false), config(disk.path(), "app"));
        run(&broker, count(Some("counts"), false), config(disk.path(), "app-2"));
    }
    // A retired one, of which there is no group any more.
    broker.create_topic("app-old-counts-changelog", 1).unwrap();
    send(&broker, "app-old-counts-changelog", &["a"]);
    let disk = tempfile::tempdir().unwrap();
    run(&broker, count(Some("counts"), false), config(disk.path(), "app"));
    broker.shutdown().unwrap();
}

#[test]
fn topics_of_the_program_are_its_own_whatever_they_are_called() {
    let broker = broker();
    for topic in ["app-in", "app-raw", "app-out-changelog"] {
        broker.create_topic(topic, 1).unwrap();
        send(&broker, topic, &["a"]);
    }
    let topology = |has_raw: bool| {
        let builder = StreamsBuilder::new();
        let stream = builder.stream("app-in", Consumed::<String, String>::default());
        if has_raw {
            builder.stream("app-raw", Consumed::<String, String>::default()).for_each(|_, _| {});
        }
        stream.to("app-out-changelog", Produced::default());
        builder.build().unwrap()
    };
    run(&broker, topology(true), config(broker.state_dir(), "app"));
    for topic in ["app-in", "app-raw"] {
        send(&broker, topic, &["b"]);
    }
    let elsewhere = tempfile::tempdir().unwrap();
    run(&broker, topology(false), config(elsewhere.path(), "app"));
    broker.shutdown().unwrap();
}

#[test]
fn what_is_empty_or_processed_is_no_loss() {
    let broker = broker();
    let config = config(broker.state_dir(), "app");
    let grouped = |is_repartitioned: bool| {
        let builder = StreamsBuilder::new();
        let stream = builder.stream("in", Consumed::<String, String>::default());
        let grouped = match is_repartitioned {
            true => stream.group_by(|key, _| key.map_or_else(String::new, Clone::clone), Grouped::default()),
            false => stream.group_by_key(Grouped::default()),
        };
        grouped.count(Materialized::named("counts"));
        let none = builder.stream("nothing", Consumed::<String, String>::default());
        if is_repartitioned {
            none.group_by_key(Grouped::default()).count(Materialized::named("none"));
        }
        builder.build().unwrap()
    };
    broker.create_topic("nothing", 1).unwrap();
    run(&broker, grouped(true), config.clone());
    // Neither the repartition topic nor the changelog of `none` holds anything that counts.
    run(&broker, grouped(false), config);
    broker.shutdown().unwrap();
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_folder_of_a_store_without_changelog_is_not_forgotten() {
    struct Keep;
    impl Processor<String, String, (), ()> for Keep {
        fn process(
            &mut self,
            record: Record<String, String>,
            context: &mut ProcessorContext<(), ()>,
        ) -> Result<(), BoxError> {
            let store = context.store::<KeyValueStore<String, String>>("local");
            let store = store.or_else(|_| context.store::<KeyValueStore<String, String>>("kept"))?;
            store.put(&record.key.unwrap_or_default(), record.value)?;
            Ok(())
        }
    }
    let topology = |name: &str| {
        let mut topology = Topology::new();
        topology
            .add_source("source", millstream::streams_core::SourceOptions::<String, String>::default(), ["in"])
            .unwrap()
            .add_processor("keep", || Keep, &["source"])
            .unwrap()
            .add_state_store(
                millstream::streams_core::store::Stores::key_value(name, StringSerde, StringSerde).without_logging(),
                &["keep"],
            )
            .unwrap();
        topology
    };
    let broker = broker();
    let config = config(broker.state_dir(), "app");
    run(&broker, topology("local"), config.clone());
    let said = refusal(&broker, topology("kept"), config.clone());
    assert!(said.contains("holds the state of store local, which has no changelog"), "{said}");
    run(&broker, topology("kept"), config.with("state.mismatch", "accept").unwrap());
    broker.shutdown().unwrap();
}
