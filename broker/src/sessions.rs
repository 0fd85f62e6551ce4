//! Fetch sessions (KIP-227): what an incremental fetch leaves unsaid is remembered here.
//!
//! A session belongs to the client that was given its id. Its epoch counts requests; a request that skips one, or names
//! an unknown session, is refused, and the client starts over with a full fetch.

use std::sync::Arc;

use base::hash::HashMap;
use base::{Now, Offset, Rng, TopicName};
use parking_lot::Mutex;
use protocol::api::{ErrorCode, FetchPartition, ForgottenTopic};
use uuid::Uuid;

/// One partition of a session, or of a full fetch.
#[derive(Clone, Debug)]
pub(crate) struct SessionPartition {
    /// Name; empty if the client names topics by id and we do not know the id.
    pub topic: TopicName,
    /// Id; nil if the client names topics by name.
    pub topic_id: Uuid,
    /// What the client wants of it.
    pub wanted: FetchPartition,
    /// What the last answer said; an incremental answer repeats a partition only when one of these changed.
    pub sent: Option<Sent>,
}

/// What a client was told of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub high_watermark: Offset,
    pub log_start: Offset,
}

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    pub id: i32,
    /// Epoch that the next request must have.
    pub next_epoch: i32,
    pub uses_topic_ids: bool,
    pub partitions: Vec<SessionPartition>,
}

struct Slot {
    session: Arc<Mutex<Session>>,
    last_used_ticks_ms: i64,
}

/// All sessions of a broker.
pub(crate) struct FetchSessions {
    slots: usize,
    inner: Mutex<Inner>,
}

struct Inner {
    sessions: HashMap<i32, Slot>,
    rng: Rng,
}

/// A session that was idle for longer may be evicted for a new one.
const EVICTION_MS: i64 = 120_000;

impl FetchSessions {
    pub(crate) fn new(slots: usize, rng: Rng) -> Self {
        Self { slots, inner: Mutex::new(Inner { sessions: HashMap::default(), rng }) }
    }

    /// A new session over `partitions`; `None` when there is no room, and the client goes on with full fetches.
    pub(crate) fn create(
        &self,
        uses_topic_ids: bool,
        partitions: Vec<SessionPartition>,
        now: Now,
    ) -> Option<Arc<Mutex<Session>>> {
        let mut inner = self.inner.lock();
        if inner.sessions.len() >= self.slots {
            let oldest = inner.sessions.iter().min_by_key(|(id, slot)| (slot.last_used_ticks_ms, **id));
            match oldest {
                Some((id, slot)) if now.ticks_ms - slot.last_used_ticks_ms > EVICTION_MS => {
                    let id = *id;
                    inner.sessions.remove(&id);
                }
                _ => return None,
            }
        }
        let id = loop {
            let id = (inner.rng.next_u64() >> 33) as i32;
            if id > 0 && !inner.sessions.contains_key(&id) {
                break id;
            }
        };
        let session = Arc::new(Mutex::new(Session { id, next_epoch: 1, uses_topic_ids, partitions }));
        inner.sessions.insert(id, Slot { session: Arc::clone(&session), last_used_ticks_ms: now.ticks_ms });
        Some(session)
    }

    /// The session `id`, ready for its request of `epoch`, whose epoch is then used up.
    pub(crate) fn take_turn(
        &self,
        id: i32,
        epoch: i32,
        uses_topic_ids: bool,
        now: Now,
    ) -> Result<Arc<Mutex<Session>>, ErrorCode> {
        let session = {
            let mut inner = self.inner.lock();
            let slot = inner.sessions.get_mut(&id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
            slot.last_used_ticks_ms = now.ticks_ms;
            Arc::clone(&slot.session)
        };
        {
            let mut turn = session.lock();
            if turn.next_epoch != epoch {
                return Err(ErrorCode::InvalidFetchSessionEpoch);
            }
            if turn.uses_topic_ids != uses_topic_ids {
                return Err(ErrorCode::FetchSessionTopicIdError);
            }
            turn.next_epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        }
        Ok(session)
    }

    /// Ends a session.
    pub(crate) fn remove(&self, id: i32) {
        self.inner.lock().sessions.remove(&id);
    }

    /// Number of sessions.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.inner.lock().sessions.len()
    }
}

impl Session {
    fn is_same(a: &SessionPartition, topic: &TopicName, topic_id: &Uuid, index: i32, by_id: bool) -> bool {
        a.wanted.index == index && if by_id { a.topic_id == *topic_id } else { a.topic == *topic }
    }

    /// Adds the partitions of an incremental request, or changes what is wanted of them.
    pub(crate) fn update(&mut self, changed: Vec<SessionPartition>) {
        let by_id = self.uses_topic_ids;
        for partition in changed {
            let known = self.partitions.iter_mut().find(|known| {
                Self::is_same(known, &partition.topic, &partition.topic_id, partition.wanted.index, by_id)
            });
            match known {
                Some(known) => known.wanted = partition.wanted,
                None => self.partitions.push(partition),
            }
        }
    }

    /// Drops the partitions that an incremental request forgets.
    pub(crate) fn forget(&mut self, forgotten: &[ForgottenTopic]) {
        let by_id = self.uses_topic_ids;
        for topic in forgotten {
            self.partitions.retain(|known| {
                !topic.partitions.iter().any(|index| Self::is_same(known, &topic.name, &topic.topic_id, *index, by_id))
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { wall_ms: 0, ticks_ms: 0 };

    #[test]
    fn epochs_count_up_and_a_skipped_one_is_refused() {
        let sessions = FetchSessions::new(10, Rng::from_seed(1));
        let id = sessions.create(true, Vec::new(), NOW).unwrap().lock().id;
        assert!(sessions.take_turn(id, 1, true, NOW).is_ok());
        assert_eq!(sessions.take_turn(id, 1, true, NOW).unwrap_err(), ErrorCode::InvalidFetchSessionEpoch);
        assert_eq!(sessions.take_turn(id, 2, false, NOW).unwrap_err(), ErrorCode::FetchSessionTopicIdError);
        assert!(sessions.take_turn(id, 2, true, NOW).is_ok());
        assert_eq!(sessions.take_turn(id + 1, 1, true, NOW).unwrap_err(), ErrorCode::FetchSessionIdNotFound);
    }

    #[test]
    fn the_epoch_after_the_largest_is_one() {
        let sessions = FetchSessions::new(10, Rng::from_seed(1));
        let session = sessions.create(true, Vec::new(), NOW).unwrap();
        let id = session.lock().id;
        session.lock().next_epoch = i32::MAX;
        assert!(sessions.take_turn(id, i32::MAX, true, NOW).is_ok());
        assert!(sessions.take_turn(id, 1, true, NOW).is_ok());
    }

    #[test]
    fn only_an_idle_session_makes_room_for_a_new_one() {
        let sessions = FetchSessions::new(1, Rng::from_seed(1));
        let old = sessions.create(true, Vec::new(), NOW).unwrap().lock().id;
        assert!(sessions.create(true, Vec::new(), Now { wall_ms: 0, ticks_ms: EVICTION_MS }).is_none());
        let later = Now { wall_ms: 0, ticks_ms: EVICTION_MS + 1 };
        assert!(sessions.create(true, Vec::new(), later).is_some());
        assert_eq!(sessions.len(), 1);
        assert_eq!(sessions.take_turn(old, 1, true, later).unwrap_err(), ErrorCode::FetchSessionIdNotFound);
    }
}
