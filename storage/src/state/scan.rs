//! What a scan over a window or session store asks for, and in which order the answer comes.

use std::cmp::Ordering;
use std::ops::Bound;

use base::Timestamp;

use super::byte_store::Direction;
use super::keys::{KEY_INDEX, KeyKind, KeyParts, TIME_FIRST};

/// Which keys a scan returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys<'a> {
    /// This key.
    One(&'a [u8]),
    /// Keys within both bounds, inclusive; `None` is no bound.
    Range(Option<&'a [u8]>, Option<&'a [u8]>),
}

impl Keys<'_> {
    /// Every key.
    pub const ALL: Self = Self::Range(None, None);

    fn contain(self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => key == one,
            Self::Range(from, to) => from.is_none_or(|from| key >= from) && to.is_none_or(|to| key <= to),
        }
    }
}

/// Which times a scan returns, inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeBounds {
    /// `from <= time <= to`; the time of a window is its start, of a session its end.
    Within {
        /// The earliest time returned.
        from: Timestamp,
        /// The latest time returned.
        to: Timestamp,
    },
    /// Sessions that touch a span: `end >= earliest_end && start <= latest_start`.
    Overlap {
        /// The earliest session end returned.
        earliest_end: Timestamp,
        /// The latest session start returned.
        latest_start: Timestamp,
    },
}

/// A scan: which keys, which times, which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan<'a> {
    /// Which keys.
    pub keys: Keys<'a>,
    /// Which times.
    pub times: TimeBounds,
    /// Which way.
    pub direction: Direction,
}

impl Scan<'_> {
    /// Whether a plain key is part of the answer, expiry apart.
    pub fn matches(&self, kind: KeyKind, plain: &[u8]) -> bool {
        kind.parts(plain).is_some_and(|parts| self.matches_parts(&parts))
    }

    pub(super) fn matches_parts(&self, parts: &KeyParts<'_>) -> bool {
        let in_time = match self.times {
            TimeBounds::Within { from, to } => (from..=to).contains(&parts.time),
            TimeBounds::Overlap { earliest_end, latest_start } => {
                parts.time >= earliest_end && parts.second <= latest_start
            }
        };
        in_time && self.keys.contain(parts.key)
    }

    /// The scan without times below `limit`.
    pub(super) fn clipped(mut self, limit: Timestamp) -> Self {
        match &mut self.times {
            TimeBounds::Within { from, .. } => *from = (*from).max(limit),
            TimeBounds::Overlap { earliest_end, .. } => *earliest_end = (*earliest_end).max(limit),
        }
        self
    }

    pub(super) fn earliest(&self) -> Timestamp {
        match self.times {
            TimeBounds::Within { from, .. } => from,
            TimeBounds::Overlap { earliest_end, .. } => earliest_end,
        }
    }

    pub(super) fn latest(&self) -> Timestamp {
        match self.times {
            TimeBounds::Within { to, .. } => to,
            TimeBounds::Overlap { .. } => Timestamp::MAX,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        let inverted_keys = matches!(self.keys, Keys::Range(Some(from), Some(to)) if from > to);
        inverted_keys || self.earliest() > self.latest()
    }
}

/// How a window or session store arranges its entries within a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// By key, then time: for look-ups by key.
    #[default]
    KeyFirst,
    /// By time, then key: for results that are emitted when windows close.
    TimeFirst {
        /// Whether a second entry per key makes look-ups by key cheap.
        key_index: bool,
    },
}

/// In which bytes a scan walks over a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Plain keys.
    Plain,
    /// Time-first keys.
    TimeFirst,
    /// Index entries, whose values are looked up.
    Index,
}

/// Bounds of stored keys, within every segment, that hold the whole answer (and maybe more, to be filtered).
pub(super) fn stored_bounds(kind: KeyKind, scan: &Scan<'_>, access: Access) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    match access {
        Access::Plain => plain_bounds(kind, scan, &[]),
        Access::Index => plain_bounds(kind, scan, &[KEY_INDEX]),
        Access::TimeFirst => {
            let mut from = vec![TIME_FIRST];
            from.extend(scan.earliest().max(0).to_be_bytes());
            let to = match scan.latest().checked_add(1) {
                Some(end) => [&[TIME_FIRST][..], &end.max(0).to_be_bytes()].concat(),
                None => vec![TIME_FIRST + 1],
            };
            (Bound::Included(from), Bound::Excluded(to))
        }
    }
}

fn plain_bounds(kind: KeyKind, scan: &Scan<'_>, prefix: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    // The largest suffix that an answer can have, and the smallest.
    let mut last = Vec::with_capacity(16);
    last.extend(scan.latest().max(0).to_be_bytes());
    match (kind, scan.times) {
        (KeyKind::Window, _) => last.extend([0xff; 4]),
        (KeyKind::Session, TimeBounds::Overlap { latest_start, .. }) => last.extend(latest_start.max(0).to_be_bytes()),
        (KeyKind::Session, TimeBounds::Within { .. }) => last.extend([0xff; 8]),
    }
    let first = scan.earliest().max(0).to_be_bytes();
    match scan.keys {
        Keys::One(key) => {
            (Bound::Included([prefix, key, &first].concat()), Bound::Included([prefix, key, &last].concat()))
        }
        Keys::Range(from, to) => {
            // A plain key is not below its record key, and that not below `from`.
            let lower = from.map_or_else(|| prefix.to_vec(), |from| [prefix, from].concat());
            let upper = match to {
                Some(to) => Bound::Included([prefix, &largest_plain(to, &last)].concat()),
                None if prefix.is_empty() => Bound::Unbounded,
                None => Bound::Excluded(vec![KEY_INDEX + 1]),
            };
            (Bound::Included(lower), upper)
        }
    }
}

/// The largest plain key of any record key up to `to`: a shorter record key (a prefix of `to`) can come later, since its
/// suffix then stands where `to` goes on.
fn largest_plain(to: &[u8], last_suffix: &[u8]) -> Vec<u8> {
    (0..=to.len()).map(|size| [&to[..size], last_suffix].concat()).max().unwrap_or_default()
}

/// Order in which a scan lends plain keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScanOrder {
    pub kind: KeyKind,
    pub access: Access,
    /// Memory: by time, then key, then sequence or session start, whatever the layout.
    pub by_time_and_key: bool,
    pub segment_interval_ms: i64,
}

impl ScanOrder {
    /// Compares two plain keys by their place in a forward scan; malformed keys by their bytes.
    pub fn compare(&self, a: &[u8], b: &[u8]) -> Ordering {
        let (Some(x), Some(y)) = (self.kind.parts(a), self.kind.parts(b)) else { return a.cmp(b) };
        // `key, sequence` compared as one string, as Kafka Streams does; without copying it together.
        let key_and_sequence = || {
            let (x_sequence, y_sequence) = (&a[a.len() - 4..], &b[b.len() - 4..]);
            x.key.iter().chain(x_sequence).cmp(y.key.iter().chain(y_sequence))
        };
        let segment = |time: Timestamp| time.div_euclid(self.segment_interval_ms);
        match (self.kind, self.access) {
            (KeyKind::Window, _) if self.by_time_and_key => x.time.cmp(&y.time).then_with(key_and_sequence),
            (KeyKind::Session, _) if self.by_time_and_key => (x.time, x.key, x.second).cmp(&(y.time, y.key, y.second)),
            (_, Access::Plain | Access::Index) => segment(x.time).cmp(&segment(y.time)).then_with(|| a.cmp(b)),
            (KeyKind::Window, Access::TimeFirst) => x.time.cmp(&y.time).then_with(key_and_sequence),
            (KeyKind::Session, Access::TimeFirst) => (x.time, x.second, x.key).cmp(&(y.time, y.second, y.key)),
        }
    }
}
