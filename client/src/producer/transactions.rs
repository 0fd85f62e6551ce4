//! Transactions of a [`ProducerCore`]: the owner's calls, and the step that asks the coordinator.

use std::sync::Arc;
use std::task::Waker;

use base::{Now, TopicPartition};

use super::accumulator::Body;
use super::core::ProducerCore;
use super::transaction::{Operation, State, Transaction, Work};
use crate::client::{Lookup, Target};
use crate::consumer::{GroupMetadata, OffsetAndMetadata};
use crate::error::ClientError;

/// What a step of the transaction did.
#[derive(Default)]
pub(super) struct TransactionStep {
    pub(super) did_work: bool,
    pub(super) due: Option<i64>,
}

impl ProducerCore {
    fn transaction(&mut self) -> Result<&mut Transaction, ClientError> {
        let missing = || ClientError::Config("transactions need the setting transactional.id".into());
        self.transaction.as_mut().ok_or_else(missing)
    }

    /// Begins to take over the transactional id, which fences whoever wrote under it before and ends his transaction.
    /// Once, before the first transaction; step until [`ProducerCore::take_transaction_result`] says how it went.
    ///
    /// # Errors
    /// `Config` without `transactional.id`; `Invalid` if it was done before.
    pub fn init_transactions(&mut self) -> Result<(), ClientError> {
        let transaction = self.transaction()?;
        if transaction.start(Operation::Init)? {
            transaction.queue.push_back(Work::Init { own: None });
        }
        Ok(())
    }

    /// Begins a transaction: records sent from here on are part of it.
    ///
    /// # Errors
    /// `Invalid` unless transactions are initialised and none is open; `Abortable` if one has failed and must be aborted
    /// first; `Fenced` if a newer producer has the transactional id.
    pub fn begin_transaction(&mut self) -> Result<(), ClientError> {
        self.transaction()?.begin()
    }

    /// Begins to send a group's offsets, which are committed if the transaction is. Step until
    /// [`ProducerCore::take_transaction_result`] says how it went.
    ///
    /// # Errors
    /// As [`ProducerCore::begin_transaction`].
    pub fn send_offsets_to_transaction(
        &mut self,
        offsets: &[(TopicPartition, OffsetAndMetadata)],
        group: &GroupMetadata,
    ) -> Result<(), ClientError> {
        let transaction = self.transaction()?;
        if !transaction.start(Operation::SendOffsets)? {
            return Ok(());
        }
        if offsets.is_empty() {
            transaction.finish(Ok(()));
            return Ok(());
        }
        let group = Arc::new(group.clone());
        transaction.touched |= transaction.bumps;
        if !transaction.bumps {
            transaction.queue.push_back(Work::AddOffsets(Arc::clone(&group)));
        }
        transaction.queue.push_back(Work::CommitOffsets(group, offsets.into()));
        Ok(())
    }

    /// Begins to commit the transaction: sends what is open, waits until all is acknowledged, then commits. Step until
    /// [`ProducerCore::take_transaction_result`] says how it went.
    ///
    /// # Errors
    /// As [`ProducerCore::begin_transaction`].
    pub fn commit_transaction(&mut self) -> Result<(), ClientError> {
        if self.transaction()?.start(Operation::Commit)? {
            self.begin_flush();
            self.transaction()?.end(true);
        }
        Ok(())
    }

    /// Begins to abort the transaction: drops what was not sent. Step until [`ProducerCore::take_transaction_result`] says
    /// how it went.
    ///
    /// # Errors
    /// `Invalid` without an open transaction; `Fenced` if a newer producer has the transactional id.
    pub fn abort_transaction(&mut self) -> Result<(), ClientError> {
        if self.transaction()?.start(Operation::Abort)? {
            self.transaction()?.end(false);
            self.drop_unsent(&ClientError::Invalid("the transaction was aborted".into()));
        }
        Ok(())
    }

    /// How the last call on the transaction ended, once; `None` while it is under way.
    ///
    /// `Abortable` asks for [`ProducerCore::abort_transaction`]; `Fenced` and everything else for another producer.
    pub fn take_transaction_result(&mut self) -> Option<Result<(), ClientError>> {
        self.transaction.as_mut()?.result.take()
    }

    /// Whether a transaction is open, or has failed and waits for its abort.
    pub fn in_transaction(&self) -> bool {
        let state = self.transaction.as_ref().map(|transaction| &transaction.state);
        matches!(state, Some(State::Open | State::Ending | State::Failed(_)))
    }

    /// Why the open transaction cannot be committed; `None` while it can, and without one.
    pub fn transaction_error(&self) -> Option<&ClientError> {
        match self.transaction.as_ref().map(|transaction| &transaction.state) {
            Some(State::Failed(error) | State::Dead(error)) => Some(error),
            _ => None,
        }
    }

    /// Gives up all batches that are not under way.
    fn drop_unsent(&mut self, error: &ClientError) {
        self.begin_flush();
        let listed = std::mem::take(&mut self.listed);
        for place in &listed {
            let partition = &mut self.topics[place.topic as usize].partitions[place.partition as usize];
            partition.listed = false;
            let built = partition.queue.iter().any(|batch| matches!(batch.body, Body::Built(_)));
            if let Some(transaction) = &mut self.transaction
                && built
            {
                transaction.needs_bump = true;
            }
        }
        self.fail_places(&listed, error);
    }

    /// Asks the coordinator what is to be asked, and takes up its answer.
    pub(super) fn step_transaction(&mut self, now: Now, waker: &Waker) -> TransactionStep {
        let mut step = TransactionStep::default();
        let Some(state) = self.transaction.as_ref().map(|transaction| transaction.state.clone()) else { return step };
        if let State::Failed(error) | State::Dead(error) = state
            && !self.listed.is_empty()
        {
            self.drop_unsent(&error);
            step.did_work = true;
        }
        step.did_work |= self.poll_coordinator(now, waker);
        loop {
            let settled = self.unacked == 0 && self.calls.is_empty();
            let Some(transaction) = &mut self.transaction else { return step };
            if let Some((_, call)) = &transaction.under_way {
                step.due = Some(call.deadline_ticks_ms());
                return step;
            }
            if now.ticks_ms < transaction.retry_at {
                step.due = Some(transaction.retry_at);
                return step;
            }
            let Some(work) = transaction.next_work(settled) else { return step };
            if let Work::End { commit } = work
                && transaction.is_empty(commit)
            {
                transaction.ended();
                step.did_work = true;
                continue;
            }
            match self.ask_coordinator(work, now, waker) {
                Asked::Sent => {
                    step.did_work = true;
                    self.poll_coordinator(now, waker);
                }
                Asked::Wait(until) => {
                    step.due = until;
                    return step;
                }
                Asked::Failed => {
                    step.did_work = true;
                    return step;
                }
            }
        }
    }

    fn poll_coordinator(&mut self, now: Now, waker: &Waker) -> bool {
        let Some(transaction) = &mut self.transaction else { return false };
        let Some((_, call)) = &mut transaction.under_way else { return false };
        let Some(answer) = call.poll(now, waker) else { return false };
        let Some((work, _)) = transaction.under_way.take() else { return false };
        let (kind, key) = work.coordinator(&transaction.id);
        let key = key.to_owned();
        if let Some((moved, after_ms)) = transaction.answered(work, answer) {
            let wait_ms = after_ms.unwrap_or_else(|| transaction.backoff.next_ms(&mut self.rng)).max(1);
            transaction.retry_at = now.ticks_ms.saturating_add(wait_ms);
            if moved {
                self.client.forget_coordinator(kind, &key);
            }
        }
        true
    }

    fn ask_coordinator(&mut self, work: Work, now: Now, waker: &Waker) -> Asked {
        let Some(transaction) = &mut self.transaction else { return Asked::Failed };
        let (kind, key) = work.coordinator(&transaction.id);
        let found = match self.client.coordinator(kind, key, now, waker) {
            Lookup::Ready(node) => self.client.connection(&self.lane, Target::Node(node), now, waker),
            Lookup::Wait { until_ticks_ms } => Lookup::Wait { until_ticks_ms },
            Lookup::Failed(error) => Lookup::Failed(error),
        };
        let connection = match found {
            Lookup::Ready(connection) => connection,
            Lookup::Wait { until_ticks_ms } => {
                transaction.queue.push_front(work);
                return Asked::Wait(until_ticks_ms);
            }
            Lookup::Failed(error) => {
                transaction.kill(error);
                return Asked::Failed;
            }
        };
        match transaction.request(&work, &connection, &self.topics) {
            Ok((request, version)) => {
                let call = connection.send_within(request, version, self.config.request_timeout_ms, now);
                transaction.under_way = Some((work, call));
                Asked::Sent
            }
            Err(error) => {
                transaction.kill(error);
                Asked::Failed
            }
        }
    }
}

enum Asked {
    Sent,
    /// Until this tick, or until woken.
    Wait(Option<i64>),
    Failed,
}
