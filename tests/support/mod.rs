//! What tests of the example programs share: the programs themselves, and the independent scripts to compare them with.

#![allow(dead_code, reason = "each test uses its part")]

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Once;

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The text that comes with the project.
pub fn shipped_text() -> PathBuf {
    repository("examples/data/jargon-file-4.4.7.txt")
}

/// The program of an example. It is built first: with `cargo test --test NAME` alone nobody else sees to that.
pub fn example(name: &str) -> Command {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--release", "--quiet", "--package", "millstream", "--examples"])
            .current_dir(repository(""))
            .status();
        assert!(built.expect("cargo runs").success(), "the examples do not build");
    });
    // target/release/deps/this-test -> target/release/examples/name
    let this = std::env::current_exe().expect("a test has a path");
    let release = this.ancestors().nth(2).expect("a test lies in target/release/deps");
    let mut command = Command::new(release.join("examples").join(name));
    command.stdin(Stdio::null()).env_remove("MILLSTREAM_LOG");
    command
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
            eprintln!("python3 does not run ({error}): only the recorded digests are compared");
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

/// Compares a result with what the script says and with the digest recorded from it.
pub fn assert_as_reference(result: &str, script: &str, files: &[&Path], recorded: &str) -> Option<String> {
    let reference = reference(script, files);
    if let Some((expected, _)) = &reference {
        let differs = result.lines().zip(expected.lines()).find(|(ours, theirs)| ours != theirs);
        assert_eq!(differs, None, "first difference to {script}");
        assert_eq!(result.lines().count(), expected.lines().count(), "lines, compared with {script}");
        assert_eq!(digest(expected), recorded, "the digest recorded of {script} is out of date");
    }
    assert_eq!(digest(result), recorded);
    reference.map(|(_, errors)| errors)
}
