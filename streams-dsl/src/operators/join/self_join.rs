//! The processor of a stream's join with itself under `single.store.self.join`: one store and one node in place of two and three.
//!
//! A record meets those before it on either side, and itself. Left and outer joins are the same as inner ones here: a record always has
//! itself for a partner.

use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;

use streams_core::{BoxError, Processor, ProcessorContext, Record, Timestamp, WindowStore};

use super::stream_stream::JoinPlan;

/// Joins each record with those that its own stream has kept. `R` is `L`: the two sides are one stream.
pub(super) struct SelfJoin<K, L, R, Out> {
    plan: Arc<JoinPlan<K, L, R, Out>>,
    store_name: String,
    store: Option<Rc<WindowStore<K, L>>>,
    stream_time: Timestamp,
}

impl<K, L: 'static, R: 'static, Out> SelfJoin<K, L, R, Out> {
    pub(super) fn new(plan: &Arc<JoinPlan<K, L, R, Out>>, store_name: &str) -> Self {
        Self { plan: Arc::clone(plan), store_name: store_name.to_owned(), store: None, stream_time: -1 }
    }

    fn joined(&self, key: &K, left: &L, right: &L) -> Option<Out> {
        let right = (right as &dyn Any).downcast_ref::<R>();
        (self.plan.joiner)(Some(key), Some(left), right)
    }
}

impl<K, L, R, Out> Processor<K, L, K, Out> for SelfJoin<K, L, R, Out>
where
    K: Clone + 'static,
    L: Clone + 'static,
    R: 'static,
    Out: Clone + 'static,
{
    fn init(&mut self, ctx: &mut ProcessorContext<K, Out>) -> Result<(), BoxError> {
        let store = ctx.window_store::<K, L>(&self.store_name)?;
        self.stream_time = store.stream_time()?;
        self.store = Some(store);
        Ok(())
    }

    fn process(&mut self, record: Record<K, L>, ctx: &mut ProcessorContext<K, Out>) -> Result<(), BoxError> {
        let (Some(key), Some(value), Some(store)) = (&record.key, &record.value, &self.store) else {
            ctx.count_dropped();
            return Ok(());
        };
        let timestamp = record.timestamp;
        self.stream_time = self.stream_time.max(timestamp);
        let windows = &self.plan.windows;
        let forward = |value: Option<Out>, timestamp: Timestamp| {
            ctx.forward(Record { key: Some(key.clone()), value, timestamp, headers: record.headers.clone() })
        };
        let within = |older: i64, younger: i64| {
            let from = timestamp.saturating_sub(older).max(0);
            store.fetch_range(key, from, timestamp.saturating_add(younger).max(0))
        };
        for (other_timestamp, other) in within(windows.before(), windows.after())? {
            forward(self.joined(key, value, &other), timestamp.max(other_timestamp))?;
        }
        // With itself only while its window is kept, and before what is younger.
        let mut is_due = timestamp > self.stream_time.saturating_sub(windows.retention_ms()).saturating_add(1);
        for (other_timestamp, other) in within(windows.after(), windows.before())? {
            if is_due && other_timestamp > timestamp {
                is_due = false;
                forward(self.joined(key, value, value), timestamp)?;
            }
            forward(self.joined(key, &other, value), timestamp.max(other_timestamp))?;
        }
        if is_due {
            forward(self.joined(key, value, value), timestamp)?;
        }
        Ok(())
    }
}
