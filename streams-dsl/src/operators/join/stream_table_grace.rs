//! A stream-table join whose stream waits: each record is joined once stream time has passed it by the grace period.

use std::rc::Rc;
use std::sync::Arc;

use streams_core::store::{BufferedRecord, StoreKind, StreamBuffer, StreamBufferBuilder};
use streams_core::{
    BoxError, ErrorKind, Headers, Processor, ProcessorContext, Record, SerdeRef, StreamsError, Topology,
};

use crate::operators::join::stream_table::StreamTableJoin;

/// How long records wait, and where.
pub(super) struct Grace<K, V> {
    pub(super) grace_ms: i64,
    pub(super) serdes: (SerdeRef<K>, SerdeRef<V>),
    pub(super) buffer: String,
}

impl<K: Clone + 'static, V: Clone + 'static> Grace<K, V> {
    /// Adds the join `name`, with its buffer; `stores` are those of the table.
    pub(super) fn add<T: 'static, R: Clone + 'static>(
        &self,
        topology: &mut Topology,
        name: &str,
        join: impl Fn() -> StreamTableJoin<K, V, T, R> + Send + Sync + 'static,
        parent: &str,
        stores: &[String],
    ) -> Result<(), StreamsError> {
        for store in stores {
            if let Some(StoreKind::Versioned { history_retention_ms }) = topology.store_kind(store)
                && history_retention_ms < self.grace_ms
            {
                let message = format!(
                    "{name}: store {store} keeps {history_retention_ms} ms of history, less than the grace period of {} ms",
                    self.grace_ms
                );
                return Err(StreamsError::new(ErrorKind::InvalidArgument, message));
            }
        }
        let (grace_ms, buffer) = (self.grace_ms, self.buffer.clone());
        let (key, value) = (Arc::clone(&self.serdes.0), Arc::clone(&self.serdes.1));
        let supplier = move || WaitingJoin {
            join: join(),
            grace_ms,
            key: Arc::clone(&key),
            value: Arc::clone(&value),
            buffer: buffer.clone(),
            store: None,
        };
        topology.add_processor::<_, K, V, K, R>(name, supplier, &[parent])?;
        topology.add_state_store(StreamBufferBuilder::new(self.buffer.clone()), &[name]).map(|_| ())
    }
}

struct WaitingJoin<K, V, T, R> {
    join: StreamTableJoin<K, V, T, R>,
    grace_ms: i64,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    buffer: String,
    store: Option<Rc<StreamBuffer>>,
}

impl<K: 'static, V: 'static, T, R> WaitingJoin<K, V, T, R> {
    fn buffered(
        &self,
        record: &Record<K, V>,
        store: &StreamBuffer,
        ctx: &ProcessorContext<K, R>,
    ) -> Result<BufferedRecord, BoxError> {
        let (Some(key), Some(value)) = (&record.key, &record.value) else {
            return Err("a stream-table join with grace cannot buffer a record without key".into());
        };
        let (mut key_bytes, mut value_bytes) = (Vec::new(), Vec::new());
        self.key.serialize(store.serde_topic(), &record.headers, key, &mut key_bytes)?;
        self.value.serialize(store.serde_topic(), &record.headers, value, &mut value_bytes)?;
        Ok(BufferedRecord {
            key: key_bytes,
            value: value_bytes,
            timestamp: record.timestamp,
            headers: record.headers.clone(),
            source: ctx.record_metadata(),
        })
    }
}

impl<K, V, T, R> Processor<K, V, K, R> for WaitingJoin<K, V, T, R>
where
    K: Clone + 'static,
    V: 'static,
    T: 'static,
    R: Clone + 'static,
{
    fn init(&mut self, ctx: &mut ProcessorContext<K, R>) -> Result<(), BoxError> {
        self.join.prepare(ctx)?;
        self.store = Some(ctx.store(&self.buffer)?);
        Ok(())
    }

    fn process(&mut self, record: Record<K, V>, ctx: &mut ProcessorContext<K, R>) -> Result<(), BoxError> {
        let Some(store) = self.store.clone().filter(|_| self.join.takes(&record)) else {
            ctx.count_dropped();
            return Ok(());
        };
        let waiting = self.buffered(&record, &store, ctx)?;
        // Too late to wait: joined at once, with what the table knows.
        if record.timestamp < store.stream_time()?.saturating_sub(self.grace_ms) {
            return match self.join.joined(&record)? {
                Some(joined) => ctx.forward(record.with_value(joined)),
                None => Ok(()),
            };
        }
        store.put(&waiting)?;
        let due = store.stream_time()?.saturating_sub(self.grace_ms);
        while let Some((place, waiting)) = store.first_until(due)? {
            let BufferedRecord { key, value, timestamp, headers, source } = waiting;
            let typed_key = self.key.deserialize(store.serde_topic(), &Headers::default(), &key)?;
            let typed_value = self.value.deserialize(store.serde_topic(), &Headers::default(), &value)?;
            let record = Record { key: Some(typed_key), value: Some(typed_value), timestamp, headers };
            if let Some(joined) = self.join.joined(&record)? {
                ctx.forward_from(source.as_ref(), record.with_value(joined))?;
            }
            store.remove_first(&place)?;
        }
        Ok(())
    }
}
