//! Fetched batches of one partition while they are handed out bit by bit.

use base::Offset;
use protocol::record::{Batches, RecordError, Records};

use crate::consumer::record::Part;
use crate::consumer::types::Fetched;

/// Batches of one partition that are handed out bit by bit.
pub(super) struct Open {
    pub(super) fetched: Fetched,
    pub(super) serial: u64,
    pub(super) batches: Batches,
    pub(super) records: Option<(Records, Part)>,
    /// Next offset to hand out.
    pub(super) position: Offset,
    pub(super) failed: Option<RecordError>,
}

impl Open {
    pub(super) fn is_done(&self) -> bool {
        self.records.is_none() && self.position >= self.fetched.next_offset
    }

    /// Takes at most `left` records into `parts`.
    pub(super) fn take(&mut self, left: &mut usize, parts: &mut Vec<Part>) {
        while *left > 0 && self.failed.is_none() {
            let (records, part) = match &mut self.records {
                Some(open) => (&mut open.0, &open.1),
                None => match self.batches.next() {
                    None => {
                        self.position = self.fetched.next_offset;
                        return;
                    }
                    Some(batch) => match batch.and_then(|batch| Ok((batch.records()?, *batch.header()))) {
                        Err(error) => return self.failed = Some(error),
                        Ok((records, header)) => {
                            let part = Part {
                                partition: self.fetched.partition.clone(),
                                timestamp_type: header.attributes.timestamp_type(),
                                leader_epoch: header.leader_epoch,
                                body: records.body().clone(),
                                slots: Vec::new(),
                            };
                            let open = self.records.insert((records, part));
                            (&mut open.0, &open.1)
                        }
                    },
                },
            };
            let mut part = Part { slots: Vec::with_capacity(records.left().min(*left)), ..part.clone() };
            let mut ended = false;
            while *left > 0 {
                match records.next_slot() {
                    None => {
                        ended = true;
                        break;
                    }
                    Some(Ok(slot)) if slot.offset < self.position => {}
                    Some(Ok(slot)) => {
                        self.position = slot.offset + 1;
                        part.slots.push(slot);
                        *left -= 1;
                    }
                    Some(Err(error)) => {
                        self.failed = Some(error);
                        break;
                    }
                }
            }
            if !part.slots.is_empty() {
                parts.push(part);
            }
            if ended || records.left() == 0 {
                self.records = None;
            }
        }
        if self.records.is_none() && self.failed.is_none() && self.batches.remaining() == 0 {
            self.position = self.fetched.next_offset;
        }
    }
}
