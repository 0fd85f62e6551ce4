//! The rules of `data/parity.tsv`: class, member, answer, separated by tabs; the first that fits a row answers for it.
//!
//! A class is its name, or `package.Class`, and may hold `*`. A member is `class`, `new`, a name, or a name with arguments in brackets,
//! each with `*` where anything may stand; several are separated by `|`. An answer is
//!
//! - items: `crate::Type::member`, several separated by `, `, with a remark behind ` -- `;
//! - `setting:NAME`, a setting of `StreamsConfig`; `setting:*` makes the name from that of the Java constant;
//! - `none: REASON` for what Rust has no need of, `later: WHAT` for what comes with later work, `not yet: WHAT`.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Result, bail};

/// What stands for a class or member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Items by path, and a remark.
    Items(Vec<String>, String),
    /// A setting by name.
    Setting(String),
    /// Not needed: why.
    None(String),
    /// Part of later work: of what.
    Later(String),
    /// Open: what is missing.
    NotYet(String),
}

impl Answer {
    fn parse(text: &str) -> Self {
        for (word, make) in
            [("none: ", Self::None as fn(String) -> Self), ("later: ", Self::Later), ("not yet: ", Self::NotYet)]
        {
            if let Some(reason) = text.strip_prefix(word) {
                return make(reason.to_owned());
            }
        }
        if let Some(name) = text.strip_prefix("setting:") {
            return Self::Setting(name.to_owned());
        }
        let (items, remark) = text.split_once(" -- ").unwrap_or((text, ""));
        Self::Items(items.split(", ").map(str::to_owned).collect(), remark.to_owned())
    }

    /// How it is counted.
    pub fn verdict(&self) -> &'static str {
        match self {
            Self::Items(..) | Self::Setting(_) => "here",
            Self::None(_) => "not needed in Rust",
            Self::Later(_) => "later",
            Self::NotYet(_) => "not yet",
        }
    }

    /// Whether something here stands for it.
    pub fn is_item(&self) -> bool {
        matches!(self, Self::Items(..) | Self::Setting(_))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Items(items, remark) => {
                let list: Vec<String> = items.iter().map(|item| format!("`{item}`")).collect();
                f.write_str(&list.join(", "))?;
                if remark.is_empty() { Ok(()) } else { write!(f, ": {remark}") }
            }
            Self::Setting(name) => write!(f, "setting `{name}`"),
            Self::None(reason) => write!(f, "not needed: {reason}"),
            Self::Later(what) => write!(f, "later: {what}"),
            Self::NotYet(what) => write!(f, "**not yet**: {what}"),
        }
    }
}

struct Rule {
    line: usize,
    class: String,
    members: Vec<String>,
    answer: Answer,
}

/// All rules in order.
pub struct Rules {
    rules: Vec<Rule>,
    /// Answers of `setting:*`, by constant.
    settings: Vec<(String, Answer)>,
}

/// Whether `text` is `pattern`, in which `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => match text.strip_prefix(before) {
            Some(rest) => (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| fits(after, &rest[at..])),
            None => false,
        },
    }
}

/// `REPARTITION_PURGE_INTERVAL_MS_CONFIG` is `repartition.purge.interval.ms`.
fn setting_of(constant: &str) -> String {
    constant.trim_end_matches("_CONFIG").trim_end_matches("_CLASS").to_lowercase().replace('_', ".")
}

impl Rules {
    /// Reads the file; empty lines and those that begin with `#` are passed over.
    pub fn parse(text: &str) -> Result<Self> {
        let mut rules = Vec::new();
        let mut settings = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let columns: Vec<&str> = line.split('\t').collect();
            let [class, members, answer] = columns[..] else {
                bail!("line {} of the rules has not three columns: {line}", index + 1);
            };
            let members: Vec<String> = members.split('|').map(str::to_owned).collect();
            let answer = Answer::parse(answer);
            if answer == Answer::Setting("*".to_owned()) {
                settings.extend(members.iter().map(|name| (name.clone(), Answer::Setting(setting_of(name)))));
            }
            rules.push(Rule { line: index + 1, class: class.to_owned(), members, answer });
        }
        Ok(Self { rules, settings })
    }

    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// The rule for a row, and its answer.
    pub fn find(&self, package: &str, class: &str, member: &str, arguments: Option<&str>) -> Option<(usize, &Answer)> {
        let whole = format!("{package}.{class}");
        let signature = arguments.map(|arguments| format!("{member}({arguments})"));
        let rule = self.rules.iter().position(|rule| {
            (fits(&rule.class, class) || fits(&rule.class, &whole))
                && rule.members.iter().any(|pattern| match &signature {
                    Some(signature) if pattern.contains('(') => fits(pattern, signature),
                    _ => fits(pattern, member),
                })
        })?;
        let answer = match self.settings.iter().find(|(constant, _)| constant == member) {
            Some((_, answer)) if self.rules[rule].answer == Answer::Setting("*".to_owned()) => answer,
            _ => &self.rules[rule].answer,
        };
        Some((rule, answer))
    }

    /// Every item and setting that is not defined.
    pub fn check(&self, items: &BTreeSet<String>) -> Vec<String> {
        let mut problems = Vec::new();
        for rule in &self.rules {
            let missing = |item: &str| format!("line {}: there is no {item}", rule.line);
            match &rule.answer {
                Answer::Items(names, _) => {
                    problems.extend(names.iter().filter(|name| !items.contains(*name)).map(|name| missing(name)));
                }
                Answer::Setting(name) if name != "*" && !items.contains(&format!("setting:{name}")) => {
                    problems.push(missing(&format!("setting {name}")));
                }
                Answer::Setting(_) | Answer::None(_) | Answer::Later(_) | Answer::NotYet(_) => {}
            }
        }
        for (constant, answer) in &self.settings {
            if let Answer::Setting(name) = answer
                && !items.contains(&format!("setting:{name}"))
            {
                problems.push(format!("{constant}: there is no setting {name} that is used"));
            }
        }
        problems
    }

    /// What to say of a rule that no row needs.
    pub fn unused(&self, index: usize) -> String {
        let rule = &self.rules[index];
        format!("line {}: no row is left for {} {}", rule.line, rule.class, rule.members.join("|"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        assert!(fits("a*c", "abbc") && fits("*", "") && fits("a(*B*)", "a(x, B, y)"));
        assert!(!fits("a*c", "abcd") && !fits("a", "ab"));
    }

    #[test]
    fn the_first_rule_that_fits_answers() {
        let rules =
            Rules::parse("*\tequals\tnone: derived\nkstream.A\tget(int)|set\tx::A::get\nA\t*\tlater: all\n").unwrap();
        let answer = |member: &str, arguments| rules.find("kstream", "A", member, arguments).unwrap().1.verdict();
        assert_eq!(answer("equals", Some("Object")), "not needed in Rust");
        assert_eq!(answer("get", Some("int")), "here");
        assert_eq!(answer("get", Some("long")), "later");
        assert_eq!(answer("set", Some("long")), "here");
    }
}
