//! Whole paths through the test driver: repartition, changelog bytes, punctuation, handlers, global stores.

use std::rc::Rc;
use std::sync::Arc;

use streams_core::config::StreamsConfig;
use streams_core::processor::{LogAndContinue, LogAndSkipOnInvalidTimestamp, ProcessorContext};
use streams_core::serde::{ByteArraySerde, I64Serde, StringSerde};
use streams_core::store::{StoreBuilder, Stores};
use streams_core::topology::{PartitionChoice, RepartitionOptions};
use streams_core::{
    BoxError, Change, Headers, Processor, PunctuationType, Record, ScheduleId, SinkOptions, SourceOptions, Timestamp,
    TimestampedKeyValueStore, TimestampedWindowStore, Topology, TopologyTestDriver, ValueAndTimestamp, Windowed,
};

use crate::support::{Each, show_all};

/// Counts records by key into the timestamped store `name`, as the DSL's `count` does.
pub struct Count {
    pub store_name: &'static str,
    pub store: Option<Rc<TimestampedKeyValueStore<String, i64>>>,
    pub forwards: bool,
}

pub fn count(store_name: &'static str) -> Count {
    Count { store_name, store: None, forwards: false }
}

impl Processor<String, String, String, Change<i64>> for Count {
    fn init(&mut self, ctx: &mut ProcessorContext<String, Change<i64>>) -> Result<(), BoxError> {
        let store = ctx.timestamped_key_value_store(self.store_name)?;
        self.forwards = !ctx.forward_on_flush(&store, true);
        self.store = Some(store);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<String, String>,
        ctx: &mut ProcessorContext<String, Change<i64>>,
    ) -> Result<(), BoxError> {
        let (Some(store), Some(key), Some(_)) = (&self.store, &record.key, &record.value) else {
            ctx.count_dropped();
            return Ok(());
        };
        let old = store.get(key)?;
        let timestamp = old.map_or(record.timestamp, |old| old.timestamp.max(record.timestamp));
        let new = old.map_or(0, |old| old.value) + 1;
        store.put(key, Some(ValueAndTimestamp::new(new, timestamp)))?;
        if self.forwards {
            let change = Change::new(Some(new), old.map(|old| old.value));
            ctx.forward(record.with_timestamp(timestamp).map_value(|_| Some(change)))?;
        }
        Ok(())
    }
}

pub fn to_stream() -> impl Processor<String, Change<i64>, String, i64> {
    Each(|record: Record<String, Change<i64>>, ctx: &mut ProcessorContext<String, i64>| {
        ctx.forward(record.map_value(|change| change.and_then(|change| change.new)))
    })
}

pub fn counting(store: impl StoreBuilder) -> Topology {
    let mut topology = Topology::new();
    topology
        .add_source("words", SourceOptions::<String, String>::default(), ["words"])
        .unwrap()
        .add_processor("count", || count("counts"), &["words"])
        .unwrap()
        .add_state_store(store, &["count"])
        .unwrap()
        .add_processor("stream", to_stream, &["count"])
        .unwrap()
        .add_sink("out", SinkOptions::<String, i64>::default(), "counts", &["stream"])
        .unwrap();
    topology
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn changelog(driver: &TopologyTestDriver, topic: &str) -> String {
    let topic = driver.output_topic_with::<Vec<u8>, Vec<u8>>(topic, ByteArraySerde, ByteArraySerde);
    let lines = topic.read_all().unwrap().into_iter().map(|record| {
        let value = record.value.map_or_else(|| "null".to_owned(), |value| hex(&value));
        format!("ts{} k={} v={value} h={}\n", record.timestamp, hex(&record.key.unwrap()), record.headers.len())
    });
    lines.collect()
}

#[test]
fn counts_are_written_kept_and_logged() {
    for caching in [false, true] {
        let topology = counting(Stores::timestamped_key_value("counts", StringSerde, I64Serde).with_caching(caching));
        let driver = TopologyTestDriver::starting_at(&topology, StreamsConfig::new("app"), 0).unwrap();
        let input = driver.input_topic::<String, String>("words");
        let output = driver.output_topic::<String, i64>("counts");
        for (key, timestamp) in [("k0", 0), ("k1", 20), ("k0", 30), ("k0", 10)] {
            input.pipe_at(key.to_owned(), "x".to_owned(), timestamp).unwrap();
        }
        assert_eq!(show_all(&output.read_all().unwrap()), "k0=1@0 k1=1@20 k0=2@30 k0=3@30");
        let store = driver.timestamped_key_value_store::<String, i64>("counts").unwrap();
        assert_eq!(store.get(&"k0".to_owned()).unwrap(), Some(ValueAndTimestamp::new(3, 30)));
        assert_eq!(store.all().map(|entry| entry.unwrap().0).collect::<Vec<_>>(), ["k0", "k1"]);
        // As in the reference's `cnt-changelog`: the value alone, the time in the record.
        assert_eq!(
            changelog(&driver, "app-counts-changelog"),
            "ts0 k=6b30 v=0000000000000001 h=0\nts20 k=6b31 v=0000000000000001 h=0\n\
             ts30 k=6b30 v=0000000000000002 h=0\nts30 k=6b30 v=0000000000000003 h=0\n"
        );
        driver.close().unwrap();
    }
}

#[test]
fn dropped_records_are_counted() {
    let topology = counting(Stores::timestamped_key_value("counts", StringSerde, I64Serde));
    let driver = TopologyTestDriver::starting_at(&topology, StreamsConfig::new("app"), 0).unwrap();
    let input = driver.input_topic::<String, String>("words");
    input.pipe_record(Record::of(Some("a".to_owned()), None, 1)).unwrap();
    input.pipe_record(Record::of(None, Some("a".to_owned()), 1)).unwrap();
    assert_eq!(driver.dropped_records(), 2);
}

#[test]
fn window_and_session_changelogs_have_the_reference_bytes() {
    const SECOND: i64 = 1_000;
    const START: i64 = 1_700_000_000_000;
    let mut topology = Topology::new();
    topology.add_source("a", SourceOptions::<String, String>::default(), ["a"]).unwrap();
    let window = || {
        Each(|record: Record<String, String>, ctx: &mut ProcessorContext<(), ()>| {
            let store: Rc<TimestampedWindowStore<String, i64>> = ctx.timestamped_window_store("win")?;
            let start = record.timestamp / 60_000 * 60_000;
            let key = record.key.unwrap_or_default();
            let count = store.fetch(&key, start)?.map_or(0, |known| known.value) + 1;
            store.put(&key, Some(ValueAndTimestamp::new(count, record.timestamp)), start)?;
            let sessions = ctx.session_store::<String, i64>("sess")?;
            let session = Windowed::new(key, streams_core::Window::new(record.timestamp, record.timestamp));
            sessions.put(&session, Some(1))?;
            Ok(())
        })
    };
    topology.add_processor("p", window, &["a"]).unwrap();
    topology
        .add_state_store(Stores::timestamped_window("win", 70 * SECOND, 60 * SECOND, StringSerde, I64Serde), &["p"])
        .unwrap();
    topology.add_state_store(Stores::session("sess", 60 * SECOND, StringSerde, I64Serde), &["p"]).unwrap();
    let driver = TopologyTestDriver::starting_at(&topology, StreamsConfig::new("app"), 0).unwrap();
    let input = driver.input_topic::<String, String>("a");
    input.pipe_at("k1".to_owned(), "v".to_owned(), START + 10_000).unwrap();
    input.pipe_at("k2".to_owned(), "v".to_owned(), START + 20_000).unwrap();
    // `sess-changelog` offsets 1 and 2 of run A.
    assert_eq!(
        changelog(&driver, "app-sess-changelog"),
        format!(
            "ts{} k=6b310000018bcfe58f100000018bcfe58f10 v=0000000000000001 h=0\n\
             ts{} k=6b320000018bcfe5b6200000018bcfe5b620 v=0000000000000001 h=0\n",
            START + 10_000,
            START + 20_000
        )
    );
    let window_start = hex(&((START + 10_000) / 60_000 * 60_000).to_be_bytes());
    assert_eq!(
        changelog(&driver, "app-win-changelog"),
        format!(
            "ts{} k=6b31{window_start}00000000 v=0000000000000001 h=0\n\
             ts{} k=6b32{window_start}00000000 v=0000000000000001 h=0\n",
            START + 10_000,
            START + 20_000
        )
    );
}

#[test]
fn a_join_store_numbers_duplicates_from_one_and_logs_the_input_headers() {
    let mut topology = Topology::new();
    topology.add_source("a", SourceOptions::<String, String>::default(), ["a"]).unwrap();
    let put = || {
        Each(|record: Record<String, String>, ctx: &mut ProcessorContext<(), ()>| {
            let store = ctx.window_store::<String, String>("join")?;
            store.put(&record.key.unwrap_or_default(), record.value, record.timestamp)?;
            Ok(())
        })
    };
    topology.add_processor("p", put, &["a"]).unwrap();
    let store = Stores::window("join", 60_000, 10_000, StringSerde, StringSerde).with_duplicates();
    topology.add_state_store(store, &["p"]).unwrap();
    let driver = TopologyTestDriver::starting_at(&topology, StreamsConfig::new("app"), 0).unwrap();
    let input = driver.input_topic::<String, String>("a");
    let mut headers = Headers::default();
    headers.add("hh", Some(vec![1].into()));
    for value in ["v", "w"] {
        input.pipe_record(Record::new("k".to_owned(), value.to_owned(), 5).with_headers(headers.clone())).unwrap();
    }
    input.pipe_record(Record::of(Some("k".to_owned()), None, 5)).unwrap();
    assert_eq!(
        changelog(&driver, "app-join-changelog"),
        "ts5 k=6b000000000000000500000001 v=76 h=1\nts5 k=6b000000000000000500000002 v=77 h=1\n\
         ts5 k=6b000000000000000500000003 v=null h=0\n",
        "a null takes a number and is logged, and changes nothing"
    );
    let store = driver.window_store::<String, String>("join").unwrap();
    let values: Vec<_> = store.fetch_range(&"k".to_owned(), 0, 10).unwrap().collect();
    assert_eq!(values, [(5, "v".to_owned()), (5, "w".to_owned())]);
}

#[test]
fn windows_expire_exactly_in_memory_and_by_segment_on_disk() {
    // Retention 120 s: in memory a put at `stream time - retention` is late, one millisecond later it is not.
    let mut topology = Topology::new();
    topology.add_source("a", SourceOptions::<String, String>::default(), ["a"]).unwrap();
    let put = || {
        Each(|record: Record<String, String>, ctx: &mut ProcessorContext<(), ()>| {
            let store = ctx.window_store::<String, String>("w")?;
            store.put(&record.key.unwrap_or_default(), record.value, record.timestamp)?;
            Ok(())
        })
    };
    topology.add_processor("p", put, &["a"]).unwrap();
    topology
        .add_state_store(Stores::window("w", 120_000, 10_000, StringSerde, StringSerde).in_memory(), &["p"])
        .unwrap();
    let driver = TopologyTestDriver::starting_at(&topology, StreamsConfig::new("app"), 0).unwrap();
    let input = driver.input_topic::<String, String>("a");
    let pipe = |key: &str, time| input.pipe_at(key.to_owned(), "v".to_owned(), time).unwrap();
    pipe("a", 1_000);
    pipe("b", 121_000);
    let store = driver.window_store::<String, String>("w").unwrap();
    assert_eq!(store.fetch(&"a".to_owned(), 1_000).unwrap(), None, "expired exactly at the border");
    pipe("late", 1_000);
    assert_eq!(driver.dropped_records(), 1);
    pipe("kept", 1_001);
    assert_eq!(driver.dropped_records(), 1);
    assert_eq!(store.fetch(&"kept".to_owned(), 1_001).unwrap(), Some("v".to_owned()));
    let shown: Vec<String> = store
        .all()
        .unwrap()
        .map(|entry| entry.map(|(key, _)| format!("{}@{}", key.key, key.window.start)).unwrap())
        .collect();
    assert_eq!(shown, ["kept@1001", "b@121000"]);
}

#[test]
fn repartition_topics_are_looped_back() {
    let mut topology = Topology::new();
    let options = || SourceOptions::<String, String>::default();
    topology.add_source("in", options(), ["in"]).unwrap();
    let rekey = || {
        Each(|record: Record<String, String>, ctx: &mut ProcessorContext<String, String>| {
            let key = record.value.clone();
            ctx.forward(record.with_key(key))
        })
    };
    topology.add_processor("rekey", rekey, &["in"]).unwrap();
    topology.add_repartition_topic("by-value-repartition", RepartitionOptions::default()).unwrap();
    topology.add_sink("to", SinkOptions::<String, String>::default(), "by-value-repartition", &["rekey"]).unwrap();
    topology.add_source("from", options(), ["by-value-repartition"]).unwrap();
    topology.add_processor("count", || count("counts"), &["from"]).unwrap();
    let store = Stores::timestamped_key_value("counts", StringSerde, I64Serde).with_caching(true);
    topology.add_state_store(store, &["count"]).unwrap();
    topology.add_processor("stream", to_stream, &["count"]).unwrap();
    topology.add_sink("out", SinkOptions::<String, i64>::default(), "out", &["stream"]).unwrap();
    let driver = TopologyTestDriver::starting_at(&topology, StreamsConfig::new("app"), 0).unwrap();
    let input = driver.input_topic::<String, String>("in");
    for value in ["x", "y", "x"] {
        input.pipe_at("k".to_owned(), value.to_owned(), 9).unwrap();
    }
    let output = driver.output_topic::<String, i64>("out");
    assert_eq!(show_all(&output.read_all().unwrap()), "x=1@9 y=1@9 x=2@9");
    assert_eq!(
        driver.produced_topic_names(),
        ["app-by-value-repartition", "app-counts-changelog", "out"].map(str::to_owned)
    );
    let error = driver.input_topic::<String, String>("nowhere").pipe("a".to_owned(), "b".to_owned()).unwrap_err();
    assert!(error.to_string().contains("Unknown topic: nowhere"), "{error}");
}

/// Notes when it is called: `stream@time`, `wall@time`.
struct Ticker {
    log: Arc<parking_lot::Mutex<Vec<String>>>,
    stream: Option<ScheduleId>,
}

impl Processor<String, String, String, String> for Ticker {
    fn init(&mut self, ctx: &mut ProcessorContext<String, String>) -> Result<(), BoxError> {
        self.stream = Some(ctx.schedule(10, PunctuationType::StreamTime)?);
        ctx.schedule(100, PunctuationType::WallClockTime)?;
        assert!(ctx.schedule(0, PunctuationType::StreamTime).is_err());
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<String, String>,
        ctx: &mut ProcessorContext<String, String>,
    ) -> Result<(), BoxError> {
        let metadata = ctx.record_metadata().unwrap();
        self.log.lock().push(format!("{}-{}@{}", metadata.topic, metadata.partition, metadata.offset));
        if record.value.as_deref() == Some("stop") {
            self.stream.into_iter().for_each(|schedule| ctx.cancel(schedule));
        }
        Ok(())
    }

    fn punctuate(
        &mut self,
        schedule: ScheduleId,
        timestamp: Timestamp,
        ctx: &mut ProcessorContext<String, String>,
    ) -> Result<(), BoxError> {
        let kind = if Some(schedule) == self.stream { "stream" } else { "wall" };
        assert_eq!(ctx.record_metadata(), None);
        assert_eq!(ctx.record_timestamp(), timestamp);
        self.log.lock().push(format!("{kind}@{timestamp}"));
        ctx.forward(Record::new(kind.to_owned(), "tick".to_owned(), timestamp))
    }
}

#[test]
fn punctuations_fire_once_when_due_and_forward() {
    let log = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let mut topology = Topology::new();
    topology.add_source("in", SourceOptions::<String, String>::default(), ["in"]).unwrap();
    let ticker = {
        let log = Arc::clone(&log);
        move || Ticker { log: Arc::clone(&log), stream: None }
    };
    topology.add_processor("tick", ticker, &["in"]).unwrap();
    topology.add_sink("out", SinkOptions::<String, String>::default(), "out", &["tick"]).unwrap();
    let mut driver = TopologyTestDriver::starting_at(&topology, StreamsConfig::new("app"), 1_000).unwrap();
    let input = driver.input_topic::<String, String>("in");
    for (value, time) in [("a", 3), ("b", 9), ("c", 10), ("d", 57), ("e", 59), ("f", 60)] {
        input.pipe_at("k".to_owned(), value.to_owned(), time).unwrap();
    }
    driver.advance_wall_clock(99).unwrap();
    driver.advance_wall_clock(1).unwrap();
    driver.advance_wall_clock(350).unwrap();
    input.pipe_at("k".to_owned(), "stop".to_owned(), 61).unwrap();
    input.pipe_at("k".to_owned(), "g".to_owned(), 99).unwrap();
    assert_eq!(
        log.lock().join(" "),
        "in-0@0 stream@3 in-0@1 in-0@2 stream@10 in-0@3 stream@57 in-0@4 in-0@5 stream@60 wall@1100 wall@1450 in-0@6 in-0@7"
    );
    let output = driver.output_topic::<String, String>("out");
    assert_eq!(
        show_all(&output.read_all().unwrap()),
        "stream=tick@3 stream=tick@10 stream=tick@57 stream=tick@60 wall=tick@1100 wall=tick@1450"
    );
}

#[test]
fn poison_is_fatal_or_skipped_as_the_handler_says() {
    let topology = || {
        let mut topology = Topology::new();
        topology.add_source("in", SourceOptions::<String, i64>::default(), ["in"]).unwrap();
        topology.add_sink("out", SinkOptions::<String, i64>::default(), "out", &["in"]).unwrap();
        topology
    };
    let driver = TopologyTestDriver::starting_at(&topology(), StreamsConfig::new("app"), 0).unwrap();
    let input = driver.input_topic::<String, i64>("in");
    input.pipe_at("a".to_owned(), 1, 0).unwrap();
    let error = input.pipe_bytes(Some(b"b"), Some(b"bad"), 0, &Headers::default()).unwrap_err();
    insta::assert_snapshot!(error, @"deserialisation failed in processor in (task 0_0, record in-0 at offset 1): i64 takes 8 bytes, got 3");

    let config = StreamsConfig::new("app").with_deserialization_handler(LogAndContinue);
    let driver = TopologyTestDriver::starting_at(&topology(), config, 0).unwrap();
    let input = driver.input_topic::<String, i64>("in");
    input.pipe_bytes(Some(b"b"), Some(b"bad"), 0, &Headers::default()).unwrap();
    input.pipe_at("a".to_owned(), 1, 0).unwrap();
    assert_eq!(driver.output_topic::<String, i64>("out").len(), 1);
    assert_eq!(driver.dropped_records(), 1);
}

#[test]
fn an_error_of_a_processor_is_fatal_or_drops_the_record_at_that_node() {
    let topology = || {
        let mut topology = Topology::new();
        topology.add_source("in", SourceOptions::<String, i64>::default(), ["in"]).unwrap();
        let fail = || {
            Each(
                |record: Record<String, i64>, ctx: &mut ProcessorContext<String, i64>| {
                    if record.value == Some(13) { Err("unlucky".into()) } else { ctx.forward(record) }
                },
            )
        };
        topology.add_processor("fail", fail, &["in"]).unwrap();
        topology.add_sink("out", SinkOptions::<String, i64>::default(), "out", &["fail"]).unwrap();
        topology.add_sink("all", SinkOptions::<String, i64>::default(), "all", &["in"]).unwrap();
        topology
    };
    let driver = TopologyTestDriver::starting_at(&topology(), StreamsConfig::new("app"), 0).unwrap();
    let error = driver.input_topic::<String, i64>("in").pipe_at("a".to_owned(), 13, 0).unwrap_err();
    insta::assert_snapshot!(error, @"processing failed in processor fail (task 0_0, record in-0 at offset 0): unlucky");

    let config = StreamsConfig::new("app")
        .with("processing.exception.handler", "LogAndContinueProcessingExceptionHandler")
        .unwrap();
    let driver = TopologyTestDriver::starting_at(&topology(), config, 0).unwrap();
    let input = driver.input_topic::<String, i64>("in");
    input.pipe_at("a".to_owned(), 13, 0).unwrap();
    input.pipe_at("a".to_owned(), 14, 0).unwrap();
    assert_eq!(driver.output_topic::<String, i64>("out").len(), 1);
    assert_eq!(driver.output_topic::<String, i64>("all").len(), 2, "the sibling got both");
    assert_eq!(driver.dropped_records(), 1);
}

#[test]
fn negative_timestamps_fail_or_are_skipped() {
    let topology = |options: SourceOptions<String, i64>| {
        let mut topology = Topology::new();
        topology.add_source("in", options, ["in"]).unwrap();
        topology.add_sink("out", SinkOptions::<String, i64>::default(), "out", &["in"]).unwrap();
        topology
    };
    let driver =
        TopologyTestDriver::starting_at(&topology(SourceOptions::default()), StreamsConfig::new("app"), 0).unwrap();
    let error = driver.input_topic::<String, i64>("in").pipe_at("a".to_owned(), 1, -1).unwrap_err();
    assert_eq!(error.kind(), streams_core::ErrorKind::Timestamp, "{error}");

    let options = SourceOptions::default().with_extractor(LogAndSkipOnInvalidTimestamp);
    let driver = TopologyTestDriver::starting_at(&topology(options), StreamsConfig::new("app"), 0).unwrap();
    let input = driver.input_topic::<String, i64>("in");
    input.pipe_at("a".to_owned(), 1, -1).unwrap();
    input.pipe_at("a".to_owned(), 1, 1).unwrap();
    assert_eq!(driver.output_topic::<String, i64>("out").len(), 1);
}

#[test]
fn a_record_goes_to_all_children_or_to_one() {
    let mut topology = Topology::new();
    topology.add_source("in", SourceOptions::<String, i64>::default(), ["in"]).unwrap();
    let route = || {
        Each(|record: Record<String, i64>, ctx: &mut ProcessorContext<String, i64>| match record.value {
            Some(1) => ctx.forward_to("one", record),
            Some(2) => ctx.forward_to("two", record),
            Some(3) => ctx.forward_to("three", record),
            _ => ctx.forward(record),
        })
    };
    topology.add_processor("route", route, &["in"]).unwrap();
    topology.add_sink("one", SinkOptions::<String, i64>::default(), "o1", &["route"]).unwrap();
    topology.add_sink("two", SinkOptions::<String, i64>::default(), "o2", &["route"]).unwrap();
    let driver = TopologyTestDriver::starting_at(&topology, StreamsConfig::new("app"), 0).unwrap();
    let input = driver.input_topic::<String, i64>("in");
    for value in [1, 2, 0] {
        input.pipe_at("a".to_owned(), value, 0).unwrap();
    }
    let read = |topic: &str| show_all(&driver.output_topic::<String, i64>(topic).read_all().unwrap());
    assert_eq!((read("o1").as_str(), read("o2").as_str()), ("a=1@0 a=0@0", "a=2@0 a=0@0"));
    let error = input.pipe_at("a".to_owned(), 3, 0).unwrap_err();
    assert!(error.to_string().contains("three is not a child of this processor"), "{error}");
}

#[test]
fn partitioners_and_topic_extractors_are_asked() {
    struct ByKey;
    impl streams_core::topology::TopicNameExtractor<String, i64> for ByKey {
        fn topic(&self, key: Option<&String>, _: Option<&i64>, _: &streams_core::topology::TopicContext<'_>) -> String {
            format!("to-{}", key.map_or("none", String::as_str))
        }
    }
    let mut topology = Topology::new();
    topology.add_source("in", SourceOptions::<String, i64>::default(), ["in"]).unwrap();
    let drop_odd = |_: &str, _: Option<&String>, value: Option<&i64>, partitions: i32| {
        assert_eq!(partitions, 1);
        if value.is_some_and(|value| value % 2 == 1) { PartitionChoice::Drop } else { PartitionChoice::One(0) }
    };
    let options = SinkOptions::<String, i64>::default().with_partitioner(drop_odd);
    topology.add_dynamic_sink("out", options, Arc::new(ByKey), &["in"]).unwrap();
    let driver = TopologyTestDriver::starting_at(&topology, StreamsConfig::new("app"), 0).unwrap();
    let input = driver.input_topic::<String, i64>("in");
    for (key, value) in [("a", 2), ("b", 4), ("a", 3)] {
        input.pipe_at(key.to_owned(), value, 0).unwrap();
    }
    assert_eq!(driver.produced_topic_names(), ["to-a", "to-b"].map(str::to_owned));
    assert_eq!(driver.dropped_records(), 1);
}

#[test]
fn global_stores_are_read_by_every_task() {
    let mut topology = Topology::new();
    let keep = || {
        Each(|record: Record<String, i64>, ctx: &mut ProcessorContext<(), ()>| {
            let store = ctx.timestamped_key_value_store::<String, i64>("names")?;
            let value = record.value.map(|value| ValueAndTimestamp::new(value, record.timestamp));
            store.put(&record.key.unwrap_or_default(), value)?;
            Ok(())
        })
    };
    let store = Stores::timestamped_key_value("names", StringSerde, I64Serde);
    topology.add_global_store(store, "g", SourceOptions::<String, i64>::default(), "table", "keep", keep).unwrap();
    topology.add_source("in", SourceOptions::<String, i64>::default(), ["in"]).unwrap();
    let join = || {
        Each(|record: Record<String, i64>, ctx: &mut ProcessorContext<String, i64>| {
            let store = ctx.global_store::<String, ValueAndTimestamp<i64>>("names")?;
            let found = store.get(record.key.as_ref().ok_or("no key")?)?;
            ctx.forward(record.map_value(|_| found.map(|found| found.value)))
        })
    };
    topology.add_processor("join", join, &["in"]).unwrap();
    topology.add_sink("out", SinkOptions::<String, i64>::default(), "out", &["join"]).unwrap();
    let driver = TopologyTestDriver::starting_at(&topology, StreamsConfig::new("app"), 0).unwrap();
    let (table, input) = (driver.input_topic::<String, i64>("table"), driver.input_topic::<String, i64>("in"));
    input.pipe_at("a".to_owned(), 0, 1).unwrap();
    table.pipe_at("a".to_owned(), 7, 2).unwrap();
    input.pipe_at("a".to_owned(), 0, 3).unwrap();
    table.pipe_record(Record::of(Some("a".to_owned()), None, 4)).unwrap();
    input.pipe_at("a".to_owned(), 0, 5).unwrap();
    let output = driver.output_topic::<String, i64>("out");
    assert_eq!(show_all(&output.read_all().unwrap()), "a=null@1 a=7@3 a=null@5");
}

#[test]
fn a_store_of_other_types_is_refused_by_name() {
    let seen = Arc::new(parking_lot::Mutex::new(String::new()));
    let mut topology = Topology::new();
    topology.add_source("in", SourceOptions::<String, i64>::default(), ["in"]).unwrap();
    let note = {
        let seen = Arc::clone(&seen);
        move || {
            let seen = Arc::clone(&seen);
            Each(move |_: Record<String, i64>, ctx: &mut ProcessorContext<(), ()>| {
                let wrong = ctx.key_value_store::<String, String>("s").err().map(|error| error.to_string());
                let missing = ctx.key_value_store::<String, String>("x").err().map(|error| error.to_string());
                *seen.lock() = format!("{}\n{}", wrong.unwrap_or_default(), missing.unwrap_or_default());
                Ok(())
            })
        }
    };
    topology.add_processor("p", note, &["in"]).unwrap();
    topology.add_state_store(Stores::key_value("s", StringSerde, I64Serde), &["p"]).unwrap();
    let driver = TopologyTestDriver::starting_at(&topology, StreamsConfig::new("app"), 0).unwrap();
    driver.input_topic::<String, i64>("in").pipe_at("a".to_owned(), 0, 0).unwrap();
    insta::assert_snapshot!(seen.lock(), @"
    not allowed now in processor p: store s is a streams_core::store::key_value::KeyValueStore<alloc::string::String, i64>, not a streams_core::store::key_value::KeyValueStore<alloc::string::String, alloc::string::String>
    not allowed now in processor p: no store x is connected to this processor; connected are [\"s\"]
    ");
}
