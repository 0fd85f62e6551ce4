//! Stores that keep headers: what they give back and log, against what Kafka Streams 4.3.1 gives and logs.

use base::TopicPartition;
use bytes::Bytes;
use protocol::record::{BatchBuilder, BuilderOptions, Compression};
use streams_core::config::StreamsConfig;
use streams_core::processor::ProcessorContext;
use streams_core::serde::{ByteArraySerde, StringSerde};
use streams_core::store::{AggregationWithHeaders, StoreBuilder, Stores, ValueTimestampHeaders};
use streams_core::{
    BoxError, Headers, Processor, Record, SourceOptions, Topology, TopologyTestDriver, Window, Windowed,
};

use crate::support::Idle;
use crate::tasks::Harness;

/// Keeps each record in a store of each kind, as of 1 ms before it where the store has timestamps.
struct Keep;

impl Processor<String, String, (), ()> for Keep {
    fn process(&mut self, record: Record<String, String>, ctx: &mut ProcessorContext<(), ()>) -> Result<(), BoxError> {
        let Record { key, value, timestamp, headers } = record;
        let (key, start) = (key.unwrap_or_default(), timestamp / 10 * 10);
        let entry = value.clone().map(|value| ValueTimestampHeaders::new(value, timestamp - 1, headers.clone()));
        ctx.timestamped_key_value_store_with_headers("kv")?.put(&key, entry.clone())?;
        ctx.timestamped_window_store_with_headers("win")?.put(&key, entry, start)?;
        let session = Windowed::new(key, Window::new(start, start + 5));
        let entry = value.map(|value| AggregationWithHeaders::new(value, headers));
        Ok(ctx.session_store_with_headers("ses")?.put(&session, entry)?)
    }
}

fn topology(in_memory: bool, caching: bool) -> Topology {
    let mut topology = Topology::new();
    topology.add_source("in", SourceOptions::<String, String>::default(), ["in"]).unwrap();
    topology.add_processor("keep", || Keep, &["in"]).unwrap();
    fn add(topology: &mut Topology, store: impl StoreBuilder) {
        topology.add_state_store(store, &["keep"]).unwrap();
    }
    let kv = Stores::timestamped_key_value_with_headers("kv", StringSerde, StringSerde).with_caching(caching);
    let win = Stores::timestamped_window_with_headers("win", 1_000_000, 10, StringSerde, StringSerde);
    let ses = Stores::session_with_headers("ses", 1_000_000, StringSerde, StringSerde).with_caching(caching);
    let win = win.with_caching(caching);
    if in_memory {
        add(&mut topology, kv.in_memory());
        add(&mut topology, win.in_memory());
        add(&mut topology, ses.in_memory());
    } else {
        add(&mut topology, kv);
        add(&mut topology, win);
        add(&mut topology, ses);
    }
    topology
}

fn show_headers(headers: &Headers) -> String {
    let text = headers.iter().map(|header| {
        let value = header.value.as_ref().map_or("null".into(), |value| String::from_utf8_lossy(value));
        format!("{}={value}", header.key)
    });
    format!("[{}]", text.collect::<Vec<_>>().join(" "))
}

fn two_headers() -> Headers {
    let mut headers = Headers::default();
    headers.add("h", Some(Bytes::from_static(b"x"))).add("n", None);
    headers
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a `TopologyTestDriver` of Kafka Streams 4.3.1 writes for the same stores and records, persistent, in memory or cached.
const CHANGELOGS: &str = "\
kv
  ts1000 k=6b v=76 [h=x n=null]
  ts1011 k=6b32 v=77 []
  ts1005 k=6b v=null [h=x n=null]
  ts1024 k=6b33 v=7a [h=x n=null]
win
  ts1000 k=6b00000000000003e800000000 v=76 [h=x n=null]
  ts1011 k=6b3200000000000003f200000000 v=77 []
  ts1005 k=6b00000000000003e800000000 v=null [h=x n=null]
  ts1024 k=6b3300000000000003fc00000000 v=7a [h=x n=null]
ses
  ts1001 k=6b00000000000003ed00000000000003e8 v=76 [h=x n=null]
  ts1012 k=6b3200000000000003f700000000000003f2 v=77 []
  ts1005 k=6b00000000000003ed00000000000003e8 v=null [h=x n=null]
  ts1025 k=6b33000000000000040100000000000003fc v=7a [h=x n=null]
";

/// What it then reads from them.
const CONTENT: &str = "\
kv k2=w@1011 []
kv k3=z@1024 [h=x n=null]
win [k2@1010/1020]=w@1011 []
win [k3@1020/1030]=z@1024 [h=x n=null]
ses [k3@1020/1025]=z [h=x n=null]
";

fn changelogs(driver: &TopologyTestDriver) -> String {
    let mut text = String::new();
    for store in ["kv", "win", "ses"] {
        text += &format!("{store}\n");
        let topic = format!("app-{store}-changelog");
        for record in driver.output_topic_with(&topic, ByteArraySerde, ByteArraySerde).read_all().unwrap() {
            let bytes = |bytes: Option<Vec<u8>>| bytes.map_or_else(|| "null".to_owned(), |bytes| hex(&bytes));
            let headers = show_headers(&record.headers);
            text += &format!("  ts{} k={} v={} {headers}\n", record.timestamp, bytes(record.key), bytes(record.value));
        }
    }
    text
}

fn content(driver: &TopologyTestDriver) -> String {
    let mut text = String::new();
    let kv = driver.timestamped_key_value_store_with_headers::<String, String>("kv").unwrap();
    for (key, entry) in kv.all().map(Result::unwrap) {
        text += &format!("kv {key}={}@{} {}\n", entry.value, entry.timestamp, show_headers(&entry.headers));
    }
    let show = |key: &Windowed<String>| format!("[{}@{}/{}]", key.key, key.window.start, key.window.end);
    let win = driver.timestamped_window_store_with_headers::<String, String>("win").unwrap();
    for (key, entry) in win.all().unwrap().map(Result::unwrap) {
        text += &format!("win {}={}@{} {}\n", show(&key), entry.value, entry.timestamp, show_headers(&entry.headers));
    }
    let ses = driver.session_store_with_headers::<String, String>("ses").unwrap();
    for (key, entry) in ses.fetch(&"k3".to_owned()).unwrap().map(Result::unwrap) {
        text += &format!("ses {}={} {}\n", show(&key), entry.aggregation, show_headers(&entry.headers));
    }
    text
}

#[test]
fn changelogs_and_content_are_those_of_kafka_streams() {
    for (in_memory, caching) in [(false, false), (true, false), (false, true)] {
        let topology = topology(in_memory, caching);
        let driver = TopologyTestDriver::starting_at(&topology, StreamsConfig::new("app"), 0).unwrap();
        let input = driver.input_topic::<String, String>("in");
        let records = [
            ("k", Some("v"), two_headers(), 1_001),
            ("k2", Some("w"), Headers::default(), 1_012),
            ("k", None, two_headers(), 1_005),
            ("k3", Some("z"), two_headers(), 1_025),
        ];
        for (key, value, headers, timestamp) in records {
            let (key, value) = (Some(key.to_owned()), value.map(str::to_owned));
            input.pipe_record(Record { key, value, timestamp, headers }).unwrap();
        }
        assert_eq!(changelogs(&driver), CHANGELOGS, "in memory: {in_memory}, cached: {caching}");
        assert_eq!(content(&driver), CONTENT, "in memory: {in_memory}, cached: {caching}");
    }
}

#[test]
fn headers_are_restored_from_the_changelog() {
    let mut topology = Topology::new();
    topology.add_source("in", SourceOptions::<String, String>::default(), ["in"]).unwrap();
    topology.add_processor("idle", || Idle, &["in"]).unwrap();
    let store = Stores::timestamped_key_value_with_headers("kv", StringSerde, StringSerde);
    topology.add_state_store(store, &["idle"]).unwrap();
    let store = Stores::session_with_headers("ses", 1_000_000, StringSerde, StringSerde);
    topology.add_state_store(store, &["idle"]).unwrap();
    let mut harness = Harness::restoring(&topology, StreamsConfig::new("app"), &["in"]);
    let options = || BuilderOptions { base_offset: 0, ..BuilderOptions::default() };
    let mut restore = |topic: &str, key: &[u8]| {
        let mut batch = BatchBuilder::new(Compression::None, options());
        batch.append(1_000, Some(key), Some(b"v"), &two_headers()).unwrap();
        let changelog = TopicPartition::new(topic, 0);
        harness.task.restore(&changelog, &batch.build().unwrap(), 0, 1).unwrap();
    };
    restore("app-kv-changelog", b"k");
    restore("app-ses-changelog", &[b"k".as_slice(), &1_005i64.to_be_bytes(), &1_000i64.to_be_bytes()].concat());
    let kv =
        harness.task.store::<streams_core::store::TimestampedKeyValueStoreWithHeaders<String, String>>("kv").unwrap();
    let expected = ValueTimestampHeaders::new("v".to_owned(), 1_000, two_headers());
    assert_eq!(kv.get(&"k".to_owned()).unwrap(), Some(expected));
    let ses = harness.task.store::<streams_core::store::SessionStoreWithHeaders<String, String>>("ses").unwrap();
    let known = ses.fetch_session(&"k".to_owned(), 1_000, 1_005).unwrap();
    assert_eq!(known, Some(AggregationWithHeaders::new("v".to_owned(), two_headers())));
    let all: Vec<_> = ses.backward_fetch(&"k".to_owned()).unwrap().map(Result::unwrap).collect();
    assert_eq!(all.len(), 1);
}
