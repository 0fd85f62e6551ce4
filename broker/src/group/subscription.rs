//! The topics in a consumer's embedded subscription (`ConsumerProtocolSubscription`), as far as the broker needs them:
//! offsets of subscribed topics neither expire nor can be deleted.
//!
//! Layout: `int16` version, array of topic names, and more that is not read here.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::layout::{GroupRecordError, Reader};

/// Protocol type of members that carry this metadata.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// Adds the topics that `metadata` subscribes to.
///
/// # Errors
/// When the bytes are not a consumer subscription.
pub fn subscribed_topics(metadata: &[u8], topics: &mut BTreeSet<Arc<str>>) -> Result<(), GroupRecordError> {
    let mut input = Reader { bytes: metadata };
    let version = input.i16("subscription version")?;
    if version < 0 {
        return Err(GroupRecordError::Invalid { field: "subscription version", reason: "negative" });
    }
    for _ in 0..input.length("topics")? {
        topics.insert(input.string("topic")?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_and_rubbish_is_refused() {
        let mut topics = BTreeSet::new();
        assert!(subscribed_topics(b"\0\x03\0\0\0\x01\0\x08a-events\xff\xff\xff\xff", &mut topics).is_ok());
        assert_eq!(topics.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["a-events"]);
        assert!(subscribed_topics(b"\x01\x02", &mut topics).is_err());
        assert!(subscribed_topics(b"\0\0\x7f\xff\xff\xff", &mut topics).is_err());
    }
}
