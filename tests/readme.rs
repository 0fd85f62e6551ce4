//! What the README shows is what runs: its smallest program is `examples/smallest.rs`, one file of at most 25 lines that needs one dependency.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::{repository, run_piped, succeeded};

#[test]
fn smallest_program_of_the_readme_is_the_example() {
    let readme = std::fs::read_to_string(repository("README.md")).unwrap();
    let example = std::fs::read_to_string(repository("examples/smallest.rs")).unwrap();
    let shown = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(shown, example);
    assert!(example.lines().count() <= 25);
    let uses: Vec<&str> = example.lines().filter(|line| line.starts_with("use ")).collect();
    assert_eq!(uses, ["use millstream::prelude::*;"]);
}

#[test]
fn smallest_program_counts() {
    let (counts, _) = succeeded(run_piped("smallest", &[], b"to be or\nnot to be\n"));
    let mut last: Vec<&str> = counts.lines().filter(|line| line.ends_with(" 2")).collect();
    last.sort_unstable();
    assert_eq!(last, ["be 2", "to 2"], "{counts}");
}

#[test]
fn links_of_the_readme_lead_somewhere() {
    let readme = std::fs::read_to_string(repository("README.md")).unwrap();
    for target in readme.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(target.starts_with("http") || repository(target).exists(), "README links to {target}");
    }
}
