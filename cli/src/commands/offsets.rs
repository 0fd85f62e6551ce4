//! `millstream offsets`: offsets of partitions, as a line `TOPIC:PARTITION:OFFSET` each.

use client::admin::OffsetSpec;
use client::block_on;
use serde_json::Value;

use super::admin;
use super::json::{Fields, print_lines};
use super::partitions::{Selection, resolve};
use crate::options::OffsetsOptions;
use crate::report::{Failure, print};

/// Prints one line for each partition; fails at the end if some have no answer.
pub fn run(options: &OffsetsOptions) -> Result<(), Failure> {
    let spec = spec(&options.time)?;
    let mut selections: Vec<Selection> =
        options.topics.iter().map(|text| Selection::parse(text)).collect::<Result<_, Failure>>()?;
    let admin = admin(&options.listing.cluster)?;
    let all = block_on(admin.list_topics())?;
    if selections.is_empty() {
        let names = all.iter().map(|topic| topic.name.to_string());
        selections.extend(names.map(|topic| Selection { topic, partitions: None }));
    }
    if options.exclude_internal {
        let internal = |name: &str| all.iter().any(|topic| topic.internal && &*topic.name == name);
        selections.retain(|selection| !internal(&selection.topic));
    }
    let asked: Vec<_> = resolve(&admin, &selections)?.into_iter().map(|partition| (partition, spec)).collect();
    let mut failed = None;
    for (partition, result) in block_on(admin.list_offsets(&asked))? {
        let listed = match result {
            Ok(listed) => listed,
            Err(error) => {
                failed = failed.or(Some(Failure::from(error)));
                continue;
            }
        };
        if options.listing.json {
            // -1 is how the protocol says that there is no such record.
            let known = |value: i64| if value >= 0 { Value::from(value) } else { Value::Null };
            let fields = Fields::default()
                .with("topic", &*partition.topic)
                .with("partition", partition.partition)
                .with("offset", known(listed.offset))
                .with("timestamp", known(listed.timestamp))
                .with("leader_epoch", known(listed.leader_epoch.into()));
            print_lines([fields])?;
        } else {
            let offset = if listed.offset >= 0 { listed.offset.to_string() } else { String::new() };
            print(&format!("{}:{}:{offset}\n", partition.topic, partition.partition))?;
        }
    }
    failed.map_or(Ok(()), Err)
}

/// What `--time` says; the numbers are those of Kafka's tool.
fn spec(text: &str) -> Result<OffsetSpec, Failure> {
    match text {
        "earliest" | "-2" => Ok(OffsetSpec::Earliest),
        "latest" | "-1" => Ok(OffsetSpec::Latest),
        "latest-stable" => Ok(OffsetSpec::LatestStable),
        "max-timestamp" | "-3" => Ok(OffsetSpec::MaxTimestamp),
        _ => text.parse().ok().filter(|ms: &i64| *ms >= 0).map(OffsetSpec::Timestamp).ok_or_else(|| {
            Failure::usage(format!("--time {text} is no time"))
                .hint("write earliest, latest, latest-stable, max-timestamp, or milliseconds since 1970")
        }),
    }
}
