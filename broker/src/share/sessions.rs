//! Share sessions: what a member fetches from is remembered between its requests, and what it has acquired is released when its session ends.
//!
//! A session is of a member of a group and has an epoch that counts requests. Its number is bounded for the whole broker. It ends with its
//! connection, with its member, or when the member says so.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::PartitionId;
use base::hash::HashMap;
use parking_lot::Mutex;
use protocol::api::ErrorCode;
use uuid::Uuid;

/// Epoch of the request that opens a session.
pub const OPENING_EPOCH: i32 = 0;
/// Epoch of the request that closes one.
pub const CLOSING_EPOCH: i32 = -1;

/// A partition, by its topic's id.
pub type SharedPartition = (Uuid, PartitionId);

/// Whose session it is: group and member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// The group.
    pub group: Arc<str>,
    /// The member.
    pub member: Arc<str>,
}

struct Session {
    next_epoch: i32,
    connection_id: u64,
    partitions: BTreeSet<SharedPartition>,
}

/// All share sessions of a broker.
pub struct ShareSessions {
    max: usize,
    sessions: Mutex<HashMap<SessionKey, Session>>,
}

impl ShareSessions {
    /// No sessions yet, and never more than `max`.
    pub fn new(max: usize) -> Self {
        Self { max, sessions: Mutex::default() }
    }

    /// Opens a session over `partitions`, in place of the one that the member has. Callers name only partitions that exist: that bounds what
    /// a session takes.
    ///
    /// # Errors
    /// `ShareSessionLimitReached`.
    pub fn open(
        &self,
        key: &SessionKey,
        connection_id: u64,
        partitions: &[SharedPartition],
    ) -> Result<Vec<SharedPartition>, ErrorCode> {
        let mut sessions = self.sessions.lock();
        if !sessions.contains_key(key) && sessions.len() >= self.max {
            return Err(ErrorCode::ShareSessionLimitReached);
        }
        let partitions: BTreeSet<SharedPartition> = partitions.iter().copied().collect();
        let all = partitions.iter().copied().collect();
        sessions.insert(key.clone(), Session { next_epoch: 1, connection_id, partitions });
        Ok(all)
    }

    /// Uses up an epoch of a session, after adding and taking out partitions: those that it has now, another one first each time.
    ///
    /// # Errors
    /// `ShareSessionNotFound`, `InvalidShareSessionEpoch`; the session is as it was then.
    pub fn go_on(
        &self,
        key: &SessionKey,
        epoch: i32,
        added: &[SharedPartition],
        forgotten: &[SharedPartition],
    ) -> Result<Vec<SharedPartition>, ErrorCode> {
        let mut sessions = self.sessions.lock();
        let session = sessions.get_mut(key).ok_or(ErrorCode::ShareSessionNotFound)?;
        if epoch != session.next_epoch {
            return Err(ErrorCode::InvalidShareSessionEpoch);
        }
        session.next_epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        session.partitions.extend(added);
        for partition in forgotten {
            session.partitions.remove(partition);
        }
        let mut partitions: Vec<SharedPartition> = session.partitions.iter().copied().collect();
        if !partitions.is_empty() {
            let first = epoch.unsigned_abs() as usize % partitions.len();
            partitions.rotate_left(first);
        }
        Ok(partitions)
    }

    /// Ends a session; gives its partitions.
    ///
    /// # Errors
    /// `ShareSessionNotFound`.
    pub fn close(&self, key: &SessionKey) -> Result<Vec<SharedPartition>, ErrorCode> {
        let session = self.sessions.lock().remove(key);
        session.map(|session| session.partitions.into_iter().collect()).ok_or(ErrorCode::ShareSessionNotFound)
    }

    /// Whether the member has a session.
    pub fn has(&self, key: &SessionKey) -> bool {
        self.sessions.lock().contains_key(key)
    }

    /// Whether a connection has sessions.
    pub fn has_connection(&self, connection_id: u64) -> bool {
        self.sessions.lock().values().any(|session| session.connection_id == connection_id)
    }

    /// Ends the sessions of a connection.
    pub fn close_connection(&self, connection_id: u64) -> Vec<(SessionKey, Vec<SharedPartition>)> {
        let mut sessions = self.sessions.lock();
        if sessions.is_empty() {
            return Vec::new();
        }
        let of = |session: &Session| session.connection_id == connection_id;
        let keys: Vec<SessionKey> =
            sessions.iter().filter(|(_, session)| of(session)).map(|(key, _)| key.clone()).collect();
        let mut end = |key: SessionKey| {
            let session = sessions.remove(&key)?;
            Some((key, session.partitions.into_iter().collect()))
        };
        keys.into_iter().filter_map(&mut end).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(member: &str) -> SessionKey {
        SessionKey { group: Arc::from("g"), member: Arc::from(member) }
    }

    fn partition(index: PartitionId) -> SharedPartition {
        (Uuid::nil(), index)
    }

    #[test]
    fn epochs_count_requests_and_a_skipped_one_is_refused() {
        let sessions = ShareSessions::new(2);
        assert_eq!(sessions.go_on(&key("a"), 1, &[], &[]), Err(ErrorCode::ShareSessionNotFound));
        sessions.open(&key("a"), 1, &[partition(0), partition(1)]).unwrap();
        assert_eq!(sessions.go_on(&key("a"), 2, &[], &[]), Err(ErrorCode::InvalidShareSessionEpoch));
        assert_eq!(sessions.go_on(&key("a"), 1, &[], &[]).unwrap(), [partition(1), partition(0)]);
        let now = sessions.go_on(&key("a"), 2, &[partition(2)], &[partition(0)]).unwrap();
        assert_eq!(now, [partition(1), partition(2)]);
        assert_eq!(sessions.close(&key("a")).unwrap(), [partition(1), partition(2)]);
        assert_eq!(sessions.close(&key("a")), Err(ErrorCode::ShareSessionNotFound));
    }

    #[test]
    fn sessions_are_bounded_and_end_with_their_connection() {
        let sessions = ShareSessions::new(2);
        sessions.open(&key("a"), 1, &[]).unwrap();
        sessions.open(&key("b"), 2, &[partition(4)]).unwrap();
        assert_eq!(sessions.open(&key("c"), 2, &[]), Err(ErrorCode::ShareSessionLimitReached));
        sessions.open(&key("a"), 1, &[]).unwrap();
        let ended = sessions.close_connection(2);
        assert_eq!(ended, [(key("b"), vec![partition(4)])]);
        assert!(!sessions.has(&key("b")) && sessions.has(&key("a")));
        sessions.open(&key("c"), 2, &[]).unwrap();
    }
}
