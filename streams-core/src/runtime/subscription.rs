//! What members of a streams group tell each other through the group protocol: subscription and assignment user data.
//!
//! The bytes are those of Kafka Streams 4.3 (version 11 of both): a member says which process it belongs to and which tasks
//! it ran or holds state of; the leader answers with the active and standby tasks of each member. Integers are
//! big-endian; `utf` is two bytes of length and text.

use base::{Offset, TopicPartition};

use crate::error::{ErrorKind, StreamsError};
use crate::task::TaskId;

/// The version that is written, and the only one that is read.
pub const VERSION: i32 = 11;
/// Offset sum of a task that is running on the member right now.
pub const RUNNING: Offset = -2;

/// What a member tells the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionInfo {
    /// Identity of the process, shared by its stream threads.
    pub process_id: [u8; 16],
    /// `host:port` for queries; empty for none.
    pub endpoint: String,
    /// Tasks that run here (`RUNNING`) or left state here (sum of their changelog offsets).
    pub tasks: Vec<(TaskId, Offset)>,
    /// Changes with every subscription, so that the broker sees that something changed.
    pub unique_field: u8,
    /// Non-zero asks every member to shut down.
    pub error_code: i32,
}

/// What the leader tells a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AssignmentInfo {
    /// One task for each assigned partition, in the order of the assigned partitions sorted by topic and partition.
    pub active: Vec<TaskId>,
    /// Standby tasks with their changelog partitions.
    pub standby: Vec<(TaskId, Vec<TopicPartition>)>,
    /// Non-zero reports a failed assignment or a shutdown of the application.
    pub error_code: i32,
}

impl SubscriptionInfo {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48 + self.tasks.len() * 18);
        put_i32(&mut out, VERSION);
        put_i32(&mut out, VERSION);
        out.extend_from_slice(&self.process_id);
        put_bytes(&mut out, self.endpoint.as_bytes());
        put_i32(&mut out, self.tasks.len() as i32);
        for (task, offset_sum) in &self.tasks {
            put_i32(&mut out, task.subtopology as i32);
            put_i32(&mut out, task.partition);
            out.extend_from_slice(&offset_sum.to_be_bytes());
            out.extend_from_slice(&(-1i16).to_be_bytes());
        }
        out.push(self.unique_field);
        put_i32(&mut out, self.error_code);
        put_i32(&mut out, 0);
        out
    }

    /// Reads what [`SubscriptionInfo::encode`], or Kafka Streams, wrote. Client tags are skipped.
    ///
    /// # Errors
    /// `IllegalState` for another version or bytes that are cut short.
    pub fn decode(bytes: &[u8]) -> Result<Self, StreamsError> {
        let mut input = Input { bytes, what: "subscription" };
        input.version()?;
        let mut process_id = [0; 16];
        process_id.copy_from_slice(input.take(16)?);
        let endpoint = input.text_i32()?;
        let mut tasks = Vec::new();
        for _ in 0..input.count()? {
            let task = input.task()?;
            let offset_sum = input.i64()?;
            let name_length = input.i16()?;
            if name_length > 0 {
                input.take(name_length as usize)?;
            }
            tasks.push((task, offset_sum));
        }
        let unique_field = input.take(1)?[0];
        let error_code = input.i32()?;
        Ok(Self { process_id, endpoint, tasks, unique_field, error_code })
    }
}

impl AssignmentInfo {
    /// The bytes. Host maps are empty: they serve queries across instances.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(40 + self.active.len() * 12);
        put_i32(&mut out, VERSION);
        put_i32(&mut out, VERSION);
        put_i32(&mut out, self.active.len() as i32);
        for task in &self.active {
            put_task(&mut out, task);
        }
        put_i32(&mut out, self.standby.len() as i32);
        for (task, partitions) in &self.standby {
            put_task(&mut out, task);
            put_i32(&mut out, partitions.len() as i32);
            for partition in partitions {
                put_utf(&mut out, &partition.topic);
                put_i32(&mut out, partition.partition);
            }
        }
        put_i32(&mut out, 0); // topic dictionary of the host maps
        put_i32(&mut out, 0); // partitions by host
        put_i32(&mut out, 0); // standby partitions by host
        put_i32(&mut out, self.error_code);
        out.extend_from_slice(&i64::MAX.to_be_bytes()); // next probing rebalance: none
        out
    }

    /// Reads what [`AssignmentInfo::encode`], or Kafka Streams, wrote. Host maps are skipped.
    ///
    /// # Errors
    /// `IllegalState` for another version or bytes that are cut short.
    pub fn decode(bytes: &[u8]) -> Result<Self, StreamsError> {
        let mut input = Input { bytes, what: "assignment" };
        input.version()?;
        let mut active = Vec::new();
        for _ in 0..input.count()? {
            active.push(input.named_task()?);
        }
        let mut standby = Vec::new();
        for _ in 0..input.count()? {
            let task = input.named_task()?;
            let mut partitions = Vec::new();
            for _ in 0..input.count()? {
                let topic = input.utf()?;
                partitions.push(TopicPartition::new(topic, input.i32()?));
            }
            standby.push((task, partitions));
        }
        for _ in 0..input.count()? {
            input.i32()?;
            input.utf()?;
        }
        for _map in 0..2 {
            for _ in 0..input.count()? {
                input.utf()?;
                input.i32()?;
                for _ in 0..input.count()? {
                    input.take(8)?;
                }
            }
        }
        let error_code = input.i32()?;
        Ok(Self { active, standby, error_code })
    }
}

fn put_i32(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_i32(out, bytes.len() as i32);
    out.extend_from_slice(bytes);
}

fn put_utf(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_task(out: &mut Vec<u8>, task: &TaskId) {
    put_i32(out, task.subtopology as i32);
    put_i32(out, task.partition);
    put_i32(out, 0); // no topology name
}

struct Input<'a> {
    bytes: &'a [u8],
    what: &'static str,
}

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], StreamsError> {
        let (head, rest) = self.bytes.split_at_checked(length).ok_or_else(|| self.bad("cut short"))?;
        self.bytes = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StreamsError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn i16(&mut self) -> Result<i16, StreamsError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    fn i32(&mut self) -> Result<i32, StreamsError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, StreamsError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn count(&mut self) -> Result<usize, StreamsError> {
        usize::try_from(self.i32()?).map_err(|_| self.bad("a negative count"))
    }

    fn version(&mut self) -> Result<(), StreamsError> {
        let version = self.i32()?;
        if version != VERSION {
            return Err(self.bad(&format!("version {version}, known is {VERSION}")));
        }
        self.i32().map(|_| ())
    }

    fn task(&mut self) -> Result<TaskId, StreamsError> {
        let subtopology = u32::try_from(self.i32()?).map_err(|_| self.bad("a negative sub-topology"))?;
        Ok(TaskId::new(subtopology, self.i32()?))
    }

    fn named_task(&mut self) -> Result<TaskId, StreamsError> {
        let task = self.task()?;
        let name_chars = self.count()?;
        self.take(name_chars.saturating_mul(2))?;
        Ok(task)
    }

    fn text(&mut self, length: usize) -> Result<String, StreamsError> {
        let bytes = self.take(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| self.bad("text that is not UTF-8"))
    }

    fn text_i32(&mut self) -> Result<String, StreamsError> {
        let length = self.count()?;
        self.text(length)
    }

    fn utf(&mut self) -> Result<String, StreamsError> {
        let length = u16::from_be_bytes(self.array()?);
        self.text(usize::from(length))
    }

    fn bad(&self, reason: &str) -> StreamsError {
        let message = format!("the {} of a group member cannot be read: {reason}", self.what);
        StreamsError::new(ErrorKind::IllegalState, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    const PROCESS: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18];

    #[test]
    fn a_minimal_subscription_has_the_bytes_of_kafka_streams() {
        let info = SubscriptionInfo {
            process_id: PROCESS,
            endpoint: String::new(),
            tasks: vec![],
            unique_field: 5,
            error_code: 0,
        };
        let bytes =
            "0000000b0000000b0102030405060708111213141516171800000000000000000500000000 00000000".replace(' ', "");
        assert_eq!(hex(&info.encode()), bytes);
        assert_eq!(SubscriptionInfo::decode(&unhex(&bytes)).unwrap(), info);
    }

    #[test]
    fn a_full_subscription_of_kafka_streams_is_read() {
        let bytes = "0000000b0000000b0102030405060708111213141516171800000003683a31000000010000000000000001fffffffffffffffeffff050000000000000001000000047a6f6e65000000027a31";
        let info = SubscriptionInfo::decode(&unhex(bytes)).unwrap();
        assert_eq!(info.endpoint, "h:1");
        assert_eq!(info.tasks, [(TaskId::new(0, 1), RUNNING)]);
    }

    #[test]
    fn an_assignment_of_kafka_streams_is_read() {
        let bytes = "0000000b0000000b000000010000000000000001000000000000000100000001000000000000000000000001000174000000000000000100000000000174000000010001680000000100000001000000000000000100000000000000007fffffffffffffff";
        let info = AssignmentInfo::decode(&unhex(bytes)).unwrap();
        assert_eq!(info.active, [TaskId::new(0, 1)]);
        assert_eq!(info.standby, [(TaskId::new(1, 0), vec![TopicPartition::new("t", 0)])]);
    }

    #[test]
    fn an_assignment_survives_its_bytes_and_no_prefix_of_them_is_taken_for_one() {
        let info = AssignmentInfo {
            active: vec![TaskId::new(0, 0), TaskId::new(2, 7)],
            standby: vec![(TaskId::new(1, 1), vec![TopicPartition::new("app-s-changelog", 1)])],
            error_code: 0,
        };
        let bytes = info.encode();
        assert_eq!(AssignmentInfo::decode(&bytes).unwrap(), info);
        for length in 0..bytes.len() - 12 {
            assert!(AssignmentInfo::decode(&bytes[..length]).is_err(), "{length} bytes were accepted");
        }
    }
}
