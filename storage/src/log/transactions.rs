//! The open transactions of a partition, as far as the last stable offset depends on them.
//!
//! Knows offsets only. A transaction holds the last stable offset from its first record until its marker lies below the
//! high watermark.

use std::collections::{BTreeMap, BTreeSet};

use base::Offset;

use super::producer_state::TransactionChange;
use super::txn_index::AbortedEntry;

/// Transactions that hold the last stable offset.
#[derive(Clone, Debug, Default)]
pub(super) struct Transactions {
    open: BTreeSet<Offset>,
    /// First offset to marker's offset, of those that ended above the high watermark.
    unreplicated: BTreeMap<Offset, Offset>,
}

impl Transactions {
    pub(super) fn new(open: impl Iterator<Item = Offset>) -> Self {
        Self { open: open.collect(), unreplicated: BTreeMap::new() }
    }

    /// The entry for the transaction index that this change calls for, to be written before [`Transactions::apply`].
    pub(super) fn aborted_entry(&self, change: TransactionChange) -> Option<AbortedEntry> {
        match change {
            TransactionChange::Ended { producer_id, first_offset, marker_offset, aborted: true } => {
                let next_open = self.open.iter().find(|open| **open != first_offset);
                Some(AbortedEntry {
                    producer_id,
                    first_offset,
                    last_offset: marker_offset,
                    last_stable_offset: next_open.copied().unwrap_or(marker_offset + 1),
                })
            }
            _ => None,
        }
    }

    /// Takes note of a change.
    pub(super) fn apply(&mut self, change: TransactionChange) {
        match change {
            TransactionChange::Began { first_offset } => {
                self.open.insert(first_offset);
            }
            TransactionChange::Ended { first_offset, marker_offset, .. } => {
                self.open.remove(&first_offset);
                self.unreplicated.insert(first_offset, marker_offset);
            }
        }
    }

    /// The first offset that is held at this high watermark.
    pub(super) fn first_unstable(&mut self, high_watermark: Offset) -> Option<Offset> {
        if !self.unreplicated.is_empty() {
            self.unreplicated.retain(|_, marker| *marker >= high_watermark);
        }
        let open = self.open.first().copied();
        let unreplicated = self.unreplicated.first_key_value().map(|(first, _)| *first);
        match (open, unreplicated) {
            (Some(open), Some(unreplicated)) => Some(open.min(unreplicated)),
            (one, other) => one.or(other),
        }
    }
}
