//! From the bytes of a fetch to what may be handed out: whole batches, without control batches and, under
//! `read_committed`, without those of aborted transactions.
//!
//! Batches that follow one another and pass stay one slice of the answer's buffer; a batch that is left out ends the
//! slice. Headers are read in place, records are not touched.

use base::{LeaderEpoch, Offset, ProducerId};
use bytes::Bytes;
use protocol::api::AbortedTransaction;
use protocol::record::{Control, RecordBatch, RecordError, batches, parse_control};

/// Consecutive batches that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub batches: Bytes,
    /// Where to read on after them, and after what was left out behind them.
    pub next_offset: Offset,
    pub leader_epoch: LeaderEpoch,
}

/// What is in the bytes of one partition's answer.
#[derive(Debug, Default)]
pub(crate) struct Filtered {
    pub runs: Vec<Run>,
    /// Where to read on when nothing passed before it; -1 when there was no whole batch.
    pub next_offset: Offset,
    pub leader_epoch: LeaderEpoch,
    /// Where the bytes stopped making sense, and why; what came before is good.
    pub error: Option<(Offset, RecordError)>,
    /// Bytes of a batch that was cut, at the end.
    pub cut_bytes: usize,
}

/// Sorts out the batches of one answer. `aborted` is the answer's list, `None` unless reading committed.
///
/// Once per partition and fetch; per batch: a header read, and its checksum if `check_crcs`.
pub(crate) fn filter(
    bytes: &Bytes,
    fetch_offset: Offset,
    aborted: Option<Vec<AbortedTransaction>>,
    check_crcs: bool,
) -> Filtered {
    let mut aborting = Aborting::new(aborted);
    let mut filtered = Filtered { next_offset: -1, leader_epoch: -1, ..Filtered::default() };
    let mut input = batches(bytes);
    // Start of the run that is open, if one is.
    let mut open: Option<usize> = None;
    loop {
        let start = input.position();
        let Some(batch) = input.next() else { break };
        let checked = batch.and_then(|batch| if check_crcs { batch.verify_crc().map(|()| batch) } else { Ok(batch) });
        let passes = match checked.and_then(|batch| Ok((aborting.passes(&batch)?, batch))) {
            Ok((passes, batch)) => {
                let header = batch.header();
                let stale = header.last_offset() < fetch_offset;
                if !stale {
                    filtered.next_offset = header.next_offset();
                    filtered.leader_epoch = header.leader_epoch;
                }
                passes && !stale && header.record_count > 0
            }
            Err(error) => {
                close(&mut filtered, &mut open, bytes, start);
                filtered.error = Some((filtered.next_offset.max(fetch_offset), error));
                return filtered;
            }
        };
        match (passes, open) {
            (true, None) => open = Some(start),
            // The batch left out is counted in `next_offset` already: reading on after the run means after it.
            (false, Some(_)) => close(&mut filtered, &mut open, bytes, start),
            _ => {}
        }
    }
    let end = input.position();
    filtered.cut_bytes = input.remaining();
    close(&mut filtered, &mut open, bytes, end);
    if let Some(last) = filtered.runs.last_mut() {
        // Whatever was left out behind the last run belongs to its end.
        last.next_offset = filtered.next_offset;
    }
    filtered
}

fn close(filtered: &mut Filtered, open: &mut Option<usize>, bytes: &Bytes, end: usize) {
    let Some(start) = open.take() else { return };
    let (next_offset, leader_epoch) = (filtered.next_offset, filtered.leader_epoch);
    filtered.runs.push(Run { batches: bytes.slice(start..end), next_offset, leader_epoch });
}

/// Which producers' batches are to be dropped at the current place of the log.
struct Aborting {
    /// Transactions not yet reached, the last first; `None` when all records are wanted.
    ahead: Option<Vec<AbortedTransaction>>,
    producers: Vec<ProducerId>,
}

impl Aborting {
    fn new(aborted: Option<Vec<AbortedTransaction>>) -> Self {
        let ahead = aborted.map(|mut aborted| {
            aborted.sort_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
            aborted
        });
        Self { ahead, producers: Vec::new() }
    }

    fn passes(&mut self, batch: &RecordBatch) -> Result<bool, RecordError> {
        let header = batch.header();
        let control = header.attributes.is_control();
        let Some(ahead) = &mut self.ahead else { return Ok(!control) };
        while ahead.last().is_some_and(|transaction| transaction.first_offset <= header.last_offset()) {
            self.producers.extend(ahead.pop().map(|transaction| transaction.producer_id));
        }
        let aborted = self.producers.iter().position(|producer| *producer == header.producer_id);
        if control {
            if let Some(at) = aborted
                && is_abort_marker(batch)?
            {
                self.producers.swap_remove(at);
            }
            return Ok(false);
        }
        Ok(aborted.is_none() || !header.attributes.is_transactional())
    }
}

fn is_abort_marker(batch: &RecordBatch) -> Result<bool, RecordError> {
    // An emptied control batch of a compacted log marks nothing any more.
    let mut records = batch.records()?;
    let Some(record) = records.next() else { return Ok(false) };
    let record = record?;
    Ok(matches!(parse_control(record.key, record.value)?, Control::EndTransaction(marker) if !marker.committed))
}

#[cfg(test)]
mod tests {
    use protocol::record::{
        BatchBuilder, BuilderOptions, Compression, EndTransactionMarker, HeadersRef, control_marker,
    };

    use super::*;

    fn data(base_offset: Offset, values: &[&str], producer_id: ProducerId) -> Bytes {
        let transactional = producer_id >= 0;
        let (producer_epoch, base_sequence) = if transactional { (0, 0) } else { (-1, -1) };
        let options = BuilderOptions {
            base_offset,
            producer_id,
            producer_epoch,
            base_sequence,
            transactional,
            leader_epoch: 3,
            ..BuilderOptions::default()
        };
        let mut builder = BatchBuilder::new(Compression::None, options);
        for value in values {
            builder.append(7, None, Some(value.as_bytes()), HeadersRef::EMPTY).unwrap();
        }
        builder.build().unwrap()
    }

    fn marker(offset: Offset, producer_id: ProducerId, committed: bool) -> Bytes {
        let marker = EndTransactionMarker { committed, coordinator_epoch: 0 };
        control_marker(marker, producer_id, 0, 7, offset, 3).unwrap()
    }

    fn joined(parts: &[Bytes]) -> Bytes {
        parts.concat().into()
    }

    fn values(filtered: &Filtered) -> String {
        let of = |run: &Run| {
            let mut text = String::new();
            for batch in batches(&run.batches) {
                let mut records = batch.unwrap().records().unwrap();
                while let Some(record) = records.next() {
                    text += std::str::from_utf8(record.unwrap().value.unwrap()).unwrap();
                }
            }
            format!("{text}->{}", run.next_offset)
        };
        filtered.runs.iter().map(of).collect::<Vec<_>>().join(" ")
    }

    fn aborted(list: &[(ProducerId, Offset)]) -> Option<Vec<AbortedTransaction>> {
        Some(list.iter().map(|&(producer_id, first_offset)| AbortedTransaction { producer_id, first_offset }).collect())
    }

    #[test]
    fn plain_batches_stay_one_slice() {
        let bytes = joined(&[data(5, &["a", "b"], -1), data(7, &["c"], -1)]);
        let filtered = filter(&bytes, 5, None, true);
        assert_eq!(values(&filtered), "abc->8");
        assert_eq!(filtered.runs[0].batches.as_ptr(), bytes.as_ptr());
        assert_eq!((filtered.next_offset, filtered.leader_epoch, filtered.cut_bytes), (8, 3, 0));
    }

    #[test]
    fn control_batches_are_left_out_and_passed_over() {
        let bytes = joined(&[data(0, &["a"], 9), marker(1, 9, true), data(2, &["b"], 9), marker(3, 9, true)]);
        assert_eq!(values(&filter(&bytes, 0, None, true)), "a->2 b->4");
        let only = filter(&marker(4, 9, true), 4, None, true);
        assert_eq!((only.runs.len(), only.next_offset), (0, 5));
    }

    #[test]
    fn batches_of_aborted_transactions_are_left_out_until_the_marker() {
        let bytes = joined(&[
            data(0, &["a"], 1),
            data(1, &["b"], 2),
            marker(2, 1, false),
            data(3, &["c"], 1),
            data(4, &["d"], -1),
            marker(5, 1, true),
            marker(6, 2, false),
        ]);
        assert_eq!(values(&filter(&bytes, 0, aborted(&[(2, 1), (1, 0)]), true)), "cd->7");
        // Without isolation everything but the markers is there.
        assert_eq!(values(&filter(&bytes, 0, None, true)), "ab->3 cd->7");
    }

    #[test]
    fn a_committed_transaction_of_the_same_producer_survives_an_aborted_one_behind_it() {
        let bytes = joined(&[data(0, &["a"], 1), marker(1, 1, true), data(2, &["b"], 1), marker(3, 1, false)]);
        assert_eq!(values(&filter(&bytes, 0, aborted(&[(1, 2)]), true)), "a->4");
    }

    #[test]
    fn gaps_empty_batches_and_batches_below_the_position_are_passed_over() {
        let mut emptied =
            BatchBuilder::new(Compression::None, BuilderOptions { base_offset: 10, ..Default::default() });
        emptied.append(7, None, Some(b"x"), HeadersRef::EMPTY).unwrap();
        let mut emptied = emptied.build().unwrap().to_vec();
        // What the cleaner leaves of a producer's last batch: the header alone, with its last offset.
        emptied.truncate(61);
        emptied[8..12].copy_from_slice(&49i32.to_be_bytes());
        emptied[57..61].copy_from_slice(&0i32.to_be_bytes());
        let bytes = joined(&[data(2, &["old"], -1), data(7, &["a"], -1), emptied.into()]);
        assert_eq!(values(&filter(&bytes, 5, None, false)), "a->11");
    }

    #[test]
    fn a_cut_batch_at_the_end_is_not_an_error() {
        let whole = data(0, &["a"], -1);
        let cut = joined(&[whole.clone(), data(1, &["b"], -1).slice(..40)]);
        let filtered = filter(&cut, 0, None, true);
        assert_eq!((values(&filtered).as_str(), filtered.cut_bytes), ("a->1", 40));
        assert!(filtered.error.is_none());
    }

    #[test]
    fn a_damaged_batch_ends_what_is_handed_out_and_is_named() {
        let mut damaged = data(1, &["b"], -1).to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        let filtered = filter(&joined(&[data(0, &["a"], -1), damaged.into()]), 0, None, true);
        assert_eq!(values(&filtered), "a->1");
        let (offset, error) = filtered.error.unwrap();
        assert_eq!(offset, 1);
        assert!(matches!(error, RecordError::BadCrc { .. }), "{error}");
    }
}
