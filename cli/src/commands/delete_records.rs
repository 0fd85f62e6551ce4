//! `millstream delete-records`: partitions begin with a later offset from now on.

use base::{Offset, TopicPartition};
use client::block_on;
use protocol::api::ErrorCode;
use serde::Deserialize;

use super::admin;
use super::json::{Fields, print_lines};
use super::partitions::not_there;
use crate::options::DeleteRecordsOptions;
use crate::report::{Failure, print};

/// The file that Kafka's tool takes.
#[derive(Deserialize)]
struct File {
    partitions: Vec<Before>,
}

#[derive(Deserialize)]
struct Before {
    topic: String,
    partition: i32,
    offset: Offset,
}

/// Deletes, and says where each partition begins now; the first that fails is the failure, the others are done all the same.
pub fn run(options: &DeleteRecordsOptions) -> Result<(), Failure> {
    let before = match &options.offset_json_file {
        None => options.before.iter().map(|text| parse(text)).collect::<Result<Vec<_>, Failure>>()?,
        Some(path) => {
            let refused = |error: String| {
                Failure::usage(format!("{}: {error}", path.display()))
                    .hint(r#"it should be like {"partitions": [{"topic": "orders", "partition": 0, "offset": 1000}]}"#)
            };
            let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
            let file: File = serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
            let before = file.partitions.into_iter();
            before.map(|one| (TopicPartition::new(one.topic, one.partition), one.offset)).collect()
        }
    };
    let admin = admin(&options.listing.cluster)?;
    // What is not there would be asked for until the time is over.
    let mut topics: Vec<&str> = before.iter().map(|(partition, _)| &*partition.topic).collect();
    topics.dedup();
    for (name, result) in block_on(admin.describe_topics(&topics))? {
        let count = result.map_err(|error| not_there(&name, error))?.partitions.len();
        let beyond = before.iter().map(|(partition, _)| partition).find(|partition| {
            partition.topic == name && usize::try_from(partition.partition).is_ok_and(|index| index >= count)
        });
        if let Some(beyond) = beyond {
            return Err(Failure::new(format!("there is no partition {} of {name}", beyond.partition))
                .hint(&format!("it has {count} partition(s), counted from 0")));
        }
    }
    let mut failed = None;
    for (partition, result) in block_on(admin.delete_records(&before))? {
        match result {
            Ok(start) if options.listing.json => print_lines([Fields::default()
                .with("topic", &*partition.topic)
                .with("partition", partition.partition)
                .with("log_start_offset", start)])?,
            Ok(start) => print(&format!("{partition} begins with offset {start}\n"))?,
            Err(error) => failed = failed.or(Some(explained(error))),
        }
    }
    failed.map_or(Ok(()), Err)
}

fn parse(text: &str) -> Result<(TopicPartition, Offset), Failure> {
    let mut parts = text.rsplitn(3, ':');
    let offset = parts.next().and_then(|offset| offset.parse().ok()).filter(|offset| *offset >= -1);
    let partition = parts.next().and_then(|partition| partition.parse().ok()).filter(|partition| *partition >= 0);
    match (parts.next(), partition, offset) {
        (Some(topic), Some(partition), Some(offset)) if !topic.is_empty() => {
            Ok((TopicPartition::new(topic, partition), offset))
        }
        _ => Err(Failure::usage(format!("{text} is not TOPIC:PARTITION:OFFSET"))
            .hint("write it as orders:0:1000: record 1000 of partition 0 is the first that is kept")),
    }
}

fn explained(error: client::ClientError) -> Failure {
    let failure = Failure::new(error.to_string());
    match error.code() {
        Some(ErrorCode::OffsetOutOfRange) => failure.hint("`millstream offsets` shows where partitions begin and end"),
        Some(ErrorCode::PolicyViolation) => failure.hint("records of a topic that is only compacted cannot be deleted"),
        _ => failure,
    }
}
