//! Stores with all their layers against plain maps: whatever lies in the cache or waits for the commit, every read answers
//! as if each put had gone to the store at once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use proptest::prelude::*;
use streams_core::config::StreamsConfig;
use streams_core::serde::{I64Serde, StringSerde};
use streams_core::store::{StoreBuilder, Stores};
use streams_core::{KeyValueStore, SessionStore, SourceOptions, Topology, Window, WindowStore, Windowed};

use crate::support::Idle;
use crate::tasks::Harness;

#[derive(Clone, Debug)]
enum Step {
    Put(u8, i64, i64),
    Delete(u8, i64),
    Get(u8, i64),
    Range(u8, u8, bool),
    All(bool),
    Commit,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..24u8, any::<i64>(), 0..6i64).prop_map(|(key, value, time)| Step::Put(key, value, time)),
        2 => (0..24u8, 0..6i64).prop_map(|(key, time)| Step::Delete(key, time)),
        3 => (0..24u8, 0..6i64).prop_map(|(key, time)| Step::Get(key, time)),
        2 => (0..24u8, 0..24u8, any::<bool>()).prop_map(|(from, to, back)| Step::Range(from, to, back)),
        1 => any::<bool>().prop_map(Step::All),
        1 => Just(Step::Commit),
    ];
    proptest::collection::vec(step, 1..120)
}

/// A task with one store and no records; its stores are used from outside.
fn harness(store: impl StoreBuilder, cache_bytes: usize) -> Harness {
    let mut topology = Topology::new();
    topology.add_source("in", SourceOptions::<String, String>::default(), ["in"]).unwrap();
    topology.add_processor("p", || Idle, &["in"]).unwrap();
    topology.add_state_store(store, &["p"]).unwrap();
    let config = StreamsConfig::new("app").with("statestore.cache.max.bytes", cache_bytes).unwrap();
    Harness::new(&topology, config, &["in"])
}

/// Keys of different lengths, so that their byte order is not that of the numbers.
fn name(key: u8) -> String {
    "k".repeat(usize::from(key % 3) + 1) + &key.to_string()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_key_value_store_answers_as_a_map(steps in steps(), caching: bool, cache_bytes in prop_oneof![Just(0usize), 300..3_000usize, Just(1_000_000)]) {
        let store = Stores::key_value("s", StringSerde, I64Serde).with_caching(caching);
        let mut harness = harness(store, cache_bytes);
        let store: Rc<KeyValueStore<String, i64>> = harness.task.store("s").unwrap();
        let mut model: BTreeMap<String, i64> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Put(key, value, _) => {
                    store.put(&name(key), Some(value)).unwrap();
                    model.insert(name(key), value);
                }
                Step::Delete(key, _) => {
                    prop_assert_eq!(store.delete(&name(key)).unwrap(), model.remove(&name(key)));
                }
                Step::Get(key, _) => prop_assert_eq!(store.get(&name(key)).unwrap(), model.get(&name(key)).copied()),
                Step::Range(from, to, back) => {
                    let (from, to) = (name(from), name(to));
                    let mut expected: Vec<_> = if from > to {
                        Vec::new()
                    } else {
                        model.range(from.clone()..=to.clone()).map(|(key, value)| (key.clone(), *value)).collect()
                    };
                    let found: Result<Vec<_>, _> = if back {
                        expected.reverse();
                        store.reverse_range(Some(&from), Some(&to)).unwrap().collect()
                    } else {
                        store.range(Some(&from), Some(&to)).unwrap().collect()
                    };
                    prop_assert_eq!(found.unwrap(), expected);
                }
                Step::All(back) => {
                    let mut expected: Vec<_> = model.iter().map(|(key, value)| (key.clone(), *value)).collect();
                    let found: Result<Vec<_>, _> = if back {
                        expected.reverse();
                        store.reverse_all().collect()
                    } else {
                        store.all().collect()
                    };
                    prop_assert_eq!(found.unwrap(), expected);
                    let prefixed: Vec<_> = store.prefix_scan(b"kk").map(|entry| entry.unwrap().0).collect();
                    let expected: Vec<_> = model.keys().filter(|key| key.starts_with("kk")).cloned().collect();
                    prop_assert_eq!(prefixed, expected);
                }
                Step::Commit => drop(harness.commit()),
            }
        }
        harness.commit();
        prop_assert_eq!(store.approximate_entries().unwrap(), model.len() as u64);
        prop_assert_eq!(harness.task.pending_bytes(), 0);
    }

    #[test]
    fn a_window_store_answers_as_a_map(steps in steps(), caching: bool, cache_bytes in prop_oneof![Just(0usize), 300..3_000usize, Just(1_000_000)]) {
        let store = Stores::window("s", 1_000_000, 10, StringSerde, I64Serde).with_caching(caching);
        let mut harness = harness(store, cache_bytes);
        let store: Rc<WindowStore<String, i64>> = harness.task.store("s").unwrap();
        let mut model: BTreeMap<(String, i64), i64> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Put(key, value, time) => {
                    store.put(&name(key), Some(value), time * 10).unwrap();
                    model.insert((name(key), time * 10), value);
                }
                Step::Delete(key, time) => {
                    store.put(&name(key), None, time * 10).unwrap();
                    model.remove(&(name(key), time * 10));
                }
                Step::Get(key, time) => {
                    let expected = model.get(&(name(key), time * 10)).copied();
                    prop_assert_eq!(store.fetch(&name(key), time * 10).unwrap(), expected);
                    let mut expected: Vec<_> = model
                        .iter()
                        .filter(|((known, start), _)| *known == name(key) && (10..=time * 10).contains(start))
                        .map(|((_, start), value)| (*start, *value))
                        .collect();
                    let found: Vec<_> = store.fetch_range(&name(key), 10, time * 10).unwrap().collect();
                    prop_assert_eq!(&found, &expected);
                    expected.reverse();
                    let found: Vec<_> = store.backward_fetch_range(&name(key), 10, time * 10).unwrap().collect();
                    prop_assert_eq!(found, expected);
                }
                Step::Range(..) | Step::All(_) => {
                    // In memory, windows of several keys come by start, then key.
                    let mut expected: Vec<_> =
                        model.iter().map(|((key, start), value)| (*start, key.clone(), *value)).collect();
                    expected.sort();
                    let all = store.all().unwrap().map(|entry| {
                        let (key, value) = entry.unwrap();
                        (key.window.start, key.key, value)
                    });
                    prop_assert_eq!(all.collect::<Vec<_>>(), expected);
                }
                Step::Commit => drop(harness.commit()),
            }
        }
    }

    #[test]
    fn a_session_store_answers_as_a_map(steps in steps(), caching: bool, cache_bytes in prop_oneof![Just(0usize), 300..3_000usize, Just(1_000_000)]) {
        let store = Stores::session("s", 1_000_000, StringSerde, I64Serde).with_caching(caching);
        let mut harness = harness(store, cache_bytes);
        let store: Rc<SessionStore<String, i64>> = harness.task.store("s").unwrap();
        // By key, end and start.
        let mut model: BTreeMap<(String, i64, i64), i64> = BTreeMap::new();
        let session = |key: u8, time: i64| {
            let (start, end) = (time * 10, time * 10 + i64::from(key % 4) * 7);
            (Windowed::new(name(key % 6), Window::new(start, end)), (name(key % 6), end, start))
        };
        for step in steps {
            match step {
                Step::Put(key, value, time) => {
                    let (session, place) = session(key, time);
                    store.put(&session, Some(value)).unwrap();
                    model.insert(place, value);
                }
                Step::Delete(key, time) => {
                    let (session, place) = session(key, time);
                    store.remove(&session).unwrap();
                    model.remove(&place);
                }
                Step::Get(key, time) => {
                    let (session, place) = session(key, time);
                    let found = store.fetch_session(&session.key, session.window.start, session.window.end).unwrap();
                    prop_assert_eq!(found, model.get(&place).copied());
                }
                Step::Range(key, to, back) => {
                    let (key, from, to) = (name(key % 6), i64::from(key), i64::from(to) * 2);
                    let mut expected: Vec<_> = model
                        .iter()
                        .filter(|((known, end, start), _)| *known == key && *end >= from && *start <= to)
                        .map(|((_, end, start), value)| (*end, *start, *value))
                        .collect();
                    let found = if back {
                        expected.reverse();
                        store.backward_find_sessions(&key, from, to).unwrap()
                    } else {
                        store.find_sessions(&key, from, to).unwrap()
                    };
                    let found = found.map(|entry| {
                        let (key, value) = entry.unwrap();
                        (key.window.end, key.window.start, value)
                    });
                    prop_assert_eq!(found.collect::<Vec<_>>(), expected);
                }
                Step::All(_) => {
                    let expected = model.values().count();
                    prop_assert_eq!(store.find_sessions_by_end(0, i64::MAX).unwrap().count(), expected);
                }
                Step::Commit => drop(harness.commit()),
            }
        }
    }
}

#[test]
fn a_store_may_be_written_while_it_is_walked_over() {
    let mut harness = harness(Stores::key_value("s", StringSerde, I64Serde).with_caching(true), 1_000);
    let store: Rc<KeyValueStore<String, i64>> = harness.task.store("s").unwrap();
    for number in 0..500 {
        store.put(&format!("{number:03}"), Some(number)).unwrap();
    }
    let seen = RefCell::new(0);
    for entry in store.all() {
        let (key, value) = entry.unwrap();
        assert_eq!(value, *seen.borrow());
        store.put(&key, None).unwrap();
        *seen.borrow_mut() += 1;
    }
    assert_eq!(seen.into_inner(), 500);
    assert_eq!(store.all().count(), 0);
    harness.commit();
    assert_eq!(store.approximate_entries().unwrap(), 0);
}
