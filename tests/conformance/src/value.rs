//! Values whose type a scenario names, and their serde.

use std::fmt::Write as _;

use serde_json::Value as Json;
use streams_core::{Headers, Serde, SerdeError, Window, Windowed};

/// A key or value of a scenario.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Str(String),
    I64(i64),
    I32(i32),
    F64(f64),
    Bool(bool),
    Bytes(Vec<u8>),
    Windowed(Box<Value>, i64, i64),
}

/// The type of a key or value.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    Str,
    I64,
    I32,
    F64,
    Bool,
    Bytes,
    /// Inner type and window size.
    Time(Box<Type>, i64),
    Session(Box<Type>),
}

impl Type {
    pub fn parse(text: &str) -> Self {
        match text {
            "string" => Self::Str,
            "long" => Self::I64,
            "int" => Self::I32,
            "double" => Self::F64,
            "bool" => Self::Bool,
            "bytes" => Self::Bytes,
            _ => {
                let (kind, rest) = text.split_once('<').unwrap();
                let rest = rest.strip_suffix('>').unwrap();
                if kind == "sw" {
                    return Self::Session(Box::new(Self::parse(rest)));
                }
                let (inner, size) = rest.rsplit_once(',').unwrap();
                Self::Time(Box::new(Self::parse(inner)), size.parse().unwrap())
            }
        }
    }

    pub fn value(&self, json: &Json) -> Option<Value> {
        if json.is_null() {
            return None;
        }
        Some(match self {
            Self::Str => Value::Str(json.as_str().unwrap().to_owned()),
            Self::I64 => Value::I64(json.as_i64().unwrap()),
            Self::I32 => Value::I32(i32::try_from(json.as_i64().unwrap()).unwrap()),
            Self::F64 => Value::F64(json.as_f64().unwrap()),
            Self::Bool => Value::Bool(json.as_bool().unwrap()),
            Self::Bytes => Value::Bytes(unhex(json["hex"].as_str().unwrap())),
            Self::Time(inner, _) | Self::Session(inner) => {
                let key = inner.value(&json["key"]).unwrap();
                Value::Windowed(Box::new(key), json["start"].as_i64().unwrap(), json["end"].as_i64().unwrap())
            }
        })
    }
}

pub fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

impl Value {
    pub fn text(&self) -> String {
        match self {
            Self::Str(text) => text.clone(),
            Self::I64(number) => number.to_string(),
            Self::I32(number) => number.to_string(),
            Self::F64(number) => number.to_string(),
            Self::Bool(truth) => truth.to_string(),
            Self::Bytes(bytes) => hex(bytes),
            Self::Windowed(key, start, end) => format!("{}@{start}/{end}", key.text()),
        }
    }

    /// The bytes in a topic; those of a windowed key as a time window.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Str(text) => text.as_bytes().to_vec(),
            Self::I64(number) => number.to_be_bytes().to_vec(),
            Self::I32(number) => number.to_be_bytes().to_vec(),
            Self::F64(number) => number.to_be_bytes().to_vec(),
            Self::Bool(truth) => vec![u8::from(*truth)],
            Self::Bytes(bytes) => bytes.clone(),
            Self::Windowed(key, start, _) => [key.bytes(), start.to_be_bytes().to_vec()].concat(),
        }
    }

    pub fn number(&self) -> i64 {
        match self {
            Self::I64(number) => *number,
            Self::I32(number) => i64::from(*number),
            other => panic!("{other:?} is no number"),
        }
    }
}

/// `null` for nothing.
pub fn text(value: Option<&Value>) -> String {
    value.map_or_else(|| "null".to_owned(), Value::text)
}

/// Types that keys and values of the built topology have.
pub trait Dynamic: Clone + std::fmt::Debug + Send + Sync + 'static {
    fn to_value(&self) -> Value;
    fn of_value(value: Value) -> Self;
}

impl Dynamic for Value {
    fn to_value(&self) -> Value {
        self.clone()
    }

    fn of_value(value: Value) -> Self {
        value
    }
}

impl Dynamic for () {
    fn to_value(&self) -> Value {
        Value::Bytes(Vec::new())
    }

    fn of_value(_: Value) -> Self {}
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::I64(number)
    }
}

impl From<Value> for i64 {
    fn from(value: Value) -> Self {
        value.number()
    }
}

impl Dynamic for i64 {
    fn to_value(&self) -> Value {
        Value::I64(*self)
    }

    fn of_value(value: Value) -> Self {
        value.number()
    }
}

impl Dynamic for Windowed<Value> {
    fn to_value(&self) -> Value {
        Value::Windowed(Box::new(self.key.clone()), self.window.start, self.window.end)
    }

    fn of_value(value: Value) -> Self {
        match value {
            Value::Windowed(key, start, end) => Windowed::new(*key, Window::new(start, end)),
            other => panic!("{other:?} has no window"),
        }
    }
}

/// Reads and writes values of one type; refuses others.
#[derive(Clone)]
pub struct DynamicSerde(pub Type);

impl DynamicSerde {
    fn write(&self, value: &Value, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        let fits = matches!(
            (&self.0, value),
            (Type::Str, Value::Str(_))
                | (Type::I64, Value::I64(_))
                | (Type::I32, Value::I32(_))
                | (Type::F64, Value::F64(_))
                | (Type::Bool, Value::Bool(_))
                | (Type::Bytes, Value::Bytes(_))
                | (Type::Time(..) | Type::Session(..), Value::Windowed(..))
        );
        match (&self.0, value) {
            (Type::Session(_), Value::Windowed(key, start, end)) => {
                out.extend([key.bytes(), end.to_be_bytes().to_vec(), start.to_be_bytes().to_vec()].concat());
            }
            _ if fits => out.extend(value.bytes()),
            _ => {
                let reason = format!("{value:?} given");
                return Err(SerdeError::Malformed { type_name: "value of the declared type", reason });
            }
        }
        Ok(())
    }

    fn read(&self, bytes: &[u8]) -> Result<Value, SerdeError> {
        fn sized<const N: usize>(bytes: &[u8]) -> Result<[u8; N], SerdeError> {
            bytes.try_into().map_err(|_| SerdeError::Size { type_name: "number", expected: N, actual: bytes.len() })
        }
        Ok(match &self.0 {
            Type::Str => Value::Str(String::from_utf8_lossy(bytes).into_owned()),
            Type::I64 => Value::I64(i64::from_be_bytes(sized(bytes)?)),
            Type::I32 => Value::I32(i32::from_be_bytes(sized(bytes)?)),
            Type::F64 => Value::F64(f64::from_be_bytes(sized(bytes)?)),
            Type::Bool => Value::Bool(sized::<1>(bytes)?[0] != 0),
            Type::Bytes => Value::Bytes(bytes.to_vec()),
            Type::Time(inner, size) => {
                let (key, start) = bytes.split_at(bytes.len() - 8);
                let start = i64::from_be_bytes(sized(start)?);
                Value::Windowed(Box::new(Self((**inner).clone()).read(key)?), start, start + size)
            }
            Type::Session(inner) => {
                let (key, times) = bytes.split_at(bytes.len() - 16);
                let (end, start) = times.split_at(8);
                let (start, end) = (i64::from_be_bytes(sized(start)?), i64::from_be_bytes(sized(end)?));
                Value::Windowed(Box::new(Self((**inner).clone()).read(key)?), start, end)
            }
        })
    }
}

impl<T: Dynamic> Serde<T> for DynamicSerde {
    fn serialize(&self, _: &str, _: &Headers, value: &T, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        self.write(&value.to_value(), out)
    }

    fn deserialize(&self, _: &str, _: &Headers, bytes: &[u8]) -> Result<T, SerdeError> {
        self.read(bytes).map(T::of_value)
    }

    fn partition_bytes<'a>(&self, serialized: &'a [u8]) -> Option<&'a [u8]> {
        let times = match &self.0 {
            Type::Time(..) => 8,
            Type::Session(_) => 16,
            _ => return None,
        };
        serialized.get(..serialized.len().saturating_sub(times))
    }
}

/// The value as a scenario writes it.
pub fn json(value: &Value) -> Json {
    match value {
        Value::Str(text) => text.as_str().into(),
        Value::I64(number) => (*number).into(),
        Value::I32(number) => (*number).into(),
        Value::F64(number) => (*number).into(),
        Value::Bool(truth) => (*truth).into(),
        Value::Bytes(bytes) => serde_json::json!({ "hex": hex(bytes) }),
        Value::Windowed(key, start, end) => serde_json::json!({ "key": json(key), "start": start, "end": end }),
    }
}
