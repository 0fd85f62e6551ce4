//! Runs the binary: to its end, or as a broker that serves until it is told to stop.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use base::{Clock, SystemClock};
use client::{Admin, Client, ClientConfig};
use tempfile::TempDir;

pub const BINARY: &str = env!("CARGO_BIN_EXE_millstream");

/// Longer than anything takes that comes at all.
const PATIENCE_MS: i64 = 60_000;

/// A command with nothing of the surroundings that changes what it says.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).env_remove("MILLSTREAM_LOG").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// What a command that ended has said.
pub struct Said {
    pub stdout: String,
    pub stderr: String,
    pub code: Option<i32>,
}

/// Runs to the end.
pub fn run(arguments: &[&str]) -> Said {
    ended(&mut command(arguments))
}

pub fn ended(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    Said {
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code(),
    }
}

/// Runs to the end with `input` on its stdin.
pub fn run_with(arguments: &[&str], input: &str) -> Said {
    let mut command = command(arguments);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // It may end before it has read all: what it says then is what matters.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Said {
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code(),
    }
}

/// Runs to the end, where it must succeed; its stdout.
pub fn succeeds(arguments: &[&str]) -> String {
    let said = run(arguments);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    said.stdout
}

/// Runs to the end, where it must fail with nothing on stdout and one to three lines on stderr: the command, these lines and the
/// exit code, with every `secret` that changes from run to run replaced by its name.
pub fn refusal(arguments: &[&str], secrets: &[(&str, &str)]) -> String {
    shown(arguments, &run(arguments), secrets)
}

/// As [`refusal`], of each command line.
pub fn refusals(lines: &[&[&str]], secrets: &[(&str, &str)]) -> String {
    lines.iter().map(|arguments| refusal(arguments, secrets)).collect()
}

/// As [`refusal`], of a command that was run already.
pub fn shown(arguments: &[&str], said: &Said, secrets: &[(&str, &str)]) -> String {
    assert_eq!(said.stdout, "", "{}", said.stderr);
    assert!((1..=3).contains(&said.stderr.lines().count()), "{}", said.stderr);
    let line =
        format!("$ {}\n{}exit {}\n", [&["millstream"], arguments].concat().join(" "), said.stderr, said.code.unwrap());
    secrets.iter().fold(line, |line, (secret, name)| line.replace(secret, name))
}

/// A new directory for data, gone when dropped.
pub fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A broker in a process of its own; killed when dropped.
pub struct BrokerProcess {
    child: Child,
    stderr: BufReader<ChildStderr>,
    /// What it said until it served.
    pub said: String,
    /// `HOST:PORT` that it serves.
    pub address: String,
}

impl BrokerProcess {
    /// On any free port.
    pub fn start(data: &Path, settings: &[&str]) -> Self {
        Self::start_on("127.0.0.1:0", data, settings)
    }

    /// Returns when it serves.
    pub fn start_on(listen: &str, data: &Path, settings: &[&str]) -> Self {
        let settings = settings.iter().flat_map(|setting| ["--set", setting]);
        let arguments: Vec<&str> = ["--listen", listen, "--data", text(data)].into_iter().chain(settings).collect();
        Self::start_with(&arguments)
    }

    /// With these arguments; returns when it serves.
    #[expect(clippy::zombie_processes, reason = "one that does not serve has ended, and the test with it")]
    pub fn start_with(arguments: &[&str]) -> Self {
        let mut command = command(&[&["broker"], arguments].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        loop {
            let begin = said.len();
            let read = stderr.read_line(&mut said).unwrap();
            assert!(read > 0, "the broker ended: {said}");
            if let Some(rest) = said[begin..].strip_prefix("millstream broker serves ") {
                let address = rest.split_whitespace().next().unwrap().to_owned();
                return Self { child, stderr, said, address };
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: i32) {
        let pid = libc::pid_t::try_from(self.child.id()).unwrap();
        // SAFETY: the child is not waited for yet, so the pid is its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Waits for its end; what else it said, and how it ended.
    pub fn end(mut self) -> (String, ExitStatus) {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        (rest, self.child.wait().unwrap())
    }

    /// Tells it to stop, which it must do without a word.
    pub fn stop(self) {
        self.signal(libc::SIGTERM);
        let (said, status) = self.end();
        assert!(status.success() && said.is_empty(), "{status}: {said}");
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// A command on this broker, which must succeed; its stdout.
    pub fn ask(&self, arguments: &[&str]) -> String {
        succeeds(&[arguments, &["--bootstrap", &self.address]].concat())
    }

    /// As [`BrokerProcess::ask`], with `input` on its stdin.
    pub fn tell(&self, arguments: &[&str], input: &str) -> String {
        let said = run_with(&[arguments, &["--bootstrap", &self.address]].concat(), input);
        assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        said.stdout
    }

    /// Commands on this broker, all of which must be refused; as [`refusals`].
    pub fn refuses(&self, lines: &[&[&str]]) -> String {
        let ask = |line: &&[&str]| {
            let arguments = [line, &["--bootstrap", self.address.as_str()][..]].concat();
            refusal(&arguments, &[(&format!(" --bootstrap {}", self.address), ""), (&self.address, "ADDRESS")])
        };
        lines.iter().map(ask).collect()
    }

    pub fn client(&self) -> Client {
        client(&self.address)
    }

    pub fn admin(&self) -> Admin {
        Admin::new(self.client())
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        // Both fail when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until there is `what`, which may take a busy machine a while.
pub fn awaited<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let clock = SystemClock::new();
    let give_up = clock.now().ticks_ms + PATIENCE_MS;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(clock.now().ticks_ms < give_up, "no {what} within {PATIENCE_MS} ms");
    }
}

pub fn client(address: &str) -> Client {
    let config = ClientConfig::default().reconnect_backoff_max_ms(50).retry_backoff_max_ms(100);
    Client::connect(address, config).unwrap()
}

/// Every file below `directory` with its content.
pub fn content(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                found.push((path, bytes));
            }
        }
    }
    found.sort();
    found
}
