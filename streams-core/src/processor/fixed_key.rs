//! Processors that cannot change a record's key, so that nothing behind them has to be repartitioned.

use std::ops::Deref;

use base::Timestamp;
use protocol::record::Headers;

use crate::error::BoxError;
use crate::processor::api::{Processor, ProcessorSupplier};
use crate::processor::context::{NodeContext, ProcessorContext};
use crate::processor::punctuation::ScheduleId;
use crate::record::Record;
use crate::store::builder::StoreBuilderRef;

/// A record whose key can be seen, but not changed. It can only be had from another one.
#[derive(Clone, Debug, PartialEq)]
pub struct FixedKeyRecord<K, V>(Record<K, V>);

impl<K, V> FixedKeyRecord<K, V> {
    /// The key; `None` is Kafka's null key.
    pub fn key(&self) -> Option<&K> {
        self.0.key.as_ref()
    }

    /// The value; `None` is a tombstone.
    pub fn value(&self) -> Option<&V> {
        self.0.value.as_ref()
    }

    /// Event time in milliseconds since the epoch.
    pub fn timestamp(&self) -> Timestamp {
        self.0.timestamp
    }

    /// Headers.
    pub fn headers(&self) -> &Headers {
        &self.0.headers
    }

    /// Headers, to be changed.
    pub fn headers_mut(&mut self) -> &mut Headers {
        &mut self.0.headers
    }

    /// The same record with another value.
    pub fn with_value<V2>(self, value: Option<V2>) -> FixedKeyRecord<K, V2> {
        FixedKeyRecord(self.0.with_value(value))
    }

    /// The same record with the value that `map` makes of its own.
    pub fn map_value<V2>(self, map: impl FnOnce(Option<V>) -> Option<V2>) -> FixedKeyRecord<K, V2> {
        FixedKeyRecord(self.0.map_value(map))
    }

    /// The same record at another time.
    #[must_use]
    pub fn with_timestamp(self, timestamp: Timestamp) -> Self {
        Self(self.0.with_timestamp(timestamp))
    }

    /// The same record with other headers.
    #[must_use]
    pub fn with_headers(self, headers: Headers) -> Self {
        Self(self.0.with_headers(headers))
    }
}

/// What a fixed-key processor is handed with each call: stores, time and schedules, and where to forward records.
pub struct FixedKeyContext<'a, K, V>(&'a ProcessorContext<K, V>);

impl<K, V> Deref for FixedKeyContext<'_, K, V> {
    type Target = NodeContext;

    fn deref(&self) -> &NodeContext {
        self.0
    }
}

impl<K: Clone, V: Clone> FixedKeyContext<'_, K, V> {
    /// Hands `record` to every child.
    ///
    /// # Errors
    /// As [`ProcessorContext::forward`].
    pub fn forward(&self, record: FixedKeyRecord<K, V>) -> Result<(), BoxError> {
        self.0.forward(record.0)
    }
}

impl<K, V> FixedKeyContext<'_, K, V> {
    /// Hands `record` to the child called `child` only.
    ///
    /// # Errors
    /// As [`ProcessorContext::forward_to`].
    pub fn forward_to(&self, child: &str, record: FixedKeyRecord<K, V>) -> Result<(), BoxError> {
        self.0.forward_to(child, record.0)
    }
}

/// A [`Processor`] that keeps keys: it forwards records that it made from the one it was given.
///
/// ```
/// use streams_core::{BoxError, FixedKeyContext, FixedKeyProcessor, FixedKeyRecord};
///
/// struct Length;
///
/// impl FixedKeyProcessor<String, String, i64> for Length {
///     fn process(
///         &mut self,
///         record: FixedKeyRecord<String, String>,
///         ctx: &FixedKeyContext<'_, String, i64>,
///     ) -> Result<(), BoxError> {
///         ctx.forward(record.map_value(|text| text.map(|text| text.len() as i64)))
///     }
/// }
/// ```
pub trait FixedKeyProcessor<K, VIn, VOut>: 'static {
    /// As [`Processor::init`].
    ///
    /// # Errors
    /// An error closes the task and reaches the uncaught-exception handler.
    fn init(&mut self, ctx: &FixedKeyContext<'_, K, VOut>) -> Result<(), BoxError> {
        let _ = ctx;
        Ok(())
    }

    /// Handles one record.
    ///
    /// # Errors
    /// As [`Processor::process`].
    fn process(&mut self, record: FixedKeyRecord<K, VIn>, ctx: &FixedKeyContext<'_, K, VOut>) -> Result<(), BoxError>;

    /// As [`Processor::punctuate`]; there is no record to forward then, but stores can be changed.
    ///
    /// # Errors
    /// As [`Processor::process`].
    fn punctuate(
        &mut self,
        schedule: ScheduleId,
        timestamp: Timestamp,
        ctx: &FixedKeyContext<'_, K, VOut>,
    ) -> Result<(), BoxError> {
        let _ = (schedule, timestamp, ctx);
        Ok(())
    }

    /// As [`Processor::close`].
    fn close(&mut self) {}
}

/// A fixed-key processor as a node of a topology.
pub struct FixedKey<P>(P);

impl<P, K, VIn, VOut> Processor<K, VIn, K, VOut> for FixedKey<P>
where
    P: FixedKeyProcessor<K, VIn, VOut>,
    K: 'static,
    VIn: 'static,
    VOut: 'static,
{
    fn init(&mut self, ctx: &mut ProcessorContext<K, VOut>) -> Result<(), BoxError> {
        self.0.init(&FixedKeyContext(ctx))
    }

    fn process(&mut self, record: Record<K, VIn>, ctx: &mut ProcessorContext<K, VOut>) -> Result<(), BoxError> {
        self.0.process(FixedKeyRecord(record), &FixedKeyContext(ctx))
    }

    fn punctuate(
        &mut self,
        schedule: ScheduleId,
        timestamp: Timestamp,
        ctx: &mut ProcessorContext<K, VOut>,
    ) -> Result<(), BoxError> {
        self.0.punctuate(schedule, timestamp, &FixedKeyContext(ctx))
    }

    fn close(&mut self) {
        self.0.close();
    }
}

/// Makes nodes of the fixed-key processors of another supplier.
#[derive(Clone)]
pub struct FixedKeySupplier<S>(pub S);

impl<P, S: ProcessorSupplier<P>> ProcessorSupplier<FixedKey<P>> for FixedKeySupplier<S> {
    fn get(&self) -> FixedKey<P> {
        FixedKey(self.0.get())
    }

    fn stores(&self) -> Vec<StoreBuilderRef> {
        self.0.stores()
    }
}
