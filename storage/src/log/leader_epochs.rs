//! Which leader epoch began at which offset: `leader-epoch-checkpoint`.
//!
//! Invariant: epochs and start offsets strictly rise. Knows no files.

use base::{LeaderEpoch, Offset};

use super::types::EpochEndOffset;

/// The epochs of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LeaderEpochs {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl LeaderEpochs {
    pub(super) fn new(entries: Vec<(LeaderEpoch, Offset)>) -> Self {
        let mut epochs = Self::default();
        for (epoch, start) in entries {
            epochs.assign(epoch, start);
        }
        epochs
    }

    pub(super) fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    pub(super) fn latest(&self) -> LeaderEpoch {
        self.entries.last().map_or(-1, |(epoch, _)| *epoch)
    }

    /// `epoch` begins at `start`. Entries that it contradicts (the same or a later epoch, the same or a later start)
    /// go. Returns whether anything changed.
    pub(super) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if epoch < 0 || self.entries.last().is_some_and(|known| known.0 == epoch && known.1 <= start) {
            return false;
        }
        self.entries.retain(|known| known.0 < epoch && known.1 < start);
        self.entries.push((epoch, start));
        true
    }

    /// Forgets what begins at or behind `end`. Returns whether anything changed.
    pub(super) fn truncate_from_end(&mut self, end: Offset) -> bool {
        let before = self.entries.len();
        self.entries.retain(|(_, start)| *start < end);
        before != self.entries.len()
    }

    /// Lets the first epoch begin at `log_start`. Returns whether anything changed.
    pub(super) fn truncate_from_start(&mut self, log_start: Offset) -> bool {
        let first = self.entries.partition_point(|(_, start)| *start <= log_start);
        if first == 0 || (first == 1 && self.entries[0].1 == log_start) {
            return false;
        }
        self.entries.drain(..first - 1);
        self.entries[0].1 = log_start;
        true
    }

    /// Where `epoch`, or the largest known one below it, ends; `log_end` is where the newest one ends.
    pub(super) fn end_offset(&self, epoch: LeaderEpoch, log_end: Offset) -> EpochEndOffset {
        let unknown = EpochEndOffset { leader_epoch: -1, end_offset: -1 };
        let Some((latest, _)) = self.entries.last() else { return unknown };
        if epoch < 0 || epoch > *latest {
            return unknown;
        }
        if epoch == *latest {
            return EpochEndOffset { leader_epoch: epoch, end_offset: log_end };
        }
        let higher = self.entries.partition_point(|(known, _)| *known <= epoch);
        let end_offset = self.entries[higher].1;
        match higher.checked_sub(1) {
            None => EpochEndOffset { leader_epoch: epoch, end_offset },
            Some(floor) => EpochEndOffset { leader_epoch: self.entries[floor].0, end_offset },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_leaders_leave_only_the_last_epoch_at_an_offset() {
        let mut epochs = LeaderEpochs::default();
        assert!(epochs.assign(0, 0) && epochs.assign(2, 16) && epochs.assign(4, 16));
        assert_eq!(epochs.entries(), [(0, 0), (4, 16)]);
        assert!(!epochs.assign(4, 20));
    }

    #[test]
    fn end_of_an_epoch_is_the_start_of_the_next_known() {
        let epochs = LeaderEpochs::new(vec![(2, 5), (4, 10)]);
        let end = |epoch| {
            let end = epochs.end_offset(epoch, 30);
            (end.leader_epoch, end.end_offset)
        };
        assert_eq!([end(1), end(2), end(3), end(4), end(5)], [(1, 5), (2, 10), (2, 10), (4, 30), (-1, -1)]);
    }

    #[test]
    fn first_epoch_begins_at_the_log_start() {
        let mut epochs = LeaderEpochs::new(vec![(0, 0), (1, 10), (2, 20)]);
        assert!(epochs.truncate_from_start(15));
        assert_eq!(epochs.entries(), [(1, 15), (2, 20)]);
        assert!(!epochs.truncate_from_start(15));
        assert!(epochs.truncate_from_end(20));
        assert_eq!(epochs.entries(), [(1, 15)]);
    }
}
