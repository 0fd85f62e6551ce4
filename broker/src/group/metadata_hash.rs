//! The hash of a group's topics that its record holds: another one means that topics came, went or got more partitions, and asks for
//! another assignment.
//!
//! Kafka's own (XXH3, 64 bit), so that a group is at rest when its data directory changes hands: of each topic a byte 0, the two
//! halves of its id, its name, its number of partitions and the partitions' numbers with the racks of their replicas (none here), all
//! little-endian and text as UTF-16 with its length after it; of the group the hashes of its topics in the order of their names.

use std::collections::BTreeMap;

use base::PartitionId;
use twox_hash::XxHash3_64;
use uuid::Uuid;

/// Hash of topics, by name with id and number of partitions; 0 for none.
pub fn metadata_hash<'a>(topics: impl IntoIterator<Item = (&'a str, Uuid, PartitionId)>) -> i64 {
    let topics: BTreeMap<Vec<u16>, i64> = topics
        .into_iter()
        .map(|(name, id, count)| (name.encode_utf16().collect(), topic_hash(name, id, count)))
        .collect();
    if topics.is_empty() {
        return 0;
    }
    let bytes: Vec<u8> = topics.values().flat_map(|hash| hash.to_le_bytes()).collect();
    XxHash3_64::oneshot(&bytes).cast_signed()
}

fn topic_hash(name: &str, id: Uuid, partitions: PartitionId) -> i64 {
    let (high, low) = id.as_u64_pair();
    let mut bytes = vec![0];
    bytes.extend_from_slice(&high.to_le_bytes());
    bytes.extend_from_slice(&low.to_le_bytes());
    let mut units = 0i32;
    for unit in name.encode_utf16() {
        bytes.extend_from_slice(&unit.to_le_bytes());
        units += 1;
    }
    bytes.extend_from_slice(&units.to_le_bytes());
    bytes.extend_from_slice(&partitions.to_le_bytes());
    for partition in 0..partitions {
        bytes.extend_from_slice(&partition.to_le_bytes());
    }
    XxHash3_64::oneshot(&bytes).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_that_the_reference_wrote() {
        let id = |text: &str| text.parse().unwrap_or_default();
        let (events, table) = (id("e3a6c637-30b6-4069-9bfb-ad951d800815"), id("a0ab5cf6-2978-4b5f-907d-6b21f606b429"));
        let tx = id("cd8abc83-c590-43d9-8de2-869badc94523");
        assert_eq!(metadata_hash([("a-table", table, 1), ("a-events", events, 2)]), 1_563_975_454_459_495_326);
        assert_eq!(metadata_hash([("a-events", events, 2), ("a-tx", tx, 1)]), -3_900_130_969_180_819_125);
        assert_eq!(metadata_hash([]), 0);
    }
}
