//! `millstream groups reset-offsets`: where a group without members goes on reading.
//!
//! First the new offset of each partition is found and shown; only `--execute` commits them.

use std::fs;
use std::path::Path;

use base::{Clock, Offset, SystemClock, TopicPartition};
use chrono::{DateTime, NaiveDateTime};
use client::admin::{OffsetAndMetadata, OffsetSpec};
use client::consumer::OffsetReset;
use client::{Admin, block_on};

use super::super::json::{Fields, print_lines};
use super::super::partitions::{Selection, resolve};
use super::super::{admin, table};
use super::{describe, not_there};
use crate::options::ResetOffsetsOptions;
use crate::report::{Failure, print};

/// Where partitions are to go on.
enum Aim {
    Spec(OffsetSpec),
    Current,
    Offset(Offset),
    Shift(Offset),
    /// As a file says.
    Listed(Vec<(TopicPartition, Offset)>),
}

/// A partition, its committed offset if it has one, and the new one.
struct Move {
    partition: TopicPartition,
    from: Option<Offset>,
    to: Offset,
}

/// Shows the new offsets, and commits them if told to.
pub(super) fn run(options: &ResetOffsetsOptions) -> Result<(), Failure> {
    let aim = aim(options)?;
    let selections = options.topics.iter().map(|text| Selection::parse(text)).collect::<Result<Vec<_>, Failure>>()?;
    let from_file = matches!(aim, Aim::Listed(_));
    if from_file != (selections.is_empty() && !options.all_topics) {
        return Err(match from_file {
            true => {
                Failure::usage("the file says which partitions are meant").hint("leave --topic and --all-topics out")
            }
            false => Failure::usage("which partitions?").hint("give --topic TOPIC[:PARTITIONS], or --all-topics"),
        });
    }
    let admin = admin(&options.listing.cluster)?;
    let group = options.group.as_str();
    refuse_members(&admin, group)?;
    let committed: Vec<(TopicPartition, Offset)> = block_on(admin.list_group_offsets(group))?
        .into_iter()
        .map(|(partition, offset)| (partition, offset.offset))
        .collect();
    let partitions = match &aim {
        Aim::Listed(listed) => listed.iter().map(|(partition, _)| partition.clone()).collect(),
        _ if options.all_topics => committed.iter().map(|(partition, _)| partition.clone()).collect(),
        _ => resolve(&admin, &selections)?,
    };
    let mut moves = moves(&admin, &aim, &partitions, &committed)?;
    moves.sort_by(|a, b| a.partition.cmp(&b.partition));
    show(options, &moves)?;
    if !options.execute {
        return Ok(());
    }
    let offsets: Vec<(TopicPartition, OffsetAndMetadata)> = moves
        .iter()
        .map(|one| {
            let offset = OffsetAndMetadata { offset: one.to, leader_epoch: -1, metadata: String::new() };
            (one.partition.clone(), offset)
        })
        .collect();
    let results = block_on(admin.alter_group_offsets(group, &offsets)).map_err(|error| not_there(group, error))?;
    results.into_iter().try_for_each(|(_, result)| result.map_err(|error| not_there(group, error)))
}

fn aim(options: &ResetOffsetsOptions) -> Result<Aim, Failure> {
    if let Some(path) = &options.from_file {
        return Ok(Aim::Listed(read(path, &options.group)?));
    }
    if let Some(offset) = options.to_offset {
        return Ok(Aim::Offset(offset));
    }
    if let Some(by) = options.shift_by {
        return Ok(Aim::Shift(by));
    }
    if let Some(text) = &options.to_datetime {
        return Ok(Aim::Spec(OffsetSpec::Timestamp(timestamp(text)?)));
    }
    if let Some(text) = &options.by_duration {
        let Ok(OffsetReset::ByDuration { ms }) = OffsetReset::parse(&format!("by_duration:{text}")) else {
            return Err(Failure::usage(format!("--by-duration {text} is no duration"))
                .hint("write it as P7D or PT1H30M: days, or hours, minutes and seconds"));
        };
        return Ok(Aim::Spec(OffsetSpec::Timestamp(SystemClock::new().wall_ms() - ms)));
    }
    Ok(match (options.to_earliest, options.to_latest) {
        (true, _) => Aim::Spec(OffsetSpec::Earliest),
        (_, true) => Aim::Spec(OffsetSpec::Latest),
        _ => Aim::Current,
    })
}

/// Milliseconds since 1970 of `2026-11-22T10:00:00.000`, in UTC unless an offset is given.
fn timestamp(text: &str) -> Result<i64, Failure> {
    let zoned =
        DateTime::parse_from_rfc3339(text).or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z"));
    let plain = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f");
    match (zoned, plain) {
        (Ok(time), _) => Ok(time.timestamp_millis()),
        (_, Ok(time)) => Ok(time.and_utc().timestamp_millis()),
        _ => Err(Failure::usage(format!("--to-datetime {text} is no time"))
            .hint("write it as 2026-11-22T10:00:00.000, with Z or +01:00 behind it if it is not UTC")),
    }
}

/// Lines `TOPIC,PARTITION,OFFSET`, or `GROUP,TOPIC,PARTITION,OFFSET` of which only this group's count.
fn read(path: &Path, group: &str) -> Result<Vec<(TopicPartition, Offset)>, Failure> {
    let text =
        fs::read_to_string(path).map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
    let mut listed = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let columns: Vec<&str> = line.split(',').map(|column| column.trim().trim_matches('"')).collect();
        let columns = match columns.as_slice() {
            [""] => continue,
            [of, ..] if columns.len() == 4 && *of != group => continue,
            [_, rest @ ..] if columns.len() == 4 => rest,
            all => all,
        };
        let parsed = match columns {
            [topic, partition, offset] => {
                partition.parse().ok().zip(offset.parse().ok()).map(|(partition, offset)| (*topic, partition, offset))
            }
            _ => None,
        };
        let Some((topic, partition, offset)) = parsed else {
            return Err(Failure::usage(format!("{} line {}: {line}", path.display(), index + 1))
                .hint("each line is TOPIC,PARTITION,OFFSET, as --export prints it"));
        };
        listed.push((TopicPartition::new(topic, partition), offset));
    }
    Ok(listed)
}

/// A group with members keeps its own offsets: what is committed for it would be overwritten.
fn refuse_members(admin: &Admin, group: &str) -> Result<(), Failure> {
    let listed = block_on(admin.list_groups())?;
    let Some(known) = listed.iter().find(|known| known.group == group) else {
        return Ok(()); // it comes to be with its first offset
    };
    let described = describe::describe(admin, group, Some(known))?;
    if matches!(described.state.as_str(), "Empty" | "Dead" | "NotReady") {
        return Ok(());
    }
    let members = described.members.len();
    Err(Failure::new(format!("group {group} is {} with {members} member(s)", described.state))
        .hint("stop them first: offsets can only be moved while nobody reads"))
}

fn moves(
    admin: &Admin,
    aim: &Aim,
    partitions: &[TopicPartition],
    committed: &[(TopicPartition, Offset)],
) -> Result<Vec<Move>, Failure> {
    let current = |partition: &TopicPartition| committed.iter().find(|(of, _)| of == partition).map(|(_, at)| *at);
    let find = |spec: OffsetSpec| -> Result<Vec<Offset>, Failure> {
        let asked: Vec<_> = partitions.iter().map(|partition| (partition.clone(), spec)).collect();
        let found = block_on(admin.list_offsets(&asked))?;
        Ok(found.into_iter().map(|(_, found)| Ok(found?.offset)).collect::<Result<_, client::ClientError>>()?)
    };
    let (first, last) = (find(OffsetSpec::Earliest)?, find(OffsetSpec::Latest)?);
    let wanted: Vec<Offset> = match aim {
        Aim::Spec(spec) => find(*spec)?,
        Aim::Current => partitions.iter().zip(&last).map(|(name, last)| current(name).unwrap_or(*last)).collect(),
        Aim::Offset(offset) => vec![*offset; partitions.len()],
        Aim::Listed(listed) => listed.iter().map(|(_, offset)| *offset).collect(),
        Aim::Shift(by) => {
            let shifted = |name: &TopicPartition| match current(name) {
                Some(offset) => Ok(offset.saturating_add(*by)),
                None => Err(Failure::new(format!("nothing is committed for {name} that could be shifted"))
                    .hint("name partitions with committed offsets, or take --to-offset")),
            };
            partitions.iter().map(shifted).collect::<Result<_, Failure>>()?
        }
    };
    let places = partitions.iter().zip(wanted).zip(first.into_iter().zip(last));
    Ok(places
        .map(|((partition, wanted), (first, last))| Move {
            partition: partition.clone(),
            from: current(partition),
            // A time after the last record is the end; an offset that is not there is the nearest one that is.
            to: if matches!(aim, Aim::Spec(_)) && wanted < 0 { last } else { wanted.clamp(first, last.max(first)) },
        })
        .collect())
}

fn show(options: &ResetOffsetsOptions, moves: &[Move]) -> Result<(), Failure> {
    if options.listing.json {
        return print_lines(moves.iter().map(|one| {
            Fields::default()
                .with("group", options.group.as_str())
                .with("topic", &*one.partition.topic)
                .with("partition", one.partition.partition)
                .with("committed", one.from)
                .with("new_offset", one.to)
                .with("executed", options.execute)
        }));
    }
    if options.export {
        let line = |one: &Move| format!("{},{},{}\n", one.partition.topic, one.partition.partition, one.to);
        return print(&moves.iter().map(line).collect::<String>());
    }
    let mut rows = vec![["PARTITION", "COMMITTED", "NEW OFFSET"].map(str::to_owned).to_vec()];
    for one in moves {
        let from = one.from.map_or("-".to_owned(), |from| from.to_string());
        rows.push(vec![one.partition.to_string(), from, one.to.to_string()]);
    }
    let ending = if options.execute { "" } else { "nothing was changed: --execute commits these offsets\n" };
    print(&(table(&rows) + ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_unless_they_say_otherwise() {
        assert_eq!(timestamp("1970-01-01T00:00:01.500").unwrap(), 1_500);
        assert_eq!(timestamp("1970-01-01T01:00:00.000+01:00").unwrap(), 0);
        assert_eq!(timestamp("1970-01-01T00:00:02Z").unwrap(), 2_000);
        assert_eq!(timestamp("1970-01-01T01:00:00.000+0100").unwrap(), 0);
        assert!(timestamp("yesterday").is_err());
    }
}
