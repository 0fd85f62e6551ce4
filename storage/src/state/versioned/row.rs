//! One row of a segment of a versioned store: the versions of one key that ended within the segment.
//!
//! `next (8) | min (8) | (timestamp (8) size (4))* newest first | values oldest first`, big-endian. `next` is when the newest version ended,
//! `min` the timestamp of the oldest; the size of a tombstone is -1. A row of one tombstone that ends when it begins (`next == min`) only
//! says that the key was deleted then, and that nothing is known from before.

use base::Timestamp;

const TIME: usize = 8;
const PLACE: usize = TIME + 4;

/// One version of a key: when it began, and its value or the deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version<'a> {
    /// When it began.
    pub timestamp: Timestamp,
    /// Its value; `None` for a deletion.
    pub value: Option<&'a [u8]>,
}

/// A row taken apart; values are borrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    next: Timestamp,
    /// Newest first; never empty.
    versions: Vec<Version<'a>>,
}

fn timestamp_at(bytes: &[u8], place: usize) -> Option<Timestamp> {
    Some(Timestamp::from_be_bytes(*bytes.get(place..)?.first_chunk()?))
}

impl<'a> Row<'a> {
    /// The row of one version.
    pub fn new(timestamp: Timestamp, value: Option<&'a [u8]>, next: Timestamp) -> Self {
        Self { next, versions: vec![Version { timestamp, value }] }
    }

    /// The row of these bytes; `None` if they are none.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let (next, min) = (timestamp_at(bytes, 0)?, timestamp_at(bytes, TIME)?);
        let mut versions = Vec::new();
        let mut end = bytes.len();
        let mut place = 2 * TIME;
        loop {
            let timestamp = timestamp_at(bytes, place)?;
            let size = i32::from_be_bytes(*bytes.get(place + TIME..)?.first_chunk()?);
            place += PLACE;
            let value = match usize::try_from(size) {
                Err(_) => None,
                Ok(size) => {
                    let start = end.checked_sub(size)?;
                    let value = bytes.get(start..end)?;
                    end = start;
                    Some(value)
                }
            };
            versions.push(Version { timestamp, value });
            if timestamp <= min {
                break;
            }
        }
        (place == end).then_some(Self { next, versions })
    }

    /// Appends the bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.next.to_be_bytes());
        out.extend_from_slice(&self.min().to_be_bytes());
        for version in &self.versions {
            let size = version.value.map_or(-1, |value| value.len() as i32);
            out.extend_from_slice(&version.timestamp.to_be_bytes());
            out.extend_from_slice(&size.to_be_bytes());
        }
        self.versions.iter().rev().filter_map(|version| version.value).for_each(|value| out.extend_from_slice(value));
    }

    /// When the newest version ended.
    pub fn next(&self) -> Timestamp {
        self.next
    }

    /// When the oldest version began.
    pub fn min(&self) -> Timestamp {
        self.versions.last().map_or(self.next, |version| version.timestamp)
    }

    /// Versions with the time at which each ended, newest first.
    pub fn versions(&self) -> impl Iterator<Item = (Version<'a>, Timestamp)> + '_ {
        let ends = std::iter::once(self.next).chain(self.versions.iter().map(|version| version.timestamp));
        self.versions.iter().copied().zip(ends)
    }

    fn is_degenerate(&self) -> bool {
        self.next == self.min()
    }

    /// Place and version that was valid at `timestamp`, with its end; `None` if the row does not reach there.
    pub fn find(&self, timestamp: Timestamp) -> Option<(usize, Version<'a>, Timestamp)> {
        if timestamp >= self.next {
            return None;
        }
        let found = self.versions().enumerate().find(|(_, (version, _))| version.timestamp <= timestamp);
        found.map(|(index, (version, end))| (index, version, end))
    }

    /// Puts a version at `index`, before the one that is there.
    pub fn insert(&mut self, index: usize, version: Version<'a>) {
        self.versions.insert(index, version);
    }

    /// Puts a version in the place of another.
    pub fn replace(&mut self, index: usize, version: Version<'a>) {
        self.versions[index] = version;
    }

    /// Adds the oldest version, which ends where the row began.
    pub fn insert_as_earliest(&mut self, version: Version<'a>) {
        if self.is_degenerate() {
            self.versions.clear();
        }
        self.versions.push(version);
    }

    /// Adds the newest version, which ends at `next`. If the row ended before it begins, nothing was valid in between; if the row reaches
    /// beyond, what overlaps is cut off.
    pub fn insert_as_latest(&mut self, version: Version<'a>, next: Timestamp) {
        let from = version.timestamp;
        let was_degenerate = self.is_degenerate();
        self.versions.retain(|known| known.timestamp < from && !was_degenerate);
        if self.next < from {
            self.versions.insert(0, Version { timestamp: self.next, value: None });
        }
        self.versions.insert(0, version);
        self.next = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(timestamp: Timestamp, value: &str) -> Version<'_> {
        Version { timestamp, value: Some(value.as_bytes()) }
    }

    fn bytes(row: &Row<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        row.write(&mut bytes);
        bytes
    }

    #[test]
    fn a_row_is_laid_out_as_in_kafka_streams() {
        let mut row = Row::new(100, Some(b"v1"), 200);
        row.insert_as_latest(version(200, "v22"), 300);
        row.insert_as_latest(Version { timestamp: 300, value: None }, 400);
        let expected = [
            "0000000000000190",
            "0000000000000064",
            "000000000000012cffffffff",
            "00000000000000c800000003",
            "000000000000006400000002",
            "7631763232",
        ];
        let hex: String = bytes(&row).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected.concat());
        assert_eq!(Row::read(&bytes(&row)).as_ref(), Some(&row));
    }

    #[test]
    fn versions_are_found_by_time() {
        let mut row = Row::new(10, Some(b"a"), 20);
        row.insert_as_latest(version(30, "b"), 40);
        let at = |time| row.find(time).map(|(_, found, end)| (found.timestamp, found.value, end));
        assert_eq!(at(9), None);
        assert_eq!(at(10), Some((10, Some(&b"a"[..]), 20)));
        assert_eq!(at(25), Some((20, None, 30)), "nothing was valid between the two");
        assert_eq!(at(39), Some((30, Some(&b"b"[..]), 40)));
        assert_eq!(at(40), None);
    }

    #[test]
    fn a_row_that_only_knows_of_a_deletion_gives_way() {
        let mut earlier = Row::new(50, None, 50);
        earlier.insert_as_earliest(version(20, "a"));
        assert_eq!(earlier, Row::new(20, Some(b"a"), 50));
        let mut later = Row::new(50, None, 50);
        later.insert_as_latest(version(50, "b"), 60);
        assert_eq!(later, Row::new(50, Some(b"b"), 60));
        let mut gap = Row::new(50, None, 50);
        gap.insert_as_latest(version(55, "c"), 60);
        assert_eq!(gap.versions().map(|(found, end)| (found.timestamp, end)).collect::<Vec<_>>(), [(55, 60), (50, 55)]);
    }

    #[test]
    fn an_overlap_is_cut_off() {
        let mut row = Row::new(10, Some(b"a"), 20);
        row.insert_as_latest(version(20, "b"), 40);
        row.insert_as_latest(version(15, "c"), 20);
        assert_eq!(row.versions().map(|(found, end)| (found.timestamp, end)).collect::<Vec<_>>(), [(15, 20), (10, 15)]);
    }

    #[test]
    fn what_is_no_row_is_refused() {
        let whole = bytes(&Row::new(10, Some(b"abc"), 20));
        for size in 0..whole.len() {
            assert_eq!(Row::read(&whole[..size]), None, "{size}");
        }
        let mut negative = whole.clone();
        negative[24..28].copy_from_slice(&100i32.to_be_bytes());
        assert_eq!(Row::read(&negative), None);
    }
}
