//! Joins of two streams, as scenarios describe them.

use std::rc::Rc;

use serde_json::Value as Json;
use streams_dsl::{JoinWindows, KStream, StreamJoined};

use super::{Env, Node, Stream, key_of, op, skip, str_of, stream};
use crate::Skip;
use crate::functions::joiner;
use crate::value::{Dynamic, DynamicSerde, Value};

/// The join of `left` with the stream that `step` names.
pub(super) fn streams<K: Dynamic, V: Dynamic>(
    left: &KStream<K, V>,
    env: &Env,
    step: &Json,
) -> Result<Rc<dyn Node>, Skip> {
    if let Some(right) = env.other::<Stream<K, Value>>(step) {
        join(left, &right.0, env, step)
    } else if let Some(right) = env.other::<Stream<K, i64>>(step) {
        join(left, &right.0, env, step)
    } else {
        skip(step)
    }
}

fn windows(step: &Json) -> JoinWindows {
    let spec = &step["windows"];
    let mut windows = JoinWindows::of_difference_ms(spec["diff"].as_i64().unwrap());
    if let Some(grace) = spec["grace"].as_i64() {
        windows = windows.with_grace_ms(grace);
    }
    if let Some(before) = spec["before"].as_i64() {
        windows = windows.before_ms(before);
    }
    if let Some(after) = spec["after"].as_i64() {
        windows = windows.after_ms(after);
    }
    windows
}

fn joined<K: Dynamic, L: Dynamic, R: Dynamic>(env: &Env, step: &Json) -> StreamJoined<K, L, R> {
    let types = |field| env.types[str_of(step, field).unwrap()].clone();
    let ((key, left), (_, right)) = (types("from"), types("with"));
    let mut joined = StreamJoined::with(DynamicSerde(key), DynamicSerde(left), DynamicSerde(right));
    if let Some(name) = str_of(step, "name") {
        joined = joined.named(name);
    }
    if let Some(name) = str_of(step, "store_name") {
        joined = joined.with_store_name(name);
    }
    let stores = &step["join_stores"];
    if stores["logging"] == false {
        joined = joined.without_logging();
    }
    if matches!(str_of(stores, "type"), Some("memory" | "dsl_memory")) {
        joined = joined.in_memory();
    }
    match (str_of(stores, "left"), str_of(stores, "right")) {
        (Some(left), Some(right)) => joined.with_store_names(left, right),
        _ => joined,
    }
}

fn join<K: Dynamic, L: Dynamic, R: Dynamic>(
    left: &KStream<K, L>,
    right: &KStream<K, R>,
    env: &Env,
    step: &Json,
) -> Result<Rc<dyn Node>, Skip> {
    let (joiner, windows, joined) = (joiner(&step["joiner"])?, windows(step), joined(env, step));
    match op(step) {
        "stream.join" => {
            let joiner = move |key: &K, left: &L, right: &R| {
                joiner(Some(&key.to_value()), Some(&left.to_value()), Some(&right.to_value()))
            };
            stream(left.join_stream_nullable(right, joiner, windows, joined))
        }
        "stream.leftJoin" => {
            let joiner = move |key: Option<&K>, left: &L, right: Option<&R>| {
                joiner(key_of(key).as_ref(), Some(&left.to_value()), key_of(right).as_ref())
            };
            stream(left.left_join_stream_nullable(right, joiner, windows, joined))
        }
        _ => {
            let joiner = move |key: Option<&K>, left: Option<&L>, right: Option<&R>| {
                joiner(key_of(key).as_ref(), key_of(left).as_ref(), key_of(right).as_ref())
            };
            stream(left.outer_join_stream_nullable(right, joiner, windows, joined))
        }
    }
}
