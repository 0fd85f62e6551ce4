//! Versioned stores in scenarios: reads of their history, and the processor that looks back.

use serde_json::{Value as Json, json};
use streams_core::store::{VersionedKeyValueStore, VersionedPut, VersionedRecord};
use streams_core::{BoxError, StreamsError, TopologyTestDriver};

use crate::value::{self, Dynamic, Value};

fn read_from<V: Dynamic>(
    store: &VersionedKeyValueStore<Value, V>,
    key: &Value,
    action: &Json,
) -> Result<Json, StreamsError> {
    let time = |field: &str| action[field].as_i64();
    let shown =
        |found: &VersionedRecord<V>| json!({ "v": value::json(&found.value.to_value()), "ts": found.timestamp });
    if action["do"] == "versioned.history" {
        let found = store.history(key, time("from"), time("to"), action["reverse"] == true)?;
        let entries = found.iter().map(|found| {
            let mut entry = shown(found);
            if let Some(end) = found.valid_to {
                entry["valid_to"] = end.into();
            }
            entry
        });
        return Ok(entries.collect());
    }
    let found = match time("as_of") {
        Some(time) => store.get_as_of(key, time)?,
        None => store.get(key)?,
    };
    Ok(found.as_ref().map_or(Json::Null, shown))
}

/// What a `versioned.` action reads; `None` if there is no such store.
pub fn read(driver: &TopologyTestDriver, key: &Value, action: &Json) -> Option<Result<Json, StreamsError>> {
    let name = action["store"].as_str()?;
    if let Some(store) = driver.store::<VersionedKeyValueStore<Value, Value>>(name) {
        return Some(read_from(&store, key, action));
    }
    let counts = driver.store::<VersionedKeyValueStore<Value, i64>>(name)?;
    Some(read_from(&counts, key, action))
}

/// What `p_versioned` forwards.
pub fn put_and_look_back(
    store: &VersionedKeyValueStore<Value, Value>,
    key: &Value,
    value: Option<Value>,
    timestamp: i64,
    back: i64,
) -> Result<String, BoxError> {
    let code = match store.put(key, value, timestamp)? {
        VersionedPut::Latest => "-1".to_owned(),
        VersionedPut::ValidUntil(end) => end.to_string(),
        VersionedPut::Expired => "not put".to_owned(),
    };
    let show = |found: Option<VersionedRecord<Value>>| {
        found.map_or_else(|| "none".to_owned(), |found| format!("{}@{}", found.value.text(), found.timestamp))
    };
    Ok(format!("{code}|{}|{}", show(store.get(key)?), show(store.get_as_of(key, timestamp - back)?)))
}
