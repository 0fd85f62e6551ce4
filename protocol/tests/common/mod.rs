//! What the tests share: byte vectors in hex.
#![allow(dead_code)] // each test file uses its part

use bytes::Bytes;
use serde_json::Value;

pub fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "{text}");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

pub fn hex_bytes(value: &Value) -> Bytes {
    hex(value.as_str().expect("a hex string")).into()
}

/// A field that the vectors give as text `name`, as `name_hex`, or as `name_len` with `name_head`.
pub fn assert_field(actual: Option<&[u8]>, record: &Value, name: &str, context: &str) {
    if let Some(text) = record.get(format!("{name}_hex")).and_then(Value::as_str) {
        assert_eq!(actual, Some(hex(text).as_slice()), "{name} of {context}");
    } else if let Some(length) = record.get(format!("{name}_len")).and_then(Value::as_u64) {
        let actual = actual.expect("a long value");
        let head = record[format!("{name}_head")].as_str().expect("head");
        assert_eq!(actual.len() as u64, length, "{name} of {context}");
        assert!(actual.starts_with(head.as_bytes()), "{name} of {context}");
    } else {
        let expected = record.get(name).and_then(Value::as_str);
        assert_eq!(actual, expected.map(str::as_bytes), "{name} of {context}");
    }
}
