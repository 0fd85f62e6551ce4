//! What the processors of one task share besides records: plain data, and reads of sessions over several keys.

use std::cell::Cell;
use std::rc::Rc;

use streams_core::processor::ProcessorContext;
use streams_core::serde::{I64Serde, StringSerde};
use streams_core::store::Stores;
use streams_core::{
    BoxError, Processor, Record, SessionStore, SinkOptions, SourceOptions, StreamsConfig, Topology, TopologyTestDriver,
    Window, Windowed,
};

use crate::support::{Idle, show_all};

/// Replaces each value by the number of records that all processors with that shared data have seen.
struct Numbered {
    seen: Rc<Cell<i64>>,
}

impl Processor<String, String, String, i64> for Numbered {
    fn init(&mut self, ctx: &mut ProcessorContext<String, i64>) -> Result<(), BoxError> {
        self.seen = ctx.shared_data("seen")?;
        assert!(ctx.shared_data::<Cell<bool>>("seen").is_err(), "another type under the same name");
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<String, String>,
        ctx: &mut ProcessorContext<String, i64>,
    ) -> Result<(), BoxError> {
        self.seen.set(self.seen.get() + 1);
        ctx.forward(record.with_value(Some(self.seen.get())))
    }
}

#[test]
fn processors_of_one_task_share_data_and_those_of_another_driver_do_not() {
    let mut topology = Topology::new();
    topology.add_source("words", SourceOptions::<String, String>::default(), ["words"]).unwrap();
    for name in ["a", "b"] {
        topology.add_processor(name, || Numbered { seen: Rc::default() }, &["words"]).unwrap();
    }
    topology.add_sink("out", SinkOptions::<String, i64>::default(), "out", &["a", "b"]).unwrap();
    for _ in 0..2 {
        let driver = TopologyTestDriver::new(&topology, StreamsConfig::new("app")).unwrap();
        let input = driver.input_topic::<String, String>("words");
        input.pipe_at("k".to_owned(), "x".to_owned(), 1).unwrap();
        input.pipe_at("k".to_owned(), "x".to_owned(), 2).unwrap();
        let out = driver.output_topic::<String, i64>("out").read_all().unwrap();
        assert_eq!(show_all(&out), "k=1@1 k=2@1 k=3@2 k=4@2");
    }
}

#[test]
fn sessions_are_read_by_ranges_of_keys_both_ways() {
    let mut topology = Topology::new();
    topology
        .add_source("words", SourceOptions::<String, String>::default(), ["words"])
        .unwrap()
        .add_processor::<_, String, String, (), ()>("idle", || Idle, &["words"])
        .unwrap()
        .add_state_store(Stores::session("sessions", 1_000, StringSerde, I64Serde), &["idle"])
        .unwrap();
    let driver = TopologyTestDriver::new(&topology, StreamsConfig::new("app")).unwrap();
    let store = driver.store::<SessionStore<String, i64>>("sessions").unwrap();
    for (number, key) in ["a", "b", "b", "c"].into_iter().enumerate() {
        let number = number as i64;
        let session = Windowed::new(key.to_owned(), Window::new(number * 10, number * 10 + 5));
        store.put(&session, Some(number)).unwrap();
    }
    let numbers = |sessions: streams_core::store::SessionIterator<'_, String, i64>| -> Vec<i64> {
        sessions.map(|session| session.unwrap().1).collect()
    };
    let (a, b) = ("a".to_owned(), "b".to_owned());
    assert_eq!(numbers(store.fetch_key_range(Some(&a), Some(&b)).unwrap()), [0, 1, 2]);
    assert_eq!(numbers(store.fetch_key_range(Some(&b), None).unwrap()), [1, 2, 3]);
    assert_eq!(numbers(store.backward_fetch_key_range(None, Some(&b)).unwrap()), [2, 1, 0]);
    assert_eq!(numbers(store.backward_fetch(&b).unwrap()), [2, 1]);
}
