//! Global tables, joins with them, and global stores.

use streams_dsl::GlobalKTable;

use super::options::{consumed, key_of, materialized, store};
use super::*;

pub(super) struct Global(GlobalKTable<Value, Value>);

impl Node for Global {
    fn apply(&self, _: &Env, step: &Json) -> Result<Rc<dyn Node>, Skip> {
        skip(step)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn store_name(&self) -> Option<String> {
        Some(self.0.store_name().to_owned())
    }
}

pub(super) fn table(env: &Env, step: &Json) -> Result<Rc<dyn Node>, Skip> {
    let (key, value) = types(step);
    let materialized = materialized(&step["mat"], &key, &value)?;
    let table = env.builder.global_table(str_of(step, "topic").unwrap(), consumed::<Value>(step)?, materialized);
    Ok(Rc::new(Global(table)))
}

pub(super) fn add_store(env: &Env, step: &Json) -> Result<Rc<dyn Node>, Skip> {
    let spec = step["proc"].clone();
    CatalogueProcessor::check(&spec)?;
    let supplier = move || CatalogueProcessor::new(spec.clone());
    let topic = str_of(step, "topic").unwrap();
    let store = store(&step["def"])?;
    env.builder.add_global_store::<CatalogueProcessor, Value, Value>(store, topic, consumed::<Value>(step)?, supplier);
    Ok(Rc::new(Nothing))
}

pub(super) fn join<K: Dynamic, V: Dynamic>(left: &KStream<K, V>, env: &Env, step: &Json) -> Result<Rc<dyn Node>, Skip> {
    let Some(right) = env.other::<Global>(step) else { return skip(step) };
    let (joiner, selector) = (joiner(&step["joiner"])?, kv(&step["key_fn"])?);
    let selector = move |key: Option<&K>, value: Option<&V>| selector(key_of(key).as_ref(), key_of(value).as_ref());
    if op(step) == "stream.joinGlobal" {
        let joiner = move |key: Option<&K>, left: &V, right: &Value| {
            joiner(key_of(key).as_ref(), Some(&left.to_value()), Some(right))
        };
        return stream(left.join_global_nullable(&right.0, selector, joiner));
    }
    let joiner = move |key: Option<&K>, left: &V, right: Option<&Value>| {
        joiner(key_of(key).as_ref(), Some(&left.to_value()), right)
    };
    stream(left.left_join_global_nullable(&right.0, selector, joiner))
}
