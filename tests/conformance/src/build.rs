//! Builds the topology that a scenario describes, with the operators of the DSL.

use std::any::Any;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use serde_json::Value as Json;
use streams_core::processor::WithStores;
use streams_core::{BoxError, StreamsError, Topology, Windowed};
use streams_dsl::{
    Branches, Grouped, Joined, KGroupedStream, KStream, KTable, Printed, Produced, Repartitioned, StreamsBuilder,
};

use crate::Skip;
use crate::functions::{aggregator, initializer, joiner, kv, list, pairs, predicate, reducer, unary};
use crate::processors::CatalogueProcessor;
use crate::value::{Dynamic, DynamicSerde, Type, Value, text};

mod cogroup;
mod global;
mod join;
mod low;
mod options;
mod tables;
mod windows;

use options::{TopicOf, add_store, call, consumed, key_of, materialized, partitioner, store, test};

/// Why a step is not performed that the types of the DSL rule out.
pub const DOES_NOT_COMPILE: &str = "does not compile";

/// Why a step is not performed that needs two streams of one Rust type, where one has the counts of the DSL and the other numbers of a topic.
pub const OF_TWO_TYPES: &str = "counts are merged with other numbers";

/// What the steps before have made.
pub struct Env {
    pub builder: StreamsBuilder,
    pub nodes: BTreeMap<String, Rc<dyn Node>>,
    pub types: BTreeMap<String, (Type, Type)>,
    pub calls: Arc<Mutex<Vec<String>>>,
    pub stores: BTreeMap<String, Json>,
    /// A topology made without the DSL, or what was wrong with it.
    pub low: Option<Result<Topology, StreamsError>>,
    /// Whether counts are [`Value`]s, to be merged with other numbers; else they are the `i64` that `count` gives.
    pub counts_are_values: bool,
}

/// The result of a step.
pub trait Node {
    /// Applies the operator of `step` to it.
    fn apply(&self, env: &Env, step: &Json) -> Result<Rc<dyn Node>, Skip>;

    fn as_any(&self) -> &dyn Any;

    fn store_name(&self) -> Option<String> {
        None
    }

    fn branch_names(&self) -> Option<Vec<String>> {
        None
    }
}

struct Nothing;

impl Node for Nothing {
    fn apply(&self, _: &Env, step: &Json) -> Result<Rc<dyn Node>, Skip> {
        Err(Skip(format!("{} of nothing", step["op"])))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct Stream<K, V>(KStream<K, V>);
struct Table<K, V>(KTable<K, V>);
struct Group<K, V>(KGroupedStream<K, V>);
struct Split<K, V>(Branches<K, V>);

fn str_of(step: &Json, field: impl serde_json::value::Index) -> Option<&str> {
    step[field].as_str()
}

fn op(step: &Json) -> &str {
    step["op"].as_str().unwrap()
}

fn skip<T>(step: &Json) -> Result<T, Skip> {
    Err(Skip(op(step).to_owned()))
}

fn types(step: &Json) -> (Type, Type) {
    let get = |field| str_of(step, field).map_or(Type::Str, Type::parse);
    (get("k"), get("v"))
}

fn stream<K: Dynamic, V: Dynamic>(stream: KStream<K, V>) -> Result<Rc<dyn Node>, Skip> {
    Ok(Rc::new(Stream(stream)))
}

fn table<K: Dynamic, V: Dynamic>(table: KTable<K, V>) -> Result<Rc<dyn Node>, Skip> {
    Ok(Rc::new(Table(table)))
}

fn source<K: Dynamic>(env: &Env, step: &Json) -> Result<Rc<dyn Node>, Skip> {
    let consumed = consumed::<K>(step)?;
    if op(step) == "table" {
        let (key, value) = types(step);
        let materialized = materialized(&step["mat"], &key, &value)?;
        return table(env.builder.table(str_of(step, "topic").unwrap(), consumed, materialized));
    }
    let Some(topics) = step["topics"].as_array() else {
        return stream(env.builder.stream_matching(str_of(step, "pattern").unwrap(), consumed));
    };
    stream(env.builder.stream_of(topics.iter().map(|topic| topic.as_str().unwrap()), consumed))
}

impl Env {
    /// Performs one step.
    pub fn step(&mut self, step: &Json) -> Result<(), Skip> {
        let (key, value) = types(step);
        let windowed = matches!(key, Type::Time(..) | Type::Session(_));
        let node = match op(step) {
            "stream" | "table" if windowed => source::<Windowed<Value>>(self, step)?,
            "stream" | "table" => source::<Value>(self, step)?,
            "globalTable" => global::table(self, step)?,
            "globalStore" => global::add_store(self, step)?,
            low if low.starts_with("pa.") => {
                if let Ok(topology) = self.low.get_or_insert_with(|| Ok(Topology::new()))
                    && let Err(error) = low::step(topology, step)?
                {
                    self.low = Some(Err(error));
                }
                return Ok(());
            }
            "store" => {
                add_store(self, &step["def"])?;
                Rc::new(Nothing)
            }
            _ => {
                let Some(from) = step["from"].as_str().and_then(|from| self.nodes.get(from)) else { return skip(step) };
                from.apply(self, step)?
            }
        };
        let id = step["id"].as_str().unwrap().to_owned();
        self.types.insert(id.clone(), (key, value));
        self.nodes.insert(id, node);
        Ok(())
    }

    fn other<T: Node + 'static>(&self, step: &Json) -> Option<&T> {
        self.nodes.get(step["with"].as_str()?)?.as_any().downcast_ref()
    }
}

impl<K: Dynamic, V: Dynamic> Stream<K, V> {
    fn split(&self, named: &KStream<K, V>, step: &Json) -> Result<Rc<dyn Node>, Skip> {
        let mut split = named.split();
        for (index, branch) in step["branches"].as_array().unwrap().iter().enumerate() {
            let number = (index + 1).to_string();
            let name = str_of(branch, "name").unwrap_or(&number);
            split = split.branch_nullable(name, test(predicate(&branch["pred"])?));
        }
        let default = &step["default"];
        Ok(Rc::new(if default.is_null() {
            Split(split.no_default_branch())
        } else if let Some(name) = str_of(default, "name") {
            Split(split.default_branch_named(name))
        } else {
            Split(split.default_branch())
        }))
    }

    fn join<T: Dynamic>(&self, env: &Env, right: &KTable<K, T>, step: &Json) -> Result<Rc<dyn Node>, Skip> {
        let (key, value) = env.types[str_of(step, "from").unwrap()].clone();
        let mut joined = Joined::with(DynamicSerde(key), DynamicSerde(value));
        if let Some(name) = str_of(step, "name") {
            joined = joined.named(name);
        }
        if let Some(grace) = step["grace"].as_i64() {
            joined = joined.with_grace_ms(grace);
        }
        let joiner = joiner(&step["joiner"])?;
        if op(step) == "stream.joinTable" {
            let joiner = move |key: Option<&K>, left: &V, right: &T| {
                joiner(key_of(key).as_ref(), Some(&left.to_value()), Some(&right.to_value()))
            };
            return stream(self.0.join_nullable(right, joiner, joined));
        }
        let joiner = move |key: Option<&K>, left: &V, right: Option<&T>| {
            joiner(key_of(key).as_ref(), Some(&left.to_value()), key_of(right).as_ref())
        };
        stream(self.0.left_join_nullable(right, joiner, joined))
    }

    fn process(&self, named: &KStream<K, V>, step: &Json) -> Result<Rc<dyn Node>, Skip> {
        let spec = step["proc"].clone();
        CatalogueProcessor::check(&spec)?;
        let names = |field: &str| step[field].as_array().into_iter().flatten();
        let stores: Vec<&str> = names("stores").map(|store| store.as_str().unwrap()).collect();
        let brought = names("supplies").map(store).collect::<Result<Vec<_>, _>>()?;
        let supplier = WithStores::new(move || CatalogueProcessor::new(spec.clone()), brought);
        if op(step) == "stream.processValues" {
            return stream(named.process_values::<CatalogueProcessor, Value>(supplier, &stores));
        }
        stream(named.process::<CatalogueProcessor, Value, Value>(supplier, &stores))
    }

    /// Operators whose functions fail on purpose.
    fn fallible(&self, named: &KStream<K, V>, step: &Json) -> Option<Result<Rc<dyn Node>, Skip>> {
        let function = |field: &str| (str_of(&step[field], 0).unwrap_or(""), str_of(&step[field], 1).unwrap_or(""));
        let boom = |fails: bool| if fails { Err(BoxError::from("Boom")) } else { Ok(()) };
        match (op(step), function("fn"), function("pred")) {
            ("stream.mapValues", ("fail_if", bad), _) => {
                let bad = bad.to_owned();
                Some(stream(named.try_map_values(move |_, value| {
                    let value = key_of(value);
                    boom(text(value.as_ref()) == bad).map(|()| value)
                })))
            }
            ("stream.mapValues", ("parse_long", _), _) => Some(stream(named.try_map_values(|_, value| {
                Ok(match key_of(value) {
                    Some(value) => Some(Value::I64(value.text().parse()?)),
                    None => None,
                })
            }))),
            ("stream.filter", _, ("fail_on", bad)) => {
                let bad = bad.to_owned();
                Some(stream(named.try_filter(move |_, value| boom(text(key_of(value).as_ref()) == bad).map(|()| true))))
            }
            _ => None,
        }
    }

    fn note(&self, env: &Env, step: &Json) -> impl Fn(Option<&K>, Option<&V>) + Send + Sync + 'static + use<K, V> {
        let (calls, id) = (Arc::clone(&env.calls), step["id"].as_str().unwrap().to_owned());
        move |key, value| {
            let call = format!("{id}:{}={}", text(key_of(key).as_ref()), text(key_of(value).as_ref()));
            calls.lock().unwrap().push(call);
        }
    }

    fn produced(&self, step: &Json) -> Result<Produced<K, V>, Skip> {
        let (key, value) = types(step);
        let mut produced = Produced::with(DynamicSerde(key), DynamicSerde(value));
        if let Some(name) = str_of(step, "name") {
            produced = produced.named(name);
        }
        if let Some(partitioner) = partitioner::<K, V>(step)? {
            produced = produced.with_partitioner(partitioner);
        }
        Ok(produced)
    }
}

impl<K: Dynamic, V: Dynamic> Node for Stream<K, V> {
    fn apply(&self, env: &Env, step: &Json) -> Result<Rc<dyn Node>, Skip> {
        let named = match str_of(step, "name") {
            Some(name) => self.0.named(name),
            None => self.0.clone(),
        };
        let (key, value) = types(step);
        if let Some(made) = self.fallible(&named, step) {
            return made;
        }
        match op(step) {
            "stream.filter" => stream(named.filter_nullable(test(predicate(&step["pred"])?))),
            "stream.filterNot" => stream(named.filter_not_nullable(test(predicate(&step["pred"])?))),
            "stream.map" => {
                let (key_fn, value_fn) = (kv(&step["key_fn"])?, kv(&step["value_fn"])?);
                stream(named.map_nullable(move |key, value| {
                    let (key, value) = (key_of(key), key_of(value));
                    (key_fn(key.as_ref(), value.as_ref()), value_fn(key.as_ref(), value.as_ref()))
                }))
            }
            "stream.mapValues" => {
                let mapper = unary(&step["fn"])?;
                stream(named.map_values_nullable(move |_, value| mapper(key_of(value).as_ref())))
            }
            "stream.mapValuesWithKey" => stream(named.map_values_nullable(call(kv(&step["fn"])?))),
            "stream.flatMap" => {
                let mapper = pairs(&step["fn"])?;
                stream(named.flat_map_nullable(move |key, value| mapper(key_of(key).as_ref(), key_of(value).as_ref())))
            }
            "stream.flatMapValues" | "stream.flatMapValuesWithKey" => {
                let mapper = list(&step["fn"])?;
                stream(
                    named.flat_map_values_nullable(move |key, value| {
                        mapper(key_of(key).as_ref(), key_of(value).as_ref())
                    }),
                )
            }
            "stream.selectKey" => stream(named.select_key_nullable(call(kv(&step["fn"])?))),
            "stream.peek" => stream(named.peek(self.note(env, step))),
            "stream.foreach" => {
                named.for_each(self.note(env, step));
                Ok(Rc::new(Nothing))
            }
            "stream.merge" => match env.other::<Self>(step) {
                Some(other) => stream(named.merge(&other.0)),
                None if env.counts_are_values => skip(step),
                None => Err(Skip(OF_TWO_TYPES.to_owned())),
            },
            "stream.split" => self.split(&named, step),
            "stream.repartition" => {
                let mut repartitioned = Repartitioned::with(DynamicSerde(key), DynamicSerde(value));
                if let Some(name) = str_of(step, "name") {
                    repartitioned = repartitioned.named(name);
                }
                if let Some(partitions) = step["partitions"].as_i64() {
                    repartitioned = repartitioned.with_partitions(partitions as i32);
                }
                if let Some(partitioner) = partitioner::<K, V>(step)? {
                    repartitioned = repartitioned.with_partitioner(partitioner);
                }
                stream(self.0.repartition(repartitioned))
            }
            "stream.to" => {
                let produced = self.produced(step)?;
                match str_of(step, "topic") {
                    Some(topic) => self.0.to(topic, produced),
                    None => {
                        let spec = step["topic_fn"].clone();
                        let test = if spec[0] == "topic_if" { Some(predicate(&spec[1])?) } else { None };
                        self.0.to_dynamic(TopicOf { spec, test }, produced);
                    }
                }
                Ok(Rc::new(Nothing))
            }
            "stream.toTable" => table(named.to_table(materialized(&step["mat"], &key, &value)?)),
            "stream.groupByKey" => {
                let mut grouped = Grouped::with(DynamicSerde(key), DynamicSerde(value));
                if let Some(name) = str_of(step, "name") {
                    grouped = grouped.named(name);
                }
                Ok(Rc::new(Group(self.0.group_by_key(grouped))))
            }
            "stream.groupBy" => {
                let mut grouped = Grouped::with(DynamicSerde(key), DynamicSerde(value));
                if let Some(name) = str_of(step, "name") {
                    grouped = grouped.named(name);
                }
                Ok(Rc::new(Group(self.0.group_by_nullable(call(kv(&step["fn"])?), grouped))))
            }
            "stream.process" | "stream.processValues" => self.process(&named, step),
            "stream.joinGlobal" | "stream.leftJoinGlobal" => global::join(&named, env, step),
            "stream.print" => {
                named.print(Printed::to_writer(std::io::sink()).with_label(str_of(step, "label").unwrap_or("")));
                Ok(Rc::new(Nothing))
            }
            "stream.join" | "stream.leftJoin" | "stream.outerJoin" => join::streams(&self.0, env, step),
            "stream.joinTable" | "stream.leftJoinTable" => {
                if let Some(right) = env.other::<Table<K, Value>>(step) {
                    self.join(env, &right.0, step)
                } else if let Some(right) = env.other::<Table<K, i64>>(step) {
                    self.join(env, &right.0, step)
                } else {
                    skip(step)
                }
            }
            _ => skip(step),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl<K: Dynamic, V: Dynamic> Node for Split<K, V> {
    fn apply(&self, _: &Env, step: &Json) -> Result<Rc<dyn Node>, Skip> {
        let streams = self.0.streams();
        let index = match step["branch"].as_u64() {
            Some(index) => index as usize,
            None => streams.len() - 1,
        };
        stream(streams[index].clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn branch_names(&self) -> Option<Vec<String>> {
        let mut names = self.0.names().to_vec();
        names.sort();
        Some(names)
    }
}

impl<K: Dynamic, V: Dynamic> Node for Group<K, V> {
    fn apply(&self, env: &Env, step: &Json) -> Result<Rc<dyn Node>, Skip> {
        let named = match str_of(step, "name") {
            Some(name) => self.0.named(name),
            None => self.0.clone(),
        };
        let (key, value) = types(step);
        let mat = &step["mat"];
        match op(step) {
            "grouped.cogroup" => cogroup::begin(&self.0, step),
            "grouped.count" if env.counts_are_values => {
                table(named.count_as::<Value>(materialized(mat, &key, &value)?))
            }
            "grouped.count" => table(named.count(materialized(mat, &key, &value)?)),
            "grouped.reduce" => {
                let reducer = reducer(&step["reducer"])?;
                let reducer =
                    move |old: V, new: &V| reducer(Some(&old.to_value()), Some(&new.to_value())).map(V::of_value);
                table(named.reduce_nullable(reducer, materialized(mat, &key, &value)?))
            }
            "grouped.aggregate" => {
                let (initial, aggregator) = (initializer(&step["init"])?, aggregator(&step["agg"])?);
                let aggregator = move |key: &K, value: &V, aggregate: Option<Value>| {
                    aggregator(Some(&key.to_value()), Some(&value.to_value()), aggregate.as_ref())
                };
                table(named.aggregate_nullable(move || initial.clone(), aggregator, materialized(mat, &key, &value)?))
            }
            "grouped.windowedBy" => match (&self.0 as &dyn Any).downcast_ref::<KGroupedStream<Value, V>>() {
                Some(grouped) => windows::windowed_by(grouped, step),
                None => skip(step),
            },
            _ => skip(step),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
