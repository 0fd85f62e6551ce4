//! Regular expressions that name source topics.

use std::fmt;

use regex::Regex;

use crate::error::{ErrorKind, StreamsError};

/// A regular expression that must match the whole name of a topic.
#[derive(Clone, Debug)]
pub(crate) struct TopicPattern {
    text: String,
    whole: Regex,
}

impl TopicPattern {
    pub(crate) fn new(text: &str) -> Result<Self, StreamsError> {
        match Regex::new(&format!("^(?:{text})$")) {
            Ok(whole) => Ok(Self { text: text.to_owned(), whole }),
            Err(error) => {
                let message = format!("the topic pattern \"{text}\" is no regular expression: {error}");
                Err(StreamsError::new(ErrorKind::Topology, message))
            }
        }
    }

    pub(crate) fn matches(&self, topic: &str) -> bool {
        self.whole.is_match(topic)
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_name_must_match() {
        let pattern = TopicPattern::new("in|out-[0-9]+").unwrap();
        assert!(pattern.matches("in") && pattern.matches("out-7"));
        assert!(!pattern.matches("inner") && !pattern.matches("out-"));
        assert!(TopicPattern::new("(").is_err());
    }
}
