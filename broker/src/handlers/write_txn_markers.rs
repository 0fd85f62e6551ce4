//! WriteTxnMarkers: ends transactions on partitions, without asking the coordinator. A call among brokers; tools use it to
//! end a transaction that its coordinator no longer knows.

use std::sync::Arc;

use protocol::api::messages;
use protocol::api::messages::ProducerId;
use protocol::api::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use protocol::api::write_txn_markers::{WritableTxnMarker, WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use protocol::api::{ErrorCode, Response};

use super::topic_name;
use super::transaction_support::Gather;
use crate::dispatch::{Outcome, RequestContext};
use crate::transaction::entry::Identity;
use crate::transaction::environment::Marker;
use crate::transaction::service::TransactionAccess;

pub(crate) fn serve(access: &TransactionAccess, context: &RequestContext, request: WriteTxnMarkersRequest) -> Outcome {
    let markers: Vec<Marker> = request.markers.iter().flat_map(markers_of).collect();
    if markers.is_empty() {
        return response(request.markers, &[]).into();
    }
    let build = move |results: Vec<ErrorCode>| response(request.markers, &results);
    let gather = Gather::new(markers.len(), context.defer(), build);
    for (index, marker) in markers.iter().enumerate() {
        let gather = Arc::clone(&gather);
        let done = move |written: Result<(), ErrorCode>| {
            // The group coordinator's words for a partition that is not here (yet).
            let error = match written.err().unwrap_or(ErrorCode::None) {
                ErrorCode::CoordinatorNotAvailable
                | ErrorCode::CoordinatorLoadInProgress
                | ErrorCode::NotCoordinator => ErrorCode::NotLeaderOrFollower,
                other => other,
            };
            gather.settle(index, error);
        };
        access.environment.write_marker(marker, Box::new(done));
    }
    Outcome::Deferred
}

fn markers_of(marker: &WritableTxnMarker) -> Vec<Marker> {
    let identity = Identity { producer_id: marker.producer_id, epoch: marker.producer_epoch };
    let partitions =
        marker.topics.iter().flat_map(|(name, indexes)| indexes.iter().map(move |index| (Arc::clone(name), *index)));
    partitions
        .map(|partition| Marker {
            partition,
            identity,
            commit: marker.transaction_result,
            coordinator_epoch: marker.coordinator_epoch,
            transaction_version: i16::from(marker.transaction_version),
        })
        .collect()
}

fn response(markers: Vec<WritableTxnMarker>, results: &[ErrorCode]) -> Response {
    let mut results = results.iter().copied();
    let markers = markers.into_iter().map(|marker| {
        let mut topics = Vec::with_capacity(marker.topics.len());
        for (name, indexes) in marker.topics {
            let partitions = indexes.iter().map(|index| {
                WritableTxnMarkerPartitionResult::default()
                    .with_partition_index(*index)
                    .with_error_code(results.next().unwrap_or(ErrorCode::UnknownServerError).code())
            });
            let partitions = partitions.collect();
            topics
                .push(WritableTxnMarkerTopicResult::default().with_name(topic_name(&name)).with_partitions(partitions));
        }
        WritableTxnMarkerResult::default().with_producer_id(ProducerId(marker.producer_id)).with_topics(topics)
    });
    WriteTxnMarkersResponse(messages::WriteTxnMarkersResponse::default().with_markers(markers.collect())).into()
}
