//! A record as the topology sent it, whatever its topic.

use base::{PartitionId, Timestamp};
use protocol::record::Headers;

/// A record as a sink, repartition or changelog sent it: bytes, and the partition if the topology chose it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducedRecord {
    /// Full name of the topic: internal ones begin with the application's id.
    pub topic: String,
    /// Partition that the topology chose; `None` leaves the choice to the producer.
    pub partition: Option<PartitionId>,
    /// Serialised key.
    pub key: Option<Vec<u8>>,
    /// Serialised value.
    pub value: Option<Vec<u8>>,
    /// Timestamp in ms; `None` lets the producer stamp its clock, as suppression's changelogs do.
    pub timestamp: Option<Timestamp>,
    /// Headers.
    pub headers: Headers,
}
