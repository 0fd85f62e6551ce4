//! Transactional ids, their transactions, and the producers that wrote to partitions.

use std::sync::Arc;

use base::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicPartition};
use protocol::api::messages::describe_producers_request::TopicRequest;
use protocol::api::messages::{
    DescribeProducersRequest, DescribeTransactionsRequest, InitProducerIdRequest, ListTransactionsRequest,
    TransactionalId,
};
use protocol::api::write_txn_markers::{WritableTxnMarker, WriteTxnMarkersRequest};
use protocol::api::{ApiKey, Request};

use super::{Admin, Results, Route, check};
use crate::client::Target;
use crate::coordinator::CoordinatorKind;
use crate::error::ClientError;
use crate::wire::{self, expect_response, text};

/// Which transactional ids to list; the default is all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionFilter {
    /// States (`Ongoing`, `CompleteCommit`, ..); none for all.
    pub states: Vec<String>,
    /// Producer ids; none for all.
    pub producer_ids: Vec<ProducerId>,
    /// Only transactions that are open for longer than this, in ms; negative for all.
    pub duration_ms: i64,
    /// A regular expression that the whole id must match.
    pub pattern: Option<String>,
}

impl Default for TransactionFilter {
    fn default() -> Self {
        Self { states: Vec::new(), producer_ids: Vec::new(), duration_ms: -1, pattern: None }
    }
}

/// One transactional id of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionListing {
    /// The transactional id.
    pub transactional_id: String,
    /// Its producer.
    pub producer_id: ProducerId,
    /// `Empty`, `Ongoing`, `PrepareCommit`, `PrepareAbort`, `CompleteCommit` or `CompleteAbort`.
    pub state: String,
}

/// Where a transactional id stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionDescription {
    /// Node id of its coordinator.
    pub coordinator: i32,
    /// As in [`TransactionListing`].
    pub state: String,
    /// Its producer.
    pub producer_id: ProducerId,
    /// The producer's epoch.
    pub producer_epoch: ProducerEpoch,
    /// `transaction.timeout.ms` of its producer.
    pub timeout_ms: i32,
    /// When the open transaction began; -1 without one.
    pub start_ms: Timestamp,
    /// The partitions of the open transaction.
    pub partitions: Vec<TopicPartition>,
}

/// A producer that a partition remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerState {
    /// The producer.
    pub producer_id: ProducerId,
    /// Its newest epoch here.
    pub producer_epoch: i32,
    /// Sequence of its last record; -1 none.
    pub last_sequence: Sequence,
    /// Timestamp of its last batch; -1 none.
    pub last_timestamp: Timestamp,
    /// Epoch of the coordinator that last ended one of its transactions; -1 none.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction; -1 none.
    pub transaction_start: Offset,
}

impl Admin {
    /// Transactional ids of the cluster that pass the filter, by id.
    ///
    /// # Errors
    /// `Broker` with `InvalidRegularExpression` for a pattern that is none; `Unsupported` if a broker is too old for
    /// `duration_ms` or `pattern`; `Timeout` or `Unreachable`.
    pub async fn list_transactions(&self, filter: &TransactionFilter) -> Result<Vec<TransactionListing>, ClientError> {
        let lowest = match (&filter.pattern, filter.duration_ms) {
            (Some(_), _) => 2,
            (None, 0..) => 1,
            _ => 0,
        };
        let mut listed: Vec<TransactionListing> = Vec::new();
        for node in self.nodes().await? {
            let build = |connection: &crate::Connection| {
                let request = ListTransactionsRequest::default()
                    .with_state_filters(filter.states.iter().map(|state| text(state)).collect())
                    .with_producer_id_filters(filter.producer_ids.iter().map(|id| (*id).into()).collect())
                    .with_duration_filter(if lowest >= 1 { filter.duration_ms } else { -1 })
                    .with_transactional_id_pattern(filter.pattern.as_deref().map(text));
                let version = connection.version_within(ApiKey::ListTransactions, lowest, i16::MAX)?;
                Ok((Request::ListTransactions(request), version))
            };
            let states = self
                .ask("listing transactions", Route::To(Target::Node(node)), build, |response, address| {
                    let response = expect_response!(response, ListTransactions, address)?;
                    check(format!("transactions of broker {node}"), response.error_code, None)?;
                    Ok(response.transaction_states)
                })
                .await?;
            listed.extend(states.into_iter().map(|state| TransactionListing {
                transactional_id: state.transactional_id.to_string(),
                producer_id: state.producer_id.0,
                state: state.transaction_state.to_string(),
            }));
        }
        listed.sort_unstable_by(|a, b| a.transactional_id.cmp(&b.transactional_id));
        Ok(listed)
    }

    /// Where transactional ids stand.
    ///
    /// # Errors
    /// Per id, for example `TransactionalIdNotFound`.
    pub async fn describe_transactions(
        &self,
        ids: &[&str],
    ) -> Result<Results<Arc<str>, TransactionDescription>, ClientError> {
        let mut results = Vec::with_capacity(ids.len());
        for id in ids {
            let deadline = self.deadline();
            let coordinator =
                self.client.find_coordinator(CoordinatorKind::Transaction, id, deadline).await.unwrap_or(-1);
            let build = |connection: &crate::Connection| {
                let ids = vec![TransactionalId(text(id))];
                let request = DescribeTransactionsRequest::default().with_transactional_ids(ids);
                Ok((Request::DescribeTransactions(request), connection.version(ApiKey::DescribeTransactions)?))
            };
            let what = format!("describing the transactional id {id}");
            let result = self
                .ask(&what, Route::Transaction(id), build, |response, address| {
                    let response = expect_response!(response, DescribeTransactions, address)?;
                    let Some(state) = response.transaction_states.into_iter().next() else {
                        return Err(ClientError::malformed(address, format!("no answer about transactional id {id}")));
                    };
                    check(format!("transactional id {id}"), state.error_code, None)?;
                    let partitions = state.topics.into_iter().flat_map(|topic| {
                        let name: Arc<str> = Arc::from(topic.topic.as_str());
                        topic.partitions.into_iter().map(move |index| TopicPartition::new(Arc::clone(&name), index))
                    });
                    Ok(TransactionDescription {
                        coordinator,
                        state: state.transaction_state.to_string(),
                        producer_id: state.producer_id.0,
                        producer_epoch: state.producer_epoch,
                        timeout_ms: state.transaction_timeout_ms,
                        start_ms: state.transaction_start_time_ms,
                        partitions: partitions.collect(),
                    })
                })
                .await;
            results.push((Arc::from(*id), result));
        }
        Ok(results)
    }

    /// The producers that a partition remembers, by id.
    ///
    /// # Errors
    /// `Broker` if there is no such partition; `Timeout` or `Unreachable`.
    pub async fn describe_producers(&self, partition: &TopicPartition) -> Result<Vec<ProducerState>, ClientError> {
        let what = format!("describing the producers of {partition}");
        let leader = self.leader_of(partition).await?;
        let build = |connection: &crate::Connection| {
            let topic = TopicRequest::default()
                .with_name(wire::topic(&partition.topic))
                .with_partition_indexes(vec![partition.partition]);
            let request = DescribeProducersRequest::default().with_topics(vec![topic]);
            Ok((Request::DescribeProducers(request), connection.version(ApiKey::DescribeProducers)?))
        };
        self.ask(&what, Route::To(Target::Node(leader)), build, |response, address| {
            let response = expect_response!(response, DescribeProducers, address)?;
            let answer = response.topics.into_iter().flat_map(|topic| topic.partitions).next();
            let Some(answer) = answer else {
                return Err(ClientError::malformed(address, format!("no answer about {partition}")));
            };
            check(partition.to_string(), answer.error_code, answer.error_message.as_ref())?;
            let producers = answer.active_producers.into_iter().map(|producer| ProducerState {
                producer_id: producer.producer_id.0,
                producer_epoch: producer.producer_epoch,
                last_sequence: producer.last_sequence,
                last_timestamp: producer.last_timestamp,
                coordinator_epoch: producer.coordinator_epoch,
                transaction_start: producer.current_txn_start_offset,
            });
            Ok(producers.collect())
        })
        .await
    }

    /// Ends a transaction on one partition without asking its coordinator, as an abort: for one that hangs, which a
    /// partition has open ([`ProducerState::transaction_start`]) and no coordinator knows.
    ///
    /// # Errors
    /// `Broker`, for example `InvalidProducerEpoch` if the producer has gone on since; `Timeout` or `Unreachable`.
    pub async fn abort_transaction(
        &self,
        partition: &TopicPartition,
        producer: &ProducerState,
    ) -> Result<(), ClientError> {
        let what = format!("aborting the transaction of producer {} on {partition}", producer.producer_id);
        let leader = self.leader_of(partition).await?;
        let build = |connection: &crate::Connection| {
            let marker = WritableTxnMarker {
                producer_id: producer.producer_id,
                producer_epoch: i16::try_from(producer.producer_epoch).unwrap_or(-1),
                transaction_result: false,
                topics: vec![(Arc::clone(&partition.topic), vec![partition.partition])],
                coordinator_epoch: producer.coordinator_epoch.max(0),
                transaction_version: 0,
            };
            let request = WriteTxnMarkersRequest { markers: vec![marker] };
            Ok((Request::WriteTxnMarkers(request), connection.version(ApiKey::WriteTxnMarkers)?))
        };
        self.ask(&what, Route::To(Target::Node(leader)), build, |response, address| {
            let response = expect_response!(response, WriteTxnMarkers, address)?.0;
            let results = response.markers.into_iter().flat_map(|marker| marker.topics);
            let code = results.flat_map(|topic| topic.partitions).map(|one| one.error_code).next();
            match code {
                Some(code) => check(partition.to_string(), code, None),
                None => Err(ClientError::malformed(address, format!("no answer about {partition}"))),
            }
        })
        .await
    }

    /// Fences the producer of a transactional id and ends its open transaction: whoever writes under it learns that he
    /// was taken over.
    ///
    /// # Errors
    /// `Timeout`, `Unreachable`, or what the coordinator says.
    pub async fn fence_producer(&self, id: &str) -> Result<(), ClientError> {
        let build = |connection: &crate::Connection| {
            let request = InitProducerIdRequest::default()
                .with_transactional_id(Some(TransactionalId(text(id))))
                // Nobody is going to write: any time will do.
                .with_transaction_timeout_ms(1)
                .with_producer_id((-1).into())
                .with_producer_epoch(-1);
            Ok((Request::InitProducerId(request), connection.version(ApiKey::InitProducerId)?))
        };
        let what = format!("fencing the producer of the transactional id {id}");
        self.ask(&what, Route::Transaction(id), build, |response, address| {
            let response = expect_response!(response, InitProducerId, address)?;
            // While its transaction is being ended this is to be asked again, as by a producer.
            check(format!("transactional id {id}"), response.error_code, None)
        })
        .await
    }

    async fn leader_of(&self, partition: &TopicPartition) -> Result<i32, ClientError> {
        let what = format!("finding the leader of {partition}");
        self.client.want_topic(&partition.topic);
        let led =
            |metadata: &crate::Metadata| metadata.leader(&partition.topic, partition.partition).map(|(node, _)| node);
        let metadata = self.client.fresh_metadata(&what, self.deadline(), |metadata| led(metadata).is_some()).await?;
        led(&metadata).ok_or_else(|| ClientError::MetadataPending { topic: partition.topic.to_string() })
    }
}
