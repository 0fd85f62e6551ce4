//! ListTransactions: all transactional ids, by state, producer, age and name if asked.

use protocol::api::messages::list_transactions_response::TransactionState as Listed;
use protocol::api::messages::{ListTransactionsRequest, ListTransactionsResponse, ProducerId};
use protocol::api::{ErrorCode, Response};
use regex::{Regex, RegexBuilder};

use super::group_support::wire;
use crate::dispatch::{Outcome, RequestContext};
use crate::transaction::records::{TransactionState, TransactionValue};
use crate::transaction::service::TransactionAccess;

/// Bytes that the compiled form of a client's pattern may take.
const PATTERN_BYTES: usize = 1 << 20;

struct Filter {
    /// `None`: any.
    states: Option<Vec<TransactionState>>,
    producers: Vec<i64>,
    /// In ms; negative for any.
    duration_ms: i64,
    pattern: Option<Regex>,
    now_ms: i64,
}

impl Filter {
    fn passes(&self, id: &str, value: &TransactionValue) -> bool {
        self.states.as_ref().is_none_or(|states| states.contains(&value.state))
            && (self.producers.is_empty() || self.producers.contains(&value.producer_id))
            && (self.duration_ms < 0
                || value.start_ms >= 0 && self.now_ms.saturating_sub(value.start_ms) > self.duration_ms)
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(id))
    }
}

pub(crate) fn serve(access: &TransactionAccess, context: &RequestContext, request: ListTransactionsRequest) -> Outcome {
    let mut response = ListTransactionsResponse::default();
    let mut states = Vec::new();
    for name in &request.state_filters {
        match TransactionState::from_name(name) {
            Some(state) => states.push(state),
            None => response.unknown_state_filters.push(name.clone()),
        }
    }
    let pattern = match request.transactional_id_pattern.as_deref().filter(|pattern| !pattern.is_empty()) {
        None => None,
        Some(pattern) => {
            // The whole id must match.
            let whole = format!("^(?:{pattern})$");
            match RegexBuilder::new(&whole).size_limit(PATTERN_BYTES).build() {
                Ok(pattern) => Some(pattern),
                Err(_) => {
                    response.error_code = ErrorCode::InvalidRegularExpression.code();
                    return Response::from(response).into();
                }
            }
        }
    };
    let filter = Filter {
        states: (!request.state_filters.is_empty()).then_some(states),
        producers: request.producer_id_filters.iter().map(|id| id.0).collect(),
        duration_ms: if context.version >= 1 { request.duration_filter } else { -1 },
        pattern,
        now_ms: context.now.wall_ms,
    };
    let read = access.coordinator.read_all(&access.environment, |shard| {
        for (id, entry) in shard.entries() {
            let value = entry.value();
            if value.producer_epoch != -1 && filter.passes(id, value) {
                response.transaction_states.push(
                    Listed::default()
                        .with_transactional_id(wire(id).into())
                        .with_producer_id(ProducerId(value.producer_id))
                        .with_transaction_state(wire(value.state.name())),
                );
            }
        }
    });
    if let Err(error) = read {
        response.error_code = error.code();
        response.transaction_states.clear();
    }
    Response::from(response).into()
}
