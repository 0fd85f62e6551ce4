//! Cogroups.

use streams_dsl::{CogroupedKStream, SessionWindowedCogroupedKStream, TimeWindowedCogroupedKStream};

use super::options::{key_of, materialized};
use super::*;
use crate::functions::merger;

struct Cogroup<K>(CogroupedKStream<K, Value>);
pub(super) struct WindowedCogroup(pub(super) TimeWindowedCogroupedKStream<Value, Value>);
pub(super) struct SessionCogroup(pub(super) SessionWindowedCogroupedKStream<Value, Value>);

fn combine<K: Dynamic, V: Dynamic>(
    step: &Json,
) -> Result<impl Fn(&K, Option<&V>, Option<Value>) -> Option<Value> + Send + Sync + 'static, Skip> {
    let aggregator = aggregator(&step["agg"])?;
    Ok(move |key: &K, value: Option<&V>, so_far: Option<Value>| {
        aggregator(Some(&key.to_value()), key_of(value).as_ref(), so_far.as_ref())
    })
}

/// `grouped.cogroup`.
pub(super) fn begin<K: Dynamic, V: Dynamic>(grouped: &KGroupedStream<K, V>, step: &Json) -> Result<Rc<dyn Node>, Skip> {
    Ok(Rc::new(Cogroup(grouped.cogroup_nullable(combine::<K, V>(step)?))))
}

impl<K: Dynamic> Node for Cogroup<K> {
    fn apply(&self, env: &Env, step: &Json) -> Result<Rc<dyn Node>, Skip> {
        let (key, value) = types(step);
        match op(step) {
            "cogrouped.cogroup" => {
                if let Some(other) = env.other::<Group<K, Value>>(step) {
                    Ok(Rc::new(Self(self.0.cogroup_nullable(&other.0, combine::<K, Value>(step)?))))
                } else if let Some(other) = env.other::<Group<K, i64>>(step) {
                    Ok(Rc::new(Self(self.0.cogroup_nullable(&other.0, combine::<K, i64>(step)?))))
                } else {
                    skip(step)
                }
            }
            "cogrouped.aggregate" => {
                let initial = initializer(&step["init"])?;
                let named = match str_of(step, "name") {
                    Some(name) => self.0.named(name),
                    None => self.0.clone(),
                };
                let materialized = materialized(&step["mat"], &key, &value)?;
                table(named.aggregate_nullable(move || initial.clone(), materialized))
            }
            "cogrouped.windowedBy" => match (&self.0 as &dyn Any).downcast_ref::<CogroupedKStream<Value, Value>>() {
                Some(cogrouped) => windows::cogrouped_by(cogrouped, step),
                None => skip(step),
            },
            _ => skip(step),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Node for WindowedCogroup {
    fn apply(&self, _: &Env, step: &Json) -> Result<Rc<dyn Node>, Skip> {
        let (Type::Time(key, _), value) = types(step) else { return skip(step) };
        let named = match str_of(step, "name") {
            Some(name) => self.0.named(name),
            None => self.0.clone(),
        };
        let initial = initializer(&step["init"])?;
        let materialized = materialized(&step["mat"], &key, &value)?;
        table(named.aggregate_nullable(move || initial.clone(), materialized))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Node for SessionCogroup {
    fn apply(&self, _: &Env, step: &Json) -> Result<Rc<dyn Node>, Skip> {
        let (Type::Session(key), value) = types(step) else { return skip(step) };
        let named = match str_of(step, "name") {
            Some(name) => self.0.named(name),
            None => self.0.clone(),
        };
        let (initial, merger) = (initializer(&step["init"])?, merger(&step["merger"])?);
        let merger = move |key: &Value, one: Option<Value>, other: Value| merger(Some(key), one.as_ref(), Some(&other));
        let materialized = materialized(&step["mat"], &key, &value)?;
        table(named.aggregate_nullable(move || initial.clone(), merger, materialized))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
