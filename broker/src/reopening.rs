//! Brings partitions back that refuse appends since a write failed: a full disk that has room again, a passing I/O error.
//!
//! Waits after each failure, longer each time. Nothing that was acknowledged is at stake: a partition whose sync failed
//! stays refused ([`storage::log::LogDirectory::reopen_failed`]), and so does the metadata log, whose head is ahead of
//! what it holds then; both come back with the next start.

use std::collections::BTreeMap;

use base::{Now, TopicPartition};
use parking_lot::Mutex;

use crate::broker::BrokerState;
use crate::metadata::log::METADATA_TOPIC;

const FIRST_WAIT_MS: i64 = 1_000;
const LONGEST_WAIT_MS: i64 = 60_000;

struct Retry {
    due_ticks_ms: i64,
    wait_ms: i64,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Reopening(Mutex<BTreeMap<TopicPartition, Retry>>);

impl Reopening {
    /// Reopens what is due; whether anything was tried, and when to look next.
    pub(crate) fn step(&self, state: &BrokerState, now: Now) -> (bool, Option<i64>) {
        let mut retries = self.0.lock();
        for partition in state.log.take_failed() {
            if &*partition.topic != METADATA_TOPIC {
                let retry = retries.entry(partition).or_insert(Retry { due_ticks_ms: i64::MAX, wait_ms: 0 });
                retry.wait_ms = (retry.wait_ms * 2).clamp(FIRST_WAIT_MS, LONGEST_WAIT_MS);
                retry.due_ticks_ms = now.ticks_ms.saturating_add(retry.wait_ms);
            }
        }
        let mut tried = false;
        for (partition, retry) in retries.iter_mut().filter(|(_, retry)| retry.due_ticks_ms <= now.ticks_ms) {
            tried = true;
            retry.due_ticks_ms = match state.log.reopen_failed(partition) {
                Err(error) => {
                    retry.wait_ms = (retry.wait_ms * 2).min(LONGEST_WAIT_MS);
                    tracing::warn!("{partition} stays refused, next try in {} ms: {error}", retry.wait_ms);
                    now.ticks_ms.saturating_add(retry.wait_ms)
                }
                Ok(None) => i64::MAX,
                Ok(Some(_)) => {
                    if let Some(entry) = state.topics.by_name(&partition.topic) {
                        entry.forget(partition.partition);
                    }
                    tracing::warn!("{partition} takes appends again");
                    i64::MAX
                }
            };
        }
        let next = retries.values().map(|retry| retry.due_ticks_ms).min();
        (tried, next.filter(|ticks_ms| *ticks_ms != i64::MAX))
    }
}
