//! The catalogue of processors that scenarios name.

use std::rc::Rc;

use serde_json::Value as Json;
use streams_core::processor::context::NodeContext;
use streams_core::store::{GlobalKeyValueStore, VersionedKeyValueStore};
use streams_core::{
    BoxError, FixedKeyContext, FixedKeyProcessor, FixedKeyRecord, Headers, KeyValueStore, Processor, ProcessorContext,
    PunctuationType, Record, ScheduleId, SessionStore, TimestampedKeyValueStore, ValueAndTimestamp, Window,
    WindowStore, Windowed,
};

use crate::functions::{Predicate, Unary, predicate, unary};
use crate::value::{Dynamic, Value, text};
use crate::{Skip, versioned};

/// Takes a record for one child, or for all.
type Emit<'a> = &'a dyn Fn(Option<&str>, Record<Value, Value>) -> Result<(), BoxError>;

/// What a processor of any kind is handed.
struct Ctx<'a> {
    node: &'a NodeContext,
    emit: Emit<'a>,
}

impl std::ops::Deref for Ctx<'_> {
    type Target = NodeContext;

    fn deref(&self) -> &NodeContext {
        self.node
    }
}

impl Ctx<'_> {
    fn forward(&self, record: Record<Value, Value>) -> Result<(), BoxError> {
        (self.emit)(None, record)
    }

    fn forward_to(&self, child: &str, record: Record<Value, Value>) -> Result<(), BoxError> {
        (self.emit)(Some(child), record)
    }
}

fn dynamic<K: Dynamic, V: Dynamic>(record: Record<K, V>) -> Record<Value, Value> {
    let Record { key, value, timestamp, headers } = record;
    Record { key: key.map(|key| key.to_value()), value: value.map(|value| value.to_value()), timestamp, headers }
}

enum Store {
    Plain(Rc<KeyValueStore<Value, Value>>),
    Timestamped(Rc<TimestampedKeyValueStore<Value, Value>>),
    Counts(Rc<TimestampedKeyValueStore<Value, i64>>),
    Window(Rc<WindowStore<Value, Value>>),
    Session(Rc<SessionStore<Value, Value>>),
    Versioned(Rc<VersionedKeyValueStore<Value, Value>>),
    Global(GlobalKeyValueStore<Value, Value>),
    GlobalTable(GlobalKeyValueStore<Value, ValueAndTimestamp<Value>>),
}

const KNOWN: &[&str] = &[
    "p_identity",
    "p_map",
    "p_drop_null",
    "p_twice",
    "p_ts_add",
    "p_count",
    "p_dedup",
    "p_previous",
    "p_delete_on",
    "p_list",
    "p_two_stores",
    "p_newest",
    "p_lookup",
    "p_store",
    "p_store_forward",
    "p_buffer",
    "p_tick",
    "p_tick_at",
    "p_tick_two",
    "p_tick_cancel",
    "p_route",
    "p_meta",
    "p_times",
    "p_fail_if",
    "p_window",
    "p_session",
    "p_versioned",
    "p_header_read",
    "p_header_add",
    "p_header_remove",
];

/// Any processor of the catalogue.
pub struct CatalogueProcessor {
    spec: Json,
    name: String,
    stores: Vec<Store>,
    /// Why a store is not there; told at the first record, when Kafka Streams would look for it.
    missing: Option<String>,
    schedules: Vec<ScheduleId>,
    ticks: i64,
    map: Option<Unary>,
    test: Option<Predicate>,
}

fn string(value: impl Into<String>) -> Option<Value> {
    Some(Value::Str(value.into()))
}

fn kind(text: &str) -> PunctuationType {
    if text == "wall" { PunctuationType::WallClockTime } else { PunctuationType::StreamTime }
}

impl CatalogueProcessor {
    /// Whether the catalogue here has it.
    pub fn check(spec: &Json) -> Result<(), Skip> {
        let name = spec[0].as_str().unwrap();
        if !KNOWN.contains(&name) {
            return Err(Skip(format!("processor {name}")));
        }
        if name == "p_map" {
            unary(&spec[1])?;
        }
        Ok(())
    }

    pub fn new(spec: Json) -> Self {
        let name = spec[0].as_str().unwrap().to_owned();
        let map = if name == "p_map" { unary(&spec[1]).ok() } else { None };
        let test = if name == "p_route" { predicate(&spec[1]).ok() } else { None };
        Self { spec, name, stores: Vec::new(), missing: None, schedules: Vec::new(), ticks: 0, map, test }
    }

    fn argument(&self, index: usize) -> &str {
        self.spec[index].as_str().unwrap_or("")
    }

    fn number(&self, index: usize) -> i64 {
        self.spec[index].as_i64().unwrap()
    }

    fn get(&self, store: usize, key: &Value) -> Result<Option<Value>, BoxError> {
        Ok(match &self.stores[store] {
            Store::Plain(store) => store.get(key)?,
            Store::Timestamped(store) => store.get(key)?.map(|found| found.value),
            _ => return Err("no key-value store".into()),
        })
    }

    fn put(&self, store: usize, key: &Value, value: Option<Value>, timestamp: i64) -> Result<(), BoxError> {
        match &self.stores[store] {
            Store::Plain(store) => Ok(store.put(key, value)?),
            Store::Timestamped(store) => Ok(store.put(key, value.map(|v| ValueAndTimestamp::new(v, timestamp)))?),
            _ => Err("no key-value store".into()),
        }
    }

    fn entries(&self, store: usize) -> Result<Vec<(Value, Value)>, BoxError> {
        let mut entries = Vec::new();
        match &self.stores[store] {
            Store::Plain(store) => {
                for entry in store.all() {
                    entries.push(entry?);
                }
            }
            Store::Timestamped(store) => {
                for entry in store.all() {
                    let (key, found) = entry?;
                    entries.push((key, found.value));
                }
            }
            _ => return Err("no key-value store".into()),
        }
        Ok(entries)
    }

    fn lookup(&self, key: Option<&Value>) -> Result<String, BoxError> {
        let Some(key) = key else { return Ok("null".to_owned()) };
        Ok(match &self.stores[0] {
            Store::Plain(store) => text(store.get(key)?.as_ref()),
            Store::Timestamped(store) => match store.get(key)? {
                Some(found) => format!("{}@{}", found.value.text(), found.timestamp),
                None => "null".to_owned(),
            },
            Store::Counts(store) => match store.get(key)? {
                Some(found) => format!("{}@{}", found.value, found.timestamp),
                None => "null".to_owned(),
            },
            Store::Global(store) => text(store.get(key)?.as_ref()),
            Store::GlobalTable(store) => match store.get(key)? {
                Some(found) => format!("{}@{}", found.value.text(), found.timestamp),
                None => "null".to_owned(),
            },
            _ => return Err("no key-value store".into()),
        })
    }

    fn count(&self, store: usize, key: &Value, timestamp: i64) -> Result<Value, BoxError> {
        let count = Value::I64(self.get(store, key)?.map_or(0, |count| count.number()) + 1);
        self.put(store, key, Some(count.clone()), timestamp)?;
        Ok(count)
    }

    fn session(&self, key: &Value, value: Option<&Value>, timestamp: i64) -> Result<Value, BoxError> {
        let Store::Session(store) = &self.stores[0] else { return Err("no session store".into()) };
        let gap = self.number(2);
        let (mut start, mut end, mut all) = (timestamp, timestamp, String::new());
        let mut found = Vec::new();
        for session in store.find_sessions(key, (timestamp - gap).max(0), timestamp + gap)? {
            found.push(session?);
        }
        for (session, value) in found {
            (start, end) = (start.min(session.window.start), end.max(session.window.end));
            all += &format!("{},", value.text());
            store.remove(&session)?;
        }
        all += &text(value);
        store.put(&Windowed::new(key.clone(), Window::new(start, end)), Some(Value::Str(all.clone())))?;
        Ok(Value::Str(format!("{start}/{end}={all}")))
    }
}

impl CatalogueProcessor {
    fn start(&mut self, ctx: &NodeContext) -> Result<(), BoxError> {
        let names: &[usize] = match self.name.as_str() {
            "p_two_stores" => &[1, 2],
            "p_count" | "p_dedup" | "p_previous" | "p_delete_on" | "p_list" | "p_newest" | "p_lookup" | "p_store"
            | "p_store_forward" | "p_buffer" | "p_window" | "p_session" | "p_versioned" => &[1],
            _ => &[],
        };
        for index in names {
            let name = self.argument(*index);
            let store = if let Ok(store) = ctx.key_value_store(name) {
                Store::Plain(store)
            } else if let Ok(store) = ctx.timestamped_key_value_store(name) {
                Store::Timestamped(store)
            } else if let Ok(store) = ctx.timestamped_key_value_store(name) {
                Store::Counts(store)
            } else if let Ok(store) = ctx.window_store(name) {
                Store::Window(store)
            } else if let Ok(store) = ctx.store(name) {
                Store::Versioned(store)
            } else if let Ok(store) = ctx.global_store(name) {
                Store::Global(store)
            } else if let Ok(store) = ctx.global_store(name) {
                Store::GlobalTable(store)
            } else {
                match ctx.session_store(name) {
                    Ok(store) => Store::Session(store),
                    Err(error) => {
                        self.missing = Some(error.to_string());
                        break;
                    }
                }
            };
            self.stores.push(store);
        }
        let mut schedules = Vec::new();
        match self.name.as_str() {
            "p_buffer" => schedules.push(ctx.schedule(self.number(3), kind(self.argument(2)))?),
            "p_tick" | "p_tick_cancel" => schedules.push(ctx.schedule(self.number(2), kind(self.argument(1)))?),
            "p_tick_at" => {
                schedules.push(ctx.schedule_from(self.number(2), self.number(3), kind(self.argument(1)))?);
            }
            "p_tick_two" => {
                schedules.push(ctx.schedule(self.number(2), kind(self.argument(1)))?);
                schedules.push(ctx.schedule(self.number(3), kind(self.argument(1)))?);
            }
            _ => {}
        }
        self.schedules = schedules;
        Ok(())
    }

    fn one(&mut self, mut record: Record<Value, Value>, ctx: &Ctx<'_>) -> Result<(), BoxError> {
        if let Some(missing) = &self.missing {
            return Err(missing.as_str().into());
        }
        let timestamp = record.timestamp;
        let key = || record.key.clone().ok_or_else(|| BoxError::from("null key"));
        match self.name.as_str() {
            "p_map" => {
                let map = self.map.clone().unwrap();
                let value = map(record.value.as_ref());
                ctx.forward(record.with_value(value))
            }
            "p_drop_null" if record.value.is_none() => Ok(()),
            "p_twice" => {
                ctx.forward(record.clone())?;
                ctx.forward(record)
            }
            "p_ts_add" => ctx.forward(record.with_timestamp(timestamp + self.number(1))),
            "p_count" => {
                let count = self.count(0, &key()?, timestamp)?;
                ctx.forward(record.with_value(Some(count)))
            }
            "p_dedup" => {
                if self.get(0, &key()?)? == record.value {
                    return Ok(());
                }
                self.put(0, &key()?, record.value.clone(), timestamp)?;
                ctx.forward(record)
            }
            "p_previous" => {
                let old = self.get(0, &key()?)?;
                self.put(0, &key()?, record.value.clone(), timestamp)?;
                let shown = format!("{}>{}", text(old.as_ref()), text(record.value.as_ref()));
                ctx.forward(record.with_value(string(shown)))
            }
            "p_delete_on" => {
                let Store::Plain(store) = &self.stores[0] else { return Err("no plain store".into()) };
                let shown = if text(record.value.as_ref()) == self.argument(2) {
                    format!("deleted {}", text(store.delete(&key()?)?.as_ref()))
                } else {
                    match record.value.clone() {
                        Some(value) => format!("kept {}", text(store.put_if_absent(&key()?, value)?.as_ref())),
                        None => format!("kept {}", text(store.get(&key()?)?.as_ref())),
                    }
                };
                ctx.forward(record.with_value(string(shown)))
            }
            "p_list" => {
                self.put(0, &key()?, record.value.clone(), timestamp)?;
                let entries = self.entries(0)?;
                let entries: Vec<String> = entries.iter().map(|(k, v)| format!("{}={}", k.text(), v.text())).collect();
                ctx.forward(record.with_value(string(entries.join(","))))
            }
            "p_two_stores" => {
                let count = self.count(0, &key()?, timestamp)?;
                let previous = self.get(1, &key()?)?;
                self.put(1, &key()?, record.value.clone(), timestamp)?;
                ctx.forward(record.with_value(string(format!("{}:{}", count.text(), text(previous.as_ref())))))
            }
            "p_newest" => {
                let Store::Timestamped(store) = &self.stores[0] else { return Err("no timestamped store".into()) };
                if store.get(&key()?)?.is_some_and(|found| found.timestamp > timestamp) {
                    return Ok(());
                }
                let value = record.value.clone().map(|value| ValueAndTimestamp::new(value, timestamp));
                store.put(&key()?, value)?;
                ctx.forward(record)
            }
            "p_lookup" => {
                let shown = format!("{}/{}", text(record.value.as_ref()), self.lookup(record.key.as_ref())?);
                ctx.forward(record.with_value(string(shown)))
            }
            "p_store" => self.put(0, &key()?, record.value.clone(), timestamp),
            "p_store_forward" => {
                self.put(0, &key()?, record.value.clone(), timestamp)?;
                ctx.forward(record)
            }
            "p_buffer" => self.put(0, &key()?, record.value.clone(), timestamp),
            "p_route" => {
                let test = self.test.clone().unwrap();
                let index = if test(record.key.as_ref(), record.value.as_ref()) { 2 } else { 3 };
                ctx.forward_to(self.argument(index), record)
            }
            "p_meta" => {
                let place = match ctx.record_metadata() {
                    Some(place) => format!("{}/{}/{}", place.topic, place.partition, place.offset),
                    None => "-".to_owned(),
                };
                let shown = format!("{}|{place}|{}", text(record.value.as_ref()), ctx.task_id());
                ctx.forward(record.with_value(string(shown)))
            }
            "p_times" => {
                let (stream, wall) = (ctx.stream_time(), ctx.wall_clock_time());
                let shown = format!("{}|{timestamp}|{stream}|{wall}", text(record.value.as_ref()));
                ctx.forward(record.with_value(string(shown)))
            }
            "p_fail_if" if text(record.value.as_ref()) == self.argument(1) => Err("Boom".into()),
            "p_window" => {
                let Store::Window(store) = &self.stores[0] else { return Err("no window store".into()) };
                let key = key()?;
                store.put(&key, record.value.clone(), timestamp)?;
                let mut found = Vec::new();
                for entry in store.fetch_range(&key, (timestamp - self.number(2)).max(0), timestamp)? {
                    let (start, value) = entry;
                    found.push(format!("{start}={}", value.text()));
                }
                ctx.forward(record.with_value(string(found.join(","))))
            }
            "p_session" => {
                let shown = self.session(&key()?, record.value.as_ref(), timestamp)?;
                ctx.forward(record.with_value(Some(shown)))
            }
            "p_versioned" => {
                let Store::Versioned(store) = &self.stores[0] else { return Err("no versioned store".into()) };
                let back = self.number(2);
                let shown = versioned::put_and_look_back(store, &key()?, record.value.clone(), timestamp, back)?;
                ctx.forward(record.with_value(string(shown)))
            }
            "p_header_add" => {
                let value = self.argument(2).as_bytes().to_vec().into();
                ctx.edit_headers(&mut record.headers, |headers| {
                    headers.add(self.argument(1), Some(value));
                });
                ctx.forward(record)
            }
            "p_header_remove" => {
                ctx.edit_headers(&mut record.headers, |headers| {
                    headers.remove(self.argument(1));
                });
                ctx.forward(record)
            }
            "p_header_read" => {
                let last = record.headers.last(self.argument(1)).and_then(|header| header.value.clone());
                let shown = last.map_or("none".to_owned(), |value| String::from_utf8_lossy(&value).into_owned());
                ctx.forward(record.with_value(string(shown)))
            }
            _ => ctx.forward(record),
        }
    }

    fn tick(&mut self, schedule: ScheduleId, timestamp: i64, ctx: &Ctx<'_>) -> Result<(), BoxError> {
        let tick = |label: &str| Record {
            key: string(label),
            value: string(timestamp.to_string()),
            timestamp,
            headers: Headers::default(),
        };
        match self.name.as_str() {
            "p_buffer" => {
                for (key, value) in self.entries(0)? {
                    ctx.forward(Record::new(key.clone(), value, timestamp))?;
                    self.put(0, &key, None, timestamp)?;
                }
                Ok(())
            }
            "p_tick" => ctx.forward(tick(self.argument(3))),
            "p_tick_at" => ctx.forward(tick(self.argument(4))),
            "p_tick_two" => ctx.forward(tick(if schedule == self.schedules[0] { "A" } else { "B" })),
            _ => {
                self.ticks += 1;
                ctx.forward(tick("tick"))?;
                if self.ticks == self.number(3) {
                    ctx.cancel(schedule);
                }
                Ok(())
            }
        }
    }
}

impl<K: Dynamic, V: Dynamic> Processor<K, V, Value, Value> for CatalogueProcessor {
    fn init(&mut self, ctx: &mut ProcessorContext<Value, Value>) -> Result<(), BoxError> {
        self.start(ctx)
    }

    fn process(&mut self, record: Record<K, V>, ctx: &mut ProcessorContext<Value, Value>) -> Result<(), BoxError> {
        self.one(dynamic(record), &Ctx { node: ctx, emit: &|child, record| emit(ctx, child, record) })
    }

    fn punctuate(
        &mut self,
        schedule: ScheduleId,
        timestamp: i64,
        ctx: &mut ProcessorContext<Value, Value>,
    ) -> Result<(), BoxError> {
        self.tick(schedule, timestamp, &Ctx { node: ctx, emit: &|child, record| emit(ctx, child, record) })
    }
}

fn emit(
    ctx: &ProcessorContext<Value, Value>,
    child: Option<&str>,
    record: Record<Value, Value>,
) -> Result<(), BoxError> {
    match child {
        Some(child) => ctx.forward_to(child, record),
        None => ctx.forward(record),
    }
}

impl<K: Dynamic, V: Dynamic> FixedKeyProcessor<K, V, Value> for CatalogueProcessor {
    fn init(&mut self, ctx: &FixedKeyContext<'_, K, Value>) -> Result<(), BoxError> {
        self.start(ctx)
    }

    fn process(&mut self, record: FixedKeyRecord<K, V>, ctx: &FixedKeyContext<'_, K, Value>) -> Result<(), BoxError> {
        let seen = Record {
            key: record.key().map(Dynamic::to_value),
            value: record.value().map(Dynamic::to_value),
            timestamp: record.timestamp(),
            headers: record.headers().clone(),
        };
        let emit = |_: Option<&str>, made: Record<Value, Value>| {
            let record = record.clone().with_value(made.value).with_timestamp(made.timestamp);
            ctx.forward(record.with_headers(made.headers))
        };
        self.one(seen, &Ctx { node: ctx, emit: &emit })
    }
}

/// As the updater of a global store, which forwards nothing.
impl<K: Dynamic, V: Dynamic> Processor<K, V, (), ()> for CatalogueProcessor {
    fn init(&mut self, ctx: &mut ProcessorContext<(), ()>) -> Result<(), BoxError> {
        self.start(ctx)
    }

    fn process(&mut self, record: Record<K, V>, ctx: &mut ProcessorContext<(), ()>) -> Result<(), BoxError> {
        self.one(dynamic(record), &Ctx { node: ctx, emit: &|_, _| Ok(()) })
    }
}
