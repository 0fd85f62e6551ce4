//! What a scenario says beside the operators: stores, serdes, timestamps, partitioners, functions of key and value.

use std::sync::Arc;

use serde_json::Value as Json;
use streams_core::processor::{
    FailOnInvalidTimestamp, LogAndSkipOnInvalidTimestamp, SourceRecord, TimestampExtractor, UsePartitionTime,
};
use streams_core::store::Stores;
use streams_core::store::builder::StoreBuilderRef;
use streams_core::topology::{PartitionChoice, TopicContext, TopicNameExtractor};
use streams_core::{AutoOffsetReset, BoxError};
use streams_dsl::{Consumed, Materialized};

use super::{Env, str_of, types};
use crate::Skip;
use crate::functions::{Binary, Predicate};
use crate::value::{Dynamic, DynamicSerde, Type, Value, text};

/// The `Materialized` that `mat` describes; its serdes too unless there is none.
pub(super) fn materialized<K: Dynamic, V: Dynamic>(
    mat: &Json,
    key: &Type,
    value: &Type,
) -> Result<Materialized<K, V>, Skip> {
    let mut result = Materialized::with(DynamicSerde(key.clone()), DynamicSerde(value.clone()));
    if let Some(name) = str_of(mat, "name") {
        result = result.with_name(name);
    }
    match str_of(mat, "type") {
        None => {}
        Some("dsl_rocksdb") => result = result.persistent(),
        Some("dsl_memory") => result = result.in_memory(),
        Some("rocksdb") => result = result.persistent().as_supplied(),
        Some("memory") => result = result.in_memory().as_supplied(),
        Some("plain") => result = result.persistent().without_timestamps().as_supplied(),
        Some("lru") => result = result.with_max_entries(mat["max"].as_u64().unwrap() as usize).as_supplied(),
        Some("versioned") => {
            let mut versioned =
                Materialized::versioned(str_of(mat, "name").unwrap(), mat["history_ms"].as_i64().unwrap());
            if let Some(interval) = mat["segment_ms"].as_i64() {
                versioned = versioned.with_segment_interval_ms(interval);
            }
            let serdes = (DynamicSerde(key.clone()), DynamicSerde(value.clone()));
            result = versioned.with_key_serde(serdes.0).with_value_serde(serdes.1);
        }
        Some(other) => return Err(Skip(format!("store type {other}"))),
    }
    if mat["logging"] == false {
        result = result.without_logging();
    }
    if mat["caching"] == false {
        result = result.without_caching();
    }
    if let Some(retention) = mat["retention_ms"].as_i64() {
        result = result.with_retention_ms(retention);
    }
    Ok(result)
}

pub(super) fn key_of<K: Dynamic>(key: Option<&K>) -> Option<Value> {
    key.map(Dynamic::to_value)
}

pub(super) fn test<K: Dynamic, V: Dynamic>(
    predicate: Predicate,
) -> impl Fn(Option<&K>, Option<&V>) -> bool + Send + Sync + 'static {
    move |key, value| predicate(key_of(key).as_ref(), key_of(value).as_ref())
}

pub(super) fn call<K: Dynamic, V: Dynamic>(
    function: Binary,
) -> impl Fn(Option<&K>, Option<&V>) -> Option<Value> + Send + Sync + 'static {
    move |key, value| function(key_of(key).as_ref(), key_of(value).as_ref())
}

/// Chooses partitions as the catalogue says.
pub(super) fn partitioner<K: Dynamic, V: Dynamic>(
    step: &Json,
) -> Result<
    Option<impl Fn(&str, Option<&K>, Option<&V>, i32) -> PartitionChoice + Send + Sync + 'static + use<K, V>>,
    Skip,
> {
    let Some(name) = step["partitioner"][0].as_str().map(str::to_owned) else { return Ok(None) };
    let number = step["partitioner"][1].as_i64().unwrap_or(0) as i32;
    Ok(Some(move |_: &str, _: Option<&K>, value: Option<&V>, _: i32| match name.as_str() {
        "part_const" => PartitionChoice::One(number),
        "part_both" => PartitionChoice::Several([0, 1].into_iter().collect()),
        "part_none" => PartitionChoice::Drop,
        "part_len" => PartitionChoice::One((text(key_of(value).as_ref()).len() % 4) as i32),
        _ => PartitionChoice::Default,
    }))
}

pub(super) struct TopicOf {
    pub(super) spec: Json,
    pub(super) test: Option<Predicate>,
}

impl<K: Dynamic, V: Dynamic> TopicNameExtractor<K, V> for TopicOf {
    fn topic(&self, key: Option<&K>, value: Option<&V>, context: &TopicContext<'_>) -> String {
        let (key, value) = (key_of(key), key_of(value));
        let argument = |index: usize| self.spec[index].as_str().unwrap_or("").to_owned();
        match &self.test {
            Some(test) if test(key.as_ref(), value.as_ref()) => argument(2),
            Some(_) => argument(3),
            None if self.spec[0] == "topic_of_source" => {
                argument(1) + context.source.map_or("", |source| &*source.topic)
            }
            None if self.spec[0] == "topic_of_key" => argument(1) + &text(key.as_ref()),
            None => argument(1) + &text(value.as_ref()),
        }
    }

    fn describe(&self) -> String {
        self.spec.to_string()
    }
}

enum Extractor {
    Value,
    Field(String, usize),
    PartitionTimePlus(i64),
}

impl<K: Dynamic> TimestampExtractor<K, Value> for Extractor {
    fn extract(&self, record: &SourceRecord<'_, K, Value>, partition_time: i64, _: i64) -> Result<i64, BoxError> {
        Ok(match self {
            Self::Value => record.value.map_or(partition_time, Value::number),
            Self::Field(separator, index) => {
                let text = text(record.value);
                text.split(separator).nth(*index).and_then(|part| part.parse().ok()).unwrap_or(-1)
            }
            Self::PartitionTimePlus(ms) => partition_time + ms,
        })
    }
}

pub(super) fn consumed<K: Dynamic>(step: &Json) -> Result<Consumed<K, Value>, Skip> {
    let (key, value) = types(step);
    let mut consumed = Consumed::with(DynamicSerde(key), DynamicSerde(value));
    if let Some(name) = str_of(step, "name") {
        consumed = consumed.named(name);
    }
    consumed = match str_of(step, "reset") {
        Some("earliest") => consumed.with_offset_reset(AutoOffsetReset::Earliest),
        Some("latest") => consumed.with_offset_reset(AutoOffsetReset::Latest),
        Some("none") => consumed.with_offset_reset(AutoOffsetReset::None),
        _ => match step["reset"].as_i64() {
            Some(ms) => consumed.with_offset_reset(AutoOffsetReset::ByDuration(ms)),
            None => consumed,
        },
    };
    let spec = &step["ts_extractor"];
    Ok(match spec[0].as_str() {
        None => consumed,
        Some("fail_on_invalid") => consumed.with_timestamp_extractor(FailOnInvalidTimestamp),
        Some("log_and_skip") => consumed.with_timestamp_extractor(LogAndSkipOnInvalidTimestamp),
        Some("use_partition_time") => consumed.with_timestamp_extractor(UsePartitionTime),
        Some("value_long") => consumed.with_timestamp_extractor(Extractor::Value),
        Some("value_field") => {
            let field = Extractor::Field(spec[1].as_str().unwrap().to_owned(), spec[2].as_u64().unwrap() as usize);
            consumed.with_timestamp_extractor(field)
        }
        Some("partition_time_plus") => {
            consumed.with_timestamp_extractor(Extractor::PartitionTimePlus(spec[1].as_i64().unwrap()))
        }
        Some(other) => return Err(Skip(format!("extractor {other}"))),
    })
}

pub(super) fn store(def: &Json) -> Result<StoreBuilderRef, Skip> {
    let (key, value) = types(def);
    let name = str_of(def, "name").unwrap();
    let (key, value) = (DynamicSerde(key), DynamicSerde(value));
    let number = |field: &str| def[field].as_i64().unwrap_or(0);
    let in_memory = match str_of(def, "backing") {
        None | Some("rocksdb") => false,
        Some("memory" | "lru") => true,
        Some(other) => return Err(Skip(format!("backing {other}"))),
    };
    macro_rules! add {
        ($builder:expr) => {{
            let mut builder = $builder.with_caching(def["caching"] == true);
            if in_memory {
                builder = builder.in_memory();
            }
            if def["logging"] == false {
                builder = builder.without_logging();
            }
            Arc::new(builder) as StoreBuilderRef
        }};
    }
    let (retention, size) = (number("retention_ms"), number("size_ms"));
    Ok(match str_of(def, "type").unwrap() {
        "kv" if def["backing"] == "lru" => {
            add!(Stores::key_value::<Value, Value>(name, key, value).with_max_entries(number("max") as usize))
        }
        "kv" => add!(Stores::key_value::<Value, Value>(name, key, value)),
        "versioned" => {
            let mut builder = Stores::versioned_key_value::<Value, Value>(name, number("history_ms"), key, value);
            if in_memory {
                builder = builder.in_memory();
            }
            if def["logging"] == false {
                builder = builder.without_logging();
            }
            Arc::new(builder)
        }
        "timestamped_kv" => add!(Stores::timestamped_key_value::<Value, Value>(name, key, value)),
        "window" if def["duplicates"] == true => {
            add!(Stores::window::<Value, Value>(name, retention, size, key, value).with_duplicates())
        }
        "window" => add!(Stores::window::<Value, Value>(name, retention, size, key, value)),
        "timestamped_window" => add!(Stores::timestamped_window::<Value, Value>(name, retention, size, key, value)),
        "session" => add!(Stores::session::<Value, Value>(name, retention, key, value)),
        other => return Err(Skip(format!("store {other}"))),
    })
}

pub(super) fn add_store(env: &mut Env, def: &Json) -> Result<(), Skip> {
    env.builder.add_shared_state_store(store(def)?);
    let name = str_of(def, "name").unwrap();
    env.stores.insert(name.to_owned(), def.clone());
    Ok(())
}
