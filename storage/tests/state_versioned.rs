//! Versions against a model that keeps all of them: what was valid at any time that history reaches back to, whatever the order of puts.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use proptest::prelude::*;
use storage::state::{FoundVersion, VersionedPut, VersionedRows, Versions, versioned_segment_interval_ms};

#[derive(Default)]
struct Map(RefCell<BTreeMap<Vec<u8>, Vec<u8>>>);

impl VersionedRows for Map {
    type Error = Infallible;

    fn row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.0.borrow().get(key).cloned())
    }

    fn put_row(&self, key: &[u8], row: Option<&[u8]>) -> Result<(), Infallible> {
        match row {
            Some(row) => self.0.borrow_mut().insert(key.to_vec(), row.to_vec()),
            None => self.0.borrow_mut().remove(key),
        };
        Ok(())
    }

    fn first_from(&self, from: &[u8]) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.0.borrow().range(from.to_vec()..).next().map(|(key, _)| key.clone()))
    }

    fn delete_prefix(&self, prefix: &[u8]) -> Result<(), Infallible> {
        self.0.borrow_mut().retain(|key, _| !key.starts_with(prefix));
        Ok(())
    }

    fn corrupt(&self) -> Infallible {
        panic!("a row was not as written")
    }
}

#[derive(Clone, Debug)]
struct Put {
    key: u8,
    time: i64,
    value: Option<u8>,
}

/// Values at even times, deletions at odd ones: a deletion at the very time of a version makes the store forget that there ever was one.
fn puts() -> impl Strategy<Value = Vec<Put>> {
    let put =
        (0u8..3, 0i64..400, any::<u8>(), proptest::bool::weighted(0.25)).prop_map(|(key, time, value, deletes)| {
            let time = time * 2 + i64::from(deletes);
            Put { key, time, value: (!deletes).then_some(value) }
        });
    proptest::collection::vec(put, 1..80)
}

type Model = BTreeMap<u8, BTreeMap<i64, Option<u8>>>;

fn valid_at(model: &Model, key: u8, time: i64) -> Option<(i64, u8)> {
    let (since, value) = model.get(&key)?.range(..=time).next_back()?;
    value.map(|value| (*since, value))
}

fn short(found: &FoundVersion) -> (i64, u8) {
    (found.timestamp, found.value[0])
}

proptest! {
    #[test]
    fn every_time_within_history_is_answered_as_if_all_versions_were_kept(
        puts in puts(),
        history in 0i64..600,
        interval in 1i64..200,
        reopen in 0usize..80,
    ) {
        let map = Map::default();
        let Ok(mut versions) = Versions::open(&map, history, interval, -1);
        let mut model = Model::default();
        let mut stream_time = -1;
        for (index, Put { key, time, value }) in puts.into_iter().enumerate() {
            if index == reopen {
                let Ok(again) = Versions::open(&map, history, interval, versions.stream_time());
                versions = again;
            }
            let Ok(put) = versions.put(&map, &[key], value.as_ref().map(std::slice::from_ref), time);
            if time < stream_time - history {
                prop_assert_eq!(put, VersionedPut::Expired);
                continue;
            }
            stream_time = stream_time.max(time);
            let known = model.entry(key).or_default();
            known.insert(time, value);
            let next = known.range(time + 1..).next().map(|(next, _)| *next);
            // That a deletion is the newest is not remembered once a value has gone before it.
            if let Some(next) = next.filter(|next| known[next].is_some()) {
                prop_assert_eq!(put, VersionedPut::ValidUntil(next));
            }
        }
        for key in 0..3 {
            for time in (stream_time - history).max(0)..=stream_time + 1 {
                let Ok(found) = versions.as_of(&map, &[key], time);
                prop_assert_eq!(found.as_ref().map(short), valid_at(&model, key, time), "key {} at {}", key, time);
            }
            let from = (stream_time - history).max(0);
            let Ok(found) = versions.history(&map, &[key], from, i64::MAX);
            let expected: BTreeSet<_> = (from..=stream_time).filter_map(|time| valid_at(&model, key, time)).collect();
            prop_assert_eq!(found.iter().map(short).collect::<Vec<_>>(), expected.into_iter().collect::<Vec<_>>());
        }
    }
}

#[test]
fn what_has_expired_is_gone_but_for_the_newest_version() {
    let map = Map::default();
    let Ok(mut versions) = Versions::open(&map, 100, 10, -1);
    for (key, time) in [(1, 10), (1, 20), (2, 15), (3, 1_000)] {
        let Ok(put) = versions.put(&map, &[key], Some(&[9]), time);
        assert_eq!(put, VersionedPut::Latest);
    }
    assert_eq!(map.0.borrow().len(), 3, "one row a key: the segment of the version that ended at 20 was dropped");
    let Ok(newest) = versions.as_of(&map, &[2], 20);
    assert_eq!(
        newest.map(|found| found.timestamp),
        Some(15),
        "the newest version answers for times before the history"
    );
    let Ok(former) = versions.as_of(&map, &[1], 15);
    assert_eq!(former, None);
    let Ok(late) = versions.put(&map, &[2], Some(&[9]), 899);
    assert_eq!(late, VersionedPut::Expired);
}

#[test]
fn segments_are_as_long_as_in_kafka_streams() {
    let minute = 60_000;
    let expected = [
        (0, 2_000),
        (60_000, 20_000),
        (60_001, 20_000),
        (5 * minute, minute),
        (60 * minute, 5 * minute),
        (24 * 60 * minute, 60 * minute),
    ];
    for (history, interval) in expected {
        assert_eq!(versioned_segment_interval_ms(history), interval, "{history}");
    }
}
