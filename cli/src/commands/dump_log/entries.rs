//! The files beside a log: a line for each entry of an index, snapshot or checkpoint; and indexes compared with their logs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use storage::files::Files;
use storage::log::{DumpedEntry, check_index, dump_entries};

use super::super::json::{Fields, print_lines};
use super::{failure_of, folders};
use crate::options::DumpLogOptions;
use crate::report::{Failure, print};

/// Prints the entries of the file, if its name is of one that has some; whether it was.
pub(super) fn print_file(files: &Arc<dyn Files>, options: &DumpLogOptions) -> Result<bool, Failure> {
    let found = dump_entries(files, &options.path).map_err(|error| Failure::new(error.message()))?;
    let Some(entries) = found else { return Ok(false) };
    if options.json {
        print_lines(entries.iter().map(as_fields))?;
    } else {
        print(&entries.iter().map(as_text).collect::<String>())?;
    }
    Ok(true)
}

fn as_fields(entry: &DumpedEntry) -> Fields {
    let known = |value: i64| if value >= 0 { Value::from(value) } else { Value::Null };
    let fields = Fields::default();
    match entry {
        DumpedEntry::Offset { offset, position } => fields.with("offset", *offset).with("position", *position),
        DumpedEntry::Time { timestamp, offset } => fields.with("timestamp", *timestamp).with("offset", *offset),
        DumpedEntry::Aborted { producer_id, first_offset, last_offset, last_stable_offset } => fields
            .with("producer_id", *producer_id)
            .with("first_offset", *first_offset)
            .with("last_offset", *last_offset)
            .with("last_stable_offset", *last_stable_offset),
        DumpedEntry::Producer(producer) => fields
            .with("producer_id", producer.producer_id)
            .with("producer_epoch", producer.producer_epoch)
            .with("last_sequence", known(producer.last_sequence.into()))
            .with("last_offset", known(producer.last_offset))
            .with("last_timestamp", known(producer.last_timestamp))
            .with("coordinator_epoch", known(producer.coordinator_epoch.into()))
            .with("transaction_first_offset", known(producer.current_transaction_first_offset)),
        DumpedEntry::Epoch { epoch, start_offset } => fields.with("epoch", *epoch).with("start_offset", *start_offset),
    }
}

fn as_text(entry: &DumpedEntry) -> String {
    match entry {
        DumpedEntry::Offset { offset, position } => format!("offset {offset} at byte {position}\n"),
        DumpedEntry::Time { timestamp, offset } => format!("timestamp {timestamp} up to offset {offset}\n"),
        DumpedEntry::Aborted { producer_id, first_offset, last_offset, last_stable_offset } => format!(
            "aborted by producer {producer_id}: offsets {first_offset}..={last_offset}, last stable offset {last_stable_offset}\n"
        ),
        DumpedEntry::Producer(producer) => format!(
            "producer {} epoch {}: last sequence {}, last offset {}, last timestamp {}, coordinator epoch {}, transaction open \
             from {}\n",
            producer.producer_id,
            producer.producer_epoch,
            producer.last_sequence,
            producer.last_offset,
            producer.last_timestamp,
            producer.coordinator_epoch,
            producer.current_transaction_first_offset,
        ),
        DumpedEntry::Epoch { epoch, start_offset } => format!("epoch {epoch} from offset {start_offset}\n"),
    }
}

/// Compares all indexes below the path with their logs; says how many were found right.
pub(super) fn check(files: &Arc<dyn Files>, options: &DumpLogOptions) -> Result<(), Failure> {
    let mut indexes: Vec<PathBuf> = Vec::new();
    if is_index(&options.path) {
        indexes.push(options.path.clone());
    } else {
        for (_, folder) in folders(&**files, &options.path)? {
            let entries = files
                .list(&folder)
                .map_err(|error| Failure::new(format!("cannot read {}: {error}", folder.display())))?;
            indexes.extend(entries.iter().map(|entry| folder.join(&entry.name)).filter(|path| is_index(path)));
        }
    }
    let mut problems = Vec::new();
    let mut right = 0;
    for index in &indexes {
        match check_index(files, index) {
            Ok(wrong) if wrong.is_empty() => right += 1,
            Ok(wrong) => problems.extend(wrong),
            Err(error) => problems.push(error.message().to_owned()),
        }
    }
    if options.json {
        print_lines([Fields::default()
            .with("checked", indexes.len())
            .with("right", right)
            .with("problems", problems.clone())])?;
    } else {
        print(&format!("{right} of {} index files agree with their logs\n", indexes.len()))?;
    }
    failure_of(&problems)
}

fn is_index(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "index" || extension == "timeindex")
}
