//! Failures as the JVM names them: by the class of the exception, and of its cause where that is to be told apart.

use std::error::Error;

use serde_json::Value as Json;
use streams_core::{ErrorKind, StreamsError};

use crate::Skip;

/// What an action failed with.
#[derive(Debug)]
pub struct Failure {
    class: &'static str,
    /// Whether bytes and values did not go together.
    is_serde: bool,
    text: String,
}

/// Why a read has no result.
pub enum Stop {
    Skipped(Skip),
    Failed(Failure),
}

impl From<Skip> for Stop {
    fn from(skip: Skip) -> Self {
        Self::Skipped(skip)
    }
}

impl From<StreamsError> for Stop {
    fn from(error: StreamsError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<StreamsError> for Failure {
    fn from(error: StreamsError) -> Self {
        let mut source: Option<&(dyn Error + 'static)> = Some(&error);
        let mut is_serde = false;
        while let Some(error) = source {
            let kind = error.downcast_ref::<StreamsError>().map(StreamsError::kind);
            is_serde |= matches!(kind, Some(ErrorKind::Deserialization | ErrorKind::Serialization));
            source = error.source();
        }
        Self { class: error.java_exception(), is_serde, text: error.to_string() }
    }
}

impl Failure {
    /// A function of the catalogue failed. What the JVM wraps its exception in hangs on who called it; here the failure is a panic, which says
    /// nothing of that.
    pub fn of_function() -> Self {
        Self { class: "", is_serde: false, text: "a user function failed".to_owned() }
    }

    /// What does not compile here, and is this exception in Java.
    pub fn of_java(class: &'static str) -> Self {
        Self { class, is_serde: false, text: String::new() }
    }

    /// Whether it says that a store is of other types.
    pub fn is_of_types(&self) -> bool {
        self.class == "ClassCastException"
    }

    /// Whether it is what `{class, cause?}` says.
    pub fn is(&self, expected: &Json) -> bool {
        let class = expected["class"].as_str().unwrap();
        if self.class.is_empty() {
            let causes = ["Boom", "NullPointerException", "NumberFormatException"];
            return causes.iter().any(|cause| expected["cause"] == *cause || class == *cause);
        }
        // A function's own exception, which only the global task lets through as it is.
        let is_own = class == "Boom" && self.class == "StreamsException" && self.text.contains("Boom");
        (class == self.class || is_own) && (expected["cause"] != "SerializationException" || self.is_serde)
    }
}
