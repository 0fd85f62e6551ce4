//! Prints how scenarios came out.

use std::fmt::Write as _;

use crate::Outcome;

/// Failing scenarios with their first difference (or names only), and as the last line `N passed, M failed`.
pub fn text(outcome: &Outcome, names_only: bool) -> String {
    let mut text = String::new();
    for failure in &outcome.failures {
        let _ = match names_only {
            true => writeln!(text, "{}", failure.name),
            false => writeln!(text, "{}: {}\n", failure.name, failure.difference),
        };
    }
    let _ = writeln!(text, "{} passed, {} failed", outcome.passed, outcome.failures.len());
    text
}
