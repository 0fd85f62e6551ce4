//! Windowed aggregations, as scenarios describe them.

use std::any::Any;
use std::rc::Rc;

use serde_json::Value as Json;
use streams_dsl::{
    CogroupedKStream, EmitStrategy, KGroupedStream, SessionWindowedKStream, SessionWindows, SlidingWindows,
    TimeWindowedKStream, TimeWindows, UnlimitedWindows,
};

use super::cogroup::{SessionCogroup, WindowedCogroup};
use super::options::{key_of, materialized};
use super::{Env, Node, op, skip, str_of, table, types};
use crate::Skip;
use crate::functions::{aggregator, initializer, merger, reducer};
use crate::value::{Dynamic, Type, Value};

struct Windows<V>(TimeWindowedKStream<Value, V>);
struct Sessions<V>(SessionWindowedKStream<Value, V>);

/// Calls `$by` with the windows that `$step` describes: `$fixed` makes the node for those of known length, `$sessions` for sessions.
macro_rules! by_windows {
    ($step:expr, $by:expr, $fixed:expr, $sessions:expr) => {{
        let windows = &$step["windows"];
        let number = |field: &str| windows[field].as_i64();
        let needed = |field: &str| number(field).unwrap();
        let grace = number("grace").unwrap_or(0);
        let windowed = match str_of(windows, "type").unwrap() {
            "tumbling" => $by.windowed_by(TimeWindows::of_size_ms(needed("size")).with_grace_ms(grace)),
            "hopping" => {
                let windows = TimeWindows::of_size_ms(needed("size")).advance_by_ms(needed("advance"));
                $by.windowed_by(windows.with_grace_ms(grace))
            }
            "sliding" => $by.windowed_by(SlidingWindows::of_difference_ms(needed("diff")).with_grace_ms(grace)),
            "unlimited" => $by.windowed_by(UnlimitedWindows::starting_at(number("start").unwrap_or(0))),
            "session" => {
                let windows = SessionWindows::of_gap_ms(needed("gap")).with_grace_ms(grace);
                return Ok(Rc::new($sessions($by.windowed_by(windows))));
            }
            other => return Err(Skip(format!("{other} windows"))),
        };
        Ok(Rc::new($fixed(windowed)))
    }};
}

/// `grouped` by the windows that `step` describes.
pub(super) fn windowed_by<V: Dynamic>(grouped: &KGroupedStream<Value, V>, step: &Json) -> Result<Rc<dyn Node>, Skip> {
    let emit = if step["emit"] == "close" { EmitStrategy::OnWindowClose } else { EmitStrategy::OnWindowUpdate };
    by_windows!(
        step,
        grouped,
        |fixed: TimeWindowedKStream<_, _>| Windows(fixed.emit_strategy(emit)),
        |sessions: SessionWindowedKStream<_, _>| Sessions(sessions.emit_strategy(emit))
    )
}

/// `cogrouped` by the windows that `step` describes.
pub(super) fn cogrouped_by(cogrouped: &CogroupedKStream<Value, Value>, step: &Json) -> Result<Rc<dyn Node>, Skip> {
    by_windows!(step, cogrouped, WindowedCogroup, SessionCogroup)
}

impl<V: Dynamic> Node for Windows<V> {
    fn apply(&self, env: &Env, step: &Json) -> Result<Rc<dyn Node>, Skip> {
        let (Type::Time(key, _), value) = types(step) else { return skip(step) };
        let named = match str_of(step, "name") {
            Some(name) => self.0.named(name),
            None => self.0.clone(),
        };
        let mat = &step["mat"];
        match op(step) {
            "windowed.count" if env.counts_are_values => {
                table(named.count_as::<Value>(materialized(mat, &key, &value)?))
            }
            "windowed.count" => table(named.count(materialized(mat, &key, &value)?)),
            "windowed.reduce" => {
                let reducer = reducer(&step["reducer"])?;
                let reducer = move |old: V, new: Option<&V>| {
                    reducer(Some(&old.to_value()), key_of(new).as_ref()).map(V::of_value)
                };
                table(named.reduce_nullable(reducer, materialized(mat, &key, &value)?))
            }
            "windowed.aggregate" => {
                let (initial, aggregator) = (initializer(&step["init"])?, aggregator(&step["agg"])?);
                let aggregator = move |key: &Value, value: Option<&V>, aggregate: Option<Value>| {
                    aggregator(Some(key), key_of(value).as_ref(), aggregate.as_ref())
                };
                table(named.aggregate_nullable(move || initial.clone(), aggregator, materialized(mat, &key, &value)?))
            }
            _ => skip(step),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl<V: Dynamic> Node for Sessions<V> {
    fn apply(&self, env: &Env, step: &Json) -> Result<Rc<dyn Node>, Skip> {
        let (Type::Session(key), value) = types(step) else { return skip(step) };
        let named = match str_of(step, "name") {
            Some(name) => self.0.named(name),
            None => self.0.clone(),
        };
        let mat = &step["mat"];
        match op(step) {
            "windowed.count" if env.counts_are_values => {
                table(named.count_as::<Value>(materialized(mat, &key, &value)?))
            }
            "windowed.count" => table(named.count(materialized(mat, &key, &value)?)),
            "windowed.reduce" => {
                let reducer = reducer(&step["reducer"])?;
                let reducer = move |old: V, new: Option<&V>| {
                    reducer(Some(&old.to_value()), key_of(new).as_ref()).map(V::of_value)
                };
                table(named.reduce_nullable(reducer, materialized(mat, &key, &value)?))
            }
            "windowed.aggregate" => {
                let (initial, aggregator) = (initializer(&step["init"])?, aggregator(&step["agg"])?);
                let merger = merger(&step["merger"])?;
                let aggregator = move |key: &Value, value: Option<&V>, aggregate: Option<Value>| {
                    aggregator(Some(key), key_of(value).as_ref(), aggregate.as_ref())
                };
                let merger =
                    move |key: &Value, one: Option<Value>, other: Value| merger(Some(key), one.as_ref(), Some(&other));
                let materialized = materialized(mat, &key, &value)?;
                table(named.aggregate_nullable(move || initial.clone(), aggregator, merger, materialized))
            }
            _ => skip(step),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
