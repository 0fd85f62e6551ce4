//! Logs of the fake brokers, fetch sessions, and what is asked about offsets.

use base::{Offset, ProducerId, Timestamp};
use bytes::Bytes;
use protocol::api::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use protocol::api::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use protocol::api::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use protocol::api::{
    AbortedTransaction, ErrorCode, FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse,
    FetchTopicResponse, Uuid,
};
use protocol::record::{
    BatchBuilder, BatchHeader, BuilderOptions, Compression, EndTransactionMarker, HeadersRef, batches, control_marker,
};

use super::State;

pub const TIME: Timestamp = 1_700_000_000_000;

/// One partition. Record `n` has the timestamp `TIME + n`.
#[derive(Default)]
pub struct FakeLog {
    pub batches: Vec<Bytes>,
    pub log_start: Offset,
    pub log_end: Offset,
    pub last_stable: Option<Offset>,
    pub aborted: Vec<(ProducerId, Offset)>,
    pub epoch: i32,
}

impl FakeLog {
    pub fn append(&mut self, values: &[&str], producer_id: ProducerId) {
        let transactional = producer_id >= 0;
        let (producer_epoch, base_sequence) = if transactional { (0, 0) } else { (-1, -1) };
        let mut builder = BatchBuilder::new(
            Compression::None,
            BuilderOptions {
                base_offset: self.log_end,
                leader_epoch: self.epoch,
                producer_id,
                producer_epoch,
                base_sequence,
                transactional,
                ..BuilderOptions::default()
            },
        );
        for (index, value) in values.iter().enumerate() {
            let timestamp = TIME + self.log_end + index as i64;
            builder.append(timestamp, None, Some(value.as_bytes()), HeadersRef::EMPTY).unwrap();
        }
        self.log_end += values.len() as i64;
        self.batches.push(builder.build().unwrap());
    }

    pub fn end_transaction(&mut self, producer_id: ProducerId, first_offset: Offset, committed: bool) {
        let marker = EndTransactionMarker { committed, coordinator_epoch: 0 };
        self.batches.push(control_marker(marker, producer_id, 0, TIME, self.log_end, self.epoch).unwrap());
        self.log_end += 1;
        if !committed {
            self.aborted.push((producer_id, first_offset));
        }
    }

    /// What compaction leaves: the batches at these indices are gone.
    pub fn compact(&mut self, gone: &[usize]) {
        let mut index = 0;
        self.batches.retain(|_| {
            index += 1;
            !gone.contains(&(index - 1))
        });
    }

    fn read(&self, from: Offset, max_bytes: usize, end: Offset) -> Bytes {
        let mut out = Vec::new();
        for batch in &self.batches {
            let header = BatchHeader::read(batch).unwrap();
            if header.last_offset() < from || header.base_offset >= end {
                continue;
            }
            if !out.is_empty() && out.len() + batch.len() > max_bytes {
                break;
            }
            out.extend_from_slice(batch);
        }
        out.into()
    }

    fn end_for(&self, isolation_level: i8) -> Offset {
        if isolation_level == 1 { self.last_stable.unwrap_or(self.log_end) } else { self.log_end }
    }
}

#[derive(Clone, Default)]
pub struct FakeSession {
    pub epoch: i32,
    pub partitions: Vec<(Uuid, FetchPartition)>,
}

impl State {
    /// The answer, unless there is nothing to say and time left.
    pub fn fetch(&mut self, request: &FetchRequest, node: i32, late: bool) -> Option<FetchResponse> {
        let mut wanted: Vec<(Uuid, FetchPartition)> = match (request.session_id, request.session_epoch) {
            (_, 0 | -1) => Vec::new(),
            (id, epoch) => match self.sessions.get(&id) {
                None => return Some(failed(ErrorCode::FetchSessionIdNotFound)),
                Some(session) if session.epoch != epoch => return Some(failed(ErrorCode::InvalidFetchSessionEpoch)),
                Some(session) => session.partitions.clone(),
            },
        };
        for topic in &request.forgotten {
            wanted.retain(|(id, partition)| *id != topic.topic_id || !topic.partitions.contains(&partition.index));
        }
        for topic in &request.topics {
            for partition in &topic.partitions {
                wanted.retain(|(id, known)| *id != topic.topic_id || known.index != partition.index);
                wanted.push((topic.topic_id, partition.clone()));
            }
        }
        let mut response = FetchResponse::default();
        let mut interesting = wanted.is_empty();
        let mut room = request.max_bytes as usize;
        for (id, partition) in &wanted {
            let answer = self.fetch_partition(*id, partition, request.isolation_level, room, node);
            room = room.saturating_sub(answer.records.len_bytes()).max(1);
            interesting |= answer.error_code.is_error() || !answer.records.is_empty();
            let incremental = request.session_epoch > 0;
            if incremental && answer.records.is_empty() && answer.error_code.is_ok() {
                continue;
            }
            response.topics.push(FetchTopicResponse { name: "".into(), topic_id: *id, partitions: vec![answer] });
        }
        if !interesting && !late {
            return None;
        }
        match request.session_epoch {
            -1 => drop(self.sessions.remove(&request.session_id)),
            0 => {
                self.next_id += 1;
                response.session_id = self.next_id;
                self.sessions.insert(self.next_id, FakeSession { epoch: 1, partitions: wanted });
            }
            epoch => {
                response.session_id = request.session_id;
                let session = FakeSession { epoch: epoch + 1, partitions: wanted };
                self.sessions.insert(request.session_id, session);
            }
        }
        Some(response)
    }

    fn fetch_partition(
        &self,
        id: Uuid,
        partition: &FetchPartition,
        isolation_level: i8,
        room: usize,
        node: i32,
    ) -> FetchPartitionResponse {
        let refused = |code| FetchPartitionResponse { index: partition.index, error_code: code, ..Default::default() };
        let Some(topic) = self.topics.values().find(|topic| topic.id == id) else {
            return refused(ErrorCode::UnknownTopicId);
        };
        let index = partition.index as usize;
        let (leader, epoch) = topic.leaders[index];
        if leader != node {
            return refused(ErrorCode::NotLeaderOrFollower);
        }
        if partition.current_leader_epoch < epoch {
            return refused(ErrorCode::FencedLeaderEpoch);
        }
        let log = &topic.partitions[index];
        if partition.fetch_offset < log.log_start || partition.fetch_offset > log.log_end {
            return refused(ErrorCode::OffsetOutOfRange);
        }
        let max_bytes = room.min(partition.partition_max_bytes as usize);
        let aborted = |&(producer_id, first_offset): &(i64, i64)| AbortedTransaction { producer_id, first_offset };
        FetchPartitionResponse {
            index: partition.index,
            high_watermark: log.log_end,
            last_stable_offset: log.end_for(1),
            log_start_offset: log.log_start,
            aborted: (isolation_level == 1).then(|| log.aborted.iter().map(aborted).collect()),
            records: log.read(partition.fetch_offset, max_bytes, log.end_for(isolation_level)).into(),
            ..Default::default()
        }
    }

    pub fn list_offsets(&self, request: &ListOffsetsRequest) -> ListOffsetsResponse {
        let mut response = ListOffsetsResponse::default();
        for asked in &request.topics {
            let mut of_topic = ListOffsetsTopicResponse::default();
            of_topic.name = asked.name.clone();
            for asked_partition in &asked.partitions {
                let mut answer = ListOffsetsPartitionResponse::default();
                answer.partition_index = asked_partition.partition_index;
                (answer.offset, answer.timestamp, answer.leader_epoch) = (-1, -1, 0);
                match self.topics.get(asked.name.as_str()) {
                    None => answer.error_code = ErrorCode::UnknownTopicOrPartition.code(),
                    Some(topic) => {
                        let log = &topic.partitions[asked_partition.partition_index as usize];
                        (answer.offset, answer.timestamp) = match asked_partition.timestamp {
                            -1 => (log.end_for(request.isolation_level), -1),
                            -2 => (log.log_start, -1),
                            -3 => log.find(i64::MIN, true),
                            time => log.find(time, false),
                        };
                    }
                }
                of_topic.partitions.push(answer);
            }
            response.topics.push(of_topic);
        }
        response
    }

    pub fn offset_for_leader_epoch(&self, request: &OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
        let mut response = OffsetForLeaderEpochResponse::default();
        for asked in &request.topics {
            let mut of_topic = OffsetForLeaderTopicResult::default();
            of_topic.topic = asked.topic.clone();
            for partition in &asked.partitions {
                let mut answer = EpochEndOffset::default();
                let log = &self.topics[asked.topic.as_str()].partitions[partition.partition as usize];
                answer.partition = partition.partition;
                answer.leader_epoch = partition.leader_epoch;
                answer.end_offset = log.log_end;
                of_topic.partitions.push(answer);
            }
            response.topics.push(of_topic);
        }
        response
    }
}

impl FakeLog {
    fn find(&self, time: Timestamp, last: bool) -> (Offset, Timestamp) {
        let mut found = (-1, -1);
        for bytes in &self.batches {
            for batch in batches(bytes) {
                for record in batch.unwrap().records().unwrap().iter() {
                    let record = record.unwrap();
                    if record.timestamp >= time && record.offset >= self.log_start && (last || found.0 < 0) {
                        found = (record.offset, record.timestamp);
                    }
                }
            }
        }
        found
    }
}

fn failed(error_code: ErrorCode) -> FetchResponse {
    FetchResponse { error_code, ..FetchResponse::default() }
}
