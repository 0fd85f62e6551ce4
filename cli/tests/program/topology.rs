//! `millstream topology`.

use std::io::Write;
use std::process::Stdio;

use super::support::{Said, command, directory, refusals, run, succeeds, text};

const COUNT: &str = "Topologies:
   Sub-topology: 0
    Source: lines (topics: [text])
      --> count
    Processor: count (stores: [counts])
      --> none
      <-- lines

";

/// Runs with `input` piped in.
fn piped(arguments: &[&str], input: &str) -> Said {
    let mut child =
        command(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Said {
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code(),
    }
}

#[test]
fn draw_makes_a_picture_in_each_format() {
    let folder = directory();
    let file = folder.path().join("topology.txt");
    std::fs::write(&file, COUNT).unwrap();
    let drawn = |format| succeeds(&["topology", "draw", text(&file), "--format", format]);
    insta::assert_snapshot!(drawn("mermaid").lines().take(8).collect::<Vec<_>>().join("\n"), @r#"
    flowchart TD
      topic0[/"text"/]:::topic
      subgraph sub0["Sub-topology 0"]
        node0(["lines"]):::source
        node1["count"]:::processor
        store0[("counts")]:::store
        node0 --> node1
        node1 -.- store0
    "#);
    assert!(drawn("dot").starts_with("digraph topology {"));
    assert!(drawn("svg").starts_with("<svg"));
    assert!(drawn("html").starts_with("<!DOCTYPE html>"));
    let said = piped(&["topology", "draw", "-", "--format", "svg"], COUNT);
    assert_eq!((said.stdout, said.code), (drawn("svg"), Some(0)));
}

#[test]
fn what_is_no_description_is_refused() {
    let folder = directory();
    let file = folder.path().join("topology.txt");
    std::fs::write(&file, "Topologies:\n   Sub-topology: 0\n    Sauce: lines\n").unwrap();
    let said = refusals(
        &[
            &["topology", "draw", text(&file), "--format", "svg"],
            &["topology", "draw", "/dev/null", "--format", "svg"],
            &["topology", "draw", "/nowhere/at/all", "--format", "svg"],
            &["topology", "draw", text(&file)],
            &["topology", "draw", text(&file), "--format", "png"],
        ],
        &[(text(&file), "FILE")],
    );
    insta::assert_snapshot!(said);
}

#[test]
fn diff_fails_where_state_would_be_lost_and_says_what_keeps_it() {
    let folder = directory();
    let (old, new) = (folder.path().join("old.txt"), folder.path().join("new.txt"));
    std::fs::write(&old, COUNT).unwrap();
    std::fs::write(&new, COUNT.replace("counts", "counted")).unwrap();
    assert_eq!(succeeds(&["topology", "diff", text(&old), text(&old)]), "same      store counts\n");
    let said = run(&["topology", "diff", text(&old), text(&new)]);
    assert_eq!(said.code, Some(1));
    insta::assert_snapshot!(said.stdout + &said.stderr, @r#"
    renamed   store counts -> counted
              give the operator the store name counts: Materialized::named("counts")
    millstream: 1 of 1 would lose what they keep
      stdout names them and what keeps each; or start from nothing under another application.id
    "#);
    let said = run(&["topology", "diff", text(&old), text(&new), "--json"]);
    assert_eq!(said.code, Some(1));
    insta::assert_snapshot!(said.stdout, @r#"
    {
      "loses_state": true,
      "changes": [
        {
          "kind": "store",
          "name": "counts",
          "fate": "renamed",
          "to": "counted",
          "is_taken_over": false,
          "remedy": "give the operator the store name counts: Materialized::named(\"counts\")"
        }
      ]
    }
    "#);
    // The other way round, from stdin.
    let said = piped(&["topology", "diff", "-", text(&new)], &COUNT.replace("counts", "counted"));
    assert_eq!((said.stdout.as_str(), said.code), ("same      store counted\n", Some(0)));
}
