//! The processors of a join of two streams. Each side passes its records to its join processor and then keeps them in its window store; the
//! join processor looks for partners in the other side's store.
//!
//! Records without partner, where the join wants them, wait in a third store until no partner can come any more: until stream time, which
//! both sides share, has passed their span and the grace period. They are looked through whenever a record moves stream time (or equals it)
//! and the oldest that waits may be due. Which that is, is remembered as Kafka Streams does: as the last one looked at.

use std::cell::Cell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use streams_core::{BoxError, Headers, Processor, ProcessorContext, Record, Timestamp, WindowStore};

use super::waiting::{Waiting, WaitingKey, WaitingStore};
use crate::windows::JoinWindows;

/// Result of key, left and right value, of which one may be missing.
pub(super) type Joiner<K, L, R, Out> = Arc<dyn Fn(Option<&K>, Option<&L>, Option<&R>) -> Option<Out> + Send + Sync>;

/// Passes each record on to the join, then keeps it for the other side: so a record never meets itself.
pub(super) struct Window<K, V> {
    store_name: String,
    store: Option<Rc<WindowStore<K, V>>>,
}

impl<K, V> Window<K, V> {
    pub(super) fn new(store_name: String) -> Self {
        Self { store_name, store: None }
    }
}

impl<K: Clone + 'static, V: Clone + 'static> Processor<K, V, K, V> for Window<K, V> {
    fn init(&mut self, ctx: &mut ProcessorContext<K, V>) -> Result<(), BoxError> {
        self.store = Some(ctx.window_store(&self.store_name)?);
        Ok(())
    }

    fn process(&mut self, record: Record<K, V>, ctx: &mut ProcessorContext<K, V>) -> Result<(), BoxError> {
        let (Some(key), Some(store)) = (record.key.clone(), &self.store) else { return ctx.forward(record) };
        let (value, timestamp) = (record.value.clone(), record.timestamp);
        ctx.forward(record)?;
        Ok(store.put(&key, value, timestamp)?)
    }
}

/// Time as both sides of a join in one task have seen it.
struct JoinTime {
    /// Greatest timestamp of either side.
    stream_time: Cell<Timestamp>,
    /// No record that waits is due before this one is; `MAX` if none waits.
    waiting_since: Cell<Timestamp>,
}

impl Default for JoinTime {
    fn default() -> Self {
        Self { stream_time: Cell::new(-1), waiting_since: Cell::new(Timestamp::MAX) }
    }
}

impl JoinTime {
    fn advance(&self, timestamp: Timestamp) {
        self.stream_time.set(self.stream_time.get().max(timestamp));
    }

    fn waits_since(&self, timestamp: Timestamp) {
        self.waiting_since.set(self.waiting_since.get().min(timestamp));
    }
}

/// What differs between the two sides.
pub(super) trait Side<L, R>: 'static {
    type This: Clone + 'static;
    type Other: Clone + 'static;
    const IS_LEFT: bool;

    /// The two values as left and right.
    fn sides<'a>(this: &'a Self::This, other: Option<&'a Self::Other>) -> (Option<&'a L>, Option<&'a R>);

    fn waiting(this: Self::This) -> Waiting<L, R>;
}

pub(super) struct LeftSide;
pub(super) struct RightSide;

impl<L: Clone + 'static, R: Clone + 'static> Side<L, R> for LeftSide {
    type This = L;
    type Other = R;
    const IS_LEFT: bool = true;

    fn sides<'a>(this: &'a L, other: Option<&'a R>) -> (Option<&'a L>, Option<&'a R>) {
        (Some(this), other)
    }

    fn waiting(this: L) -> Waiting<L, R> {
        Waiting::Left(this)
    }
}

impl<L: Clone + 'static, R: Clone + 'static> Side<L, R> for RightSide {
    type This = R;
    type Other = L;
    const IS_LEFT: bool = false;

    fn sides<'a>(this: &'a R, other: Option<&'a L>) -> (Option<&'a L>, Option<&'a R>) {
        (other, Some(this))
    }

    fn waiting(this: R) -> Waiting<L, R> {
        Waiting::Right(this)
    }
}

/// What both join processors of one join are made from.
pub(super) struct JoinPlan<K, L, R, Out> {
    /// Name under which the two sides share their time.
    pub(super) name: String,
    pub(super) windows: JoinWindows,
    pub(super) joiner: Joiner<K, L, R, Out>,
    /// Store of records that wait, of left and outer joins.
    pub(super) waiting: Option<String>,
}

/// Joins the records of one side with those that the other has kept.
pub(super) struct Join<S: Side<L, R>, K, L, R, Out> {
    plan: Arc<JoinPlan<K, L, R, Out>>,
    other_store: String,
    /// Whether records of this side come out without partner.
    keeps_unmatched: bool,
    open: Option<Open<K, S::Other, L, R>>,
    side: PhantomData<S>,
}

/// What a processor has found in its task.
struct Open<K, Other, L, R> {
    time: Rc<JoinTime>,
    other: Rc<WindowStore<K, Other>>,
    waiting: Option<Rc<WaitingStore<K, L, R>>>,
}

impl<S: Side<L, R>, K, L, R, Out> Join<S, K, L, R, Out> {
    pub(super) fn new(plan: &Arc<JoinPlan<K, L, R, Out>>, other_store: &str, keeps_unmatched: bool) -> Self {
        let (plan, other_store) = (Arc::clone(plan), other_store.to_owned());
        Self { plan, other_store, keeps_unmatched, open: None, side: PhantomData }
    }

    /// How much older and younger a partner may be.
    fn reach(&self) -> (i64, i64) {
        let (before, after) = (self.plan.windows.before(), self.plan.windows.after());
        if S::IS_LEFT { (before, after) } else { (after, before) }
    }
}

impl<S, K, L, R, Out> Join<S, K, L, R, Out>
where
    S: Side<L, R>,
    K: Clone + 'static,
    L: Clone + 'static,
    R: Clone + 'static,
    Out: Clone + 'static,
{
    /// Forwards, in the order of their timestamps, the records that have waited until their time was over.
    fn emit_unmatched(
        &self,
        open: &Open<K, S::Other, L, R>,
        headers: &Headers,
        ctx: &ProcessorContext<K, Out>,
    ) -> Result<(), BoxError> {
        let Some(waiting) = &open.waiting else { return Ok(()) };
        let (windows, stream_time) = (&self.plan.windows, open.time.stream_time.get());
        let is_open = |since: Timestamp, reach: i64| {
            since.saturating_add(reach).saturating_add(windows.grace_ms()) >= stream_time
        };
        if is_open(open.time.waiting_since.get(), self.reach().1) {
            return Ok(());
        }
        open.time.waiting_since.set(Timestamp::MAX);
        let (mut left_is_open, mut right_is_open) = (false, false);
        for entry in waiting.all() {
            let (key, values) = entry?;
            open.time.waiting_since.set(key.timestamp);
            if left_is_open && right_is_open {
                break;
            }
            let (reach, side_is_open) =
                if key.is_left { (windows.after(), &mut left_is_open) } else { (windows.before(), &mut right_is_open) };
            if is_open(key.timestamp, reach) {
                *side_is_open = true;
                continue;
            }
            for value in &values {
                let joined = match value {
                    Waiting::Left(left) => (self.plan.joiner)(Some(&key.key), Some(left), None),
                    Waiting::Right(right) => (self.plan.joiner)(Some(&key.key), None, Some(right)),
                };
                let (value, timestamp, headers) = (joined, key.timestamp, headers.clone());
                ctx.forward(Record { key: Some(key.key.clone()), value, timestamp, headers })?;
            }
            waiting.put(&key, None)?;
        }
        Ok(())
    }

    fn joined(&self, key: Option<&K>, this: &S::This, other: Option<&S::Other>) -> Option<Out> {
        let (left, right) = S::sides(this, other);
        (self.plan.joiner)(key, left, right)
    }
}

impl<S, K, L, R, Out> Processor<K, S::This, K, Out> for Join<S, K, L, R, Out>
where
    S: Side<L, R>,
    K: Clone + 'static,
    L: Clone + 'static,
    R: Clone + 'static,
    Out: Clone + 'static,
{
    fn init(&mut self, ctx: &mut ProcessorContext<K, Out>) -> Result<(), BoxError> {
        let time = ctx.shared_data::<JoinTime>(&self.plan.name)?;
        let other = ctx.window_store::<K, S::Other>(&self.other_store)?;
        // What was restored: a restart forgets neither the time nor who waits.
        time.advance(other.stream_time()?);
        let waiting = match &self.plan.waiting {
            Some(name) => Some(ctx.key_value_store::<WaitingKey<K>, Vec<Waiting<L, R>>>(name)?),
            None => None,
        };
        if let Some(first) = waiting.as_ref().and_then(|waiting| waiting.all().next()) {
            time.waits_since(first?.0.timestamp);
        }
        self.open = Some(Open { time, other, waiting });
        Ok(())
    }

    fn process(&mut self, record: Record<K, S::This>, ctx: &mut ProcessorContext<K, Out>) -> Result<(), BoxError> {
        let Some(open) = &self.open else { return Ok(()) };
        let timestamp = record.timestamp;
        open.time.advance(timestamp);
        let (Some(key), Some(value)) = (&record.key, &record.value) else {
            if let Some(value) = record.value.as_ref().filter(|_| self.keeps_unmatched) {
                let joined = self.joined(None, value, None);
                return ctx.forward(record.with_value(joined));
            }
            ctx.count_dropped();
            return Ok(());
        };
        if timestamp == open.time.stream_time.get() {
            self.emit_unmatched(open, &record.headers, ctx)?;
        }
        let (older, younger) = self.reach();
        let from = timestamp.saturating_sub(older).max(0);
        let to = timestamp.saturating_add(younger).max(0);
        let mut is_matched = false;
        for (other_timestamp, other) in open.other.fetch_range(key, from, to)? {
            is_matched = true;
            if let Some(waiting) = &open.waiting {
                let partner = WaitingKey { timestamp: other_timestamp, is_left: !S::IS_LEFT, key: key.clone() };
                if waiting.get(&partner)?.is_some() {
                    waiting.put(&partner, None)?;
                }
            }
            ctx.forward(Record {
                key: Some(key.clone()),
                value: self.joined(Some(key), value, Some(&other)),
                timestamp: timestamp.max(other_timestamp),
                headers: record.headers.clone(),
            })?;
        }
        if is_matched || !self.keeps_unmatched {
            return Ok(());
        }
        match &open.waiting {
            Some(waiting) if to >= open.time.stream_time.get() => {
                open.time.waits_since(timestamp);
                let this = WaitingKey { timestamp, is_left: S::IS_LEFT, key: key.clone() };
                let mut values = waiting.get(&this)?.unwrap_or_default();
                values.push(S::waiting(value.clone()));
                Ok(waiting.put(&this, Some(values))?)
            }
            _ => {
                let joined = self.joined(Some(key), value, None);
                ctx.forward(record.with_value(joined))
            }
        }
    }
}
