//! What the group coordinator needs of the broker around it: the log of `__consumer_offsets`, time, and the topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::{Now, Offset, PartitionId};
use bytes::Bytes;
use protocol::api::ErrorCode;
use protocol::api::streams_group_heartbeat::StreamsTopicInfo;
use uuid::Uuid;

use crate::share::records::ShareKey;

/// Told once an appended batch is committed: the offset of its first record, or why it will not be.
pub type Done = Box<dyn FnOnce(Result<Offset, ErrorCode>) + Send>;

/// What groups see of the cluster: its topics, and what is set for groups.
pub trait Cluster {
    /// Rises with every topic that comes, goes or gets more partitions; starts anew with the broker.
    fn topics_version(&self) -> i64;

    /// Id and number of partitions of a topic.
    fn topic(&self, name: &str) -> Option<(Uuid, i32)>;

    /// Name of the topic with this id.
    fn topic_name(&self, id: Uuid) -> Option<Arc<str>>;

    /// Names of all topics, in no order.
    fn topic_names(&self) -> Vec<Arc<str>>;

    /// What is set for a group (`consumer.session.timeout.ms` and others); nothing for most.
    fn group_settings(&self, group: &str) -> BTreeMap<String, String>;
}

/// The broker, as the group coordinator sees it.
pub trait GroupEnvironment: Cluster + Send + Sync {
    /// The present moment.
    fn now(&self) -> Now;

    /// The bytes of a random UUID, for member ids.
    fn random_uuid(&self) -> [u8; 16];

    /// Number of partitions of `__consumer_offsets`; `None` while the topic does not exist.
    fn offsets_partitions(&self) -> Option<i32>;

    /// Has `__consumer_offsets` made, if it does not exist; it may come later than this returns.
    ///
    /// # Errors
    /// When it cannot be made now.
    fn create_offsets_topic(&self) -> Result<(), ErrorCode>;

    /// Appends a batch to a partition of `__consumer_offsets`. `done` is called once, when the batch is durable or has
    /// failed; perhaps before this returns, on any thread, and for one partition in the order of the appends. The
    /// pair is `transaction_version` and `markers_seen` of [`storage::log::AppendOptions`].
    fn append(&self, partition: PartitionId, batch: Bytes, transaction: (i16, Option<u32>), done: Done);

    /// Whole batches of a partition of `__consumer_offsets` from the one that holds `from` on, up to the end of the log
    /// or some bound of bytes; empty at the end.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn read(&self, partition: PartitionId, from: Offset) -> Result<Bytes, ErrorCode>;

    /// Makes an internal topic of a streams application; it may come later than this returns.
    ///
    /// # Errors
    /// Why it cannot be made, in words.
    fn create_internal_topic(&self, topic: &StreamsTopicInfo) -> Result<(), String>;

    /// What a group sets for itself, by the setting's name (`streams.heartbeat.interval.ms`, ..).
    fn group_setting(&self, group: &str, name: &str) -> Option<String>;

    /// Whether members of streams groups are served.
    fn serves_streams(&self) -> bool;

    /// A member of a share group left, or was dropped: what it has acquired is for others. Called without locks.
    fn share_member_gone(&self, _group: &Arc<str>, _member: &Arc<str>) {}

    /// A group is gone, or topics, that there is share state of: it goes too. `done` is told once that is durable. Called without locks.
    fn delete_share_state(&self, _keys: Vec<ShareKey>, done: Box<dyn FnOnce(Result<(), ErrorCode>) + Send>) {
        done(Ok(()));
    }

    /// Has `__share_group_state` made, if it does not exist; it may come later than this returns.
    ///
    /// # Errors
    /// `InvalidRequest` where there are no share groups; when it cannot be made now.
    fn create_share_state_topic(&self) -> Result<(), ErrorCode> {
        Err(ErrorCode::InvalidRequest)
    }

    /// Sees to it that the coordinator is stepped at `ticks_ms` at the latest.
    fn wake_at(&self, ticks_ms: i64);
}

/// Where groups and committed offsets are kept.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Hash of a string as `java.lang.String.hashCode`: over UTF-16 units.
pub fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// The partition of `__consumer_offsets` that holds a group: the absolute value of its hash, modulo. (Not the sign-bit
/// mask that producers use.)
pub fn partition_of(group: &str, partitions: i32) -> PartitionId {
    java_hash(group).checked_abs().unwrap_or(0) % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_java() {
        assert_eq!(java_hash(""), 0);
        assert_eq!(java_hash("hello"), 99_162_322);
        assert_eq!(java_hash("polygenelubricants"), i32::MIN);
        assert_eq!(java_hash("\u{1F600}"), 0xD83D * 31 + 0xDE00);
        assert_eq!(partition_of("polygenelubricants", 50), 0);
        // As found in files of the reference.
        assert_eq!(["a-g-txn", "a-g-classic", "a-g-modern", "a-app"].map(|group| partition_of(group, 2)), [0, 0, 1, 1]);
    }
}
