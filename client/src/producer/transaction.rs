//! A transactional producer's part of the protocol: what is asked of the transaction coordinator, one request at a time, and
//! where the transaction stands.
//!
//! ```text
//! New ─ init ─► Ready ─ begin ─► Open ─ commit, abort ─► Ending ─► Ready
//!                                 └─ failure ─► Failed ─ abort ─┘
//!                                                 └─ (fatal: stays)
//! ```
//!
//! Two protocols: with `transaction.version` 2 (KIP-890) brokers add partitions as they are written to, and the answer to
//! every end has the next epoch. Before, the producer adds partitions and groups itself and keeps its epoch; after a
//! transaction that lost batches it asks for the next epoch, because their sequence numbers are gone.
//!
//! Invariant: nothing is sent outside of an open transaction; a commit goes out only once every record is acknowledged.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use base::TopicPartition;
use protocol::api::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use protocol::api::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use protocol::api::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest, TransactionalId,
    TxnOffsetCommitRequest,
};
use protocol::api::{ApiKey, ErrorCode, Request, Response};

use super::accumulator::{Identity, Place, Topic};
use super::config::ProducerConfig;
use crate::connection::{Call, Connection};
use crate::consumer::{GroupMetadata, OffsetAndMetadata};
use crate::coordinator::CoordinatorKind;
use crate::error::ClientError;
use crate::retry::Backoff;
use crate::wire::{self, expect_response, text};

/// From this level of `transaction.version` on brokers add partitions, and every end raises the epoch.
const LEVEL_THAT_BUMPS: i16 = 2;
/// While the last transaction's markers are on their way.
const CONCURRENT_WAIT_MS: i64 = 20;

/// Where the transaction stands.
#[derive(Clone, Debug)]
pub(super) enum State {
    New,
    Ready,
    Open,
    Ending,
    /// Only an abort helps.
    Failed(ClientError),
    /// Nothing helps but another producer.
    Dead(ClientError),
}

/// What the owner has asked for and not been told the end of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Init,
    SendOffsets,
    Commit,
    Abort,
}

/// One request to a coordinator.
#[derive(Clone, Debug)]
pub(super) enum Work {
    Init { own: Option<Identity> },
    AddPartitions(Vec<Place>),
    AddOffsets(Arc<GroupMetadata>),
    CommitOffsets(Arc<GroupMetadata>, Arc<[(TopicPartition, OffsetAndMetadata)]>),
    End { commit: bool },
}

impl Work {
    pub(super) fn coordinator<'a>(&'a self, id: &'a str) -> (CoordinatorKind, &'a str) {
        match self {
            Self::CommitOffsets(group, _) => (CoordinatorKind::Group, &group.group_id),
            _ => (CoordinatorKind::Transaction, id),
        }
    }

    const fn doing(&self) -> &'static str {
        match self {
            Self::Init { .. } => "initialising the transactional id",
            Self::AddPartitions(_) => "adding partitions to the transaction",
            Self::AddOffsets(_) => "adding a group's offsets to the transaction",
            Self::CommitOffsets(..) => "sending offsets to the transaction",
            Self::End { commit: true } => "committing the transaction",
            Self::End { commit: false } => "aborting the transaction",
        }
    }
}

/// What an answer means.
enum Verdict {
    Done(Option<Identity>),
    /// To be asked again after this many ms, of a coordinator found anew if so.
    Again {
        after_ms: Option<i64>,
        moved: bool,
    },
    Abortable(ClientError),
    Fatal(ClientError),
}

/// See the module.
pub(super) struct Transaction {
    pub(super) id: Arc<str>,
    timeout_ms: i32,
    pub(super) state: State,
    pub(super) operation: Option<Operation>,
    pub(super) result: Option<Result<(), ClientError>>,
    pub(super) identity: Option<Identity>,
    /// The newer protocol.
    pub(super) bumps: bool,
    /// Partitions that the coordinator knows of (older protocol).
    added: BTreeSet<Place>,
    to_add: BTreeSet<Place>,
    /// Something of the open transaction may have reached a broker.
    pub(super) touched: bool,
    /// Sequence numbers were lost: the next transaction needs the next epoch.
    pub(super) needs_bump: bool,
    pub(super) queue: VecDeque<Work>,
    pub(super) under_way: Option<(Work, Call)>,
    pub(super) retry_at: i64,
    pub(super) backoff: Backoff,
}

impl Transaction {
    pub(super) fn new(id: &str, config: &ProducerConfig) -> Self {
        Self {
            id: Arc::from(id),
            timeout_ms: config.transaction_timeout_ms,
            state: State::New,
            operation: None,
            result: None,
            identity: None,
            bumps: false,
            added: BTreeSet::new(),
            to_add: BTreeSet::new(),
            touched: false,
            needs_bump: false,
            queue: VecDeque::new(),
            under_way: None,
            retry_at: i64::MIN,
            backoff: Backoff::new(config.retry_backoff_ms, config.retry_backoff_max_ms),
        }
    }

    /// Whether records are taken now.
    pub(super) fn takes_records(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Why they are not.
    pub(super) fn refusal(&self) -> ClientError {
        match &self.state {
            State::Failed(error) | State::Dead(error) => error.clone(),
            State::New => ClientError::Invalid("call init_transactions first".into()),
            State::Ready => ClientError::Invalid("no transaction is open: begin one".into()),
            State::Ending => ClientError::Invalid("the transaction is being ended: wait for that".into()),
            State::Open => ClientError::Invalid("a transaction is open already".into()),
        }
    }

    /// Whether a batch of the partition may go out; if not yet, the coordinator is told of the partition first.
    pub(super) fn may_send(&mut self, place: Place) -> bool {
        match self.state {
            State::Open => {}
            State::Ending if self.operation == Some(Operation::Commit) => {}
            _ => return false,
        }
        if self.bumps || self.added.contains(&place) {
            return true;
        }
        self.to_add.insert(place);
        false
    }

    /// The next request, if it is time for one: an end only once everything before it is `settled`.
    pub(super) fn next_work(&mut self, settled: bool) -> Option<Work> {
        let open = matches!(self.state, State::Open | State::Ending) && self.operation != Some(Operation::Abort);
        if !self.to_add.is_empty() && open {
            let places = std::mem::take(&mut self.to_add).into_iter().collect();
            return Some(Work::AddPartitions(places));
        }
        if matches!(self.queue.front(), Some(Work::End { .. })) && !settled {
            return None;
        }
        self.queue.pop_front()
    }

    /// Starts an operation of the owner; the same one again goes on with what is under way.
    pub(super) fn start(&mut self, operation: Operation) -> Result<bool, ClientError> {
        if self.operation == Some(operation) {
            return Ok(false);
        }
        if let State::Dead(error) = &self.state {
            return Err(error.clone());
        }
        if self.operation.is_some() {
            return Err(ClientError::Invalid("another call on the transaction is under way: wait for it".into()));
        }
        let allowed = match operation {
            Operation::Init => matches!(self.state, State::New),
            Operation::SendOffsets | Operation::Commit => matches!(self.state, State::Open),
            Operation::Abort => matches!(self.state, State::Open | State::Failed(_)),
        };
        if !allowed {
            return Err(match (&self.state, operation) {
                (State::Ready, Operation::Init) => ClientError::Invalid("transactions are initialised already".into()),
                _ => self.refusal(),
            });
        }
        self.result = None;
        self.operation = Some(operation);
        Ok(true)
    }

    /// Begins a transaction.
    pub(super) fn begin(&mut self) -> Result<(), ClientError> {
        if !matches!(self.state, State::Ready) || self.operation.is_some() {
            return Err(match &self.state {
                State::Ready => ClientError::Invalid("the transaction is being ended: wait for that".into()),
                _ => self.refusal(),
            });
        }
        self.state = State::Open;
        self.touched = false;
        self.added.clear();
        self.to_add.clear();
        Ok(())
    }

    /// Ends the transaction: what has to be asked for that.
    pub(super) fn end(&mut self, commit: bool) {
        self.state = State::Ending;
        if !commit {
            // What was planned for it is of no use any more.
            self.queue.clear();
            self.to_add.clear();
        }
        self.queue.push_back(Work::End { commit });
    }

    /// Whether the coordinator has nothing of this transaction, so that its end need not be said.
    pub(super) fn is_empty(&self, commit: bool) -> bool {
        match self.bumps {
            // An abort raises the epoch, which keeps out what may still be on its way.
            true => !self.touched && (commit || !self.needs_bump),
            false => self.added.is_empty() && !self.touched,
        }
    }

    /// The operation is over.
    pub(super) fn finish(&mut self, result: Result<(), ClientError>) {
        if self.operation.take().is_some() {
            self.result = Some(result);
        }
    }

    /// The transaction can only be aborted.
    pub(super) fn fail(&mut self, error: ClientError) {
        if self.operation == Some(Operation::Abort) || matches!(self.state, State::Failed(_) | State::Dead(_)) {
            return;
        }
        if matches!(self.state, State::New | State::Ready) {
            return self.finish(Err(error));
        }
        let error = match error {
            abortable @ ClientError::Abortable { .. } => abortable,
            other => ClientError::Abortable { code: other.code(), reason: other.to_string() },
        };
        self.state = State::Failed(error.clone());
        self.queue.clear();
        self.to_add.clear();
        self.finish(Err(error));
    }

    /// The producer is of no use any more.
    pub(super) fn kill(&mut self, error: ClientError) {
        self.state = State::Dead(error.clone());
        self.queue.clear();
        self.to_add.clear();
        self.finish(Err(error));
    }

    /// The end is done: the next transaction can begin.
    pub(super) fn ended(&mut self) {
        self.state = State::Ready;
        self.needs_bump = false;
        self.touched = false;
        self.added.clear();
        self.finish(Ok(()));
    }

    /// The request for `work`, in a version that `connection` has.
    pub(super) fn request(
        &mut self,
        work: &Work,
        connection: &Connection,
        topics: &[Topic],
    ) -> Result<(Request, i16), ClientError> {
        let id = TransactionalId(text(&self.id));
        let identity = self.identity.unwrap_or(Identity::NONE);
        self.touched |= matches!(work, Work::AddPartitions(_) | Work::AddOffsets(_));
        Ok(match work {
            Work::Init { own } => {
                self.bumps = connection.feature("transaction.version") >= LEVEL_THAT_BUMPS
                    && connection.version(ApiKey::EndTxn).is_ok_and(|version| version >= 5);
                let lowest = if own.is_some() { 3 } else { 0 };
                let own = own.unwrap_or(Identity::NONE);
                let request = InitProducerIdRequest::default()
                    .with_transactional_id(Some(id))
                    .with_transaction_timeout_ms(self.timeout_ms)
                    .with_producer_id(own.id.into())
                    .with_producer_epoch(own.epoch);
                (request.into(), connection.version_within(ApiKey::InitProducerId, lowest, i16::MAX)?)
            }
            Work::AddPartitions(places) => {
                let mut named: Vec<AddPartitionsToTxnTopic> = Vec::new();
                for place in places {
                    let Some(topic) = topics.get(place.topic as usize) else { continue };
                    let partition = place.partition as i32;
                    match named.last_mut() {
                        Some(last) if last.name.as_str() == topic.name.as_ref() => last.partitions.push(partition),
                        _ => named.push(
                            AddPartitionsToTxnTopic::default()
                                .with_name(wire::topic(&topic.name))
                                .with_partitions(vec![partition]),
                        ),
                    }
                }
                let request = AddPartitionsToTxnRequest::default()
                    .with_v3_and_below_transactional_id(id)
                    .with_v3_and_below_producer_id(identity.id.into())
                    .with_v3_and_below_producer_epoch(identity.epoch)
                    .with_v3_and_below_topics(named);
                (request.into(), connection.version_within(ApiKey::AddPartitionsToTxn, 0, 3)?)
            }
            Work::AddOffsets(group) => {
                let request = AddOffsetsToTxnRequest::default()
                    .with_transactional_id(id)
                    .with_producer_id(identity.id.into())
                    .with_producer_epoch(identity.epoch)
                    .with_group_id(text(&group.group_id).into());
                (request.into(), connection.version(ApiKey::AddOffsetsToTxn)?)
            }
            Work::CommitOffsets(group, offsets) => {
                let (lowest, highest) = if self.bumps { (5, i16::MAX) } else { (0, 4) };
                let version = connection.version_within(ApiKey::TxnOffsetCommit, lowest, highest)?;
                let mut request = TxnOffsetCommitRequest::default()
                    .with_transactional_id(id)
                    .with_group_id(text(&group.group_id).into())
                    .with_producer_id(identity.id.into())
                    .with_producer_epoch(identity.epoch)
                    .with_topics(offset_topics(offsets, version));
                if version >= 3 {
                    request = request
                        .with_generation_id(group.generation)
                        .with_member_id(text(&group.member_id))
                        .with_group_instance_id(group.group_instance_id.as_deref().map(text));
                }
                (request.into(), version)
            }
            Work::End { commit } => {
                let (lowest, highest) = if self.bumps { (5, i16::MAX) } else { (0, 4) };
                let request = EndTxnRequest::default()
                    .with_transactional_id(id)
                    .with_producer_id(identity.id.into())
                    .with_producer_epoch(identity.epoch)
                    .with_committed(*commit);
                (request.into(), connection.version_within(ApiKey::EndTxn, lowest, highest)?)
            }
        })
    }

    /// Takes up the answer to `work`; the result says whether the coordinator must be found anew, and when it is to be
    /// asked again, if at all.
    pub(super) fn answered(
        &mut self,
        work: Work,
        answer: Result<Response, ClientError>,
    ) -> Option<(bool, Option<i64>)> {
        let verdict = match answer {
            Ok(response) => self.judge(&work, response),
            // Asked again, the coordinator says what became of it.
            Err(ClientError::Timeout { .. } | ClientError::Transport(_)) => {
                Verdict::Again { after_ms: None, moved: true }
            }
            Err(error) => Verdict::Fatal(error),
        };
        match verdict {
            Verdict::Done(identity) => {
                self.backoff.reset();
                self.done(work, identity);
                None
            }
            Verdict::Again { after_ms, moved } => {
                self.queue.push_front(work);
                Some((moved, after_ms))
            }
            Verdict::Abortable(error) => {
                self.fail(error);
                None
            }
            Verdict::Fatal(error) => {
                self.kill(error);
                None
            }
        }
    }

    fn done(&mut self, work: Work, identity: Option<Identity>) {
        match work {
            Work::Init { own } => {
                self.identity = identity;
                if own.is_some() {
                    return self.ended();
                }
                self.state = State::Ready;
                self.finish(Ok(()));
            }
            Work::AddPartitions(places) => self.added.extend(places),
            Work::AddOffsets(_) => {}
            Work::CommitOffsets(..) => {
                if self.operation == Some(Operation::SendOffsets) {
                    self.finish(Ok(()));
                }
            }
            Work::End { .. } => {
                if self.bumps {
                    self.identity = identity.or(self.identity);
                } else if self.needs_bump {
                    self.queue.push_back(Work::Init { own: self.identity });
                    return;
                }
                self.ended();
            }
        }
    }

    fn judge(&self, work: &Work, response: Response) -> Verdict {
        let read = |error: i16, identity: Option<Identity>| (ErrorCode::from_code(error), identity);
        let read = match (work, response) {
            (Work::Init { .. }, Response::InitProducerId(init)) => {
                let identity = Identity { id: init.producer_id.0, epoch: init.producer_epoch };
                Ok(read(init.error_code, Some(identity)))
            }
            (Work::AddPartitions(_), Response::AddPartitionsToTxn(added)) => {
                let topics = added.results_by_topic_v3_and_below.iter();
                let codes = topics.flat_map(|topic| &topic.results_by_partition).map(|one| one.partition_error_code);
                Ok(read(worst(codes), None))
            }
            (Work::AddOffsets(_), Response::AddOffsetsToTxn(added)) => Ok(read(added.error_code, None)),
            (Work::CommitOffsets(..), Response::TxnOffsetCommit(committed)) => {
                let codes = committed.topics.iter().flat_map(|topic| &topic.partitions).map(|one| one.error_code);
                Ok(read(worst(codes), None))
            }
            (Work::End { .. }, Response::EndTxn(ended)) => {
                let identity = Identity { id: ended.producer_id.0, epoch: ended.producer_epoch };
                Ok(read(ended.error_code, (identity.id >= 0).then_some(identity)))
            }
            (_, other) => expect_response!(other, EndTxn, "the coordinator").map(|_| (ErrorCode::None, None)),
        };
        match read {
            Ok((ErrorCode::None, identity)) => Verdict::Done(identity),
            Ok((code, _)) => self.refused(work, code),
            Err(error) => Verdict::Fatal(error),
        }
    }

    fn refused(&self, work: &Work, code: ErrorCode) -> Verdict {
        let what = || format!("{} {}", work.doing(), self.id);
        let abortable = || {
            Verdict::Abortable(ClientError::Abortable {
                code: Some(code),
                reason: format!("{}: {}", what(), code.name()),
            })
        };
        let nothing_there = matches!(work, Work::End { commit: false }) && !self.bumps && self.added.is_empty();
        match code {
            // The answer that would have told that something was added got lost, and so did the request.
            ErrorCode::InvalidTxnState if nothing_there => Verdict::Done(None),
            ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable | ErrorCode::RequestTimedOut => {
                Verdict::Again { after_ms: None, moved: true }
            }
            ErrorCode::ConcurrentTransactions => Verdict::Again { after_ms: Some(CONCURRENT_WAIT_MS), moved: false },
            ErrorCode::ProducerFenced | ErrorCode::InvalidProducerEpoch => Verdict::Fatal(fenced(&self.id, code)),
            ErrorCode::TransactionAbortable
            | ErrorCode::UnknownMemberId
            | ErrorCode::IllegalGeneration
            | ErrorCode::FencedInstanceId
            | ErrorCode::GroupAuthorizationFailed
            | ErrorCode::TopicAuthorizationFailed
            | ErrorCode::OffsetMetadataTooLarge
            | ErrorCode::OperationNotAttempted => abortable(),
            code if code.is_retriable() => Verdict::Again { after_ms: None, moved: false },
            code => Verdict::Fatal(ClientError::broker(what(), code, None)),
        }
    }
}

/// Another producer has this one's transactional id.
pub(super) fn fenced(id: &str, code: ErrorCode) -> ClientError {
    ClientError::Fenced(format!("transactional id {id} was taken over by a newer producer ({})", code.name()))
}

/// Of the errors of several partitions the one that says most: nothing was attempted because of the others.
fn worst(codes: impl Iterator<Item = i16>) -> i16 {
    let mut worst = 0;
    for code in codes.filter(|code| *code != 0) {
        if worst == 0 || worst == ErrorCode::OperationNotAttempted.code() {
            worst = code;
        }
    }
    worst
}

fn offset_topics(offsets: &[(TopicPartition, OffsetAndMetadata)], version: i16) -> Vec<TxnOffsetCommitRequestTopic> {
    let mut topics: Vec<TxnOffsetCommitRequestTopic> = Vec::new();
    for (place, offset) in offsets {
        let mut partition = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(place.partition)
            .with_committed_offset(offset.offset)
            .with_committed_metadata(Some(text(&offset.metadata)));
        if version >= 2 {
            partition = partition.with_committed_leader_epoch(offset.leader_epoch);
        }
        match topics.iter_mut().find(|topic| topic.name.as_str() == place.topic.as_ref()) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(
                TxnOffsetCommitRequestTopic::default()
                    .with_name(wire::topic(&place.topic))
                    .with_partitions(vec![partition]),
            ),
        }
    }
    topics
}
