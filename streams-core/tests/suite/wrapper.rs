//! What stands around every processor: told of each call, and free not to make it.

use std::sync::{Arc, Mutex};

use streams_core::config::StreamsConfig;
use streams_core::processor::{Next, ProcessorCall, ProcessorContext, ProcessorWrapper};
use streams_core::{
    BoxError, Processor, PunctuationType, Record, ScheduleId, SinkOptions, SourceOptions, TaskId, Timestamp, Topology,
    TopologyTestDriver,
};

/// Notes every call and its end; leaves out records of time 13.
#[derive(Clone, Default)]
struct Note(Arc<Mutex<Vec<String>>>);

impl Note {
    fn note(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }
}

impl ProcessorWrapper for Note {
    fn init(&self, task: TaskId, node: &str, next: Next<'_>) -> Result<(), BoxError> {
        self.note(format!("init {node} of {task}"));
        next.run()
    }

    fn process(&self, call: &ProcessorCall<'_>, next: Next<'_>) -> Result<(), BoxError> {
        self.note(format!("{} gets {} with {} headers", call.node, call.timestamp, call.headers.len()));
        if call.timestamp == 13 {
            return Ok(());
        }
        let result = next.run();
        self.note(format!("{} is done: {}", call.node, result.is_ok()));
        result
    }

    fn punctuate(&self, call: &ProcessorCall<'_>, next: Next<'_>) -> Result<(), BoxError> {
        self.note(format!("{} is punctuated at {}", call.node, call.timestamp));
        next.run()
    }

    fn close(&self, task: TaskId, node: &str) {
        self.note(format!("close {node} of {task}"));
    }
}

/// Passes everything on, and a tick each second.
struct Pass;

impl Processor<String, i64, String, i64> for Pass {
    fn init(&mut self, ctx: &mut ProcessorContext<String, i64>) -> Result<(), BoxError> {
        ctx.schedule(1_000, PunctuationType::WallClockTime)?;
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<String, i64>,
        ctx: &mut ProcessorContext<String, i64>,
    ) -> Result<(), BoxError> {
        ctx.forward(record)
    }

    fn punctuate(
        &mut self,
        _: ScheduleId,
        timestamp: Timestamp,
        ctx: &mut ProcessorContext<String, i64>,
    ) -> Result<(), BoxError> {
        ctx.forward(Record::new("tick".to_owned(), 0, timestamp))
    }
}

#[test]
fn a_wrapper_is_around_every_processor() {
    let mut topology = Topology::new();
    topology.add_source("in", SourceOptions::<String, i64>::default(), ["in"]).unwrap();
    topology.add_processor("first", || Pass, &["in"]).unwrap();
    topology.add_sink("out", SinkOptions::<String, i64>::default(), "out", &["first"]).unwrap();
    let note = Note::default();
    let config = StreamsConfig::new("app").with_processor_wrapper(note.clone());
    let mut driver = TopologyTestDriver::starting_at(&topology, config, 0).unwrap();
    let input = driver.input_topic::<String, i64>("in");
    input.pipe_at("a".to_owned(), 1, 5).unwrap();
    input.pipe_at("a".to_owned(), 2, 13).unwrap();
    driver.advance_wall_clock(1_000).unwrap();
    assert_eq!(driver.output_topic::<String, i64>("out").len(), 2, "one record and one tick");
    driver.close().unwrap();
    assert_eq!(
        note.0.lock().unwrap().join("\n"),
        "init first of 0_0\nfirst gets 5 with 0 headers\nfirst is done: true\nfirst gets 13 with 0 headers\n\
         first is punctuated at 1000\nclose first of 0_0"
    );
}
