//! Partitions as they are named on the command line: `TOPIC`, or `TOPIC:0,2,5-7`; and the topics of a cluster that are meant.

use base::{PartitionId, TopicPartition};
use client::{Admin, block_on};
use protocol::api::ErrorCode;

use crate::report::Failure;

/// A topic, and which of its partitions; all without any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    pub topic: String,
    pub partitions: Option<Vec<PartitionId>>,
}

impl Selection {
    /// Reads `TOPIC` or `TOPIC:0,2,5-7`.
    ///
    /// # Errors
    /// What stands behind the colon is not partitions.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let Some((topic, list)) = text.split_once(':') else {
            return Ok(Self { topic: text.to_owned(), partitions: None });
        };
        let refused = || {
            Failure::usage(format!("{text} does not name partitions"))
                .hint("write TOPIC, or TOPIC:0,2,5-7 for some of its partitions")
        };
        let mut partitions: Vec<PartitionId> = Vec::new();
        for part in list.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
                (Ok(first), Ok(last)) if first <= last => partitions.extend((first..=last).map(PartitionId::from)),
                _ => return Err(refused()),
            }
        }
        if topic.is_empty() {
            return Err(refused());
        }
        partitions.sort_unstable();
        partitions.dedup();
        Ok(Self { topic: topic.to_owned(), partitions: Some(partitions) })
    }
}

/// The partitions that are selected, those of a topic in their order.
///
/// # Errors
/// A topic or a partition is not there.
pub fn resolve(admin: &Admin, selections: &[Selection]) -> Result<Vec<TopicPartition>, Failure> {
    let mut found = Vec::new();
    for selection in selections {
        let topic = selection.topic.as_str();
        let mut count = 0;
        for (name, result) in block_on(admin.describe_topics(&[topic]))? {
            count = result.map_err(|error| not_there(&name, error))?.partitions.len();
        }
        let all = 0..PartitionId::try_from(count).unwrap_or(PartitionId::MAX);
        let wanted = match &selection.partitions {
            None => all.collect(),
            Some(partitions) => partitions.clone(),
        };
        if let Some(beyond) = wanted.iter().find(|partition| usize::try_from(**partition).is_ok_and(|one| one >= count))
        {
            return Err(Failure::new(format!("there is no partition {beyond} of {topic}"))
                .hint(&format!("it has {count} partition(s), counted from 0")));
        }
        found.extend(wanted.into_iter().map(|partition| TopicPartition::new(topic, partition)));
    }
    Ok(found)
}

/// The failure of a call about a topic.
pub fn not_there(name: &str, error: client::ClientError) -> Failure {
    if error.code() == Some(ErrorCode::UnknownTopicOrPartition) {
        return Failure::new(format!("there is no topic {name}"))
            .hint("`millstream topics list` shows those that there are");
    }
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_lists_and_ranges() {
        let selection = |topic: &str, partitions: Option<&[i32]>| Selection {
            topic: topic.to_owned(),
            partitions: partitions.map(<[i32]>::to_vec),
        };
        assert_eq!(Selection::parse("orders").unwrap(), selection("orders", None));
        assert_eq!(Selection::parse("orders:3,0-1,3").unwrap(), selection("orders", Some(&[0, 1, 3])));
        for wrong in ["orders:", "orders:x", "orders:2-1", ":0", "orders:-1"] {
            assert!(Selection::parse(wrong).is_err(), "{wrong}");
        }
    }
}
