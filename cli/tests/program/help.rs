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

#[test]
fn help_of_dump_log() {
    insta::assert_snapshot!(help(&["dump-log"]));
}

#[test]
fn help_of_topics() {
    let all: Vec<String> =
        [&["topics"][..], &["topics", "list"], &["topics", "create"], &["topics", "describe"], &["topics", "delete"]]
            .iter()
            .map(|command| help(command))
            .collect();
    insta::assert_snapshot!(all.join("\n---\n"));
}

#[test]
fn help_of_groups() {
    let all: Vec<String> =
        [&["groups"][..], &["groups", "list"], &["groups", "describe"]].iter().map(|command| help(command)).collect();
    insta::assert_snapshot!(all.join("\n---\n"));
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
