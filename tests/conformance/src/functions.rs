//! The catalogue of functions that scenarios name.

use std::sync::Arc;

use serde_json::Value as Json;

use crate::Skip;
use crate::value::{Type, Value, text};

pub type Unary = Arc<dyn Fn(Option<&Value>) -> Option<Value> + Send + Sync>;
pub type Binary = Arc<dyn Fn(Option<&Value>, Option<&Value>) -> Option<Value> + Send + Sync>;
pub type List = Arc<dyn Fn(Option<&Value>, Option<&Value>) -> Vec<Option<Value>> + Send + Sync>;
pub type Pairs = Arc<dyn Fn(Option<&Value>, Option<&Value>) -> Vec<(Option<Value>, Option<Value>)> + Send + Sync>;
pub type Predicate = Arc<dyn Fn(Option<&Value>, Option<&Value>) -> bool + Send + Sync>;
/// Key, value and aggregate.
pub type Ternary = Arc<dyn Fn(Option<&Value>, Option<&Value>, Option<&Value>) -> Option<Value> + Send + Sync>;

/// What a function of the catalogue panics with where its JVM twin throws: told to fail, or given a null that it cannot use.
pub(crate) struct UserFailed;

fn fail() -> ! {
    std::panic::panic_any(UserFailed)
}

/// The value, or the failure of a function that cannot do with null.
fn there(value: Option<&Value>) -> &Value {
    value.unwrap_or_else(|| fail())
}

fn name(function: &Json) -> &str {
    function[0].as_str().unwrap_or("")
}

fn string(function: &Json, index: usize) -> String {
    function[index].as_str().unwrap().to_owned()
}

fn number(function: &Json, index: usize) -> i64 {
    function[index].as_i64().unwrap()
}

fn unknown<T>(kind: &str, function: &Json) -> Result<T, Skip> {
    Err(Skip(format!("{kind} {}", name(function))))
}

fn str_of(value: &Value) -> &str {
    match value {
        Value::Str(text) => text,
        other => panic!("{other:?} is no string"),
    }
}

fn words(value: Option<&Value>) -> Vec<String> {
    let split = |value| str_of(value).split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    value.map(split).unwrap_or_default()
}

fn with_number(value: &Value, long: impl Fn(i64) -> i64, int: impl Fn(i32) -> i32) -> Value {
    match value {
        Value::I64(number) => Value::I64(long(*number)),
        Value::I32(number) => Value::I32(int(*number)),
        other => panic!("{other:?} is no number"),
    }
}

/// Wraps a function of a value that maps null to null.
fn mapped(map: impl Fn(&Value) -> Option<Value> + Send + Sync + 'static) -> Unary {
    Arc::new(move |value| value.and_then(&map))
}

pub fn unary(f: &Json) -> Result<Unary, Skip> {
    let texts = |map: fn(&str) -> String| mapped(move |value| Some(Value::Str(map(str_of(value)))));
    Ok(match name(f) {
        "identity" => Arc::new(|value| value.cloned()),
        "upper" => texts(str::to_ascii_uppercase),
        "lower" => texts(str::to_ascii_lowercase),
        "reverse" => texts(|text| text.chars().rev().collect()),
        "length" => mapped(|value| Some(Value::I64(str_of(value).len() as i64))),
        "append" => {
            let s = string(f, 1);
            mapped(move |value| Some(Value::Str(format!("{}{s}", str_of(value)))))
        }
        "prepend" => {
            let s = string(f, 1);
            mapped(move |value| Some(Value::Str(format!("{s}{}", str_of(value)))))
        }
        "field" => {
            let (sep, index) = (string(f, 1), number(f, 2) as usize);
            mapped(move |value| str_of(value).split(&sep).nth(index).map(|part| Value::Str(part.to_owned())))
        }
        "first_char" => mapped(|value| str_of(value).chars().next().map(|first| Value::Str(first.to_string()))),
        "text" => mapped(|value| Some(Value::Str(value.text()))),
        "to_int" => mapped(|value| Some(Value::I32(value.number() as i32))),
        "to_long" => mapped(|value| Some(Value::I64(value.number()))),
        "to_double" => mapped(|value| Some(Value::F64(value.number() as f64))),
        "half" => mapped(|value| match value {
            Value::F64(number) => Some(Value::F64(number / 2.0)),
            other => panic!("{other:?} is no double"),
        }),
        "add" => {
            let n = number(f, 1);
            mapped(move |value| Some(with_number(value, |a| a.wrapping_add(n), |a| a.wrapping_add(n as i32))))
        }
        "mul" => {
            let n = number(f, 1);
            mapped(move |value| Some(with_number(value, |a| a.wrapping_mul(n), |a| a.wrapping_mul(n as i32))))
        }
        "mod" => {
            let n = number(f, 1);
            mapped(move |value| Some(with_number(value, |a| floor_mod(a, n), |a| floor_mod(a.into(), n) as i32)))
        }
        "is_even" => mapped(|value| Some(Value::Bool(value.number() % 2 == 0))),
        "utf8" => mapped(|value| Some(Value::Bytes(str_of(value).as_bytes().to_vec()))),
        "to_null" => Arc::new(|_| None),
        "null_if" => {
            let s = string(f, 1);
            Arc::new(move |value| value.filter(|value| value.text() != s).cloned())
        }
        "fail_if" => {
            let s = string(f, 1);
            Arc::new(move |value| if text(value) == s { fail() } else { value.cloned() })
        }
        "parse_long" => mapped(|value| Some(Value::I64(str_of(value).parse().unwrap_or_else(|_| fail())))),
        "const" => {
            let value = Type::parse(&string(f, 1)).value(&f[2]);
            Arc::new(move |_| value.clone())
        }
        "window_key" => mapped(|value| match value {
            Value::Windowed(key, ..) => Some((**key).clone()),
            other => panic!("{other:?} has no window"),
        }),
        "window_start" => mapped(|value| match value {
            Value::Windowed(_, start, _) => Some(Value::I64(*start)),
            other => panic!("{other:?} has no window"),
        }),
        _ => return unknown("unary function", f),
    })
}

fn floor_mod(a: i64, n: i64) -> i64 {
    ((a % n) + n) % n
}

/// A function of key and value.
pub fn kv(f: &Json) -> Result<Binary, Skip> {
    Ok(match name(f) {
        "of_key" => {
            let f = unary(&Json::from(&f.as_array().unwrap()[1..]))?;
            Arc::new(move |key, _| f(key))
        }
        "of_value" => {
            let f = unary(&Json::from(&f.as_array().unwrap()[1..]))?;
            Arc::new(move |_, value| f(value))
        }
        "kv_text" => {
            let sep = string(f, 1);
            Arc::new(move |key, value| Some(Value::Str(format!("{}{sep}{}", text(key), text(value)))))
        }
        _ => return unknown("kv function", f),
    })
}

pub fn list(f: &Json) -> Result<List, Skip> {
    Ok(match name(f) {
        "words" => Arc::new(|_, value| words(value).into_iter().map(|word| Some(Value::Str(word))).collect()),
        "repeat" => {
            let n = number(f, 1) as usize;
            Arc::new(move |_, value| vec![value.cloned(); n])
        }
        "key_and_words" => Arc::new(|key, value| {
            std::iter::once(text(key)).chain(words(value)).map(|word| Some(Value::Str(word))).collect()
        }),
        _ => return unknown("list function", f),
    })
}

pub fn pairs(f: &Json) -> Result<Pairs, Skip> {
    Ok(match name(f) {
        "word_pairs" => Arc::new(|key, value| {
            let pair = |word| (Some(Value::Str(word)), Some(Value::Str(text(key))));
            words(value).into_iter().map(pair).collect()
        }),
        "word_ones" => {
            Arc::new(|_, value| words(value).into_iter().map(|w| (Some(Value::Str(w)), Some(Value::I64(1)))).collect())
        }
        "dup" => {
            let n = number(f, 1) as usize;
            Arc::new(move |key, value| vec![(key.cloned(), value.cloned()); n])
        }
        _ => return unknown("pair-list function", f),
    })
}

pub fn predicate(f: &Json) -> Result<Predicate, Skip> {
    let of_value = |test: Box<dyn Fn(&Value) -> bool + Send + Sync>| -> Predicate {
        Arc::new(move |_, value| value.is_some_and(&test))
    };
    Ok(match name(f) {
        "true" => Arc::new(|_, _| true),
        "false" => Arc::new(|_, _| false),
        "not_null" => Arc::new(|_, value| value.is_some()),
        "is_null" => Arc::new(|_, value| value.is_none()),
        "len_gt" => {
            let n = number(f, 1) as usize;
            of_value(Box::new(move |value| str_of(value).len() > n))
        }
        "starts_with" => {
            let s = string(f, 1);
            of_value(Box::new(move |value| str_of(value).starts_with(&s)))
        }
        "contains" => {
            let s = string(f, 1);
            of_value(Box::new(move |value| str_of(value).contains(&s)))
        }
        "even" => of_value(Box::new(|value| value.number() % 2 == 0)),
        "gt" => {
            let n = number(f, 1);
            of_value(Box::new(move |value| value.number() > n))
        }
        "value_is" => {
            let s = string(f, 1);
            Arc::new(move |_, value| text(value) == s)
        }
        "key_is" => {
            let s = string(f, 1);
            Arc::new(move |key, _| text(key) == s)
        }
        "fail_on" => {
            let s = string(f, 1);
            Arc::new(move |_, value| if text(value) == s { fail() } else { true })
        }
        _ => return unknown("predicate", f),
    })
}

fn less(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Str(a), Value::Str(b)) => a < b,
        (Value::F64(a), Value::F64(b)) => a < b,
        _ => a.number() < b.number(),
    }
}

/// Old and new value to the combined one.
pub fn reducer(f: &Json) -> Result<Binary, Skip> {
    fn both(
        combine: impl Fn(&Value, &Value) -> Value + Send + Sync + 'static,
    ) -> Arc<dyn Fn(Option<&Value>, Option<&Value>) -> Option<Value> + Send + Sync> {
        Arc::new(move |old, new| Some(combine(there(old), there(new))))
    }
    Ok(match name(f) {
        "sum" => both(|old, new| match (old, new) {
            (Value::F64(old), Value::F64(new)) => Value::F64(old + new),
            (Value::I32(old), Value::I32(new)) => Value::I32(old.wrapping_add(*new)),
            _ => Value::I64(old.number().wrapping_add(new.number())),
        }),
        "sub" => both(|old, new| match (old, new) {
            (Value::F64(old), Value::F64(new)) => Value::F64(old - new),
            (Value::I32(old), Value::I32(new)) => Value::I32(old.wrapping_sub(*new)),
            _ => Value::I64(old.number().wrapping_sub(new.number())),
        }),
        "min" => both(|old, new| if less(new, old) { new.clone() } else { old.clone() }),
        "max" => both(|old, new| if less(old, new) { new.clone() } else { old.clone() }),
        "concat" => {
            let sep = string(f, 1);
            Arc::new(move |old, new| Some(Value::Str(format!("{}{sep}{}", text(old), text(new)))))
        }
        "first" => Arc::new(|old, _| old.cloned()),
        "last" => Arc::new(|_, new| new.cloned()),
        "null_on" => {
            let s = string(f, 1);
            Arc::new(move |old, new| (text(new) != s).then(|| Value::Str(format!("{}+{}", text(old), text(new)))))
        }
        _ => return unknown("reducer", f),
    })
}

pub fn initializer(f: &Json) -> Result<Option<Value>, Skip> {
    Ok(match name(f) {
        "zero" => Some(Value::I64(0)),
        "empty" => Some(Value::Str(String::new())),
        "null" => None,
        "const" => Type::parse(&string(f, 1)).value(&f[2]),
        _ => return unknown("initializer", f),
    })
}

pub fn aggregator(f: &Json) -> Result<Ternary, Skip> {
    fn long(
        step: impl Fn(i64, Option<&Value>) -> i64 + Send + Sync + 'static,
    ) -> Arc<dyn Fn(Option<&Value>, Option<&Value>, Option<&Value>) -> Option<Value> + Send + Sync> {
        Arc::new(move |_, value, aggregate| Some(Value::I64(step(there(aggregate).number(), value))))
    }
    Ok(match name(f) {
        "agg_sum" => long(|sum, value| sum.wrapping_add(there(value).number())),
        "agg_sub" => long(|sum, value| sum.wrapping_sub(there(value).number())),
        "agg_count" => long(|count, _| count + 1),
        "agg_uncount" => long(|count, _| count - 1),
        "agg_len" => long(|sum, value| sum + str_of(there(value)).len() as i64),
        "agg_max" => long(|max, value| max.max(there(value).number())),
        "agg_log" => {
            let p = string(f, 1);
            Arc::new(move |_, value, log| Some(Value::Str(format!("{}{p}{}", text(log), text(value)))))
        }
        "agg_key_log" => {
            let p = string(f, 1);
            Arc::new(move |key, value, log| Some(Value::Str(format!("{}{p}{}={}", text(log), text(key), text(value)))))
        }
        "agg_remove" => {
            let p = string(f, 1);
            Arc::new(move |_, value, log| Some(Value::Str(text(log).replacen(&format!("{p}{}", text(value)), "", 1))))
        }
        "agg_null_on" => {
            let s = string(f, 1);
            Arc::new(move |_, value, log| {
                (text(value) != s).then(|| Value::Str(format!("{}+{}", text(log), text(value))))
            })
        }
        "agg_keep" => Arc::new(|_, _, aggregate| aggregate.cloned()),
        _ => return unknown("aggregator", f),
    })
}

/// Key and the aggregates of two sessions to that of both.
pub fn merger(f: &Json) -> Result<Ternary, Skip> {
    let number = |value: Option<&Value>| there(value).number();
    Ok(match name(f) {
        "merge_sum" => Arc::new(move |_, a, b| Some(Value::I64(number(a).wrapping_add(number(b))))),
        "merge_max" => Arc::new(move |_, a, b| Some(Value::I64(number(a).max(number(b))))),
        "merge_text" => {
            let p = string(f, 1);
            Arc::new(move |_, a, b| Some(Value::Str(format!("{}{p}{}", text(a), text(b)))))
        }
        _ => return unknown("merger", f),
    })
}

/// Key, left and right value to the result.
pub fn joiner(f: &Json) -> Result<Ternary, Skip> {
    Ok(match name(f) {
        "join_text" => {
            let p = string(f, 1);
            Arc::new(move |_, left, right| Some(Value::Str(format!("{}{p}{}", text(left), text(right)))))
        }
        "key_join_text" => {
            let p = string(f, 1);
            Arc::new(move |key, left, right| {
                Some(Value::Str(format!("{}{p}{}{p}{}", text(key), text(left), text(right))))
            })
        }
        "join_sum" => Arc::new(|_, left, right| {
            let number = |value: Option<&Value>| value.map_or(0, Value::number);
            Some(Value::I64(number(left).wrapping_add(number(right))))
        }),
        "join_left" => Arc::new(|_, left, _| left.cloned()),
        "join_right" => Arc::new(|_, _, right| right.cloned()),
        "join_null_if" => {
            let s = string(f, 1);
            Arc::new(move |_, left, right| {
                (text(left) != s).then(|| Value::Str(format!("{}+{}", text(left), text(right))))
            })
        }
        _ => return unknown("joiner", f),
    })
}
