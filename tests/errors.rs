//! What users do wrong, and what machines do to them: at most three lines that say what and what to do, a non-zero exit, nothing damaged.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Output;

use millstream::Embedded;
use support::{repository, result_of, run, run_piped, succeeded};

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

#[test]
fn a_full_disk_is_said_and_nothing_acknowledged_is_lost() {
    let Some(disk) = SmallDisk::mount("3m") else { return };
    let data = disk.0.path().join("data").display().to_string();
    let text = repository("examples/data/jargon-file-4.4.7.txt").display().to_string();
    let (code, lines) = failure(run("word_count", ["--data", &data, "--input", &text]));
    assert_eq!(code, 1);
    assert!(lines.contains("No space left on device"), "{lines}");
    disk.resize("500m");
    let (counts, _) = succeeded(run("word_count", ["--data", &data, "--input", &text]));
    let total =
        |text: &str| -> i64 { text.lines().filter_map(|line| line.split('\t').nth(1)?.parse::<i64>().ok()).sum() };
    assert!(total(&counts) >= total(&result_of("word_count", [""; 0])), "something was lost");
}
