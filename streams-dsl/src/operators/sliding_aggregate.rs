//! The processor of aggregations by sliding windows.
//!
//! Each record belongs to every stored window that contains it, to the window that ends with it (its left window), and to the window that
//! begins 1 ms after the record before it (that one's right window); the last two are made where they are missing. If later records are
//! there already, its own right window is made too, as a copy of the latest window that holds them. A record earlier than the first whole
//! window goes into the window that begins at 0.

use std::sync::Arc;

use streams_core::windowed::{Window, Windowed};
use streams_core::{
    BoxError, Change, Headers, Processor, ProcessorContext, Record, Timestamp, TimestampedWindowStore,
    ValueAndTimestamp,
};

use crate::operators::window_aggregate::WindowPlan;
use crate::operators::window_state::WindowState;
use crate::windows::FixedWindows;

pub(super) struct SlidingAggregate<K, V, A>(WindowState<K, V, A>);

impl<K: Clone + 'static, V, A: Clone + 'static> SlidingAggregate<K, V, A> {
    pub(super) fn new(plan: Arc<WindowPlan<K, V, A>>, send_old_values: bool) -> Self {
        Self(WindowState::new(plan, send_old_values))
    }
}

/// What the windows around a record have shown.
struct Found<A> {
    /// Starts of the windows looked at.
    starts: Vec<Timestamp>,
    /// The latest window that ends before the record.
    before: Option<ValueAndTimestamp<A>>,
    /// The window that holds the records after it.
    after: Option<ValueAndTimestamp<A>>,
    /// Timestamp of the record before it.
    previous: Option<Timestamp>,
    has_left: bool,
    has_right: bool,
}

impl<A> Default for Found<A> {
    fn default() -> Self {
        Self { starts: Vec::new(), before: None, after: None, previous: None, has_left: false, has_right: false }
    }
}

/// One record on its way through its windows.
struct Update<'a, K, V, A> {
    plan: &'a WindowPlan<K, V, A>,
    store: &'a TimestampedWindowStore<K, A>,
    ctx: &'a ProcessorContext<Windowed<K>, Change<A>>,
    key: &'a K,
    value: &'a V,
    timestamp: Timestamp,
    headers: &'a Headers,
    difference: i64,
    /// Windows that end before this are closed.
    closed_up_to: Timestamp,
    send_old_values: bool,
    forwards: bool,
}

impl<K: Clone + 'static, V: 'static, A: Clone + 'static> Update<'_, K, V, A> {
    fn forward(&self, window: Window, new: Option<A>, old: Option<A>, timestamp: Timestamp) -> Result<(), BoxError> {
        let (key, value) = (Some(Windowed::new(self.key.clone(), window)), Some(Change::new(new, old)));
        self.ctx.forward(Record { key, value, timestamp, headers: self.headers.clone() })
    }

    /// Adds the record to the window that starts at `start` and has come to `before` so far.
    fn add(&self, start: Timestamp, before: Option<ValueAndTimestamp<A>>) -> Result<(), BoxError> {
        let window = Window::of_size(start, self.difference);
        if window.end < self.closed_up_to {
            self.ctx.count_dropped();
            return Ok(());
        }
        let timestamp = before.as_ref().map_or(self.timestamp, |before| before.timestamp.max(self.timestamp));
        let old = before.map(|before| before.value).or_else(|| (self.plan.initial)());
        let sent_old = if self.send_old_values && self.forwards { old.clone() } else { None };
        let new = (self.plan.aggregator)(self.key, Some(self.value), old);
        self.store.put(self.key, new.clone().map(|value| ValueAndTimestamp { value, timestamp }), start)?;
        if self.forwards { self.forward(window, new, sent_old, timestamp) } else { Ok(()) }
    }

    /// Makes the window of the records after this one, which has none of them yet.
    fn make_right(&self, found: &Found<A>) -> Result<(), BoxError> {
        let Some(after) = found.after.as_ref().filter(|after| !found.has_right && after.timestamp > self.timestamp)
        else {
            return Ok(());
        };
        let start = self.timestamp.saturating_add(1);
        self.store.put(self.key, Some(after.clone()), start)?;
        if self.forwards {
            let window = Window::of_size(start, self.difference);
            return self.forward(window, Some(after.value.clone()), None, after.timestamp);
        }
        Ok(())
    }

    /// Walks back over the windows around the record.
    fn run(&self) -> Result<(), BoxError> {
        let mut found = Found::default();
        let from = self.timestamp.saturating_sub(self.difference.saturating_mul(2)).max(0);
        for (start, window) in self.store.backward_fetch_range(self.key, from, self.timestamp.saturating_add(1))? {
            found.starts.push(start);
            let end = start.saturating_add(self.difference);
            if start == self.timestamp.saturating_add(1) {
                found.has_right = true;
            } else if end > self.timestamp {
                if found.after.is_none() {
                    found.after = Some(window.clone());
                }
                self.add(start, Some(window))?;
            } else if end == self.timestamp {
                found.has_left = true;
                let latest = window.timestamp;
                self.add(start, Some(window))?;
                if latest >= self.timestamp {
                    // Another record of this timestamp has made all windows that this one needs.
                    return Ok(());
                }
                found.previous = Some(latest);
            } else {
                found.previous = Some(window.timestamp);
                found.before = Some(window);
                break;
            }
        }
        if let Some(previous) = found.previous {
            let start = previous + 1;
            if !found.starts.contains(&start) && start.saturating_add(self.difference) >= self.timestamp {
                self.add(start, None)?;
            }
        }
        if !found.has_left {
            let start = self.timestamp - self.difference;
            let reaches = found.previous.is_some_and(|previous| previous >= start);
            self.add(start, found.before.take().filter(|_| reaches))?;
        }
        self.make_right(&found)
    }

    /// For a record whose left window would start before the epoch.
    fn run_early(&self) -> Result<(), BoxError> {
        let mut found = Found::default();
        let mut first = None;
        for (start, window) in self.store.fetch_range(self.key, 0, self.timestamp.saturating_add(1))? {
            found.starts.push(start);
            if start == 0 {
                if window.timestamp < self.timestamp {
                    found.previous = Some(window.timestamp);
                }
                first = Some(window);
            } else if start == self.timestamp.saturating_add(1) {
                found.has_right = true;
            } else {
                found.after = Some(window.clone());
                self.add(start, Some(window))?;
            }
        }
        if found.after.is_none() {
            found.after = first.clone();
        }
        self.make_right(&found)?;
        if let Some(previous) = found.previous
            && !found.starts.contains(&(previous + 1))
        {
            self.add(previous + 1, None)?;
        }
        self.add(0, first)
    }
}

/// Where the windows that have closed since `last` start; ends are inclusive.
fn closed_since(windows: &FixedWindows, last: Timestamp, close_time: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let to = close_time.saturating_sub(windows.size_ms()).saturating_sub(1);
    let from = if last == -1 { 0 } else { (last - windows.size_ms()).max(0) };
    (to >= from).then_some((from, to))
}

impl<K, V, A> Processor<K, V, Windowed<K>, Change<A>> for SlidingAggregate<K, V, A>
where
    K: Clone + 'static,
    V: 'static,
    A: Clone + 'static,
{
    fn init(&mut self, ctx: &mut ProcessorContext<Windowed<K>, Change<A>>) -> Result<(), BoxError> {
        let reach_ms = self.0.plan.windows.size_ms();
        self.0.open(ctx, reach_ms)
    }

    fn process(
        &mut self,
        record: Record<K, V>,
        ctx: &mut ProcessorContext<Windowed<K>, Change<A>>,
    ) -> Result<(), BoxError> {
        let state = &mut self.0;
        let (Some(key), Some(value), Some(store)) = (&record.key, &record.value, &state.store) else {
            ctx.count_dropped();
            return Ok(());
        };
        let timestamp = record.timestamp;
        state.stream_time = state.stream_time.max(timestamp);
        let difference = state.plan.windows.size_ms();
        let closed_up_to = state.stream_time - state.plan.windows.grace_ms();
        if timestamp.saturating_add(difference) < closed_up_to {
            ctx.count_dropped();
            return Ok(());
        }
        let update = Update {
            plan: &state.plan,
            store,
            ctx,
            key,
            value,
            timestamp,
            headers: &record.headers,
            difference,
            closed_up_to,
            send_old_values: state.send_old_values,
            forwards: !state.forwards_on_flush && state.emit.is_none(),
        };
        if timestamp < difference {
            // Nothing closes before the first whole window.
            return update.run_early();
        }
        update.run()?;
        state.emit_closed(&record.headers, ctx, closed_since)
    }
}
