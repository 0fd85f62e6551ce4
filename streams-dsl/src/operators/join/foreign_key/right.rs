//! The right side of a foreign-key join: keeps subscriptions, and answers to them and to each update of the right table.

use std::rc::Rc;

use streams_core::{
    BoxError, Change, Headers, Processor, ProcessorContext, Record, SerdeRef, TimestampedKeyValueStore,
    ValueAndTimestamp,
};

use super::messages::{Instruction, Response, Subscription};
use crate::ktable::{Getter, GetterSupplier};

/// Subscriptions by [`Keys::of`].
type SubscriptionStore<K> = TimestampedKeyValueStore<Vec<u8>, Subscription<K>>;

/// Makes the keys of stored subscriptions.
pub(super) struct Keys<K, F> {
    pub(super) foreign: SerdeRef<F>,
    pub(super) primary: SerdeRef<K>,
    pub(super) registration: String,
    /// Told to the serdes: of foreign and of primary keys.
    pub(super) topics: (String, String),
}

impl<K, F> Keys<K, F> {
    fn init(&mut self, application: &str) {
        let topic = format!("{application}-{}", self.registration);
        self.topics = (format!("{topic}-fk"), format!("{topic}-pk"));
    }

    /// What the keys of all subscriptions to `foreign` begin with.
    fn prefix(&self, headers: &Headers, foreign: &F) -> Result<Vec<u8>, BoxError> {
        let mut bytes = vec![0; 4];
        self.foreign.serialize(&self.topics.0, headers, foreign, &mut bytes)?;
        let length = i32::try_from(bytes.len() - 4)?;
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        Ok(bytes)
    }

    fn of(&self, headers: &Headers, foreign: &F, primary: &K) -> Result<Vec<u8>, BoxError> {
        let mut bytes = self.prefix(headers, foreign)?;
        self.primary.serialize(&self.topics.1, headers, primary, &mut bytes)?;
        Ok(bytes)
    }
}

/// Stores subscriptions, or deletes them, and passes them on.
pub(super) struct Receive<K, F> {
    pub(super) store_name: String,
    pub(super) keys: Keys<K, F>,
    pub(super) store: Option<Rc<SubscriptionStore<K>>>,
}

impl<K, F> Processor<F, Subscription<K>, F, Subscription<K>> for Receive<K, F>
where
    K: Clone + 'static,
    F: Clone + 'static,
{
    fn init(&mut self, ctx: &mut ProcessorContext<F, Subscription<K>>) -> Result<(), BoxError> {
        self.keys.init(ctx.application_id());
        self.store = Some(ctx.timestamped_key_value_store(&self.store_name)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<F, Subscription<K>>,
        ctx: &mut ProcessorContext<F, Subscription<K>>,
    ) -> Result<(), BoxError> {
        let (Some(subscription), Some(store)) = (&record.value, &self.store) else {
            ctx.count_dropped();
            return Ok(());
        };
        match &record.key {
            Some(foreign) => {
                let key = self.keys.of(&record.headers, foreign, &subscription.primary_key)?;
                let is_deleted = matches!(subscription.instruction, Instruction::Delete | Instruction::DeleteAndAnswer);
                let kept = || ValueAndTimestamp::new(subscription.clone(), record.timestamp);
                store.put(&key, (!is_deleted).then(kept))?;
            }
            // A row of a left join that refers to nothing: there is nothing to keep, but it is answered.
            None if subscription.instruction == Instruction::Answer => {}
            None => {
                ctx.count_dropped();
                return Ok(());
            }
        }
        ctx.forward(record)
    }
}

/// Answers a subscription with the present value of its foreign key.
pub(super) struct AnswerSubscription<F, T> {
    pub(super) supplier: GetterSupplier<F, T>,
    pub(super) getter: Option<Getter<F, T>>,
}

impl<K, F, T> Processor<F, Subscription<K>, K, Response<T>> for AnswerSubscription<F, T>
where
    K: Clone + 'static,
    F: 'static,
    T: Clone + 'static,
{
    fn init(&mut self, ctx: &mut ProcessorContext<K, Response<T>>) -> Result<(), BoxError> {
        self.getter = Some((self.supplier)(ctx)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<F, Subscription<K>>,
        ctx: &mut ProcessorContext<K, Response<T>>,
    ) -> Result<(), BoxError> {
        let Record { key, value, timestamp, headers } = record;
        let (Some(subscription), Some(getter)) = (value, &self.getter) else { return Ok(()) };
        let found = match &key {
            Some(foreign) => getter(foreign)?,
            None => None,
        };
        let timestamp = found.as_ref().map_or(timestamp, |found| found.timestamp.max(timestamp));
        let value = match subscription.instruction {
            Instruction::Delete => return Ok(()),
            Instruction::AnswerValue if found.is_none() => return Ok(()),
            Instruction::DeleteAndAnswer => None,
            Instruction::Answer | Instruction::AnswerValue => found.map(|found| found.value),
        };
        let Subscription { hash, partition, primary_key, .. } = subscription;
        let response = Response { hash, value, partition };
        ctx.forward(Record { key: Some(primary_key), value: Some(response), timestamp, headers })
    }
}

/// Answers all subscriptions to a key with its new value.
pub(super) struct AnswerUpdate<K, F> {
    pub(super) store_name: String,
    pub(super) keys: Keys<K, F>,
    pub(super) is_versioned: bool,
    pub(super) store: Option<Rc<SubscriptionStore<K>>>,
}

impl<K, F, T> Processor<F, Change<T>, K, Response<T>> for AnswerUpdate<K, F>
where
    K: Clone + 'static,
    F: 'static,
    T: Clone + 'static,
{
    fn init(&mut self, ctx: &mut ProcessorContext<K, Response<T>>) -> Result<(), BoxError> {
        self.keys.init(ctx.application_id());
        self.store = Some(ctx.timestamped_key_value_store(&self.store_name)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<F, Change<T>>,
        ctx: &mut ProcessorContext<K, Response<T>>,
    ) -> Result<(), BoxError> {
        let Record { key, value, timestamp, headers } = record;
        let (Some(foreign), Some(Change { new, is_latest, .. }), Some(store)) = (&key, value, &self.store) else {
            ctx.count_dropped();
            return Ok(());
        };
        if self.is_versioned && !is_latest {
            ctx.count_dropped();
            return Ok(());
        }
        let prefix = self.keys.prefix(&headers, foreign)?;
        for entry in store.prefix_scan(&prefix) {
            let Subscription { hash, partition, primary_key, .. } = entry?.1.value;
            let response = Response { hash, value: new.clone(), partition };
            let key = Some(primary_key);
            ctx.forward(Record { key, value: Some(response), timestamp, headers: headers.clone() })?;
        }
        Ok(())
    }
}
