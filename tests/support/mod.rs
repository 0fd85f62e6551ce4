//! What tests of the example programs share: the programs themselves, and the independent scripts to compare them with.

#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Once;

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The text that comes with the project.
pub fn shipped_text() -> PathBuf {
    repository("examples/data/jargon-file-4.4.7.txt")
}

/// Builds all programs, once: with `cargo test --test NAME` alone nobody else sees to that. The whole workspace, so that dependencies have the
/// features that `make test` has built them with.
fn build_programs() {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--release", "--quiet", "--workspace", "--examples", "--bins"])
            .current_dir(repository(""))
            .status();
        assert!(built.expect("cargo runs").success(), "the programs do not build");
    });
}

/// The program of an example.
pub fn example(name: &str) -> Command {
    build_programs();
    let mut command = Command::new(release_folder().join("examples").join(name));
    command.stdin(Stdio::null()).env_remove("MILLSTREAM_LOG");
    command
}

/// A broker in a process of its own, on a free port; killed when dropped.
pub struct BrokerProcess {
    child: Child,
    /// `HOST:PORT` that it serves.
    pub address: String,
}

/// Starts `millstream broker`; returns when it serves.
pub fn broker_process(data: &Path, listen: &str) -> BrokerProcess {
    build_programs();
    let mut command = Command::new(release_folder().join("millstream"));
    command.args(["broker", "--listen", listen, "--data"]).arg(data).env("NO_COLOR", "1").env_remove("MILLSTREAM_LOG");
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the broker starts");
    let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
    let mut said = Vec::new();
    let address = loop {
        let Some(Ok(line)) = lines.next() else { panic!("the broker ended: {said:?}") };
        if let Some(rest) = line.strip_prefix("millstream broker serves ") {
            break rest.split(' ').next().unwrap_or_default().to_owned();
        }
        said.push(line);
    };
    // It is never kept from saying something.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("broker: {line}")));
    BrokerProcess { child, address }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        // Both fail when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where cargo puts programs: target/release/deps/this-test -> target/release.
fn release_folder() -> PathBuf {
    let this = std::env::current_exe().expect("a test has a path");
    this.ancestors().nth(2).expect("a test lies in target/release/deps").to_owned()
}

/// Runs an example to its end.
pub fn run<A: AsRef<OsStr>>(name: &str, arguments: impl IntoIterator<Item = A>) -> Output {
    example(name).args(arguments).output().expect("the example starts")
}

/// As [`run`], for a run that must succeed; its stdout.
pub fn result_of<A: AsRef<OsStr>>(name: &str, arguments: impl IntoIterator<Item = A>) -> String {
    succeeded(run(name, arguments)).0
}

/// stdout and stderr of a run that must have succeeded.
pub fn succeeded(output: Output) -> (String, String) {
    let errors = String::from_utf8(output.stderr).expect("stderr is UTF-8");
    assert!(output.status.success(), "{}: {errors}", output.status);
    (String::from_utf8(output.stdout).expect("stdout is UTF-8"), errors)
}

/// Runs an example with `input` piped into it.
pub fn run_piped(name: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = example(name);
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example starts");
    child.stdin.take().expect("stdin is piped").write_all(input).expect("the example reads its input");
    child.wait_with_output().expect("the example ends")
}

/// What a script of `tests/reference/` says; `None`, aloud, on a machine without python3.
pub fn reference(script: &str, files: &[&Path]) -> Option<(String, String)> {
    let script = repository("tests/reference").join(script);
    match Command::new("python3").arg(script).args(files).output() {
        Ok(output) => Some(succeeded(output)),
        Err(error) => {
            eprintln!(
                "python3 DOES NOT RUN ({error}): only the count of the test and the recorded digests are compared"
            );
            None
        }
    }
}

/// FNV-1a, to record large results in a line.
pub fn digest(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}

/// Words of files, counted letter by letter: for machines without python3, too.
fn count_words(files: &[&Path]) -> String {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(file).expect("a text");
        let mut word = String::new();
        for letter in text.chars().chain(['\n']) {
            if letter.is_alphanumeric() {
                word.push(letter);
            } else if !word.is_empty() {
                *counts.entry(word.to_lowercase()).or_default() += 1;
                word.clear();
            }
        }
    }
    let mut sorted: Vec<(String, u64)> = counts.into_iter().collect();
    // Words of one count stay in their order.
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    sorted.into_iter().map(|(word, count)| format!("{word}\t{count}\n")).collect()
}

/// Clicks per minute and page, as `click_analytics.py` counts them.
fn count_clicks(files: &[&Path]) -> String {
    let mut counts: BTreeMap<(u64, String), u64> = BTreeMap::new();
    let mut latest = 0;
    for file in files {
        for line in std::fs::read(file).expect("clicks").split(|byte| *byte == b'\n') {
            let Ok(click) = serde_json::from_slice::<serde_json::Value>(line) else { continue };
            let (Some(page), Some(_), Some(ts)) =
                (click["page"].as_str(), click["user"].as_str(), click["ts"].as_u64())
            else {
                continue;
            };
            latest = latest.max(ts);
            let start = ts / 60_000 * 60_000;
            if start + 60_000 + 30_000 > latest {
                *counts.entry((start, page.to_owned())).or_default() += 1;
            }
        }
    }
    counts.into_iter().map(|((start, page), count)| format!("{start}\t{page}\t{count}\n")).collect()
}

/// Compares a result with what the script says, with the count below, and with the digest recorded from the script.
pub fn assert_as_reference(result: &str, script: &str, files: &[&Path], recorded: &str) -> Option<String> {
    let reference = reference(script, files);
    if let Some((expected, _)) = &reference {
        let differs = result.lines().zip(expected.lines()).find(|(ours, theirs)| ours != theirs);
        assert_eq!(differs, None, "first difference to {script}");
        assert_eq!(result.lines().count(), expected.lines().count(), "lines, compared with {script}");
        assert_eq!(digest(expected), recorded, "the digest recorded of {script} is out of date");
    }
    let counted = match script {
        "word_count.py" => count_words(files),
        _ => count_clicks(files),
    };
    let differs = result.lines().zip(counted.lines()).find(|(ours, theirs)| ours != theirs);
    assert_eq!(differs, None, "first difference to the count of the test");
    assert_eq!(result.len(), counted.len(), "compared with the count of the test");
    assert_eq!(digest(result), recorded);
    reference.map(|(_, errors)| errors)
}
