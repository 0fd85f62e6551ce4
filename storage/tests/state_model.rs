//! Key-value stores of every backend against a sorted map.

mod state_support;

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use state_support::{Entries, backends, changelog, entries, spec, write};
use storage::state::{ByteStore, Direction, MergedIterator, offsets};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;
type Batch = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Keys that share prefixes, meet the borders of bytes, and collide.
fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0_u8), Just(1), Just(0x7f), Just(0xff)], 0..4)
}

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    vec(vec((key(), proptest::option::of(vec(any::<u8>(), 0..5))), 0..12), 1..6)
}

fn apply(model: &mut Model, batch: &Batch) {
    for (key, value) in batch {
        match value {
            Some(value) => model.insert(key.clone(), value.clone()),
            None => model.remove(key),
        };
    }
}

fn select(model: &Model, keep: impl Fn(&[u8]) -> bool) -> Entries {
    model.iter().filter(|(key, _)| keep(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn assert_same(store: &dyn ByteStore, model: &Model, from: &[u8], to: &[u8], name: &str) {
    for (key, value) in model {
        assert_eq!(store.get(key).expect("get").as_ref(), Some(value), "{name}: {key:?}");
    }
    assert_eq!(store.get(from).expect("get"), model.get(from).cloned(), "{name}: {from:?}");
    let bounds = [(None, None), (Some(from), None), (None, Some(to)), (Some(from), Some(to))];
    for (from, to) in bounds {
        let mut expected = select(model, |key| from.is_none_or(|from| key >= from) && to.is_none_or(|to| key <= to));
        assert_eq!(entries(store.range(from, to, Direction::Forward)), expected, "{name}: {from:?}..={to:?}");
        expected.reverse();
        assert_eq!(entries(store.range(from, to, Direction::Backward)), expected, "{name}: {from:?}..={to:?} back");
    }
    let mut expected = select(model, |key| key.starts_with(from));
    assert_eq!(entries(store.prefix(from, Direction::Forward)), expected, "{name}: prefix {from:?}");
    expected.reverse();
    assert_eq!(entries(store.prefix(from, Direction::Backward)), expected, "{name}: prefix {from:?} back");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_store_is_a_sorted_map_that_survives_closing(batches in batches(), from in key(), to in key()) {
        for (name, backend) in backends() {
            let directory = tempfile::tempdir().expect("a directory");
            let spec = spec(directory.path(), "store");
            let mut store = backend.open_key_value(&spec).expect("open");
            let mut model = Model::new();
            for (offset, batch) in batches.iter().enumerate() {
                write(&mut *store, batch, offset as i64).expect("write");
                apply(&mut model, batch);
                assert_same(&*store, &model, &from, &to, name);
                prop_assert_eq!(store.offset(&changelog()).expect("offset"), Some(offset as i64));
            }
            if store.is_persistent() {
                store.close().expect("close");
                store.close().expect("closing twice is no error");
                prop_assert!(store.get(b"x").is_err());
                drop(store);
                store = backend.open_key_value(&spec).expect("open again");
                prop_assert!(store.was_closed_cleanly().expect("open"));
                assert_same(&*store, &model, &from, &to, name);
                prop_assert_eq!(store.offsets().expect("offsets"), vec![(changelog(), batches.len() as i64 - 1)]);
            }
            store.wipe().expect("wipe");
            assert_same(&*store, &Model::new(), &from, &to, name);
            prop_assert_eq!(store.offset(&changelog()).expect("offset"), None);
            prop_assert_eq!(store.approximate_entries().expect("count"), 0);
        }
    }

    #[test]
    fn changes_laid_over_a_store_read_as_if_written(stored in batches(), pending in batches()) {
        let backend = storage::state::Backend::Memory;
        let mut store = backend.open_key_value(&spec("".as_ref(), "store")).expect("open");
        let mut model = Model::new();
        for batch in &stored {
            write(&mut *store, batch, 0).expect("write");
            apply(&mut model, batch);
        }
        let mut changes = BTreeMap::new();
        for batch in &pending {
            changes.extend(batch.iter().cloned());
            apply(&mut model, batch);
        }
        let changes = || changes.iter().map(|(key, value): (&Vec<u8>, &Option<Vec<u8>>)| (&key[..], value.as_deref()));
        let mut expected = select(&model, |_| true);
        let below = store.range(None, None, Direction::Forward).expect("range");
        let merged = MergedIterator::new(below, changes(), Direction::Forward, |a, b| a.cmp(b));
        prop_assert_eq!(entries(Ok(Box::new(merged))), expected.clone());
        expected.reverse();
        let below = store.range(None, None, Direction::Backward).expect("range");
        let merged = MergedIterator::new(below, changes().rev(), Direction::Backward, |a, b| a.cmp(b));
        prop_assert_eq!(entries(Ok(Box::new(merged))), expected);
    }
}

#[test]
fn metadata_enters_with_the_next_batch_and_is_no_offset() {
    for (name, backend) in backends() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut store = backend.open_key_value(&spec(directory.path(), "store")).expect("open");
        store.put_metadata(offsets::POSITION, b"here").expect("put");
        assert_eq!(store.metadata(offsets::POSITION).expect("read"), None, "{name}");
        write(&mut *store, &[], 3).expect("write");
        assert_eq!(store.metadata(offsets::POSITION).expect("read"), Some(b"here".to_vec()), "{name}");
        assert_eq!(store.offsets().expect("offsets"), [(changelog(), 3)], "{name}");
    }
}

#[test]
fn approximate_count_is_near_the_truth() {
    for (name, backend) in backends() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut store = backend.open_key_value(&spec(directory.path(), "store")).expect("open");
        let batch: Batch = (0_u32..1_000).map(|n| (n.to_be_bytes().to_vec(), Some(vec![1; 8]))).collect();
        write(&mut *store, &batch, 0).expect("write");
        store.flush().expect("flush");
        let count = store.approximate_entries().expect("count");
        assert!((900..=1_100).contains(&count), "{name}: {count}");
    }
}
