//! What exception handlers are shown of a bad record, and what they have written.

use std::error::Error;
use std::sync::{Arc, Mutex};

use streams_core::config::StreamsConfig;
use streams_core::processor::{
    DeadLetter, DeserializationHandler, ErrorContext, ErrorResponse, ErrorResult, LogAndContinue, ProcessingHandler,
    ProcessorContext, ProductionHandler,
};
use streams_core::serde::{Serde, StringSerde};
use streams_core::{
    BoxError, Headers, Processor, PunctuationType, Record, ScheduleId, SerdeError, SinkOptions, SourceOptions,
    Timestamp, Topology, TopologyTestDriver,
};

use crate::support::Each;
use crate::tasks::{Harness, at};

/// Notes what it is shown, in a line, and answers with a record of its own.
#[derive(Clone, Default)]
struct Note(Arc<Mutex<Vec<String>>>);

impl Note {
    fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock().unwrap()).join("\n")
    }

    fn note(&self, context: &ErrorContext<'_>, error: &(dyn Error + 'static)) -> ErrorResponse {
        let text = |bytes: Option<&[u8]>| bytes.map_or("null".into(), String::from_utf8_lossy).into_owned();
        let headers: Vec<_> = context.headers.iter().map(|header| header.key.to_string()).collect();
        self.0.lock().unwrap().push(format!(
            "{} {}-{}@{} t{} {}={} {headers:?} -> {:?}: {error}",
            context.node,
            context.topic,
            context.partition,
            context.offset,
            context.timestamp,
            text(context.source_raw_key),
            text(context.source_raw_value),
            context.output_topic,
        ));
        let letter =
            DeadLetter { key: Some(b"own".to_vec()), timestamp: Some(context.timestamp), ..DeadLetter::to("dead") };
        ErrorResponse::resume().with_dead_letters([letter])
    }
}

macro_rules! notes {
    ($($handler:ident)*) => {
        $(impl $handler for Note {
            fn handle(&self, context: &ErrorContext<'_>, error: &(dyn Error + 'static)) -> ErrorResponse {
                self.note(context, error)
            }
        })*
    };
}

notes!(DeserializationHandler ProcessingHandler ProductionHandler);

/// Cannot write "unwritable".
struct Picky;

impl Serde<String> for Picky {
    fn serialize(&self, topic: &str, headers: &Headers, value: &String, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        if value == "unwritable" {
            return Err(SerdeError::Size { type_name: "text", expected: 0, actual: value.len() });
        }
        StringSerde.serialize(topic, headers, value, out)
    }

    fn deserialize(&self, topic: &str, headers: &Headers, bytes: &[u8]) -> Result<String, SerdeError> {
        StringSerde.deserialize(topic, headers, bytes)
    }
}

/// Fails for "bad", and at each second of the wall clock.
struct Fail;

impl Processor<String, String, String, String> for Fail {
    fn init(&mut self, ctx: &mut ProcessorContext<String, String>) -> Result<(), BoxError> {
        ctx.schedule(1_000, PunctuationType::WallClockTime)?;
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<String, String>,
        ctx: &mut ProcessorContext<String, String>,
    ) -> Result<(), BoxError> {
        if record.value.as_deref() == Some("bad") { Err("bad record".into()) } else { ctx.forward(record) }
    }

    fn punctuate(
        &mut self,
        _: ScheduleId,
        _: Timestamp,
        _: &mut ProcessorContext<String, String>,
    ) -> Result<(), BoxError> {
        Err("bad time".into())
    }
}

fn topology() -> Topology {
    let mut topology = Topology::new();
    topology.add_source("in", SourceOptions::<String, String>::default(), ["in"]).unwrap();
    topology.add_processor("fail", || Fail, &["in"]).unwrap();
    topology.add_sink("out", SinkOptions::new(StringSerde, Picky), "out", &["fail"]).unwrap();
    topology
}

fn noting(note: &Note) -> StreamsConfig {
    StreamsConfig::new("app")
        .with_deserialization_handler(note.clone())
        .with_processing_handler(note.clone())
        .with_production_handler(note.clone())
}

#[test]
fn handlers_see_the_source_record_as_it_was_read_and_write_records_of_their_own() {
    let note = Note::default();
    let config = noting(&note).with("errors.dead.letter.queue.topic.name", "built-in").unwrap();
    let mut driver = TopologyTestDriver::starting_at(&topology(), config, 0).unwrap();
    let input = driver.input_topic::<String, String>("in");
    let mut headers = Headers::default();
    headers.add("h", None);
    for (time, value) in [(5, &b"bad"[..]), (6, b"good"), (7, b"\xff"), (8, b"unwritable")] {
        input.pipe_bytes(Some(b"k"), Some(value), time, &headers).unwrap();
    }
    driver.advance_wall_clock(1_000).unwrap();
    insta::assert_snapshot!(note.take(), @r#"
    fail in-0@0 t5 k=bad ["h"] -> None: bad record
    in in-0@2 t7 k=� ["h"] -> None: not a UTF-8 string: invalid utf-8 sequence of 1 bytes from index 0
    out in-0@3 t8 k=unwritable ["h"] -> Some("out"): text takes 0 bytes, got 10
    fail --1@-1 t1000 null=null [] -> None: bad time
    "#);
    let dead = driver.output_topic::<String, String>("dead").read_all().unwrap();
    let times: Vec<_> = dead.iter().map(|record| (record.key.as_deref(), record.timestamp)).collect();
    assert_eq!(times, [(Some("own"), 5), (Some("own"), 7), (Some("own"), 8), (Some("own"), 1_000)]);
    assert_eq!(driver.output_topic::<String, String>("built-in").len(), 0, "handlers of one's own write their own");
    assert_eq!(driver.output_topic::<String, String>("out").len(), 1);
    assert_eq!(driver.dropped_records(), 4);
}

#[test]
fn built_in_handlers_write_what_kafka_streams_writes() {
    let config = StreamsConfig::new("app")
        .with("errors.dead.letter.queue.topic.name", "dead")
        .unwrap()
        .with_processing_handler(LogAndContinue);
    let mut driver = TopologyTestDriver::starting_at(&topology(), config, 0).unwrap();
    let mut headers = Headers::default();
    headers.add("h", Some(bytes::Bytes::from_static(b"x")));
    driver.input_topic::<String, String>("in").pipe_bytes(Some(b"k"), Some(b"bad"), 5, &headers).unwrap();
    driver.advance_wall_clock(1_000).unwrap();
    let dead = driver.output_topic::<String, String>("dead").read_all().unwrap();
    let show = |record: &Record<String, String>| {
        let headers = record.headers.iter().map(|header| {
            let text = header.value.as_ref().map(|value| String::from_utf8_lossy(value));
            format!("  {}={}\n", header.key, text.as_deref().unwrap_or("null"))
        });
        format!("{:?}={:?}@{}\n{}", record.key, record.value, record.timestamp, headers.collect::<String>())
    };
    insta::assert_snapshot!(dead.iter().map(show).collect::<String>(), @r#"
    Some("k")=Some("bad")@5
      h=x
      __streams.errors.exception=Processing
      __streams.errors.message=bad record
      __streams.errors.stacktrace=bad record
      __streams.errors.topic=in
      __streams.errors.partition=0
      __streams.errors.offset=0
    None=None@1000
      __streams.errors.exception=Processing
      __streams.errors.message=bad time
      __streams.errors.stacktrace=bad time
      __streams.errors.topic=null
      __streams.errors.partition=-1
      __streams.errors.offset=-1
    "#);
}

#[test]
fn a_record_is_shown_though_the_next_ones_are_read_already() {
    let note = Note::default();
    let mut harness = Harness::new(&topology(), noting(&note), &["in"]);
    harness.feed("in", 0, &[("a", "bad", 1), ("b", "good", 2), ("c", "bad", 3)]).unwrap();
    harness.feed("in", 3, &[("d", "bad", 4)]).unwrap();
    harness.feed("in", 4, &[("e", "good", 5)]).unwrap();
    harness.feed("in", 5, &[("f", "bad", 6)]).unwrap();
    assert_eq!(harness.task.process(100, at(0)).unwrap(), 6);
    insta::assert_snapshot!(note.take(), @"
    fail in-0@0 t1 a=bad [] -> None: bad record
    fail in-0@2 t3 c=bad [] -> None: bad record
    fail in-0@3 t4 d=bad [] -> None: bad record
    fail in-0@5 t6 f=bad [] -> None: bad record
    ");
}

#[test]
fn a_response_that_fails_is_written_before_the_task_ends() {
    struct Give;
    impl ProcessingHandler for Give {
        fn handle(&self, _: &ErrorContext<'_>, _: &(dyn Error + 'static)) -> ErrorResponse {
            let letters = ["first", "second"].map(|topic| DeadLetter { timestamp: Some(0), ..DeadLetter::to(topic) });
            let response = ErrorResponse::fail().with_dead_letters(letters);
            assert_eq!((response.result(), response.dead_letters().len()), (ErrorResult::Fail, 2));
            response
        }
    }
    let config = StreamsConfig::new("app").with_processing_handler(Give);
    let mut harness = Harness::new(&topology(), config, &["in"]);
    harness.feed("in", 0, &[("k", "bad", 0)]).unwrap();
    harness.task.process(1, at(0)).unwrap_err();
    let sent = harness.collector.borrow().sent.iter().map(|(topic, ..)| topic.clone()).collect::<Vec<_>>();
    assert_eq!(sent, ["first", "second"]);
}

#[test]
fn of_updates_that_waited_in_a_cache_only_the_last_record_is_shown() {
    let note = Note::default();
    let mut topology = Topology::new();
    topology.add_source("words", SourceOptions::<String, String>::default(), ["words"]).unwrap();
    topology.add_processor("count", || crate::driver::count("counts"), &["words"]).unwrap();
    let store =
        streams_core::store::Stores::timestamped_key_value("counts", StringSerde, streams_core::serde::I64Serde);
    topology.add_state_store(store.with_caching(true), &["count"]).unwrap();
    let fail =
        || Each(|_: Record<String, streams_core::Change<i64>>, _: &mut ProcessorContext<(), ()>| Err("no".into()));
    topology.add_processor("fail", fail, &["count"]).unwrap();
    let mut harness = Harness::new(&topology, noting(&note), &["words"]);
    harness.feed("words", 0, &[("a", "x", 1), ("b", "y", 2)]).unwrap();
    harness.task.process(100, at(0)).unwrap();
    harness.commit();
    insta::assert_snapshot!(note.take(), @"
    fail words-0@0 t1 null=null [] -> None: no
    fail words-0@1 t2 b=y [] -> None: no
    ");
}
