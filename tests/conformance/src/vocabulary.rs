//! The fields that scenarios may have: one that is not known here would be passed over in silence.

use serde_json::Value as Json;

use crate::Skip;

const SCENARIO: &[&str] = &[
    "config",
    "covers",
    "doc",
    "driver",
    "expect",
    "expect_cache0",
    "format",
    "inputs",
    "name",
    "topology",
    "wall_start",
];
const STEP: &[&str] = &[
    "adder",
    "agg",
    "branch",
    "branches",
    "buffer",
    "def",
    "default",
    "emit",
    "fk",
    "fk_with_key",
    "fn",
    "from",
    "grace",
    "id",
    "init",
    "join_stores",
    "joiner",
    "k",
    "key_fn",
    "label",
    "mat",
    "merger",
    "name",
    "op",
    "other_partitioner",
    "parents",
    "partitioner",
    "partitions",
    "pattern",
    "pred",
    "proc",
    "processor",
    "processors",
    "reducer",
    "reset",
    "source",
    "store_name",
    "stores",
    "subtractor",
    "supplies",
    "topic",
    "topic_fn",
    "topics",
    "ts_extractor",
    "until",
    "v",
    "value_fn",
    "wait_ms",
    "windows",
    "with",
    "with_key",
];
const ACTION: &[&str] = &[
    "as_of",
    "do",
    "from",
    "from_key",
    "headers",
    "k",
    "key",
    "key_hex",
    "ms",
    "reverse",
    "store",
    "time",
    "to",
    "to_key",
    "topic",
    "ts",
    "v",
    "value",
    "value_hex",
];
/// Of the objects within a step.
const WITHIN: &[(&str, &[&str])] = &[
    ("mat", &["caching", "history_ms", "logging", "max", "name", "retention_ms", "segment_ms", "size_ms", "type"]),
    (
        "def",
        &[
            "backing",
            "caching",
            "duplicates",
            "history_ms",
            "k",
            "logging",
            "max",
            "name",
            "retention_ms",
            "segment_ms",
            "size_ms",
            "type",
            "v",
        ],
    ),
    ("windows", &["advance", "after", "before", "diff", "gap", "grace", "size", "start", "type"]),
    ("buffer", &["full", "logging", "max_bytes", "max_records"]),
    ("join_stores", &["left", "logging", "right", "type"]),
];
// How closing went after an error (`close_error`) is information only.
const EXPECT: &[&str] =
    &["branch_keys", "build_error", "close_error", "describe", "queryable", "steps", "stores", "unordered"];
const EXPECT_STEP: &[&str] = &["calls", "error", "out", "read"];

fn check_fields(what: &str, object: &Json, known: &[&str]) -> Result<(), Skip> {
    let unknown = object.as_object().into_iter().flatten().find(|(field, _)| !known.contains(&field.as_str()));
    unknown.map_or(Ok(()), |(field, _)| Err(Skip(format!("unknown field {field} of {what}"))))
}

/// Refuses a scenario with fields that are not known.
pub(crate) fn check(scenario: &Json) -> Result<(), Skip> {
    check_fields("the scenario", scenario, SCENARIO)?;
    let list = |object: &Json, field: &str| object[field].as_array().cloned().unwrap_or_default();
    for step in list(scenario, "topology") {
        let what = format!("step {} ({})", step["id"], step["op"]);
        check_fields(&what, &step, STEP)?;
        for (field, known) in WITHIN {
            check_fields(&format!("{field} of {what}"), &step[field], known)?;
        }
    }
    for action in list(scenario, "driver") {
        check_fields(&format!("action {}", action["do"]), &action, ACTION)?;
    }
    for expect in ["expect", "expect_cache0"] {
        check_fields(expect, &scenario[expect], EXPECT)?;
        for step in list(&scenario[expect], "steps") {
            check_fields(&format!("{expect} of an action"), &step, EXPECT_STEP)?;
        }
    }
    Ok(())
}
