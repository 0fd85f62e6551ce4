//! Window and session stores of every backend and layout against a plain list, and expiry on both sides of its border.

mod state_support;

use proptest::collection::vec;
use proptest::prelude::*;
use state_support::{Entries, backends, changelog, entries, spec};
use storage::state::keys::{KeyKind, SessionKey, WindowKey};
use storage::state::{
    Backend, BatchStore, Direction, Keys, Layout, Scan, SegmentedStore, TimeBounds, segment_interval_ms,
};

const RETENTION_MS: i64 = 200_000;
const LAYOUTS: [Layout; 3] =
    [Layout::KeyFirst, Layout::TimeFirst { key_index: false }, Layout::TimeFirst { key_index: true }];

/// The plain key of a window `key@time` (second number: sequence) or of a session that ends at `time`.
fn plain(kind: KeyKind, key: &[u8], time: i64, second: i64) -> Vec<u8> {
    match kind {
        KeyKind::Window => WindowKey { key, start: time, sequence: second as i32 }.to_bytes(),
        KeyKind::Session => SessionKey { key, start: second, end: time }.to_bytes(),
    }
}

/// Runs `test` on a new store and, if it survives closing, on the same store opened again.
fn with_store(backend: &Backend, kind: KeyKind, layout: Layout, test: &mut dyn FnMut(&mut SegmentedStore)) {
    let directory = tempfile::tempdir().expect("a directory");
    let spec = spec(directory.path(), "win");
    if kind == KeyKind::Window {
        let open = || backend.open_window(&spec, RETENTION_MS, layout, false).expect("open");
        let mut store = open();
        test(&mut store);
        if store.is_persistent() {
            store.close().expect("close");
            drop(store);
            test(&mut open());
        }
    } else {
        let open = || backend.open_session(&spec, RETENTION_MS, layout).expect("open");
        let mut store = open();
        test(&mut store);
        if store.is_persistent() {
            store.close().expect("close");
            drop(store);
            test(&mut open());
        }
    }
}

fn put(store: &mut SegmentedStore, changes: &[(Vec<u8>, Option<Vec<u8>>)]) {
    let mut changes = changes.iter().map(|(key, value)| (&key[..], value.as_deref()));
    store.write(&mut changes, &[(changelog(), 1)]).expect("write");
}

/// A list of entries with the rules of `spec` written out.
struct Model {
    kind: KeyKind,
    layout: Layout,
    exact: bool,
    stream_time: i64,
    entries: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Model {
    fn interval(&self) -> i64 {
        segment_interval_ms(RETENTION_MS)
    }

    fn put(&mut self, key: &[u8], value: Option<&Vec<u8>>) {
        let time = self.kind.parts(key).expect("a key").time;
        self.stream_time = self.stream_time.max(time);
        let limit = self.stream_time - RETENTION_MS;
        let dead = if self.exact {
            time <= limit
        } else {
            time.div_euclid(self.interval()) < limit.div_euclid(self.interval())
        };
        if dead {
            return;
        }
        self.entries.retain(|(other, _)| other != key);
        if let Some(value) = value {
            self.entries.push((key.to_vec(), value.clone()));
        }
    }

    fn scan(&self, scan: &Scan<'_>) -> Entries {
        let includes_limit = !self.exact && self.layout != Layout::KeyFirst && self.kind == KeyKind::Window;
        let limit = self.stream_time - RETENTION_MS;
        let by_end = self.kind == KeyKind::Session && matches!(scan.times, TimeBounds::Within { .. });
        let earliest = if by_end && !self.exact && self.layout != Layout::KeyFirst {
            limit.div_euclid(self.interval()) * self.interval()
        } else {
            limit + i64::from(!includes_limit)
        };
        let mut found: Entries = self
            .entries
            .iter()
            .filter(|(key, _)| self.kind.parts(key).expect("a key").time >= earliest && scan.matches(self.kind, key))
            .cloned()
            .collect();
        found.sort_by_key(|(key, _)| self.place(key, scan));
        if scan.direction == Direction::Backward {
            found.reverse();
        }
        found
    }

    fn place(&self, key: &[u8], scan: &Scan<'_>) -> (i64, Vec<u8>, i64) {
        let parts = self.kind.parts(key).expect("a key");
        let segment = parts.time.div_euclid(self.interval());
        let by_key = match self.layout {
            Layout::KeyFirst => true,
            Layout::TimeFirst { key_index } => key_index && scan.keys != Keys::ALL,
        };
        if self.exact && self.kind == KeyKind::Window {
            let sequence = (parts.second as i32).to_be_bytes();
            return (parts.time, [parts.key, &sequence].concat(), 0);
        }
        if self.exact {
            return (parts.time, parts.key.to_vec(), parts.second);
        }
        let mut time_first = Vec::new();
        self.kind.write_time_first(key, &mut time_first);
        (segment, if by_key { key.to_vec() } else { time_first }, 0)
    }
}

fn record_key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0_u8), Just(1), Just(0x7f), Just(0xff)], 0..3)
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![0_i64..500_000, (0_i64..6).prop_map(|n| n * 100_000), (0_i64..6).prop_map(|n| n * 100_000 + 1)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]

    #[test]
    fn scans_answer_like_a_list(
        batches in vec(vec((record_key(), time(), 0_i64..3, proptest::option::of(vec(any::<u8>(), 0..3))), 0..10), 1..5),
        (low, high) in (record_key(), record_key()),
        (from, to) in (time(), time()),
    ) {
        for kind in [KeyKind::Window, KeyKind::Session] {
            let batches: Vec<Vec<_>> = batches
                .iter()
                .map(|batch| {
                    let change = |(key, time, second, value): &(Vec<u8>, i64, i64, Option<Vec<u8>>)| {
                        (plain(kind, key, *time, *second), value.clone())
                    };
                    batch.iter().map(change).collect()
                })
                .collect();
            for (layout, (name, backend)) in LAYOUTS.iter().flat_map(|layout| backends().into_iter().map(move |b| (*layout, b))) {
                let exact = name == "memory";
                let mut model = Model { kind, layout, exact, stream_time: -1, entries: Vec::new() };
                let mut written = false;
                with_store(&backend, kind, layout, &mut |store| {
                    if !written {
                        for batch in &batches {
                            put(store, batch);
                            batch.iter().for_each(|(key, value)| model.put(key, value.as_ref()));
                        }
                        written = true;
                    }
                    assert_eq!(store.stream_time().expect("time"), model.stream_time);
                    let keys = [
                        Keys::One(&low), Keys::ALL, Keys::Range(Some(&low), Some(&high)),
                        Keys::Range(None, Some(&high)), Keys::Range(Some(&low), None),
                    ];
                    let all = (i64::MIN, i64::MAX);
                    for keys in keys {
                        for (from, to) in [all, (from, to), (from, i64::MAX), (i64::MIN, to)] {
                            for direction in [Direction::Forward, Direction::Backward] {
                                let mut bounds = vec![TimeBounds::Within { from, to }];
                                if kind == KeyKind::Session {
                                    bounds.push(TimeBounds::Overlap { earliest_end: from, latest_start: to });
                                }
                                for times in bounds {
                                    let scan = Scan { keys, times, direction };
                                    let found = entries(store.scan(&scan));
                                    assert_eq!(found, model.scan(&scan), "{name} {kind:?} {layout:?} {scan:?}");
                                    let rises = |pair: &[(Vec<u8>, Vec<u8>)]| {
                                        let order = store.compare(&scan, &pair[0].0, &pair[1].0);
                                        order.is_lt() == (direction == Direction::Forward) && order.is_ne()
                                    };
                                    assert!(found.windows(2).all(rises), "{name} {kind:?} {layout:?} {scan:?}");
                                }
                            }
                        }
                    }
                    for (key, value) in &model.entries {
                        let times = match kind {
                            KeyKind::Window => TimeBounds::Within { from: 0, to: i64::MAX },
                            KeyKind::Session => TimeBounds::Overlap { earliest_end: 0, latest_start: i64::MAX },
                        };
                        let all = Scan { keys: Keys::ALL, times, direction: Direction::Forward };
                        let visible = model.scan(&all).iter().any(|(other, _)| other == key);
                        assert_eq!(store.get(key).expect("get"), visible.then(|| value.clone()), "{name} {key:?}");
                    }
                });
            }
        }
    }
}

/// What is left to be read of windows that start at each of `times`, after stream time reached the last of them.
fn survivors(backend: &Backend, layout: Layout, times: &[i64]) -> Vec<i64> {
    let mut left = Vec::new();
    let directory = tempfile::tempdir().expect("a directory");
    let mut store = backend.open_window(&spec(directory.path(), "win"), RETENTION_MS, layout, false).expect("open");
    for &time in times {
        put(&mut store, &[(plain(KeyKind::Window, b"k", time, 0), Some(b"v".to_vec()))]);
    }
    for (key, _) in entries(store.all(Direction::Forward)) {
        left.push(WindowKey::read(&key).expect("a key").start);
    }
    left
}

#[test]
fn window_is_read_until_stream_time_is_its_retention_later() {
    for (name, backend) in backends() {
        let before = survivors(&backend, Layout::KeyFirst, &[1_000, 1_000 + RETENTION_MS - 1]);
        assert_eq!(before, [1_000, 1_000 + RETENTION_MS - 1], "{name}");
        let at = survivors(&backend, Layout::KeyFirst, &[1_000, 1_000 + RETENTION_MS]);
        assert_eq!(at, [1_000 + RETENTION_MS], "{name}");
    }
}

#[test]
fn time_first_windows_on_disk_are_read_one_millisecond_longer() {
    let layout = Layout::TimeFirst { key_index: false };
    for (name, backend) in backends() {
        let at = survivors(&backend, layout, &[1_000, 1_000 + RETENTION_MS]);
        assert_eq!(at.len(), if backend.is_persistent() { 2 } else { 1 }, "{name}");
        assert_eq!(survivors(&backend, layout, &[1_000, 1_001 + RETENTION_MS]), [1_001 + RETENTION_MS], "{name}");
    }
}

#[test]
fn late_put_is_dropped_by_the_segment_on_disk_and_to_the_millisecond_in_memory() {
    // Stream time 450 000: limit 250 000, which lies in the segment from 200 000 to 300 000.
    for (time, on_disk, in_memory) in
        [(250_001, true, true), (250_000, true, false), (200_000, true, false), (199_999, false, false)]
    {
        for (name, backend) in backends() {
            let directory = tempfile::tempdir().expect("a directory");
            let spec = spec(directory.path(), "win");
            let mut store = backend.open_window(&spec, RETENTION_MS, Layout::KeyFirst, false).expect("open");
            assert!(store.observe(450_000).expect("open"));
            let expected = if backend.is_persistent() { on_disk } else { in_memory };
            assert_eq!(store.observe(time).expect("open"), expected, "{name}: {time}");
            assert_eq!(store.is_visible(time).expect("open"), in_memory, "{name}: {time}");
        }
    }
}

#[test]
fn segments_older_than_the_limit_are_deleted_and_stream_time_outlives_the_process() {
    for (name, backend) in backends() {
        let directory = tempfile::tempdir().expect("a directory");
        let spec = spec(directory.path(), "win");
        let open = || backend.open_window(&spec, RETENTION_MS, Layout::KeyFirst, false).expect("open");
        let mut store = open();
        for time in [0, 100_000, 200_000, 300_000, 399_999] {
            put(&mut store, &[(plain(KeyKind::Window, b"k", time, 0), Some(b"v".to_vec()))]);
        }
        // Limit 199 999: the first segment is gone, the second one is kept whole.
        assert_eq!(store.approximate_entries().expect("count"), 4, "{name}");
        if store.is_persistent() {
            store.close().expect("close");
            drop(store);
            store = open();
            assert_eq!(store.stream_time().expect("open"), 399_999, "{name}");
            assert_eq!(entries(store.all(Direction::Forward)).len(), 3, "{name}");
            assert!(!store.observe(99_999).expect("open"), "{name}");
        }
        store.wipe().expect("wipe");
        assert_eq!(store.stream_time().expect("open"), -1, "{name}");
    }
}

#[test]
fn duplicates_of_one_window_are_all_kept_in_their_order() {
    for (name, backend) in backends() {
        let directory = tempfile::tempdir().expect("a directory");
        let spec = spec(directory.path(), "join");
        let mut store = backend.open_window(&spec, RETENTION_MS, Layout::KeyFirst, true).expect("open");
        for value in [b"a", b"b", b"a"] {
            let mut key = Vec::new();
            store.write_key(b"k", 5, &mut key);
            put(&mut store, &[(key, Some(value.to_vec()))]);
        }
        let values: Vec<_> =
            entries(store.fetch(b"k", 5, 5, Direction::Forward)).into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, [b"a", b"b", b"a"], "{name}");
        assert!(!store.fetch_with(b"k", 5, &mut |_| ()).expect("fetch"), "{name}");
    }
}

#[test]
fn sessions_are_found_by_what_they_touch_and_by_when_they_end() {
    for (name, backend) in backends() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut store =
            backend.open_session(&spec(directory.path(), "s"), RETENTION_MS, Layout::KeyFirst).expect("open");
        let sessions = [(0, 10), (20, 30), (40, 110_000), (25, 120_000)];
        let changes: Vec<_> = sessions
            .iter()
            .map(|&(start, end)| (SessionKey { key: b"k", start, end }.to_bytes(), Some(b"v".to_vec())))
            .collect();
        put(&mut store, &changes);
        let spans = |entries: Entries| -> Vec<(i64, i64)> {
            entries.iter().filter_map(|(key, _)| SessionKey::read(key)).map(|key| (key.start, key.end)).collect()
        };
        let find = |direction| spans(entries(store.find(Keys::One(b"k"), 30, 39, direction)));
        assert_eq!(find(Direction::Forward), [(20, 30), (25, 120_000)], "{name}");
        assert_eq!(find(Direction::Backward), [(25, 120_000), (20, 30)], "{name}");
        let ended = spans(entries(store.find_by_end(10, 110_000, Direction::Forward)));
        assert_eq!(ended, [(0, 10), (20, 30), (40, 110_000)], "{name}");
        assert!(store.fetch_session_with(b"k", 20, 30, &mut |_| ()).expect("fetch"), "{name}");
        assert!(!store.fetch_session_with(b"k", 20, 31, &mut |_| ()).expect("fetch"), "{name}");
    }
}

#[test]
fn time_first_sessions_on_disk_are_found_by_their_end_as_long_as_their_segment_is_there() {
    // Stream time 450 000: limit 250 000, which lies in the segment from 200 000 to 300 000.
    for (name, backend) in backends() {
        let directory = tempfile::tempdir().expect("a directory");
        let layout = Layout::TimeFirst { key_index: true };
        let mut store = backend.open_session(&spec(directory.path(), "s"), RETENTION_MS, layout).expect("open");
        for end in [199_999, 200_000, 250_001, 450_000] {
            put(&mut store, &[(SessionKey { key: b"k", start: end, end }.to_bytes(), Some(b"v".to_vec()))]);
        }
        let ends = |entries: Entries| -> Vec<i64> {
            entries.iter().filter_map(|(key, _)| SessionKey::read(key)).map(|key| key.end).collect()
        };
        let ended = ends(entries(store.find_by_end(0, 450_000, Direction::Forward)));
        let expected: &[i64] = if backend.is_persistent() { &[200_000, 250_001, 450_000] } else { &[250_001, 450_000] };
        assert_eq!(ended, expected, "{name}");
        let touched = ends(entries(store.find(Keys::One(b"k"), 0, 450_000, Direction::Forward)));
        assert_eq!(touched, [250_001, 450_000], "{name}");
    }
}

#[test]
fn malformed_key_is_refused_and_nothing_of_its_batch_is_kept() {
    for (name, backend) in backends() {
        with_store(&backend, KeyKind::Window, Layout::KeyFirst, &mut |store| {
            let good = plain(KeyKind::Window, b"k", 1, 0);
            let changes = [(&good[..], Some(&b"v"[..])), (&b"short"[..], Some(&b"v"[..]))];
            let error = store.write(&mut changes.into_iter(), &[(changelog(), 9)]).expect_err("a short key");
            assert!(error.to_string().contains("at least 12 bytes, this one 5"), "{error}");
            assert_eq!(store.get(&good).expect("get"), None, "{name}");
            assert_eq!(store.offset(&changelog()).expect("offset"), None, "{name}");
        });
    }
}
