//! The producer's identity for idempotent writes: asked for once, its epoch raised when a sequence is refused for good.

use std::task::Waker;

use base::{Now, Rng};
use protocol::api::messages::InitProducerIdRequest;
use protocol::api::{ApiKey, ErrorCode, Request};

use super::accumulator::Identity;
use crate::client::{Client, Lane, Lookup, Target};
use crate::connection::Call;
use crate::error::ClientError;
use crate::retry::Backoff;
use crate::wire::expect_response;

/// Where the identity stands.
pub(super) enum State {
    /// Idempotence is off.
    Off,
    /// To be asked for, from this tick on.
    Ask(i64),
    Asked(Box<Call>),
    Known(Identity),
}

pub(super) struct ProducerIdentity {
    pub state: State,
    backoff: Backoff,
}

impl ProducerIdentity {
    pub(super) fn new(idempotent: bool, backoff: Backoff) -> Self {
        Self { state: if idempotent { State::Ask(i64::MIN) } else { State::Off }, backoff }
    }

    /// The identity to send under; asks for one if there is none.
    pub(super) fn step(
        &mut self,
        client: &Client,
        lane: &Lane,
        now: Now,
        waker: &Waker,
        rng: &mut Rng,
    ) -> Lookup<Option<Identity>> {
        loop {
            match &mut self.state {
                State::Off => return Lookup::Ready(None),
                State::Known(identity) => return Lookup::Ready(Some(*identity)),
                State::Ask(from) if now.ticks_ms < *from => return Lookup::Wait { until_ticks_ms: Some(*from) },
                State::Ask(_) => {
                    let connection = match client.connection(lane, Target::Any, now, waker) {
                        Lookup::Ready(connection) => connection,
                        Lookup::Wait { until_ticks_ms } => return Lookup::Wait { until_ticks_ms },
                        Lookup::Failed(error) => return Lookup::Failed(error),
                    };
                    let version = match connection.version(ApiKey::InitProducerId) {
                        Ok(version) => version,
                        Err(error) => return Lookup::Failed(error),
                    };
                    let mut request = InitProducerIdRequest::default();
                    // The generated default is an empty id, which brokers refuse.
                    request.transactional_id = None;
                    request.transaction_timeout_ms = i32::MAX;
                    request.producer_id = (-1).into();
                    request.producer_epoch = -1;
                    let call = connection.send(Request::InitProducerId(request), version, now);
                    self.state = State::Asked(Box::new(call));
                }
                State::Asked(call) => {
                    let Some(result) = call.poll(now, waker) else {
                        return Lookup::Wait { until_ticks_ms: Some(call.deadline_ticks_ms()) };
                    };
                    let address = call.connection().address();
                    let answer = result.and_then(|response| expect_response!(response, InitProducerId, address));
                    match answer.and_then(|response| match ErrorCode::from_code(response.error_code) {
                        ErrorCode::None => Ok(Identity { id: response.producer_id.0, epoch: response.producer_epoch }),
                        code => Err(ClientError::broker("asking for a producer id", code, None)),
                    }) {
                        Ok(identity) => {
                            self.backoff.reset();
                            self.state = State::Known(identity);
                        }
                        Err(error) => {
                            let wait_ms = self.backoff.next_ms(rng).max(1);
                            self.state = State::Ask(now.ticks_ms.saturating_add(wait_ms));
                            let passing = error.is_retriable()
                                || matches!(error, ClientError::Transport(_))
                                || error.code() == Some(ErrorCode::ConcurrentTransactions);
                            if !passing {
                                return Lookup::Failed(error);
                            }
                        }
                    }
                }
            }
        }
    }

    /// The next epoch, as Kafka's idempotent producers raise it without asking; a new id once epochs are used up.
    pub(super) fn raise_epoch(&mut self) {
        if let State::Known(identity) = &mut self.state {
            match identity.epoch.checked_add(1) {
                Some(epoch) if epoch < i16::MAX => identity.epoch = epoch,
                _ => self.state = State::Ask(i64::MIN),
            }
        }
    }
}
