//! Asks Millstream what Kafka Streams 4.3.1 was asked in its test driver, and compares the answers byte for byte: outputs, changelogs and
//! repartition topics with partitions, timestamps and headers, reads of stores, `describe()`, errors.
//!
//! A scenario is a topology, actions, and what the JVM did at each ([`files`] reads them). `build` makes the topology with the public DSL,
//! `drive` performs the actions, once with the default cache and once without. What a scenario says and this program does not know is a
//! failure, never skipped.

#![allow(
    clippy::unwrap_used,
    reason = "a scenario that is not as it should be fails where it is unwrapped, and is counted as failed"
)]
#![allow(clippy::type_complexity, reason = "what a scenario's words stand for are functions of functions")]

mod build;
mod drive;
mod failure;
pub mod files;
mod functions;
mod processors;
pub mod report;
mod value;
mod versioned;
mod vocabulary;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::Value as Json;

/// A scenario uses something that this program cannot express.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

/// How strictly to compare.
#[derive(Clone, Copy, Debug, Default)]
pub struct Strictness {
    /// `describe()` byte for byte, in the order of the JVM's hash tables.
    pub describe: bool,
    /// The order of records over all topics, too.
    pub order: bool,
}

/// The first difference of a run, as text.
pub(crate) type Difference = String;

/// A scenario that did not come out as recorded.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Name of the scenario.
    pub name: String,
    /// The run, and its first difference.
    pub difference: String,
}

/// How a set of scenarios came out.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Scenarios that came out as recorded, in both runs.
    pub passed: usize,
    /// The others, in the order of the scenarios.
    pub failures: Vec<Failure>,
}

/// Runs one scenario, with the default cache and without one; `Some` is what differed first.
///
/// ```
/// let scenario = serde_json::json!({
///     "name": "copy", "inputs": { "in": { "k": "string", "v": "string" } },
///     "topology": [
///         { "id": "a", "op": "stream", "k": "string", "v": "string", "topics": ["in"] },
///         { "id": "b", "op": "stream.to", "from": "a", "k": "string", "v": "string", "topic": "out" }
///     ],
///     "driver": [{ "do": "pipe", "topic": "in", "key": "k", "value": "v", "ts": 1 }],
///     "expect": { "stores": [], "steps": [{ "out": [{ "t": "out", "k": "6b", "v": "76", "ts": 1 }] }] }
/// });
/// assert_eq!(conformance::check(&scenario, conformance::Strictness::default()), None);
/// ```
pub fn check(scenario: &Json, strictness: Strictness) -> Option<String> {
    let checked = catch_unwind(AssertUnwindSafe(|| runs(scenario, strictness)));
    match checked {
        Ok(Ok(difference)) => difference,
        Ok(Err(Skip(what))) => Some(format!("this scenario cannot be expressed: {what}")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Some(format!("panicked: {}", text.unwrap_or("without a message")))
        }
    }
}

fn runs(scenario: &Json, strictness: Strictness) -> Result<Option<Difference>, Skip> {
    vocabulary::check(scenario)?;
    let expect = &scenario["expect"];
    if !expect.is_object() {
        return Err(Skip("it has no expectations".to_owned()));
    }
    if let Some(difference) = drive::run(scenario, expect, None, strictness)? {
        return Ok(Some(format!("with cache: {difference}")));
    }
    if !scenario["config"]["statestore.cache.max.bytes"].is_null() {
        return Ok(None);
    }
    let uncached = &scenario["expect_cache0"];
    let uncached = if uncached.is_null() { expect } else { uncached };
    let difference = drive::run(scenario, uncached, Some(0), strictness)?;
    Ok(difference.map(|difference| format!("without cache: {difference}")))
}

/// Runs all `scenarios`, on all cores.
pub fn check_all(scenarios: &[Json], strictness: Strictness) -> Outcome {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(scenarios.len())));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let name = scenario["name"].as_str().unwrap_or("(without name)").to_owned();
                    let difference = check(scenario, strictness);
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results.push((name, difference));
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let total = results.len();
    let mut failures: Vec<Failure> = results
        .into_iter()
        .filter_map(|(name, difference)| difference.map(|difference| Failure { name, difference }))
        .collect();
    failures.sort_by(|one, other| one.name.cmp(&other.name));
    Outcome { passed: total - failures.len(), failures }
}
