//! Transactional requests of a raw client.

#![allow(dead_code, reason = "each test file uses its part")]

use bytes::Bytes;
use protocol::api::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use protocol::api::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use protocol::api::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use protocol::api::messages::*;
use protocol::api::{ErrorCode, FetchPartitionResponse, ProducePartitionResponse, Response};
use protocol::record::{self, BatchBuilder, BuilderOptions, Compression, HeadersRef};

use crate::support::*;

/// Produce of the newer protocol (KIP-890) and of the older one.
pub const V2: i16 = 12;
pub const V1: i16 = 11;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
}

fn transactional(id: &str) -> TransactionalId {
    TransactionalId(text(id))
}

fn checked<T>(code: i16, value: T) -> Result<T, ErrorCode> {
    match ErrorCode::from_code(code) {
        ErrorCode::None => Ok(value),
        error => Err(error),
    }
}

pub fn transactional_batch(producer: Producer, sequence: i32, values: &[&str]) -> Bytes {
    let options = BuilderOptions {
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        base_sequence: sequence,
        transactional: true,
        ..BuilderOptions::default()
    };
    let mut builder = BatchBuilder::new(Compression::None, options);
    for value in values {
        builder.append(1_700_000_000_000, None, Some(value.as_bytes()), HeadersRef::EMPTY).unwrap();
    }
    builder.build().unwrap()
}

impl Peer {
    /// Finds both coordinators, which makes their topics.
    pub fn find_coordinators(&mut self, group: &str, id: &str) {
        for (kind, key) in [(0, group), (1, id)] {
            let request = FindCoordinatorRequest::default().with_key_type(kind).with_coordinator_keys(vec![text(key)]);
            loop {
                match self.call(6, request.clone()) {
                    Response::FindCoordinator(found) if found.coordinators[0].error_code == 0 => break,
                    Response::FindCoordinator(found) => assert_eq!(found.coordinators[0].error_code, 15),
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    pub fn try_init(
        &mut self,
        version: i16,
        id: &str,
        timeout_ms: i32,
        own: Option<Producer>,
    ) -> Result<Producer, ErrorCode> {
        let own = own.unwrap_or(Producer { id: -1, epoch: -1 });
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional(id)))
            .with_transaction_timeout_ms(timeout_ms)
            .with_producer_id(ProducerId(own.id))
            .with_producer_epoch(own.epoch);
        match self.call(version, request) {
            Response::InitProducerId(init) => {
                checked(init.error_code, Producer { id: init.producer_id.0, epoch: init.producer_epoch })
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn init(&mut self, id: &str, timeout_ms: i32) -> Producer {
        self.find_coordinators("g", id);
        self.try_init(5, id, timeout_ms, None).unwrap()
    }

    #[expect(clippy::too_many_arguments, reason = "a request's fields")]
    pub fn write(
        &mut self,
        version: i16,
        id: &str,
        producer: Producer,
        topic: &str,
        partition: i32,
        sequence: i32,
        values: &[&str],
    ) -> ProducePartitionResponse {
        let mut request = produce_request(topic, partition, -1, transactional_batch(producer, sequence, values));
        request.transactional_id = Some(id.to_owned());
        produced(self.call(version, request))
    }

    pub fn add(
        &mut self,
        version: i16,
        id: &str,
        producer: Producer,
        topic: &str,
        partitions: &[i32],
    ) -> Vec<ErrorCode> {
        let topic = AddPartitionsToTxnTopic::default().with_name(name_of(topic)).with_partitions(partitions.to_vec());
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(transactional(id))
            .with_v3_and_below_producer_id(ProducerId(producer.id))
            .with_v3_and_below_producer_epoch(producer.epoch)
            .with_v3_and_below_topics(vec![topic]);
        match self.call(version, request) {
            Response::AddPartitionsToTxn(response) => response.results_by_topic_v3_and_below[0]
                .results_by_partition
                .iter()
                .map(|result| ErrorCode::from_code(result.partition_error_code))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    pub fn end(&mut self, version: i16, id: &str, producer: Producer, commit: bool) -> Result<Producer, ErrorCode> {
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional(id))
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(producer.epoch)
            .with_committed(commit);
        match self.call(version, request) {
            Response::EndTxn(end) => {
                checked(end.error_code, Producer { id: end.producer_id.0, epoch: end.producer_epoch })
            }
            other => panic!("{other:?}"),
        }
    }

    /// State (or the error's name) and number of partitions.
    pub fn describe(&mut self, id: &str) -> (String, usize) {
        let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![transactional(id)]);
        match self.call(0, request) {
            Response::DescribeTransactions(mut response) => {
                let state = response.transaction_states.remove(0);
                let partitions = state.topics.iter().map(|topic| topic.partitions.len()).sum();
                match ErrorCode::from_code(state.error_code) {
                    ErrorCode::None => (state.transaction_state.to_string(), partitions),
                    error => (error.name().to_owned(), 0),
                }
            }
            other => panic!("{other:?}"),
        }
    }

    /// Asks until the id is in that state.
    pub fn until_state(&mut self, id: &str, wanted: &str) {
        while self.describe(id).0 != wanted {
            std::thread::yield_now();
        }
    }

    /// Asks until the id's last transaction is over.
    pub fn until_complete(&mut self, id: &str) {
        while !self.describe(id).0.starts_with("Complete") {
            std::thread::yield_now();
        }
    }

    pub fn fetch_committed(&mut self, topic: &str, partition: i32, offset: i64) -> FetchPartitionResponse {
        let mut request = fetch_request(topic, partition, offset, 0, 1);
        request.isolation_level = 1;
        fetched(self.call(11, request))
    }

    /// What a `read_committed` consumer sees of a partition.
    pub fn committed(&mut self, topic: &str, partition: i32) -> Vec<String> {
        let (mut values, mut offset) = (Vec::new(), 0);
        loop {
            let before = offset;
            let fetched = self.fetch_committed(topic, partition, offset);
            let mut pending = fetched.aborted.unwrap();
            pending.sort_by_key(|aborted| aborted.first_offset);
            let mut aborted: Vec<i64> = Vec::new();
            for batch in record::batches(&fetched.records.to_bytes().unwrap()) {
                let batch = batch.unwrap();
                let header = *batch.header();
                offset = header.next_offset();
                while pending.first().is_some_and(|first| first.first_offset <= header.last_offset()) {
                    aborted.push(pending.remove(0).producer_id);
                }
                if header.attributes.is_control() {
                    aborted.retain(|id| *id != header.producer_id);
                } else if !(header.attributes.is_transactional() && aborted.contains(&header.producer_id)) {
                    let records = batch.records().unwrap();
                    let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
                    values.extend(records.iter().map(|record| text(record.unwrap().value.unwrap())));
                }
            }
            if offset == before {
                return values;
            }
        }
    }

    pub fn commit_offset(
        &mut self,
        version: i16,
        id: &str,
        producer: Producer,
        group: &str,
        topic: &str,
        offset: i64,
    ) -> ErrorCode {
        let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic = TxnOffsetCommitRequestTopic::default().with_name(name_of(topic)).with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(transactional(id))
            .with_group_id(GroupId(text(group)))
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(producer.epoch)
            .with_generation_id(-1)
            .with_topics(vec![topic]);
        match self.call(version, request) {
            Response::TxnOffsetCommit(response) => ErrorCode::from_code(response.topics[0].partitions[0].error_code),
            other => panic!("{other:?}"),
        }
    }

    pub fn add_offsets(&mut self, id: &str, producer: Producer, group: &str) -> ErrorCode {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(transactional(id))
            .with_group_id(GroupId(text(group)))
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(producer.epoch);
        match self.call(3, request) {
            Response::AddOffsetsToTxn(response) => ErrorCode::from_code(response.error_code),
            other => panic!("{other:?}"),
        }
    }

    /// The group's offset of partition 0.
    pub fn committed_offset(&mut self, group: &str, topic: &str, stable: bool) -> Result<i64, ErrorCode> {
        let topic = OffsetFetchRequestTopics::default().with_name(name_of(topic)).with_partition_indexes(vec![0]);
        let asked =
            OffsetFetchRequestGroup::default().with_group_id(GroupId(text(group))).with_topics(Some(vec![topic]));
        match self.call(9, OffsetFetchRequest::default().with_groups(vec![asked]).with_require_stable(stable)) {
            Response::OffsetFetch(response) => {
                let partition = &response.groups[0].topics[0].partitions[0];
                checked(partition.error_code, partition.committed_offset)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Ids that pass the filters, sorted, or the name of the error.
    pub fn list(
        &mut self,
        version: i16,
        states: &[&str],
        producers: &[i64],
        duration_ms: i64,
        pattern: Option<&str>,
    ) -> Vec<String> {
        let request = ListTransactionsRequest::default()
            .with_state_filters(states.iter().map(|state| text(state)).collect())
            .with_producer_id_filters(producers.iter().map(|id| ProducerId(*id)).collect())
            .with_duration_filter(duration_ms)
            .with_transactional_id_pattern(pattern.map(text));
        match self.call(version, request) {
            Response::ListTransactions(response) if response.error_code != 0 => {
                vec![ErrorCode::from_code(response.error_code).name().to_owned()]
            }
            Response::ListTransactions(response) => {
                let states = response.transaction_states.iter();
                let mut ids: Vec<String> = states.map(|state| state.transactional_id.to_string()).collect();
                ids.sort();
                ids
            }
            other => panic!("{other:?}"),
        }
    }
}
