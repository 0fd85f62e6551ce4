//! Operators of tables and grouped tables.

use std::any::Any;
use std::rc::Rc;

use serde_json::{Value as Json, json};
use streams_core::{BoxError, Windowed};
use streams_dsl::{
    BufferConfig, EagerBuffer, Grouped, KGroupedTable, KTable, Materialized, StrictBuffer, Suppressed, TableJoined,
    ValueTransformer,
};

use super::options::{call, key_of, materialized, partitioner};
use super::{Env, Node, Table, op, skip, str_of, stream, table, types};
use crate::Skip;
use crate::build::DOES_NOT_COMPILE;
use crate::functions::{Binary, aggregator, initializer, joiner, kv, predicate, reducer, unary};
use crate::value::{Dynamic, DynamicSerde, Value};

struct GroupedTable(KGroupedTable<Value, Value>);

/// What the step says of its store; `unnamed` where it says nothing at all.
fn kept<K: Dynamic, V: Dynamic>(step: &Json) -> Result<Materialized<K, V>, Skip> {
    let (key, value) = types(step);
    match &step["mat"] {
        Json::Null => Ok(Materialized::unnamed()),
        mat => materialized(mat, &key, &value),
    }
}

struct Transformer(Binary);

impl<K: Dynamic, V: Dynamic> ValueTransformer<K, V, Value> for Transformer {
    fn transform(&mut self, key: Option<&K>, value: Option<&V>) -> Result<Option<Value>, BoxError> {
        Ok((self.0)(key_of(key).as_ref(), key_of(value).as_ref()))
    }
}

impl<K: Dynamic, V: Dynamic> Table<K, V> {
    fn filter(&self, named: &KTable<K, V>, step: &Json) -> Result<Rc<dyn Node>, Skip> {
        let predicate = predicate(&step["pred"])?;
        let test = move |key: Option<&K>, value: &V| predicate(key_of(key).as_ref(), Some(&value.to_value()));
        let is_plain = step["mat"].is_null();
        table(match op(step) {
            "table.filter" if is_plain => named.filter(test),
            "table.filter" => named.filter_materialized(test, kept(step)?),
            _ if is_plain => named.filter_not(test),
            _ => named.filter_not_materialized(test, kept(step)?),
        })
    }

    fn join<T: Dynamic>(&self, named: &KTable<K, V>, right: &KTable<K, T>, step: &Json) -> Result<Rc<dyn Node>, Skip> {
        let joiner = joiner(&step["joiner"])?;
        let join =
            move |left: Option<&V>, right: Option<&T>| joiner(None, key_of(left).as_ref(), key_of(right).as_ref());
        let kept = kept::<K, Value>(step)?;
        table(match op(step) {
            "table.join" => named.join_nullable(right, move |left, right| join(Some(left), Some(right)), kept),
            "table.leftJoin" => named.left_join_nullable(right, move |left, right| join(Some(left), right), kept),
            _ => named.outer_join_nullable(right, join, kept),
        })
    }
}

/// The key of the other table that a row refers to.
fn foreign_key<K: Dynamic, V: Dynamic>(
    step: &Json,
) -> Result<impl Fn(&K, &V) -> Option<Value> + Send + Sync + 'static + use<K, V>, Skip> {
    let of_value = if step["fk"].is_null() { None } else { Some(unary(&step["fk"])?) };
    let of_both = if of_value.is_none() { Some(kv(&step["fk_with_key"])?) } else { None };
    Ok(move |key: &K, value: &V| match (&of_value, &of_both) {
        (Some(of_value), _) => of_value(Some(&value.to_value())),
        (_, Some(of_both)) => of_both(Some(&key.to_value()), Some(&value.to_value())),
        _ => None,
    })
}

fn join_foreign_key<K: Dynamic, V: Dynamic, T: Dynamic>(
    left: &KTable<K, V>,
    right: &KTable<Value, T>,
    step: &Json,
) -> Result<Rc<dyn Node>, Skip> {
    let mut joined = TableJoined::new();
    if let Some(name) = str_of(step, "name") {
        joined = joined.named(name);
    }
    if let Some(partitioner) = partitioner::<K, ()>(step)? {
        joined = joined.with_partitioner(partitioner);
    }
    if let Some(partitioner) = partitioner::<Value, ()>(&json!({ "partitioner": step["other_partitioner"] }))? {
        joined = joined.with_other_partitioner(partitioner);
    }
    let joiner = joiner(&step["joiner"])?;
    let join = move |left: &V, right: Option<&T>| joiner(None, Some(&left.to_value()), key_of(right).as_ref());
    let (key, value) = types(step);
    let (foreign_key, kept) = (foreign_key::<K, V>(step)?, materialized(&step["mat"], &key, &value)?);
    table(if op(step) == "table.fkJoin" {
        let join = move |left: &V, right: &T| join(left, Some(right));
        left.join_foreign_key_nullable(right, foreign_key, join, joined, kept)
    } else {
        left.left_join_foreign_key_nullable(right, foreign_key, join, joined, kept)
    })
}

/// The buffer that a suppression with a time limit is given.
fn buffer(spec: &Json) -> BufferConfig {
    let number = |field: &str| spec[field].as_u64().map(|number| number as usize);
    let (records, bytes) = (number("max_records"), number("max_bytes"));
    if spec["full"] == "shutdown" || (records.is_none() && bytes.is_none()) {
        return strict(spec).into();
    }
    let mut buffer = EagerBuffer::of_records(records.unwrap_or(usize::MAX));
    if let Some(bytes) = bytes {
        buffer = buffer.with_max_bytes(bytes);
    }
    if spec["logging"] == false {
        buffer = buffer.without_logging();
    }
    buffer.into()
}

fn strict(spec: &Json) -> StrictBuffer {
    let mut buffer = StrictBuffer::unbounded();
    if let Some(records) = spec["max_records"].as_u64() {
        buffer = buffer.with_max_records(records as usize);
    }
    if let Some(bytes) = spec["max_bytes"].as_u64() {
        buffer = buffer.with_max_bytes(bytes as usize);
    }
    if spec["logging"] == false {
        buffer = buffer.without_logging();
    }
    buffer
}

fn suppress<K: Dynamic, V: Dynamic>(named: &KTable<K, V>, step: &Json) -> Result<Rc<dyn Node>, Skip> {
    if step["until"] == "time_limit" {
        let wait_ms = step["wait_ms"].as_i64().unwrap();
        return table(named.suppress(Suppressed::until_time_limit_ms(wait_ms, buffer(&step["buffer"]))));
    }
    match (named as &dyn Any).downcast_ref::<KTable<Windowed<Value>, V>>() {
        Some(named) => table(named.suppress(Suppressed::until_window_closes(strict(&step["buffer"])))),
        None => Err(Skip(DOES_NOT_COMPILE.to_owned())),
    }
}

impl<K: Dynamic, V: Dynamic> Node for Table<K, V> {
    fn apply(&self, env: &Env, step: &Json) -> Result<Rc<dyn Node>, Skip> {
        let named = match str_of(step, "name") {
            Some(name) => self.0.named(name),
            None => self.0.clone(),
        };
        match op(step) {
            "table.filter" | "table.filterNot" => self.filter(&named, step),
            "table.mapValues" => {
                let mapper = unary(&step["fn"])?;
                let mapper = move |_: Option<&K>, value: &V| mapper(Some(&value.to_value()));
                table(named.map_values_materialized(mapper, kept(step)?))
            }
            "table.mapValuesWithKey" => {
                let mapper = kv(&step["fn"])?;
                let mapper = move |key: Option<&K>, value: &V| mapper(key_of(key).as_ref(), Some(&value.to_value()));
                table(named.map_values_materialized(mapper, kept(step)?))
            }
            "table.transformValues" => {
                let transform = kv(&step["fn"])?;
                table(named.transform_values(move || Transformer(Binary::clone(&transform)), &[], kept(step)?))
            }
            "table.toStream" if step["fn"].is_null() => stream(named.to_stream()),
            "table.toStream" => stream(named.to_stream_with_key(call(kv(&step["fn"])?))),
            "table.join" | "table.leftJoin" | "table.outerJoin" => {
                if let Some(right) = env.other::<Table<K, Value>>(step) {
                    self.join(&named, &right.0, step)
                } else if let Some(right) = env.other::<Table<K, i64>>(step) {
                    self.join(&named, &right.0, step)
                } else {
                    skip(step)
                }
            }
            "table.fkJoin" | "table.fkLeftJoin" => {
                if let Some(right) = env.other::<Table<Value, Value>>(step) {
                    join_foreign_key(&self.0, &right.0, step)
                } else if let Some(right) = env.other::<Table<Value, i64>>(step) {
                    join_foreign_key(&self.0, &right.0, step)
                } else {
                    skip(step)
                }
            }
            "table.suppress" => suppress(&named, step),
            "table.groupBy" => {
                let (key, value) = types(step);
                let (key_fn, value_fn) = (kv(&step["key_fn"])?, kv(&step["value_fn"])?);
                let mut grouped = Grouped::with(DynamicSerde(key), DynamicSerde(value));
                if let Some(name) = str_of(step, "name") {
                    grouped = grouped.named(name);
                }
                let selector = move |key: &K, value: &V| {
                    let (key, value) = (Some(key.to_value()), Some(value.to_value()));
                    (key_fn(key.as_ref(), value.as_ref()), value_fn(key.as_ref(), value.as_ref()))
                };
                Ok(Rc::new(GroupedTable(self.0.group_by_nullable(selector, grouped))))
            }
            _ => skip(step),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn store_name(&self) -> Option<String> {
        self.0.store_name()
    }
}

impl Node for GroupedTable {
    fn apply(&self, env: &Env, step: &Json) -> Result<Rc<dyn Node>, Skip> {
        let named = match str_of(step, "name") {
            Some(name) => self.0.named(name),
            None => self.0.clone(),
        };
        let (key, value) = types(step);
        let mat = &step["mat"];
        match op(step) {
            "tgrouped.count" if env.counts_are_values => {
                table(named.count_as::<Value>(materialized(mat, &key, &value)?))
            }
            "tgrouped.count" => table(named.count(materialized(mat, &key, &value)?)),
            "tgrouped.reduce" => {
                let (adder, subtractor) = (reducer(&step["adder"])?, reducer(&step["subtractor"])?);
                let adder = move |old: Value, new: &Value| adder(Some(&old), Some(new));
                let subtractor = move |old: Value, gone: &Value| subtractor(Some(&old), Some(gone));
                table(named.reduce_nullable(adder, subtractor, materialized(mat, &key, &value)?))
            }
            "tgrouped.aggregate" => {
                let initial = initializer(&step["init"])?;
                let (adder, subtractor) = (aggregator(&step["adder"])?, aggregator(&step["subtractor"])?);
                let adder = move |key: &Value, value: &Value, aggregate: Option<Value>| {
                    adder(Some(key), Some(value), aggregate.or_else(|| initial.clone()).as_ref())
                };
                let subtractor = move |key: &Value, value: &Value, aggregate: Value| {
                    subtractor(Some(key), Some(value), Some(&aggregate))
                };
                table(named.aggregate_nullable(adder, subtractor, materialized(mat, &key, &value)?))
            }
            _ => skip(step),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
