//! Streams groups (KIP-1071): the coordinator knows the topology, makes its internal topics and gives tasks to members.
//!
//! From the inside out: [`tasks`] is what is given; [`configure`] what a topology asks of the topics; [`assignor`] who is to
//! have what; [`mod@reconcile`] how a member gets there; [`records`] the layout on disk; [`group`] one group as its records give
//! it; [`heartbeat`] what a member's heartbeat does in it. A group is changed only by records, whether they are read from
//! the log or have just been made: so replaying them gives the state.

pub mod assignor;
pub mod config;
pub mod configure;
mod endpoints;
pub mod group;
pub mod heartbeat;
pub mod member;
pub mod reconcile;
pub mod records;
pub mod tasks;
#[cfg(test)]
mod tests;

pub use group::StreamsGroup;

use uuid::Uuid;

/// A hash of topics in this order, with ids and numbers of partitions: another one means that something has changed. Not
/// the one that Kafka computes; a group that it has written is found to have changed once.
fn topics_hash<'a>(topics: impl Iterator<Item = (&'a str, Option<(Uuid, i32)>)>) -> i64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut put = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for (name, known) in topics {
        let Some((id, partitions)) = known else { continue };
        put(&(name.len() as u64).to_be_bytes());
        put(name.as_bytes());
        put(id.as_bytes());
        put(&partitions.to_be_bytes());
    }
    hash.cast_signed()
}
