//! The persisted state of share partitions, as the records of one partition of `__share_group_state` give it. A pure state machine: a request
//! gives the record to append, and applying the records in their order gives the state.
//!
//! Invariant: the batches of a state are sorted, do not overlap, and lie at or above its start offset; neighbours that are alike are one.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::hash::HashMap;
use base::{Offset, PartitionId, Timestamp};
use protocol::api::ErrorCode;
use uuid::Uuid;

use super::in_flight::StateBatch;
use super::records::{ShareKey, ShareRecord, Snapshot, Update};

/// Start offset of a state that nobody has read from yet.
pub const NO_OFFSET: Offset = -1;
/// Term of whoever is not to be fenced.
pub const ANY_EPOCH: i32 = -1;

/// What is to be written of a share partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Term of the state that the writer read; an older one is refused. [`ANY_EPOCH`] is not.
    pub state_epoch: i32,
    /// Term of the partition's leader; likewise.
    pub leader_epoch: i32,
    /// First record that is not done with; -1 for no change.
    pub start_offset: Offset,
    /// How many records from there on are done with; -1 unknown.
    pub complete_count: i32,
    /// What changed.
    pub batches: Vec<StateBatch>,
}

/// The state of one share partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The state, as the next snapshot would have it.
    pub snapshot: Snapshot,
    /// Updates since its snapshot.
    pub updates: u32,
}

/// The states of one partition of `__share_group_state`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShareStates {
    kept: HashMap<ShareKey, Kept>,
}

impl ShareStates {
    /// The state of a share partition, if there is one.
    pub fn get(&self, key: &ShareKey) -> Option<&Kept> {
        self.kept.get(key)
    }

    /// All states, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&ShareKey, &Kept)> {
        self.kept.iter()
    }

    /// Applies a record, read from the log or about to be written.
    pub fn apply(&mut self, record: &ShareRecord) {
        match record {
            ShareRecord::Snapshot(key, Some(snapshot)) => {
                // Snapshots of one state may reach the log in another order than they were made in.
                let is_late =
                    self.kept.get(key).is_some_and(|kept| kept.snapshot.snapshot_epoch > snapshot.snapshot_epoch);
                if !is_late {
                    self.kept.insert(key.clone(), Kept { snapshot: snapshot.clone(), updates: 0 });
                }
            }
            ShareRecord::Snapshot(key, None) => {
                self.kept.remove(key);
            }
            ShareRecord::Update(key, Some(update)) => {
                if let Some(kept) = self.kept.get_mut(key)
                    && kept.snapshot.snapshot_epoch == update.snapshot_epoch
                {
                    kept.snapshot.take(update);
                    kept.updates += 1;
                }
            }
            ShareRecord::Update(_, None) => {}
        }
    }

    /// Makes a state, or has one begin anew from `start_offset`: the record of it. The term of the leader begins anew too.
    ///
    /// # Errors
    /// `FencedStateEpoch` if there is a state of a later term.
    pub fn initialize(
        &self,
        key: &ShareKey,
        state_epoch: i32,
        start_offset: Offset,
        now: Timestamp,
    ) -> Result<ShareRecord, ErrorCode> {
        let known = self.kept.get(key).map(|kept| &kept.snapshot);
        if known.is_some_and(|known| known.state_epoch > state_epoch) {
            return Err(ErrorCode::FencedStateEpoch);
        }
        let snapshot = Snapshot {
            snapshot_epoch: known.map_or(0, |known| known.snapshot_epoch.saturating_add(1)),
            state_epoch,
            leader_epoch: 0,
            start_offset,
            // From a set offset on nothing is done with; where it is yet to be found nobody knows.
            complete_count: if start_offset == NO_OFFSET { -1 } else { 0 },
            created: now,
            written: now,
            batches: Vec::new(),
        };
        Ok(ShareRecord::Snapshot(key.clone(), Some(snapshot)))
    }

    /// A leader of term `leader_epoch` (-1 for whoever asks) reads the state: the record of its term, if it is a new one. From then on
    /// leaders of older terms are refused.
    ///
    /// # Errors
    /// `InvalidRequest` if there is no state; `FencedLeaderEpoch` if the reader is behind.
    pub fn read_as(&self, key: &ShareKey, leader_epoch: i32) -> Result<Option<ShareRecord>, ErrorCode> {
        let known = &self.kept.get(key).ok_or(ErrorCode::InvalidRequest)?.snapshot;
        if leader_epoch != ANY_EPOCH && leader_epoch < known.leader_epoch {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        let update = Update {
            snapshot_epoch: known.snapshot_epoch,
            leader_epoch,
            start_offset: NO_OFFSET,
            complete_count: known.complete_count,
            batches: Vec::new(),
        };
        Ok((leader_epoch > known.leader_epoch).then(|| ShareRecord::Update(key.clone(), Some(update))))
    }

    /// Writes a change: the record of it, which is a snapshot after every `updates_per_snapshot` updates. Terms stay what they are.
    ///
    /// # Errors
    /// `InvalidRequest` if there is no state; `FencedLeaderEpoch` or `FencedStateEpoch` if the writer is behind.
    pub fn write(
        &self,
        key: &ShareKey,
        write: &Write,
        updates_per_snapshot: u32,
        now: Timestamp,
    ) -> Result<ShareRecord, ErrorCode> {
        let kept = self.kept.get(key).ok_or(ErrorCode::InvalidRequest)?;
        let is_behind = |epoch: i32, known: i32| epoch != ANY_EPOCH && epoch < known;
        if is_behind(write.leader_epoch, kept.snapshot.leader_epoch) {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        if is_behind(write.state_epoch, kept.snapshot.state_epoch) {
            return Err(ErrorCode::FencedStateEpoch);
        }
        let update = Update {
            snapshot_epoch: kept.snapshot.snapshot_epoch,
            leader_epoch: kept.snapshot.leader_epoch,
            start_offset: write.start_offset,
            complete_count: write.complete_count,
            batches: write.batches.clone(),
        };
        if kept.updates < updates_per_snapshot {
            return Ok(ShareRecord::Update(key.clone(), Some(update)));
        }
        let mut snapshot = kept.snapshot.clone();
        snapshot.take(&update);
        snapshot.snapshot_epoch = snapshot.snapshot_epoch.saturating_add(1);
        snapshot.written = now;
        Ok(ShareRecord::Snapshot(key.clone(), Some(snapshot)))
    }
}

impl Snapshot {
    fn take(&mut self, update: &Update) {
        self.leader_epoch = update.leader_epoch;
        if update.start_offset != NO_OFFSET {
            self.start_offset = update.start_offset;
        }
        self.complete_count = update.complete_count;
        self.batches = combine(&self.batches, &update.batches, self.start_offset);
    }
}

/// `newer` over `older`, without what is below `start`.
pub fn combine(older: &[StateBatch], newer: &[StateBatch], start: Offset) -> Vec<StateBatch> {
    let mut runs: BTreeMap<Offset, StateBatch> = BTreeMap::new();
    for batch in older.iter().chain(newer).filter(|batch| batch.first <= batch.last) {
        let begin = runs.range(..=batch.first).next_back().map_or(batch.first, |(first, _)| *first);
        let covered: Vec<StateBatch> =
            runs.range(begin..=batch.last).map(|(_, known)| *known).filter(|known| known.last >= batch.first).collect();
        for known in covered {
            runs.remove(&known.first);
            if known.first < batch.first {
                runs.insert(known.first, StateBatch { last: batch.first - 1, ..known });
            }
            if known.last > batch.last {
                runs.insert(batch.last + 1, StateBatch { first: batch.last + 1, ..known });
            }
        }
        runs.insert(batch.first, *batch);
    }
    let mut combined: Vec<StateBatch> = Vec::new();
    for batch in runs.into_values().filter(|batch| batch.last >= start) {
        let batch = StateBatch { first: batch.first.max(start), ..batch };
        match combined.last_mut() {
            Some(before)
                if before.last + 1 == batch.first && (before.state, before.count) == (batch.state, batch.count) =>
            {
                before.last = batch.last;
            }
            _ => combined.push(batch),
        }
    }
    combined
}

/// The name of a share partition by which its coordinator is found: `GROUP:TOPIC_ID:PARTITION`, the id as Kafka writes ids.
pub fn coordinator_key(key: &ShareKey) -> String {
    format!("{}:{}:{}", key.group, topic_id_text(key.topic), key.partition)
}

/// Reads what [`coordinator_key`] writes; the group's name may have colons of its own.
pub fn parse_coordinator_key(text: &str) -> Option<ShareKey> {
    let (rest, partition) = text.rsplit_once(':')?;
    let (group, topic) = rest.rsplit_once(':')?;
    let partition = partition.parse::<PartitionId>().ok().filter(|partition| *partition >= 0)?;
    let topic = topic_id_of(topic)?;
    (!group.is_empty()).then(|| ShareKey { group: Arc::from(group), topic, partition })
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Characters of a topic's id as text.
const ID_CHARACTERS: u32 = 22;

/// A topic's id as Kafka writes it: base 64 with `-` and `_`, without padding.
fn topic_id_text(id: Uuid) -> String {
    let bits = id.as_u128();
    // 128 bits are 21 characters of 6 bits and one of 2, which is filled up with zeros.
    let sextet = |index: u32| if index == ID_CHARACTERS - 1 { bits << 4 } else { bits >> (122 - 6 * index) };
    (0..ID_CHARACTERS).map(|index| char::from(ALPHABET[(sextet(index) & 0x3f) as usize])).collect()
}

fn topic_id_of(text: &str) -> Option<Uuid> {
    if text.len() != ID_CHARACTERS as usize {
        return None;
    }
    let mut bits: u128 = 0;
    for (index, byte) in text.bytes().enumerate() {
        let sextet = ALPHABET.iter().position(|known| *known == byte)? as u128;
        bits = if index + 1 == text.len() { bits << 2 | sextet >> 4 } else { bits << 6 | sextet };
    }
    Some(Uuid::from_u128(bits))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> ShareKey {
        ShareKey { group: Arc::from("g"), topic: Uuid::from_u128(7), partition: 0 }
    }

    fn batch((first, size, state, count): (i64, i64, i8, i16)) -> StateBatch {
        StateBatch { first, last: first + size, state, count }
    }

    #[test]
    fn ids_are_written_as_by_kafka() {
        let key = ShareKey { topic: "cd8abc83-c590-43d9-8de2-869badc94523".parse().unwrap(), ..key() };
        assert_eq!(coordinator_key(&key), "g:zYq8g8WQQ9mN4oabrclFIw:0");
        assert_eq!(parse_coordinator_key("g:zYq8g8WQQ9mN4oabrclFIw:0"), Some(key.clone()));
        let colons = ShareKey { group: Arc::from("a:b"), partition: 12, ..key };
        assert_eq!(parse_coordinator_key(&coordinator_key(&colons)), Some(colons));
        for wrong in
            ["", "g", "g:x:0", "g:zYq8g8WQQ9mN4oabrclFIw:-1", ":zYq8g8WQQ9mN4oabrclFIw:0", "g:zYq8g8WQQ9mN4oabrclF!w:0"]
        {
            assert_eq!(parse_coordinator_key(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_writer_that_is_behind_is_refused() {
        let mut states = ShareStates::default();
        states.apply(&states.initialize(&key(), 3, 10, 0).unwrap());
        let write = |state_epoch, leader_epoch| Write {
            state_epoch,
            leader_epoch,
            start_offset: NO_OFFSET,
            complete_count: 0,
            batches: Vec::new(),
        };
        assert_eq!(states.write(&key(), &write(2, 0), 5, 0), Err(ErrorCode::FencedStateEpoch));
        assert!(states.write(&key(), &write(ANY_EPOCH, ANY_EPOCH), 5, 0).is_ok());
        states.apply(&states.write(&key(), &write(3, 9), 5, 0).unwrap());
        assert_eq!(states.get(&key()).map(|kept| kept.snapshot.leader_epoch), Some(0), "a writer is no new leader");
        states.apply(&states.read_as(&key(), 4).unwrap().unwrap());
        assert_eq!(states.read_as(&key(), 4), Ok(None));
        assert_eq!(states.read_as(&key(), 3), Err(ErrorCode::FencedLeaderEpoch));
        assert_eq!(states.write(&key(), &write(3, 3), 5, 0), Err(ErrorCode::FencedLeaderEpoch));
        let other = ShareKey { partition: 1, ..key() };
        assert_eq!(states.write(&other, &write(3, 4), 5, 0), Err(ErrorCode::InvalidRequest), "nobody made it");
        assert_eq!(states.read_as(&other, 4), Err(ErrorCode::InvalidRequest));
        assert_eq!(states.initialize(&key(), 2, 0, 0), Err(ErrorCode::FencedStateEpoch));
        assert_eq!(states.get(&key()).map(|kept| kept.snapshot.start_offset), Some(10));
    }

    #[test]
    fn updates_to_another_snapshot_are_left_out() {
        let mut states = ShareStates::default();
        states.apply(&states.initialize(&key(), 1, 0, 0).unwrap());
        let write = Write { state_epoch: 1, leader_epoch: 0, start_offset: 5, complete_count: 0, batches: Vec::new() };
        let late = states.write(&key(), &write, 5, 0).unwrap();
        states.apply(&states.initialize(&key(), 2, 2, 0).unwrap());
        states.apply(&late);
        assert_eq!(states.get(&key()).map(|kept| kept.snapshot.start_offset), Some(2));
    }

    proptest! {
        #[test]
        fn the_newer_state_of_each_offset_counts(
            older in prop::collection::vec((0..40_i64, 0..9_i64, 0..3_i8, 1..3_i16), 0..6),
            newer in prop::collection::vec((0..40_i64, 0..9_i64, 0..3_i8, 1..3_i16), 0..6),
            start in 0..30_i64,
        ) {
            let (older, newer): (Vec<_>, Vec<_>) =
                (older.into_iter().map(batch).collect(), newer.into_iter().map(batch).collect());
            let combined = combine(&older, &newer, start);
            for offset in 0..60 {
                let has = |batch: &&StateBatch| (batch.first..=batch.last).contains(&offset);
                let expected = older.iter().chain(&newer).rev().find(has).filter(|_| offset >= start);
                let found: Vec<_> = combined.iter().filter(has).collect();
                prop_assert_eq!(found.len(), usize::from(expected.is_some()));
                prop_assert_eq!(
                    found.first().map(|batch| (batch.state, batch.count)),
                    expected.map(|batch| (batch.state, batch.count))
                );
            }
            for pair in combined.windows(2) {
                prop_assert!(pair[0].last < pair[1].first);
            }
        }

        #[test]
        fn replaying_what_was_written_gives_the_state(
            writes in prop::collection::vec(((0..40_i64, 0..9_i64, 0..3_i8, 1..3_i16), -1..20_i64, 0..40_u32), 1..20),
        ) {
            let (mut states, mut replayed) = (ShareStates::default(), ShareStates::default());
            for (changed, start_offset, initialize) in writes {
                let record = match initialize {
                    _ if states.get(&key()).is_none() => states.initialize(&key(), 1, start_offset, 9),
                    0 => states.initialize(&key(), 1, start_offset, 9),
                    _ => {
                        let batches = vec![batch(changed)];
                        let write = Write { state_epoch: 1, leader_epoch: 0, start_offset, complete_count: 1, batches };
                        states.write(&key(), &write, 3, 9)
                    }
                };
                let record = record.unwrap();
                states.apply(&record);
                let (key, value) = record.encode().unwrap();
                replayed.apply(&ShareRecord::decode(&key, value.as_deref()).unwrap().unwrap());
            }
            prop_assert_eq!(states, replayed);
        }
    }
}
