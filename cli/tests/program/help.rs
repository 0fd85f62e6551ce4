//! Help that teaches: what each command is for, its options, and examples that can be copied.

use super::support::succeeds;

fn help(command: &[&str]) -> String {
    let long = succeeds(&[command, &["--help"]].concat());
    // Wide enough for any terminal, and no line ends in blanks.
    for line in long.lines() {
        assert!(line.chars().count() <= 120, "{line}");
        assert_eq!(line.trim_end(), line);
    }
    long
}

#[test]
fn help_says_what_there_is() {
    insta::assert_snapshot!(help(&[]));
}

#[test]
fn help_of_broker() {
    insta::assert_snapshot!(help(&["broker"]));
}

/// The help of a command and of all that are below it.
fn helps(command: &str, below: &[&str]) -> String {
    let own = help(&[command]);
    let others = below.iter().map(|below| help(&[command, below]));
    [own].into_iter().chain(others).collect::<Vec<String>>().join("\n---\n")
}

#[test]
fn help_of_dump_log() {
    insta::assert_snapshot!(help(&["dump-log"]));
}

#[test]
fn help_of_topics() {
    insta::assert_snapshot!(helps("topics", &["list", "create", "describe", "alter", "delete"]));
}

#[test]
fn help_of_produce() {
    insta::assert_snapshot!(help(&["produce"]));
}

#[test]
fn help_of_consume() {
    insta::assert_snapshot!(help(&["consume"]));
}

#[test]
fn help_of_groups() {
    insta::assert_snapshot!(helps("groups", &["list", "describe", "reset-offsets", "delete", "delete-offsets"]));
}

#[test]
fn help_of_configs() {
    insta::assert_snapshot!(helps("configs", &["describe", "alter"]));
}

#[test]
fn help_of_transactions() {
    let below = ["list", "describe", "describe-producers", "find-hanging", "abort"];
    insta::assert_snapshot!(helps("transactions", &below));
}

#[test]
fn help_of_offsets_and_delete_records() {
    insta::assert_snapshot!([help(&["offsets"]), help(&["delete-records"])].join("\n---\n"));
}

#[test]
fn help_of_perf() {
    insta::assert_snapshot!(helps("perf", &["produce", "consume", "end-to-end", "latency"]));
}

#[test]
fn completions_are_made_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = succeeds(&["completions", shell]);
        for word in ["reset-offsets", "find-hanging", "delete-records"] {
            assert!(script.contains(word), "{word} for {shell}");
        }
    }
}

#[test]
fn help_of_topology() {
    let all: Vec<String> =
        [&["topology"][..], &["topology", "draw"], &["topology", "diff"]].iter().map(|command| help(command)).collect();
    insta::assert_snapshot!(all.join("\n---\n"));
}

#[test]
fn the_version_is_one_line() {
    assert_eq!(succeeds(&["--version"]), format!("millstream {}\n", env!("CARGO_PKG_VERSION")));
}
