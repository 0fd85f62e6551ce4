//! `millstream dump-log`: a line for each batch of log files, and for each entry of the files beside them, as JSON or to be read.

mod decode;
mod entries;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{PartitionId, TopicPartition};
use protocol::record::{Control, HeaderView, RecordBatch, RecordError, RecordView, parse_control};
use serde::Serialize;
use serde_json::{Value, json};
use storage::files::{Entry, Files, RealFiles};
use storage::log::{DumpedBatch, dump, dump_file};

use super::json::{Fields, hex, printable};
use crate::options::DumpLogOptions;
use crate::report::{Failure, written};

const WHAT_TO_NAME: &str = "name a data directory, the folder of one partition such as orders-0, or one of its files";
const AGAINST_DAMAGE: &str =
    "the end of a log that was torn by a crash is cut when the broker starts; anything else needs a copy of the file";

/// Prints every batch; goes on with the next file behind bytes that are none, and fails at the end.
pub fn run(options: &DumpLogOptions) -> Result<(), Failure> {
    let files: Arc<dyn Files> = Arc::new(RealFiles);
    if options.check_indexes {
        return entries::check(&files, options);
    }
    if !options.path.is_dir() && !is_log_file(&options.path) && entries::print_file(&files, options)? {
        return Ok(());
    }
    let mut out = BufWriter::new(io::stdout().lock());
    let mut problems = Vec::new();
    for (partition, folder) in folders(&*files, &options.path)? {
        let opened = if is_log_file(&folder) { dump_file(&files, &folder) } else { dump(&files, &folder) };
        let batches = match opened {
            Ok(batches) => batches,
            Err(error) => {
                problems.push(error.message().to_owned());
                continue;
            }
        };
        for dumped in batches {
            if let Ok(DumpedBatch { valid: false, file, pos, .. }) = &dumped {
                let path = if is_log_file(&folder) { folder.clone() } else { folder.join(file) };
                problems.push(format!("{} at byte {pos}: the batch's checksum is wrong", path.display()));
            }
            let line = match dumped {
                Ok(dumped) if options.json => json_line(&partition, &dumped, options)? + "\n",
                Ok(dumped) => plain_lines(&partition, &dumped, options),
                Err(error) => {
                    problems.push(error.message().to_owned());
                    continue;
                }
            };
            if !written(out.write_all(line.as_bytes()))? {
                return Ok(());
            }
        }
    }
    written(out.flush())?;
    failure_of(&problems)
}

/// What was found to be wrong, as one failure.
fn failure_of(problems: &[String]) -> Result<(), Failure> {
    match problems {
        [] => Ok(()),
        [one] => Err(Failure::new(one).hint(AGAINST_DAMAGE)),
        [first, others @ ..] => {
            Err(Failure::new(first).hint(&format!("and {} more like that", others.len())).hint(AGAINST_DAMAGE))
        }
    }
}

/// The partitions' folders at `path`, which is one, or a data directory; by topic, then by partition.
fn folders(files: &dyn Files, path: &Path) -> Result<Vec<(TopicPartition, PathBuf)>, Failure> {
    let unreadable = |error: io::Error| {
        let failure = Failure::new(format!("cannot read {}: {error}", path.display()));
        match error.kind() {
            io::ErrorKind::PermissionDenied => failure.hint("run it as a user that may read that directory"),
            _ => failure.hint(WHAT_TO_NAME),
        }
    };
    if is_log_file(path) {
        files.metadata(path).map_err(unreadable)?;
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        return Ok(vec![(partition_of(&folder), path.to_owned())]);
    }
    let entries = files.list(path).map_err(unreadable)?;
    if entries.iter().any(is_log) {
        return Ok(vec![(partition_of(path), path.to_owned())]);
    }
    let mut found: Vec<(TopicPartition, PathBuf)> = entries
        .iter()
        .filter(|entry| entry.is_dir)
        .filter_map(|entry| Some((parse_folder_name(&entry.name)?, path.join(&entry.name))))
        .collect();
    found.sort();
    if found.is_empty() {
        return Err(Failure::new(format!("{} holds no log", path.display())).hint(WHAT_TO_NAME));
    }
    Ok(found)
}

/// Whose folder it is, by its name.
fn partition_of(folder: &Path) -> TopicPartition {
    // What a shell completes as `orders-0/` or `.` shows its name only when resolved.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let resolved = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = resolved.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    parse_folder_name(&name).unwrap_or_else(|| TopicPartition::new(name, -1))
}

fn is_log_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

fn is_log(entry: &Entry) -> bool {
    !entry.is_dir
        && entry.name.strip_suffix(".log").is_some_and(|name| {
            let digits = name.bytes().filter(u8::is_ascii_digit).count();
            digits == 20 && name.len() == 20
        })
}

/// `topic-0`; not the folders of deleted topics and moved partitions, which have a suffix.
fn parse_folder_name(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    if topic.is_empty() || partition.is_empty() || !partition.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(TopicPartition::new(topic, partition.parse().ok()?))
}

/// One line of JSON: the partition, the batch's own fields, and its records if they are wanted.
#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    partition: PartitionId,
    #[serde(flatten)]
    batch: &'a DumpedBatch,
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<Vec<Fields>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    records_error: Option<String>,
}

fn json_line(partition: &TopicPartition, dumped: &DumpedBatch, options: &DumpLogOptions) -> Result<String, Failure> {
    let wanted = options.records || options.decode;
    let topic = options.decode.then_some(&*partition.topic);
    let (records, records_error) = match wanted.then(|| records(&dumped.batch.0, topic)) {
        None => (None, None),
        Some(Ok(records)) => (Some(records), None),
        Some(Err(error)) => (None, Some(error.to_string())),
    };
    let line = Line { topic: &partition.topic, partition: partition.partition, batch: dumped, records, records_error };
    serde_json::to_string(&line)
        .map_err(|error| Failure::new(format!("a batch of {partition} cannot be written as JSON: {error}")))
}

/// The records of a batch; with what they mean, if `topic` is one of those that coordinators keep their state in.
fn records(batch: &RecordBatch, topic: Option<&str>) -> Result<Vec<Fields>, RecordError> {
    let control = batch.header().attributes.is_control();
    let mut all = Vec::new();
    let mut records = batch.records()?;
    while let Some(record) = records.next() {
        let record = record?;
        let mut fields = record_fields(&record, control);
        if let Some(topic) = topic.filter(|_| !control)
            && let Some(meaning) = decode::meaning(topic, record.key, record.value)
        {
            fields.put("meaning", meaning);
        }
        all.push(fields);
    }
    Ok(all)
}

fn record_fields(record: &RecordView<'_>, control: bool) -> Fields {
    let mut fields = Fields::default();
    fields.put("o", record.offset);
    fields.put("ts", record.timestamp);
    if control {
        match parse_control(record.key, record.value) {
            Ok(Control::EndTransaction(marker)) => {
                fields.put("control_type", if marker.committed { "COMMIT" } else { "ABORT" });
                fields.put("coordinator_epoch", marker.coordinator_epoch);
            }
            Ok(Control::Other(kind)) => fields.put("control_type", format!("{kind:?}")),
            Err(error) => fields.put("control_error", error.to_string()),
        }
        fields.put("key_hex", hex(record.key.unwrap_or_default()));
        fields.put("value_hex", hex(record.value.unwrap_or_default()));
        return fields;
    }
    fields.put_bytes("key", "key_hex", record.key);
    fields.put_bytes("value", "value_hex", record.value);
    if !record.headers.is_empty() {
        fields.put("headers", record.headers.iter().map(|header| header_fields(&header)).collect::<Vec<_>>());
    }
    fields
}

fn header_fields(header: &HeaderView<'_>) -> Value {
    let (name, value) = match header.value.map(|bytes| (printable(bytes), bytes)) {
        None => ("v", Value::Null),
        Some((Some(text), _)) => ("v", json!(text)),
        Some((None, bytes)) => ("v_hex", json!(hex(bytes))),
    };
    json!({ "k": header.key_str(), name: value })
}

fn plain_lines(partition: &TopicPartition, dumped: &DumpedBatch, options: &DumpLogOptions) -> String {
    let DumpedBatch { file, pos, size, base, last, count, codec, leader_epoch, max_ts, ts_type, .. } = dumped;
    let mut line = format!(
        "{partition} {file} at byte {pos}: offsets {base}..={last}, {count} records, {size} bytes, {codec}, \
         leader epoch {leader_epoch}, {ts_type} {max_ts}"
    );
    if dumped.pid >= 0 {
        let DumpedBatch { pid, epoch, base_seq, last_seq, .. } = dumped;
        line += &format!(", producer {pid} epoch {epoch} sequences {base_seq}..={last_seq}");
    }
    for (set, word) in
        [(dumped.txn, ", transactional"), (dumped.control, ", control"), (!dumped.valid, ", CHECKSUM WRONG")]
    {
        line += if set { word } else { "" };
    }
    line.push('\n');
    if options.records || options.decode {
        match records(&dumped.batch.0, options.decode.then_some(&*partition.topic)) {
            Ok(records) => {
                for record in records {
                    line += &format!("  {}\n", serde_json::to_string(&record).unwrap_or_default());
                }
            }
            Err(error) => line += &format!("  records cannot be read: {error}\n"),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_partitions_are_told_from_others() {
        assert_eq!(parse_folder_name("a-b-12"), Some(TopicPartition::new("a-b", 12)));
        for other in ["orders", "-0", "orders-", "orders-+1", "orders-0.6f1c-delete", "orders--"] {
            assert_eq!(parse_folder_name(other), None, "{other}");
        }
    }
}
