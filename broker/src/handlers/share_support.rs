//! What ShareFetch and ShareAcknowledge share: acknowledgements, which both carry, and who they come from.

use std::sync::Arc;

use base::{Now, PartitionId};
use parking_lot::Mutex;
use protocol::api::share_fetch::{AcknowledgementBatch, ShareFetchTopic};
use protocol::api::{ErrorCode, Uuid};

use crate::share::config::ShareConfig;
use crate::share::in_flight::{AcknowledgeType, Acknowledgement};
use crate::share::records::ShareKey;
use crate::share::sessions::{SessionKey, SharedPartition};
use crate::share::store::Done;
use crate::state::BrokerState;

/// Longest id that is taken, in bytes.
const MAX_ID_BYTES: usize = i16::MAX as usize;

/// What is said of one partition's records.
pub(crate) struct Told {
    pub partition: SharedPartition,
    pub batches: Vec<AcknowledgementBatch>,
}

/// What became of it.
pub(crate) type Settled = (SharedPartition, ErrorCode);

/// Whose request this is.
///
/// # Errors
/// `UnsupportedVersion` while share groups are off; `InvalidRequest` if it does not say.
pub(crate) fn session_key(
    state: &BrokerState,
    group: Option<Arc<str>>,
    member: Option<Arc<str>>,
) -> Result<SessionKey, ErrorCode> {
    state.shares.check_enabled(state)?;
    let id = |id: Option<Arc<str>>| {
        id.filter(|id| !id.is_empty() && id.len() <= MAX_ID_BYTES).ok_or(ErrorCode::InvalidRequest)
    };
    Ok(SessionKey { group: id(group)?, member: id(member)? })
}

/// The partitions that a request names, and what it says of them.
pub(crate) fn take_apart(topics: Vec<ShareFetchTopic>) -> (Vec<SharedPartition>, Vec<Told>) {
    let (mut named, mut told) = (Vec::new(), Vec::new());
    for topic in topics {
        for partition in topic.partitions {
            let batches = partition.acknowledgement_batches;
            let partition = (topic.topic_id, partition.partition_index);
            named.push(partition);
            if !batches.is_empty() {
                told.push(Told { partition, batches });
            }
        }
    }
    (named, told)
}

/// Whether there is such a partition.
///
/// # Errors
/// `UnknownTopicId`, `UnknownTopicOrPartition`.
pub(crate) fn check_exists(state: &BrokerState, (topic, index): SharedPartition) -> Result<(), ErrorCode> {
    let entry = state.topics.by_id(&topic).ok_or(ErrorCode::UnknownTopicId)?;
    match usize::try_from(index).is_ok_and(|index| index < entry.partition_count()) {
        true => Ok(()),
        false => Err(ErrorCode::UnknownTopicOrPartition),
    }
}

/// Partitions of one request that are yet to be done with.
struct Pending<F> {
    left: usize,
    settled: Vec<Settled>,
    then: Option<F>,
}

/// Takes up what a member says of records; `then` gets what became of it once all of it is durable or refused, perhaps before this returns.
pub(crate) fn acknowledge(
    state: &Arc<BrokerState>,
    key: &SessionKey,
    told: Vec<Told>,
    may_renew: bool,
    config: &ShareConfig,
    now: Now,
    then: impl FnOnce(Vec<Settled>) + Send + 'static,
) {
    let together = Together::of(told.iter().map(|told| told.partition).collect(), then);
    let until = now.ticks_ms.saturating_add(config.record_lock_duration.ms);
    for (index, Told { partition: (topic, partition), batches }) in told.into_iter().enumerate() {
        let done = together.done(index);
        let known = acknowledgements(&batches, may_renew);
        let is_renewal = |told: &[Acknowledgement]| told.iter().any(|told| told.kind == AcknowledgeType::Renew);
        let known = match known {
            Ok(told) if !config.renews && is_renewal(&told) => Err(ErrorCode::InvalidRecordState),
            known => known,
        };
        let known = known.and_then(|told| check_exists(state, (topic, partition)).map(|()| told));
        match known {
            Err(error) => done(Err(error)),
            Ok(told) => match at_work(state, &key.group, topic, partition) {
                Some(partition) => partition.acknowledge(state, &key.member, &told, until, config, done),
                None => done(Err(ErrorCode::InvalidRecordState)),
            },
        }
    }
}

fn at_work(
    state: &BrokerState,
    group: &Arc<str>,
    topic: Uuid,
    partition: PartitionId,
) -> Option<Arc<crate::share::partition::SharePartition>> {
    state.shares.at_work(&ShareKey { group: Arc::clone(group), topic, partition })
}

/// What became of several partitions, told as one.
pub(crate) struct Together<F>(Arc<Mutex<Pending<F>>>);

impl<F: FnOnce(Vec<Settled>) + Send + 'static> Together<F> {
    /// `then` is told once each of `partitions` is done; at once if there are none.
    pub fn of(partitions: Vec<SharedPartition>, then: F) -> Self {
        let settled: Vec<Settled> = partitions.into_iter().map(|partition| (partition, ErrorCode::None)).collect();
        let mut then = Some(then);
        if settled.is_empty()
            && let Some(then) = then.take()
        {
            then(Vec::new());
        }
        Self(Arc::new(Mutex::new(Pending { left: settled.len(), settled, then })))
    }

    /// To be called with what became of the partition at `index`.
    pub fn done(&self, index: usize) -> Done {
        let pending = Arc::clone(&self.0);
        Box::new(move |result| settle(&pending, index, result))
    }
}

fn settle<F: FnOnce(Vec<Settled>)>(pending: &Mutex<Pending<F>>, index: usize, result: Result<(), ErrorCode>) {
    let complete = {
        let mut pending = pending.lock();
        if let Some(settled) = pending.settled.get_mut(index) {
            settled.1 = result.err().unwrap_or(ErrorCode::None);
        }
        pending.left -= 1;
        if pending.left > 0 {
            return;
        }
        let settled = std::mem::take(&mut pending.settled);
        pending.then.take().map(|then| (then, settled))
    };
    if let Some((then, settled)) = complete {
        then(settled);
    }
}

/// The acknowledgements of a partition: in order, without overlaps, neighbours alike in one.
fn acknowledgements(batches: &[AcknowledgementBatch], may_renew: bool) -> Result<Vec<Acknowledgement>, ErrorCode> {
    let mut told: Vec<Acknowledgement> = Vec::new();
    let mut next = 0;
    for batch in batches {
        let (first, last) = (batch.first_offset, batch.last_offset);
        let types = &batch.acknowledge_types;
        let fits = types.len() == 1
            || i64::try_from(types.len()).ok() == last.checked_sub(first).and_then(|more| more.checked_add(1));
        if first < next || last < first || last == i64::MAX || !fits {
            return Err(ErrorCode::InvalidRequest);
        }
        next = last + 1;
        for (index, code) in types.iter().enumerate() {
            let kind = AcknowledgeType::of(*code).ok_or(ErrorCode::InvalidRequest)?;
            if kind == AcknowledgeType::Renew && !may_renew {
                return Err(ErrorCode::InvalidRequest);
            }
            let (first, last) =
                if types.len() == 1 { (first, last) } else { (first + index as i64, first + index as i64) };
            match told.last_mut() {
                Some(before) if before.kind == kind && before.last + 1 == first => before.last = last,
                _ => told.push(Acknowledgement { first, last, kind }),
            }
        }
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(first_offset: i64, last_offset: i64, acknowledge_types: &[i8]) -> AcknowledgementBatch {
        AcknowledgementBatch { first_offset, last_offset, acknowledge_types: acknowledge_types.to_vec() }
    }

    #[test]
    fn types_of_single_offsets_become_runs() {
        let told = acknowledgements(&[batch(0, 3, &[1, 1, 2, 1]), batch(4, 9, &[1])], false).unwrap();
        let run = |first, last, kind| Acknowledgement { first, last, kind };
        let (accept, release) = (AcknowledgeType::Accept, AcknowledgeType::Release);
        assert_eq!(told, [run(0, 1, accept), run(2, 2, release), run(3, 9, accept)]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for wrong in [
            vec![batch(5, 4, &[1])],
            vec![batch(-1, 4, &[1])],
            vec![batch(0, 4, &[1, 1])],
            vec![batch(0, 4, &[])],
            vec![batch(0, 4, &[9])],
            vec![batch(0, 4, &[4])],
            vec![batch(0, 4, &[1]), batch(4, 5, &[1])],
            vec![batch(0, i64::MAX, &[1])],
            vec![batch(i64::MIN, i64::MAX, &[1, 1])],
            vec![batch(-1, i64::MAX - 1, &[1, 1])],
        ] {
            assert_eq!(acknowledgements(&wrong, false), Err(ErrorCode::InvalidRequest), "{wrong:?}");
        }
        assert!(acknowledgements(&[batch(0, 4, &[4])], true).is_ok());
    }
}
