//! What users do wrong, and what machines do to them: at most three lines that say what and what to do, a non-zero exit, nothing damaged.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use millstream::Embedded;
use millstream::base::{Clock, SystemClock};
use support::{repository, result_of, run, run_piped, succeeded};

/// From the start of the program.
const FULL_DISK_SAID_WITHIN_MS: i64 = 3_000;

/// Exit code and lines of a run that failed: what it said before (with the time in front) left out.
fn failure(output: Output) -> (i32, String) {
    assert!(!output.status.success(), "it did not fail");
    assert!(output.stdout.is_empty(), "stdout holds results only");
    let errors = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = errors.lines().filter(|line| !line.contains(" s] ")).collect();
    assert!((1..=3).contains(&lines.len()), "{errors}");
    (output.status.code().expect("no signal ended it"), lines.join("\n"))
}

fn write(folder: &Path, name: &str, content: &[u8]) -> String {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    path.display().to_string()
}

#[test]
fn a_missing_input_file_is_named() {
    for example in ["word_count", "click_analytics"] {
        let (code, lines) = failure(run(example, ["--input", "/no/such/file"]));
        assert_eq!(code, 1);
        assert_eq!(
            lines,
            format!(
                "{example}: cannot read /no/such/file: No such file or directory (os error 2)\n  \
                 Check the name given to --input, and that you may read it."
            )
        );
    }
}

#[test]
fn a_directory_is_no_input() {
    let (_, lines) = failure(run("word_count", ["--input", "/"]));
    assert_eq!(lines, "word_count: / is a directory\n  Name its files: --input DIR/* reads them one after another.");
}

#[test]
fn a_misspelt_option_is_refused_with_the_nearest_name() {
    let (code, lines) = failure(run("word_count", ["--inptu", "x"]));
    assert_eq!((code, lines.as_str()), (2, "word_count: unknown option --inptu\n  did you mean --input?"));
    let (code, lines) = failure(run("click_analytics", ["--treshold=5"]));
    assert_eq!((code, lines.as_str()), (2, "click_analytics: unknown option --treshold\n  did you mean --threshold?"));
}

#[test]
fn a_misspelt_setting_is_refused_with_the_nearest_name() {
    let (code, lines) = failure(run("word_count", ["--set", "num.stream.thread=2"]));
    assert_eq!(code, 2);
    assert!(lines.contains("did you mean num.stream.threads?"), "{lines}");
}

#[test]
fn text_that_is_not_utf8_is_refused_and_nothing_of_it_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").display().to_string();
    let good = write(folder.path(), "good.txt", b"a b\n");
    let bad = write(folder.path(), "bad.txt", b"c d\ncaf\xe9 e\n");
    let before = result_of("word_count", ["--data", &data, "--input", &good]);
    let (code, lines) = failure(run("word_count", ["--data", &data, "--input", &bad]));
    assert_eq!(code, 1);
    assert_eq!(
        lines,
        format!(
            "word_count: {} is not UTF-8: byte 7 belongs to no character\n  \
             Nothing of it was added. Convert it, for example: iconv -f latin1 -t utf-8 FILE > NEW",
            fs::canonicalize(&bad).unwrap().display()
        )
    );
    assert_eq!(result_of("word_count", ["--data", &data, "--input", &good]), before);
    failure(run_piped("word_count", &["--input", "-"], b"\xff\n"));
}

#[test]
fn a_data_directory_in_use_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").display().to_string();
    let text = write(folder.path(), "text.txt", b"a b a\n");
    let first = Embedded::open(&data).unwrap();
    let (code, lines) = failure(run("word_count", ["--data", &data, "--input", &text]));
    assert_eq!(code, 1);
    assert!(lines.contains("in use"), "{lines}");
    first.shutdown().unwrap();
    assert_eq!(result_of("word_count", ["--data", &data, "--input", &text]), "a\t2\nb\t1\n");
}

#[test]
fn a_data_directory_that_is_a_file_or_out_of_reach_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "file", b"keep me");
    let (code, lines) = failure(run("word_count", ["--data", &file]));
    assert_eq!(code, 1);
    assert!(lines.contains(&file), "{lines}");
    assert_eq!(fs::read(&file).unwrap(), b"keep me");
    let (_, lines) = failure(run("word_count", ["--data", "/proc/nowhere"]));
    assert!(lines.contains("/proc/nowhere"), "{lines}");
}

#[test]
fn no_broker_at_the_address_is_said_within_seconds() {
    // Bound and let go again: nobody listens there.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (code, lines) = failure(run("word_count", ["--bootstrap", &address]));
    assert_eq!(code, 1);
    assert!(lines.starts_with(&format!("word_count: no broker at {address}: ")), "{lines}");
    assert!(lines.contains("Start one with `millstream broker`"), "{lines}");
    let (_, lines) = failure(run("word_count", ["--bootstrap", "nonsense"]));
    assert!(lines.contains("host:port"), "{lines}");
}

#[test]
fn a_missing_source_topic_is_named() {
    let mut broker = Embedded::temporary_builder().unwrap().set("auto.create.topics.enable", false).start().unwrap();
    let address = broker.listen("127.0.0.1:0").unwrap().to_string();
    let (code, lines) = failure(run("word_count", ["--bootstrap", &address, "--topic", "no-such-topic"]));
    assert_eq!(code, 1);
    assert!(lines.contains("source topic no-such-topic does not exist: create it"), "{lines}");
}

#[test]
fn a_click_topic_of_several_partitions_is_refused() {
    let mut broker = Embedded::temporary().unwrap();
    let address = broker.listen("127.0.0.1:0").unwrap().to_string();
    broker.create_topic("many", 3).unwrap();
    let (_, lines) = failure(run("click_analytics", ["--bootstrap", &address, "--topic", "many"]));
    assert!(lines.contains("topic many has 3 partitions"), "{lines}");
}

/// A small file system of its own; `None`, aloud, where none can be mounted.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(folder.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        eprintln!("no file system can be mounted here: a full disk is not tested");
        None
    }

    fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        let status = std::process::Command::new("mount").args(["-o", &options]).arg(self.0.path()).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whatever is left goes with the mount.
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Results by what they are of, which is the line without its count at the end.
fn counts(result: &str) -> BTreeMap<String, i64> {
    let count = |line: &str| line.rsplit_once('\t').map(|(of, count)| (of.to_owned(), count.parse().unwrap()));
    result.lines().map(|line| count(line).unwrap()).collect()
}

/// A run that meets a full disk: it says so at once.
fn fails_for_space(example: &str, arguments: &[&str]) {
    let clock = SystemClock::new();
    let started_ms = clock.now().ticks_ms;
    let (code, lines) = failure(run(example, arguments));
    let took_ms = clock.now().ticks_ms - started_ms;
    assert_eq!(code, 1);
    assert!(lines.contains("No space left on device") && lines.contains("/data/"), "{lines}");
    assert!(lines.contains("Free some space and start again"), "{lines}");
    assert!(took_ms < FULL_DISK_SAID_WITHIN_MS, "said after {took_ms} ms: {lines}");
}

#[test]
fn a_full_disk_is_said_and_nothing_acknowledged_is_lost() {
    let text = repository("examples/data/jargon-file-4.4.7.txt").display().to_string();
    let inputs: [(&str, &[&str]); 2] =
        [("word_count", &["--input", &text]), ("click_analytics", &["--events", "100000"])];
    for (example, input) in inputs {
        let exact = counts(&result_of(example, input));
        // The space ends while lines are written, while they are counted, and before anything is.
        for size in ["3m", "6m", "100k"] {
            let Some(disk) = SmallDisk::mount(size) else { return };
            let data = disk.0.path().join("data").display().to_string();
            let arguments = [&["--data", data.as_str()], input].concat();
            fails_for_space(example, &arguments);
            // Still full.
            fails_for_space(example, &arguments);
            disk.resize("500m");
            let (result, _) = succeeded(run(example, &arguments));
            let counted = counts(&result);
            for (of, exact) in &exact {
                let counted = counted.get(of).copied().unwrap_or(0);
                assert!(counted >= *exact, "{example}, {size}: {of} is counted {counted} times, not {exact}");
            }
            assert_eq!(counted.len(), exact.len(), "{example}, {size}");
            assert_eq!(result_of(example, &arguments), result, "{example}, {size}: a run more adds nothing");
        }
    }
}

/// Every file of a topic's partitions whose name ends so.
fn files(data: &Path, topic: &str, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in fs::read_dir(data.join("broker")).unwrap().map(|entry| entry.unwrap().path()) {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if folder.is_dir() && name.rsplit_once('-').is_some_and(|(of, _)| of == topic) {
            found.extend(fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found.retain(|path| path.to_string_lossy().ends_with(end) && fs::metadata(path).unwrap().len() > 0);
    found
}

#[test]
fn a_damaged_tail_and_missing_indexes_are_mended_and_the_run_goes_on() {
    type Damage = (&'static str, fn(&Path));
    let damages: [Damage; 4] = [
        ("torn", |log| {
            let bytes = fs::read(log).unwrap();
            fs::write(log, &bytes[..bytes.len() - 5]).unwrap();
        }),
        ("flipped", |log| {
            let mut bytes = fs::read(log).unwrap();
            let last = bytes.len() - 3;
            bytes[last] ^= 0xff;
            fs::write(log, bytes).unwrap();
        }),
        ("zeros", |log| fs::write(log, [fs::read(log).unwrap(), vec![0; 4096]].concat()).unwrap()),
        ("no index", |log| {
            for kind in ["index", "timeindex"] {
                // Not all of them have one.
                let _ = fs::remove_file(log.with_extension(kind));
            }
        }),
    ];
    let folder = tempfile::tempdir().unwrap();
    let text = write(folder.path(), "a.txt", "a b a\n".repeat(3000).as_bytes());
    let clicks = (0..3000).map(|number| {
        let ts = 1_700_000_000_000_u64 + number;
        format!("{{\"page\":\"/a\",\"user\":\"u\",\"ts\":{ts}}}\n")
    });
    let clicks = write(folder.path(), "clicks.jsonl", clicks.collect::<String>().as_bytes());
    let programs = [
        ("word_count", &text, vec!["text-lines", "word-count-counts-repartition", "word-counts"]),
        ("click_analytics", &clicks, vec!["clicks", "page-counts", "__consumer_offsets", "__cluster_metadata"]),
    ];
    for (example, input, topics) in programs {
        for topic in topics {
            for (name, damage) in damages {
                let data = folder.path().join(format!("{example}-{topic}-{name}"));
                let arguments = ["--data", data.to_str().unwrap(), "--input", input];
                let exact = counts(&result_of(example, arguments));
                let logs = files(&data, topic, ".log");
                assert!(!logs.is_empty(), "{topic} is empty");
                logs.iter().for_each(|log| damage(log));
                let output = support::example(example).args(arguments).env("MILLSTREAM_LOG", "warn").output().unwrap();
                let (result, said) = succeeded(output);
                if name != "no index" {
                    assert!(said.contains("log truncated"), "{example}, {topic}, {name}: {said}");
                }
                for (of, count) in counts(&result) {
                    assert!(count >= exact[&of], "{example}, {topic}, {name}: {of} {count}");
                }
                // What was read before and is gone is read again, as auto.offset.reset says: more may be counted, not less.
                let again = counts(&result_of(example, arguments));
                assert!(exact.iter().all(|(of, exact)| again[of] >= *exact), "{example}, {topic}, {name}");
                if name == "no index" {
                    assert_eq!(again, exact, "{example}, {topic}: nothing was lost, nothing is added");
                }
            }
        }
    }
}

#[test]
fn a_directory_that_may_not_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let allow = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    allow(folder.path(), 0o755);
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    allow(&data, 0);
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    for name in ["word_count", "click_analytics"] {
        let copy = folder.path().join(name);
        // By another process: one forked here while the copy is open would keep it from being run.
        let copied = Command::new("cp").arg(support::example(name).get_program()).arg(&copy).status();
        assert!(copied.unwrap().success());
        let mut command = Command::new(&copy);
        command.arg("--data").arg(&data).args(["--input", "-"]).stdin(Stdio::null()).current_dir(folder.path());
        if is_root {
            // Root may do everything: be nobody.
            command.uid(65_534);
        }
        let (code, lines) = failure(command.output().unwrap());
        assert_eq!(code, 1);
        assert!(lines.contains(data.to_str().unwrap()) && lines.contains("Permission denied"), "{lines}");
    }
    allow(&data, 0o755);
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
}
