//! Performs the actions of a scenario in the test driver and compares what comes of them.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};

use serde_json::{Value as Json, json};
use streams_core::test_driver::ProducedRecord;
use streams_core::{
    Headers, KeyValueStore, SessionStore, StreamsConfig, TimestampedKeyValueStore, TimestampedWindowStore,
    TopologyTestDriver, ValueAndTimestamp, WindowStore, Windowed,
};
use streams_dsl::StreamsBuilder;

use crate::build::{DOES_NOT_COMPILE, Env, OF_TWO_TYPES};
use crate::failure::{Failure, Stop};
use crate::functions::UserFailed;
use crate::value::{self, Dynamic, DynamicSerde, Type, Value, hex, unhex};
use crate::{Difference, Skip, Strictness, versioned};

/// A value as it is read from a store.
trait Read {
    fn read(&self) -> Json;
}

impl Read for Value {
    fn read(&self) -> Json {
        json!({ "v": value::json(self) })
    }
}

impl Read for i64 {
    fn read(&self) -> Json {
        json!({ "v": self })
    }
}

impl<V: Dynamic> Read for ValueAndTimestamp<V> {
    fn read(&self) -> Json {
        json!({ "v": value::json(&self.value.to_value()), "ts": self.timestamp })
    }
}

fn keyed(key: Json, mut read: Json) -> Json {
    read["k"] = key;
    read
}

fn config(scenario: &Json, cache: Option<u64>) -> Result<StreamsConfig, Skip> {
    let settings = scenario["config"].as_object().cloned().unwrap_or_default();
    let id = settings.get("application.id").and_then(Json::as_str).unwrap_or("app");
    let mut config = StreamsConfig::new(id);
    for (name, value) in &settings {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let value = text.rsplit(['.', '$']).next().unwrap_or("");
        let value = if name.ends_with(".handler") { value } else { text.as_str() };
        config = config.with(name, value).map_err(|error| Skip(format!("{name}: {error}")))?;
    }
    if let Some(bytes) = cache {
        config = config.with("statestore.cache.max.bytes", bytes).unwrap();
    }
    Ok(config)
}

struct Run {
    driver: TopologyTestDriver,
    calls: Arc<Mutex<Vec<String>>>,
}

macro_rules! with_store {
    ($driver:expr, $name:expr, [$($type:ty),*], $store:ident => $body:expr) => {
        $(if let Some($store) = $driver.store::<$type>($name) { Some($body) } else)* { None }
    };
}

impl Run {
    /// Everything sent since the last call, in order: topic and record.
    fn outputs(&self) -> Vec<(String, Json)> {
        self.driver.take_produced().into_iter().map(|record| (record.topic.clone(), record_json(&record))).collect()
    }

    fn pipe(&self, scenario: &Json, action: &Json) -> Result<(), streams_core::StreamsError> {
        let topic = action["topic"].as_str().unwrap();
        let types = &scenario["inputs"][topic];
        let bytes = |field: &str, kind: &Json| match action[format!("{field}_hex")].as_str() {
            Some(raw) => Some(unhex(raw)),
            None => Type::parse(kind.as_str().unwrap_or("string")).value(&action[field]).map(|value| value.bytes()),
        };
        let (key, value) = (bytes("key", &types["k"]), bytes("value", &types["v"]));
        let mut headers = Headers::default();
        for header in action["headers"].as_array().into_iter().flatten() {
            headers.add(header[0].as_str().unwrap(), header[1].as_str().map(|value| unhex(value).into()));
        }
        let serde = || DynamicSerde(Type::Bytes);
        let input = self.driver.input_topic_with::<Value, Value>(topic, serde(), serde());
        let timestamp = action["ts"].as_i64().unwrap();
        input.pipe_bytes(key.as_deref(), value.as_deref(), timestamp, &headers)
    }

    fn put(&self, action: &Json) -> Result<(), Failure> {
        let name = action["store"].as_str().unwrap();
        let get =
            |field: &str, kind: &str| Type::parse(action[kind].as_str().unwrap_or("string")).value(&action[field]);
        let key = get("key", "k").ok_or_else(|| Failure::of_java("NullPointerException"))?;
        let value = get("value", "v");
        // What the JVM's view of a timestamped store as a plain one writes.
        let timestamp = action["ts"].as_i64().unwrap_or(-1);
        if let Some(store) = self.driver.store::<KeyValueStore<Value, Value>>(name) {
            store.put(&key, value)?;
        } else if let Some(store) = self.driver.store::<TimestampedKeyValueStore<Value, Value>>(name) {
            store.put(&key, value.map(|value| ValueAndTimestamp::new(value, timestamp)))?;
        } else if let Some(store) = self.driver.store::<TimestampedKeyValueStore<Value, i64>>(name) {
            store.put(&key, value.map(|value| ValueAndTimestamp::new(value.number(), timestamp)))?;
        } else {
            return Err(Failure::of_java("NullPointerException"));
        }
        Ok(())
    }

    fn read(&self, action: &Json) -> Result<Json, Stop> {
        let kind = action["do"].as_str().unwrap();
        let name = action["store"].as_str().unwrap();
        let reverse = action["reverse"] == true;
        let key_of = |field: &str| Type::parse(action["k"].as_str().unwrap_or("string")).value(&action[field]);
        let time = |field: &str| action[field].as_i64();
        let missing = || {
            let is_there = self.driver.store_names().iter().any(|known| known == name);
            let class = if is_there { "ClassCastException" } else { "IllegalArgumentException" };
            Stop::Failed(Failure::of_java(class))
        };
        let key = || key_of("key").ok_or_else(|| Stop::Failed(Failure::of_java("NullPointerException")));
        let all = |entries: Vec<Json>| Json::Array(entries);
        let driver = &self.driver;
        type Kv = KeyValueStore<Value, Value>;
        type Ts = TimestampedKeyValueStore<Value, Value>;
        type Counts = TimestampedKeyValueStore<Value, i64>;
        type WindowedTs = TimestampedKeyValueStore<Windowed<Value>, Value>;
        type WindowedCounts = TimestampedKeyValueStore<Windowed<Value>, i64>;
        type Win = WindowStore<Value, Value>;
        type TsWin = TimestampedWindowStore<Value, Value>;
        type Sessions = SessionStore<Value, Value>;
        type SessionCounts = SessionStore<Value, i64>;
        type WinCounts = TimestampedWindowStore<Value, i64>;
        let read = match kind {
            "get" => {
                let key = key()?;
                with_store!(driver, name, [Kv, Ts, Counts], store => {
                    store.get(&key).unwrap().map_or(Json::Null, |found| found.read())
                })
            }
            "count" => {
                with_store!(driver, name, [Kv, Ts, Counts], store => store.approximate_entries().unwrap().into())
            }
            "range" | "all" => {
                let (from, to) = (key_of("from_key"), key_of("to_key"));
                let plain = with_store!(driver, name, [Kv, Ts, Counts], store => {
                    let entries = if reverse {
                        store.reverse_range(from.as_ref(), to.as_ref())
                    } else {
                        store.range(from.as_ref(), to.as_ref())
                    };
                    all(entries.unwrap().map(|entry| entry.map(|(k, v)| keyed(value::json(&k), v.read())).unwrap()).collect())
                });
                // The table of a windowed aggregation, kept in a key-value store further down.
                plain.or_else(|| {
                    with_store!(driver, name, [WindowedTs, WindowedCounts], store => {
                        let entries = if reverse { store.reverse_range(None, None) } else { store.range(None, None) };
                        let shown = entries.unwrap().map(|entry| entry.map(|(k, v)| keyed(value::json(&k.to_value()), v.read())).unwrap());
                            all(shown.collect())
                    })
                })
            }
            "prefix" => {
                let prefix = key()?.bytes();
                with_store!(driver, name, [Kv, Ts, Counts], store => {
                    let entries = store.prefix_scan(&prefix);
                    all(entries.map(|entry| entry.map(|(k, v)| keyed(value::json(&k), v.read())).unwrap()).collect())
                })
            }
            "window.get" => {
                let (key, start) = (key()?, time("time").unwrap());
                with_store!(driver, name, [Win, TsWin, WinCounts], store => {
                    store.fetch(&key, start).unwrap().map_or(Json::Null, |found| found.read())
                })
            }
            "window.fetch" => {
                let (key, from, to) = (key()?, time("from").unwrap(), time("to").unwrap());
                with_store!(driver, name, [Win, TsWin, WinCounts], store => {
                    let entries =
                        if reverse { store.backward_fetch_range(&key, from, to) } else { store.fetch_range(&key, from, to) };
                    let entries = entries.unwrap().map(|(s, v)| keyed(s.into(), v.read()));
                    all(entries.collect())
                })
            }
            "window.all" | "window.range" => {
                let (from, to) = (time("from").unwrap_or(0), time("to").unwrap_or(i64::MAX));
                let (from_key, to_key) = (key_of("from_key"), key_of("to_key"));
                if kind == "window.range" && reverse {
                    return Err(Skip("reverse window.range".to_owned()).into());
                }
                with_store!(driver, name, [Win, TsWin, WinCounts], store => {
                    let entries = if kind == "window.range" {
                        store.fetch_key_range(from_key.as_ref(), to_key.as_ref(), from, to)
                    } else if reverse {
                        store.backward_fetch_all(from, to)
                    } else if time("from").is_none() {
                        store.all()
                    } else {
                        store.fetch_all(from, to)
                    };
                    let shown = entries.unwrap().map(|entry| {
                        entry.map(|(key, v)| keyed(value::json(&key.to_value()), v.read())).unwrap()
                    });
                    all(shown.collect())
                })
            }
            "session.get" => {
                let (key, from, to) = (key()?, time("from").unwrap(), time("to").unwrap());
                with_store!(driver, name, [Sessions, SessionCounts], store => {
                    store.fetch_session(&key, from, to).unwrap().map_or(Json::Null, |found| found.read())
                })
            }
            "session.fetch" | "session.find" | "session.range" => {
                let key = key_of("key");
                let (from_key, to_key) = (key_of("from_key"), key_of("to_key"));
                let (from, to) = (time("from").unwrap_or(0), time("to").unwrap_or(i64::MAX));
                with_store!(driver, name, [Sessions, SessionCounts], store => {
                    let entries = match (&key, reverse) {
                        (Some(key), false) => store.find_sessions(key, from, to),
                        (Some(key), true) => store.backward_find_sessions(key, from, to),
                        (None, false) => store.fetch_key_range(from_key.as_ref(), to_key.as_ref()),
                        (None, true) => store.backward_fetch_key_range(from_key.as_ref(), to_key.as_ref()),
                    };
                    let shown = entries.unwrap().map(|entry| {
                        entry.map(|(key, v)| keyed(value::json(&key.to_value()), v.read())).unwrap()
                    });
                    all(shown.collect())
                })
            }
            "versioned.get" | "versioned.history" => versioned::read(driver, &key()?, action).transpose()?,
            _ => return Err(Skip(kind.to_owned()).into()),
        };
        let keeps_headers = with_store!(driver, name, [Ts, Counts, TsWin, WinCounts, Sessions, SessionCounts], store => {
            store.keeps_headers()
        });
        let mut read = read.ok_or_else(missing)?;
        if keeps_headers == Some(true) {
            // What the DSL writes has none.
            let values = match &mut read {
                Json::Array(values) => values.as_mut_slice(),
                one => std::slice::from_mut(one),
            };
            values.iter_mut().filter(|value| value.is_object()).for_each(|value| value["h"] = json!([]));
        }
        Ok(read)
    }
}

fn record_json(record: &ProducedRecord) -> Json {
    let bytes = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(Json::Null, |bytes| hex(bytes).into());
    let mut shown = json!({ "k": bytes(&record.key), "v": bytes(&record.value), "ts": record.timestamp });
    if let Some(partition) = record.partition {
        shown["p"] = partition.into();
    }
    if !record.headers.is_empty() {
        let header =
            |header: &streams_core::Header| json!([header.key.as_ref(), header.value.as_ref().map(|value| hex(value))]);
        shown["h"] = record.headers.iter().map(header).collect();
    }
    shown
}

/// What an action is expected to send, in order: topic and record.
fn expected_outputs(step: &Json) -> Vec<(String, Json)> {
    let record = |record: &Json| {
        let (topic, mut record) = (record["t"].as_str().unwrap().to_owned(), record.clone());
        record.as_object_mut().unwrap().remove("t");
        (topic, record)
    };
    step["out"].as_array().into_iter().flatten().map(record).collect()
}

fn by_topic(records: Vec<(String, Json)>) -> BTreeMap<String, Vec<Json>> {
    let mut topics: BTreeMap<String, Vec<Json>> = BTreeMap::new();
    records.into_iter().for_each(|(topic, record)| topics.entry(topic).or_default().push(record));
    topics
}

/// The first difference between what was sent and what is expected, if any.
fn compare_outputs(
    actual: Vec<(String, Json)>,
    step: &Json,
    unordered: &Json,
    strictness: Strictness,
) -> Option<Difference> {
    let expected = expected_outputs(step);
    let topics = |records: &[(String, Json)]| records.iter().map(|(topic, _)| topic.clone()).collect::<Vec<_>>();
    if strictness.order && topics(&actual) != topics(&expected) {
        return Some(differ("order of topics", &topics(&actual), &topics(&expected)));
    }
    let (mut actual, mut expected) = (by_topic(actual), by_topic(expected));
    for (topic, records) in &mut actual {
        for (record, expected) in records.iter_mut().zip(expected.get(topic).into_iter().flatten()) {
            ignore_wildcards(record, expected);
        }
    }
    for topic in unordered.as_array().into_iter().flatten().filter_map(Json::as_str) {
        for records in actual.get_mut(topic).into_iter().chain(expected.get_mut(topic)) {
            records.sort_by_key(Json::to_string);
        }
    }
    let mut names: Vec<&String> = actual.keys().chain(expected.keys()).collect();
    names.sort();
    names.dedup();
    let none = Vec::new();
    for topic in names {
        let (actual, expected) = (actual.get(topic).unwrap_or(&none), expected.get(topic).unwrap_or(&none));
        let missing = Json::Null;
        for index in 0..actual.len().max(expected.len()) {
            let (actual, expected) = (actual.get(index).unwrap_or(&missing), expected.get(index).unwrap_or(&missing));
            if actual != expected {
                return Some(differ(&format!("topic {topic}, record {index}"), &shown(actual), &shown(expected)));
            }
        }
    }
    None
}

/// A record with its key and value also as text.
fn shown(record: &Json) -> String {
    let text = |field: &str| {
        record[field].as_str().map_or_else(String::new, |hex| String::from_utf8_lossy(&unhex(hex)).into_owned())
    };
    match record.is_null() {
        true => "no record".to_owned(),
        false => format!("{record} (key {:?}, value {:?})", text("k"), text("v")),
    }
}

/// Headers that tell of an error are another text here.
fn ignore_wildcards(record: &mut Json, expected: &Json) {
    let headers = expected["h"].as_array().into_iter().flatten().enumerate();
    for (index, _) in headers.filter(|(_, header)| header[1] == "*") {
        if let Some(value) = record.get_mut("h").and_then(|all| all.get_mut(index)).and_then(|header| header.get_mut(1))
        {
            *value = "*".into();
        }
    }
}

fn differ(what: &str, actual: &impl std::fmt::Debug, expected: &impl std::fmt::Debug) -> Difference {
    format!("{what}\n    actual   {actual:?}\n    expected {expected:?}")
}

/// `describe()` with the nodes of each sub-topology by name and its lists sorted: the JVM prints them in the order of hash tables.
pub fn canonical(text: &str) -> String {
    fn list(text: &str) -> String {
        let mut names: Vec<&str> = text.split(", ").collect();
        names.sort_unstable();
        names.join(", ")
    }
    let mut lines: Vec<(String, Vec<String>)> = Vec::new();
    let mut sub_topology = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(arrow) = line.get(..4).filter(|arrow| ["--> ", "<-- "].contains(arrow)) {
            lines.last_mut().unwrap().1.push(format!("{arrow}{}", list(&line[4..])));
        } else if let Some((head, rest)) = line.split_once("s: [").filter(|_| !line.starts_with("Sub")) {
            let (names, tail) = rest.split_once(']').unwrap();
            lines.push((format!("{sub_topology} {head}s: [{}]{tail}", list(names)), Vec::new()));
        } else {
            if line.starts_with("Sub-topology") {
                sub_topology = line.to_owned();
            }
            lines.push((format!("{sub_topology} {line}"), Vec::new()));
        }
    }
    lines.sort();
    lines.into_iter().map(|(line, below)| format!("{line} {}\n", below.join(" "))).collect()
}

/// Runs the scenario once, with the default cache or without, against `expect`; `Some` is the first difference.
pub fn run(
    scenario: &Json,
    expect: &Json,
    cache: Option<u64>,
    strictness: Strictness,
) -> Result<Option<Difference>, Skip> {
    match run_with(scenario, expect, cache, strictness, false) {
        Err(Skip(reason)) if reason == OF_TWO_TYPES => run_with(scenario, expect, cache, strictness, true),
        done => done,
    }
}

fn run_with(
    scenario: &Json,
    expect: &Json,
    cache: Option<u64>,
    strictness: Strictness,
    counts_are_values: bool,
) -> Result<Option<Difference>, Skip> {
    let config = config(scenario, cache)?;
    let calls = Arc::new(Mutex::new(Vec::new()));
    let mut env = Env {
        builder: StreamsBuilder::new(),
        nodes: BTreeMap::new(),
        types: BTreeMap::new(),
        calls: Arc::clone(&calls),
        stores: BTreeMap::new(),
        low: None,
        counts_are_values,
    };
    for step in scenario["topology"].as_array().into_iter().flatten() {
        match env.step(step) {
            // Types say here what the JVM finds out when the topology is built.
            Err(Skip(reason))
                if reason == DOES_NOT_COMPILE && expect["build_error"]["class"] == "TopologyException" =>
            {
                return Ok(None);
            }
            done => done?,
        }
    }
    let wall_start = scenario["wall_start"].as_i64().unwrap_or(0);
    let built = env.low.take().unwrap_or_else(|| env.builder.build_with(&config));
    let described = built.as_ref().map(streams_core::Topology::describe).unwrap_or_default();
    let started = built.and_then(|topology| TopologyTestDriver::starting_at(&topology, config, wall_start));
    let driver = match (started, expect["build_error"].is_null()) {
        (Err(error), false) => {
            let failure = Failure::from(error);
            let is_same = failure.is(&expect["build_error"]);
            return Ok((!is_same).then(|| differ("building", &failure, &expect["build_error"])));
        }
        (Err(error), true) => return Ok(Some(differ("building failed", &error.to_string(), &"a topology"))),
        (Ok(_), false) => return Ok(Some(differ("building", &"a topology", &expect["build_error"]))),
        (Ok(driver), true) => driver,
    };
    if let Some(difference) = compare_topology(expect, &described, &driver, &env, strictness) {
        return Ok(Some(difference));
    }
    drive(scenario, expect, &mut Run { driver, calls }, strictness)
}

fn compare_topology(
    expect: &Json,
    described: &str,
    driver: &TopologyTestDriver,
    env: &Env,
    strictness: Strictness,
) -> Option<Difference> {
    if let Some(text) = expect["describe"].as_str() {
        let is_same = if strictness.describe { text == described } else { canonical(text) == canonical(described) };
        if !is_same {
            return Some(format!("describe\n{described}\nexpected\n{text}"));
        }
    }
    if let Some(names) = expect["stores"].as_array() {
        let mut stores = driver.store_names();
        stores.sort();
        if Json::from(stores.clone()) != Json::from(names.clone()) {
            return Some(differ("stores", &stores, names));
        }
    }
    for (id, node) in &env.nodes {
        let name = node.store_name().map_or(Json::Null, Json::from);
        // The JVM names a store that does not exist.
        let is_phantom = |text: &str| text.starts_with("KTABLE-FK-JOIN-OUTPUT-STATE-STORE-");
        if name.is_null() && expect["queryable"][id].as_str().is_some_and(is_phantom) {
            continue;
        }
        if expect["queryable"].is_object() && expect["queryable"][id] != name {
            return Some(differ(&format!("store of {id}"), &name, &expect["queryable"][id]));
        }
        if let Some(names) = node.branch_names()
            && expect["branch_keys"][id] != Json::from(names.clone())
        {
            return Some(differ("branches", &names, &expect["branch_keys"][id]));
        }
    }
    None
}

fn drive(scenario: &Json, expect: &Json, run: &mut Run, strictness: Strictness) -> Result<Option<Difference>, Skip> {
    let none = Vec::new();
    let actions = scenario["driver"].as_array().unwrap_or(&none);
    let steps = expect["steps"].as_array().unwrap_or(&none);
    for (index, (action, step)) in actions.iter().zip(steps).enumerate() {
        let found = act(scenario, action, step, run)?;
        let difference = match found {
            Found::Ended => return Ok(None),
            Found::Difference(difference) => Some(difference),
            Found::Done(read) => compare_outputs(run.outputs(), step, &expect["unordered"], strictness)
                .or_else(|| (read != step["read"]).then(|| differ("read", &read, &step["read"])))
                .or_else(|| compare_calls(run, step)),
        };
        if let Some(difference) = difference {
            return Ok(Some(format!("action {index} {action}: {difference}")));
        }
    }
    if steps.len() < actions.len() {
        return Ok(Some(differ("actions that were expected to be performed", &actions.len(), &steps.len())));
    }
    Ok(None)
}

/// How an action went.
enum Found {
    /// What it read, if it is a read.
    Done(Json),
    /// An error was expected, came, and ends the scenario.
    Ended,
    Difference(Difference),
}

fn act(scenario: &Json, action: &Json, step: &Json, run: &mut Run) -> Result<Found, Skip> {
    let mut failing = |call: &mut dyn FnMut(&mut Run) -> Result<(), streams_core::StreamsError>| {
        // A function that fails panics with a mark of its own; other panics are faults.
        match catch_unwind(AssertUnwindSafe(|| call(&mut *run))) {
            Ok(done) => done.map_err(Failure::from),
            Err(panic) if panic.is::<UserFailed>() => Err(Failure::of_function()),
            Err(panic) => resume_unwind(panic),
        }
    };
    let kind = action["do"].as_str().unwrap();
    let mut read = Json::Null;
    let result: Result<(), Failure> = match kind {
        "pipe" => failing(&mut |run| run.pipe(scenario, action)),
        "advance_wall" => failing(&mut |run| run.driver.advance_wall_clock(action["ms"].as_i64().unwrap())),
        "put" => run.put(action),
        _ => match run.read(action) {
            Ok(found) => {
                read = found;
                Ok(())
            }
            Err(Stop::Failed(failure)) if step["error"].is_null() && failure.is_of_types() => {
                return Err(Skip(format!("{kind} of a store of these types")));
            }
            Err(Stop::Failed(failure)) => Err(failure),
            Err(Stop::Skipped(skip)) => return Err(skip),
        },
    };
    Ok(match (result, step["error"].is_null()) {
        (Err(failure), false) if !failure.is(&step["error"]) => {
            Found::Difference(differ("failed", &failure, &step["error"]))
        }
        // The end of the scenario, for all but what only looks at or changes a store.
        (Err(_), false) if matches!(kind, "pipe" | "advance_wall") => Found::Ended,
        (Err(_), false) => Found::Done(Json::Null),
        (Err(failure), true) => Found::Difference(differ("failed", &failure, step)),
        (Ok(()), false) => Found::Difference(differ("succeeded", &"success", &step["error"])),
        (Ok(()), true) => Found::Done(read),
    })
}

fn compare_calls(run: &Run, step: &Json) -> Option<Difference> {
    let calls = Json::from(std::mem::take(&mut *run.calls.lock().unwrap()));
    let expected = match &step["calls"] {
        Json::Null => Json::Array(Vec::new()),
        expected => expected.clone(),
    };
    (calls != expected).then(|| differ("calls", &calls, &expected))
}
