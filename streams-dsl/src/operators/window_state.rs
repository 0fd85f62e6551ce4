//! What the processors of windowed aggregations keep, whether their windows slide or not: the store, how far time has come, and which windows
//! have come out on close.

use std::rc::Rc;
use std::sync::Arc;

use streams_core::windowed::Windowed;
use streams_core::{
    BoxError, Change, Headers, ProcessorContext, Record, Timestamp, TimestampedWindowStore, ValueAndTimestamp,
};

use crate::operators::emit_on_close::EmitOnClose;
use crate::operators::window_aggregate::WindowPlan;
use crate::windows::{EmitStrategy, FixedWindows};

pub(super) struct WindowState<K, V, A> {
    pub(super) plan: Arc<WindowPlan<K, V, A>>,
    pub(super) send_old_values: bool,
    /// There from `open` on.
    pub(super) store: Option<Rc<TimestampedWindowStore<K, A>>>,
    pub(super) forwards_on_flush: bool,
    /// For results that come out on close only.
    pub(super) emit: Option<EmitOnClose>,
    /// Greatest timestamp seen by this operator.
    pub(super) stream_time: Timestamp,
}

impl<K: Clone + 'static, V, A: Clone + 'static> WindowState<K, V, A> {
    pub(super) fn new(plan: Arc<WindowPlan<K, V, A>>, send_old_values: bool) -> Self {
        Self { plan, send_old_values, store: None, forwards_on_flush: false, emit: None, stream_time: -1 }
    }

    /// Opens the store and finds where time stood: the latest timestamp lies in a window that starts at most `reach_ms` before the latest.
    pub(super) fn open(
        &mut self,
        ctx: &ProcessorContext<Windowed<K>, Change<A>>,
        reach_ms: i64,
    ) -> Result<(), BoxError> {
        let store = ctx.timestamped_window_store::<K, A>(&self.plan.store_name)?;
        match self.plan.emit {
            EmitStrategy::OnWindowUpdate => {
                self.forwards_on_flush = ctx.forward_windows_on_flush(&store, self.send_old_values);
            }
            EmitStrategy::OnWindowClose => self.emit = Some(EmitOnClose::new(ctx, &self.plan.store_name)),
        }
        self.stream_time = latest_timestamp(&store, reach_ms)?;
        self.store = Some(store);
        Ok(())
    }

    /// Forwards the windows that have closed since the last time. `range` finds where they start, first and last, from the close time up to
    /// which windows have come out (-1 before the first) and the present one.
    pub(super) fn emit_closed(
        &mut self,
        headers: &Headers,
        ctx: &ProcessorContext<Windowed<K>, Change<A>>,
        range: impl FnOnce(&FixedWindows, Timestamp, Timestamp) -> Option<(Timestamp, Timestamp)>,
    ) -> Result<(), BoxError> {
        let (Some(emit), Some(store)) = (&mut self.emit, &self.store) else { return Ok(()) };
        let close_time = self.stream_time - self.plan.windows.grace_ms();
        let Some(last) = emit.due(close_time) else { return Ok(()) };
        let Some((from, to)) = range(&self.plan.windows, last, close_time) else { return Ok(()) };
        for entry in store.fetch_all(from, to)? {
            let (key, ValueAndTimestamp { value, timestamp }) = entry?;
            let (value, headers) = (Some(Change::new(Some(value), None)), headers.clone());
            ctx.forward(Record { key: Some(key), value, timestamp, headers })?;
        }
        emit.done(ctx, close_time);
        Ok(())
    }
}

/// The greatest timestamp that the stored windows have taken; -1 for an empty store.
fn latest_timestamp<K: 'static, A: Clone + 'static>(
    store: &TimestampedWindowStore<K, A>,
    reach_ms: i64,
) -> Result<Timestamp, BoxError> {
    let latest_start = store.stream_time()?;
    if latest_start < 0 {
        return Ok(-1);
    }
    let mut latest = -1;
    for entry in store.fetch_all(latest_start.saturating_sub(reach_ms), latest_start)? {
        latest = latest.max(entry?.1.timestamp);
    }
    Ok(latest)
}
