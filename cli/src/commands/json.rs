//! JSON lines whose fields stay in the order they were put in, and bytes in them: as text where they can be printed, else in hex.

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::report::{Failure, print};

/// An object whose fields stay in the order they were put in.
#[derive(Default)]
pub struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    /// Adds a field.
    pub fn put(&mut self, name: &'static str, value: impl Into<Value>) {
        self.0.push((name, value.into()));
    }

    /// With one more field.
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.put(name, value);
        self
    }

    /// As text under `name` if it can be printed, else in hex under `name_hex`.
    pub fn put_bytes(&mut self, name: &'static str, name_hex: &'static str, bytes: Option<&[u8]>) {
        match bytes.map(|bytes| (printable(bytes), bytes)) {
            None => self.put(name, Value::Null),
            Some((Some(text), _)) => self.put(name, text),
            Some((None, bytes)) => self.put(name_hex, hex(bytes)),
        }
    }

    /// The object on one line.
    pub fn line(&self) -> Result<String, Failure> {
        let text = serde_json::to_string(self);
        Ok(text.map_err(|error| Failure::new(format!("a line of JSON cannot be written: {error}")))? + "\n")
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// Prints each object on a line of its own.
pub fn print_lines(objects: impl IntoIterator<Item = Fields>) -> Result<(), Failure> {
    let lines: Result<String, Failure> = objects.into_iter().map(|fields| fields.line()).collect();
    print(&lines?)
}

/// The text, if it has no control characters.
pub fn printable(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
}

/// Two digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
