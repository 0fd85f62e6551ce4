//! The left side of a foreign-key join: subscribes to the foreign keys of its rows, and joins the responses.

use std::sync::Arc;

use streams_core::{BoxError, Change, Headers, Processor, ProcessorContext, Record, SerdeRef};

use super::messages::{Hash, Instruction, Response, Subscription, hash};
use super::{ForeignKey, Joiner};
use crate::ktable::{Getter, GetterSupplier};

/// Topic that the serde of the values to be hashed is told.
fn hash_topic(application: &str, registration: &str) -> String {
    format!("{application}-{registration}-vh")
}

fn hash_of<V>(
    serde: &SerdeRef<V>,
    topic: &str,
    headers: &Headers,
    value: Option<&V>,
) -> Result<Option<Hash>, BoxError> {
    let Some(value) = value else { return Ok(None) };
    let mut bytes = Vec::new();
    serde.serialize(topic, headers, value, &mut bytes)?;
    Ok(Some(hash(&bytes)))
}

/// Turns updates of the left table into subscriptions.
pub(super) struct Subscribe<K, V, F> {
    pub(super) foreign_key: ForeignKey<K, V, F>,
    pub(super) foreign_serde: SerdeRef<F>,
    pub(super) value_serde: SerdeRef<V>,
    pub(super) is_left: bool,
    pub(super) is_versioned: bool,
    pub(super) registration: String,
    /// Told to the serdes: of foreign keys, and of values to be hashed.
    pub(super) topics: (String, String),
}

impl<K, V, F> Subscribe<K, V, F> {
    fn bytes(&self, headers: &Headers, key: Option<&F>) -> Result<Option<Vec<u8>>, BoxError> {
        let Some(key) = key else { return Ok(None) };
        let mut bytes = Vec::new();
        self.foreign_serde.serialize(&self.topics.0, headers, key, &mut bytes)?;
        Ok(Some(bytes))
    }
}

impl<K, V, F> Processor<K, Change<V>, F, Subscription<K>> for Subscribe<K, V, F>
where
    K: Clone + 'static,
    V: 'static,
    F: Clone + 'static,
{
    fn init(&mut self, ctx: &mut ProcessorContext<F, Subscription<K>>) -> Result<(), BoxError> {
        let application = ctx.application_id();
        self.topics = (format!("{application}-{}-fk", self.registration), hash_topic(application, &self.registration));
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<K, Change<V>>,
        ctx: &mut ProcessorContext<F, Subscription<K>>,
    ) -> Result<(), BoxError> {
        use Instruction::{Answer, AnswerValue, Delete, DeleteAndAnswer};
        let Record { key, value, timestamp, headers } = record;
        let (Some(key), Some(Change { new, old, is_latest })) = (key, value) else {
            ctx.count_dropped();
            return Ok(());
        };
        if self.is_versioned && !is_latest {
            ctx.count_dropped();
            return Ok(());
        }
        if new.is_none() && old.is_none() {
            return Ok(());
        }
        let old_key = old.as_ref().and_then(|old| (self.foreign_key)(&key, old));
        let new_key = new.as_ref().and_then(|new| (self.foreign_key)(&key, new));
        let is_changed =
            old_key.is_some() && self.bytes(&headers, old_key.as_ref())? != self.bytes(&headers, new_key.as_ref())?;
        let hash = hash_of(&self.value_serde, &self.topics.1, &headers, new.as_ref())?;
        let partition = ctx.record_metadata().map_or(ctx.task_id().partition, |metadata| metadata.partition);
        let send = |foreign: Option<F>, instruction| {
            let primary_key = key.clone();
            let value = Some(Subscription { hash, instruction, primary_key, partition: Some(partition) });
            ctx.forward(Record { key: foreign, value, timestamp, headers: headers.clone() })
        };
        if self.is_left {
            if is_changed {
                send(old_key, Delete)?;
            }
            // Also under a null key: the response makes the result.
            return send(new_key, Answer);
        }
        match (old_key, new_key) {
            (Some(old_key), Some(new_key)) if is_changed => {
                send(Some(old_key), Delete)?;
                // A former result must be deleted if the new key has no value.
                send(Some(new_key), Answer)
            }
            (_, Some(new_key)) => send(Some(new_key), AnswerValue),
            (old_key, None) => {
                if new.is_some() {
                    ctx.count_dropped();
                }
                match old_key {
                    Some(old_key) => send(Some(old_key), DeleteAndAnswer),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Joins responses with the rows that they answer to, unless those have changed meanwhile.
pub(super) struct Resolve<K, V, T, R> {
    pub(super) supplier: GetterSupplier<K, V>,
    pub(super) joiner: Joiner<V, T, R>,
    pub(super) value_serde: SerdeRef<V>,
    pub(super) is_left: bool,
    pub(super) registration: String,
    pub(super) hash_topic: String,
    pub(super) getter: Option<Getter<K, V>>,
}

impl<K, V, T, R> Resolve<K, V, T, R> {
    pub(super) fn new(
        supplier: &GetterSupplier<K, V>,
        joiner: &Joiner<V, T, R>,
        value_serde: &SerdeRef<V>,
        is_left: bool,
        registration: &str,
    ) -> Self {
        Self {
            supplier: Arc::clone(supplier),
            joiner: Arc::clone(joiner),
            value_serde: Arc::clone(value_serde),
            is_left,
            registration: registration.to_owned(),
            hash_topic: String::new(),
            getter: None,
        }
    }
}

impl<K, V, T, R> Processor<K, Response<T>, K, R> for Resolve<K, V, T, R>
where
    K: Clone + 'static,
    V: 'static,
    T: 'static,
    R: Clone + 'static,
{
    fn init(&mut self, ctx: &mut ProcessorContext<K, R>) -> Result<(), BoxError> {
        self.hash_topic = hash_topic(ctx.application_id(), &self.registration);
        self.getter = Some((self.supplier)(ctx)?);
        Ok(())
    }

    fn process(&mut self, record: Record<K, Response<T>>, ctx: &mut ProcessorContext<K, R>) -> Result<(), BoxError> {
        let (Some(key), Some(response), Some(getter)) = (&record.key, &record.value, &self.getter) else {
            ctx.count_dropped();
            return Ok(());
        };
        let row = getter(key)?.map(|row| row.value);
        let present = hash_of(&self.value_serde, &self.hash_topic, &record.headers, row.as_ref())?;
        if present != response.hash {
            ctx.count_dropped();
            return Ok(());
        }
        let joined = match (&row, &response.value) {
            (Some(row), value) if value.is_some() || self.is_left => (self.joiner)(row, value.as_ref()),
            _ => None,
        };
        ctx.forward(record.with_value(joined))
    }
}
