//! `cargo run --release -p xtask -- parity`: writes `docs/parity.md`, which says of every public class and member of Kafka Streams 4.3.1
//! what stands for it here.
//!
//! Joins the list of the Java API (`data/api-surface.tsv.gz`) with the rules of `data/parity.tsv`. A row without a rule, a rule without a
//! row, and a rule that names an item which the sources do not define are errors.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};

mod items;
mod rules;

use rules::{Answer, Rules};

/// Where the table is, from the root of the workspace.
pub const TABLE: &str = "docs/parity.md";
const SURFACE: &[u8] = include_bytes!("../data/api-surface.tsv.gz");
const RULES: &str = include_str!("../data/parity.tsv");

/// One class or member of the Java API.
struct Row {
    /// Without what all have in common.
    package: String,
    class: String,
    /// Its name as rules call it: `class`, `new` of a constructor, or the name of a field or method.
    member: String,
    /// Types of the arguments of a method or constructor.
    arguments: Option<String>,
    is_deprecated: bool,
}

fn surface() -> Result<Vec<Row>> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(SURFACE).read_to_string(&mut text).context("unpacking the list of the Java API")?;
    text.lines().skip(1).map(row).collect()
}

fn row(line: &str) -> Result<Row> {
    let columns: Vec<&str> = line.split('\t').collect();
    let [package, class, signature, deprecated, kind] = columns[..] else {
        bail!("a line of the Java API has not five columns: {line}");
    };
    let package = package.trim_start_matches("org.apache.kafka.streams").trim_start_matches('.');
    // Generic arguments hold no brackets, so that the first one begins the arguments.
    let (before, after) = signature.split_once('(').map_or((signature, None), |(before, after)| (before, Some(after)));
    let arguments = after.and_then(|after| after.rsplit_once(')')).map(|(arguments, _)| arguments.to_owned());
    let last = before.split(' ').next_back().unwrap_or_default();
    let (member, arguments) = match kind {
        "class" => ("class".to_owned(), None),
        "constructor" => ("new".to_owned(), arguments),
        "method" | "field" => (last.to_owned(), arguments),
        other => bail!("{other} is no kind of row: {line}"),
    };
    Ok(Row {
        package: package.to_owned(),
        class: class.to_owned(),
        member,
        arguments,
        is_deprecated: deprecated == "y",
    })
}

/// The table, or every reason that there is none.
pub fn table(root: &Path) -> Result<String> {
    let rows = surface()?;
    let items = items::defined(root)?;
    let rules = Rules::parse(RULES)?;
    let mut problems = rules.check(&items);
    let mut used = vec![false; rules.len()];
    let mut answers: Vec<&Answer> = Vec::with_capacity(rows.len());
    for row in &rows {
        match rules.find(&row.package, &row.class, &row.member, row.arguments.as_deref()) {
            Some((index, answer)) => {
                used[index] = true;
                answers.push(answer);
            }
            None => problems.push(format!(
                "{}.{}.{}({}) has no rule",
                row.package,
                row.class,
                row.member,
                row.arguments.as_deref().unwrap_or_default()
            )),
        }
    }
    problems.extend(used.iter().enumerate().filter(|(_, used)| !**used).map(|(index, _)| rules.unused(index)));
    if !problems.is_empty() {
        bail!("{} problems with xtask/data/parity.tsv:\n{}", problems.len(), problems.join("\n"));
    }
    Ok(write(&rows, &answers))
}

/// Writes the table.
pub fn run(root: &Path) -> Result<()> {
    let text = table(root)?;
    std::fs::write(root.join(TABLE), text).with_context(|| format!("writing {TABLE}"))
}

const HEAD: &str = "# Kafka Streams' API and this one

Every public class and member of Kafka Streams 4.3.1 (`streams`, `test-utils`) and what stands for it here. Written by
`cargo run --release -p xtask -- parity` from `xtask/data/parity.tsv`, which also checks that each item named here is defined; change the rules, not
this file.

Paths leave out modules: `streams_dsl::KStream::filter` is the method `filter` of `KStream` in the crate `streams_dsl`, which the crate `millstream` re-exports.
The number behind a name is how many overloads share the answer. ~~Struck~~ ones are deprecated in 4.3.1. Later: interactive queries over the network and
rebalancing with standby tasks, and what needs them.

";

fn write(rows: &[Row], answers: &[&Answer]) -> String {
    let mut text = String::from(HEAD);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer.verdict()).or_default() += 1;
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "| answer | classes and members |\n|---|---|");
    for (verdict, count) in &counts {
        let _ = writeln!(text, "| {verdict} | {count} |");
    }
    let _ = writeln!(text, "| in all | {} |", rows.len());
    write_open(answers, &mut text);
    let mut index = 0;
    let mut package = None;
    while index < rows.len() {
        let row = &rows[index];
        let end = rows[index..].iter().position(|other| (&other.package, &other.class) != (&row.package, &row.class));
        let end = end.map_or(rows.len(), |length| index + length);
        if package != Some(&row.package) {
            let name = if row.package.is_empty() { "streams" } else { &row.package };
            let _ = writeln!(text, "\n## {name}");
            package = Some(&row.package);
        }
        write_class(&rows[index..end], &answers[index..end], &mut text);
        index = end;
    }
    text
}

/// A row of the table: members of a class that have one answer.
struct Entry<'a> {
    answer: &'a Answer,
    /// Name, overloads, whether all are deprecated.
    members: Vec<(&'a str, usize, bool)>,
}

fn write_class(rows: &[Row], answers: &[&Answer], text: &mut String) {
    let _ = writeln!(text, "\n### {}\n\n| Java | here |\n|---|---|", rows[0].class);
    // Where all have one answer that is no item, the class says it.
    let is_one = answers.iter().all(|answer| *answer == answers[0]) && !answers[0].is_item();
    if is_one && rows.len() > 1 {
        let _ = writeln!(text, "| all {} | {} |", rows.len(), answers[0]);
        return;
    }
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for (row, answer) in rows.iter().zip(answers) {
        let member = row.member.as_str();
        // Members without an item share a row for each reason.
        let fits = |entry: &Entry<'_>| {
            entry.answer == *answer && (!answer.is_item() || entry.members.iter().any(|(known, ..)| *known == member))
        };
        let entry = match entries.iter().position(fits) {
            Some(index) => &mut entries[index],
            None => {
                entries.push(Entry { answer, members: Vec::new() });
                let last = entries.len() - 1;
                &mut entries[last]
            }
        };
        match entry.members.iter_mut().find(|(known, ..)| *known == member) {
            Some((_, count, is_deprecated)) => {
                *count += 1;
                *is_deprecated &= row.is_deprecated;
            }
            None => entry.members.push((member, 1, row.is_deprecated)),
        }
    }
    for Entry { answer, members } in entries {
        let names: Vec<String> = members.into_iter().map(show).collect();
        let _ = writeln!(text, "| {} | {answer} |", names.join(", "));
    }
}

fn show((member, count, is_deprecated): (&str, usize, bool)) -> String {
    let name = match member {
        "class" => "the class",
        "new" => "constructor",
        other => other,
    };
    let overloads = if count > 1 { format!(" ({count})") } else { String::new() };
    if is_deprecated { format!("~~{name}~~{overloads}") } else { format!("{name}{overloads}") }
}

/// What is open, by reason.
fn write_open(answers: &[&Answer], text: &mut String) {
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    for answer in answers {
        if let Answer::NotYet(what) = answer {
            *open.entry(what).or_default() += 1;
        }
    }
    if !open.is_empty() {
        let _ = writeln!(text, "\n| not yet | classes and members |\n|---|---|");
        for (what, count) in open {
            let _ = writeln!(text, "| {what} | {count} |");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_what_the_rules_make() {
        let root = crate::root();
        let text = table(root).expect("every row has a rule, and every item is defined");
        let written = std::fs::read_to_string(root.join(TABLE)).expect("the table can be read");
        assert!(text == written, "{TABLE} is out of date: run `cargo run --release -p xtask -- parity`");
    }

    #[test]
    fn members_are_read_from_signatures() {
        let row = row("org.apache.kafka.streams.kstream\tKStream\tpublic abstract <K extends Object> Map<K, V> map(A<? super K>, B)\tn\tmethod").unwrap();
        assert_eq!((row.package.as_str(), row.member.as_str()), ("kstream", "map"));
        assert_eq!(row.arguments.as_deref(), Some("A<? super K>, B"));
    }
}
