//! The topics that a consumer group wants: by name, and by regular expressions, which the coordinator resolves itself.
//!
//! Expressions are those of RE2 as Kafka takes them (RE2/J), and stand for the topics whose whole name they match. Names of topics are
//! ASCII, so classes of characters are too. As in Kafka an expression is resolved after the heartbeat that brings it has its
//! answer: its topics are assigned with the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::{Now, PartitionId};
use regex::bytes::{Regex, RegexBuilder};
use uuid::Uuid;

use super::group::ConsumerGroup;
use super::records::{ConsumerRecord, MemberMetadata, ResolvedRegex};
use crate::group::environment::Cluster;
use crate::group::metadata_hash::metadata_hash;

/// Memory that one compiled expression may take, in bytes.
const REGEX_SIZE_LIMIT: usize = 1 << 20;

/// What was known of the cluster when the group's topics were last looked up. Not recorded: after a restart it is looked up again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Version of the cluster's topics; `None` before the first time.
    pub(super) version: Option<i64>,
    /// Id and number of partitions of each topic that some member wants and that exists.
    pub(super) topics: BTreeMap<Arc<str>, (Uuid, PartitionId)>,
    /// Version of the cluster's topics, and time in ticks, at which all regular expressions were last resolved.
    resolved_at: Option<(i64, i64)>,
}

/// Compiles a regular expression that is to match whole names.
///
/// # Errors
/// What is wrong with it.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    let whole = format!(r"\A(?:{})\z", unquoted(pattern));
    let build = |unicode: bool| RegexBuilder::new(&whole).unicode(unicode).size_limit(REGEX_SIZE_LIMIT).build();
    // By itself, so that its parentheses cannot close those around it.
    Regex::new(&unquoted(pattern))
        .or_else(|_| RegexBuilder::new(&unquoted(pattern)).unicode(false).build())
        .map_err(reason)?;
    build(false).or_else(|_| build(true)).map_err(reason)
}

/// The last line of the parser's message, which is what is wrong.
fn reason(error: regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// `\Q..\E`, which takes what is inside literally, as Java's `Pattern.quote` writes it.
fn unquoted(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(at) = rest.find(r"\Q") {
        // A backslash before the backslash makes it no quotation.
        let slashes = rest[..at].bytes().rev().take_while(|byte| *byte == b'\\').count();
        if slashes % 2 == 1 {
            out.push_str(&rest[..at + 2]);
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let (literal, after) = rest[at + 2..].split_once(r"\E").unwrap_or((&rest[at + 2..], ""));
        out.push_str(&regex::escape(literal));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The topics whose whole name matches.
fn resolve(pattern: &str, cluster: &dyn Cluster) -> BTreeSet<Arc<str>> {
    match compile(pattern) {
        Ok(regex) => cluster.topic_names().into_iter().filter(|name| regex.is_match(name.as_bytes())).collect(),
        Err(error) => {
            tracing::warn!(
                pattern,
                error,
                "a regular expression of a consumer group cannot be read: it stands for no topic"
            );
            BTreeSet::new()
        }
    }
}

impl ConsumerGroup {
    /// The names of the topics that a member wants.
    pub(super) fn wanted<'a>(&'a self, member: &'a MemberMetadata) -> impl Iterator<Item = &'a Arc<str>> {
        let regex = member.topic_regex.as_ref().and_then(|pattern| self.regexes.get(pattern));
        member.topic_names.iter().chain(regex.into_iter().flat_map(|resolved| &resolved.topics))
    }

    /// The ids of the topics that a member wants, of those that exist.
    pub(super) fn wanted_ids(&self, member: &MemberMetadata) -> BTreeSet<Uuid> {
        self.wanted(member).filter_map(|name| self.known.topics.get(name)).map(|(id, _)| *id).collect()
    }

    /// Looks the group's topics up where something may have changed; whether they are others than before. Most heartbeats
    /// find nothing to do here.
    pub(super) fn look_up(&mut self, cluster: &dyn Cluster, changed: bool) -> bool {
        let version = cluster.topics_version();
        if !changed && self.known.version == Some(version) {
            return false;
        }
        let wanted: BTreeSet<Arc<str>> =
            self.members.values().flat_map(|member| self.wanted(&member.metadata)).cloned().collect();
        let found = wanted.into_iter().filter_map(|name| Some((Arc::clone(&name), cluster.topic(&name)?)));
        self.known.topics = found.collect();
        self.known.version = Some(version);
        self.hash_of_topics() != self.metadata_hash
    }

    /// Resolves the expressions: a new one, if a member has just `brought` one (in place of another: `true`); all of them when
    /// there are other topics or `refresh_ms` have passed. Raises the group's epoch if one stands for other topics than before.
    pub(super) fn resolve_regexes(
        &mut self,
        brought: Option<bool>,
        cluster: &dyn Cluster,
        refresh_ms: i64,
        now: Now,
        records: &mut Vec<ConsumerRecord>,
    ) {
        let version = cluster.topics_version();
        let is_due = self.known.resolved_at.is_none_or(|(at_version, at_ticks_ms)| {
            at_version != version || now.ticks_ms.saturating_sub(at_ticks_ms) >= refresh_ms
        });
        if !is_due && brought.is_none() {
            return;
        }
        let members = self.members.values().filter_map(|member| member.metadata.topic_regex.as_ref());
        let patterns: BTreeSet<Arc<str>> =
            members.filter(|pattern| is_due || !self.regexes.contains_key(*pattern)).cloned().collect();
        if is_due {
            self.known.resolved_at = Some((version, now.ticks_ms));
        }
        // What the member has given up with the expression before must find an owner, also if the new one finds no topic.
        let mut others = brought == Some(true);
        for pattern in patterns {
            let before = self.regexes.get(&pattern);
            let topics = resolve(&pattern, cluster);
            if before.is_some_and(|before| before.topics == topics) {
                continue;
            }
            others |= before.is_some() || !topics.is_empty();
            let value = ResolvedRegex { topics, version, timestamp: now.wall_ms };
            self.push(ConsumerRecord::Regex { pattern, value: Some(value) }, records);
        }
        if others {
            self.look_up(cluster, true);
            self.raise_epoch(records);
        }
    }

    /// Drops the expressions that no member has any more; gives the records that say so.
    pub(super) fn forget_regexes(&mut self) -> Vec<ConsumerRecord> {
        let has = |pattern: &Arc<str>| {
            self.members.values().any(|member| member.metadata.topic_regex.as_ref() == Some(pattern))
        };
        let unused: Vec<Arc<str>> = self.regexes.keys().filter(|pattern| !has(pattern)).cloned().collect();
        let records: Vec<_> =
            unused.into_iter().map(|pattern| ConsumerRecord::Regex { pattern, value: None }).collect();
        records.iter().for_each(|record| self.apply(record));
        records
    }

    /// Hash of the topics that members want; as it was, while they have not been looked up.
    pub(super) fn hash_of_topics(&self) -> i64 {
        if self.known.version.is_none() {
            return self.metadata_hash;
        }
        let wanted: BTreeSet<&Arc<str>> =
            self.members.values().flat_map(|member| self.wanted(&member.metadata)).collect();
        metadata_hash(wanted.into_iter().filter_map(|name| {
            let (id, partitions) = self.known.topics.get(name)?;
            Some((name.as_ref(), *id, *partitions))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        compile(pattern).unwrap().is_match(name.as_bytes())
    }

    #[test]
    fn expressions_match_whole_names() {
        assert!(matches("a-(events|tx)", "a-tx"));
        assert!(!matches("a-(events|tx)", "a-tx2") && !matches("tx", "a-tx"));
        assert!(matches("a|b", "b") && !matches("a|b", "ab"));
        assert!(matches(r"(?i)Orders\d+", "oRDERS12"));
        assert!(matches(r"\Qa.b\E.*", "a.bc") && !matches(r"\Qa.b\E.*", "axbc"));
        assert!(matches(r"\\Q.*", r"\Qx"));
        assert!(matches("[[:alpha:]]+", "abc"));
        assert!(matches(r"it-\w+-.*", "it-x_1-\u{2028}".trim_end_matches('\u{2028}')));
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for pattern in ["[", "a)(b", "*a", "(?<=a)b", r"(a)\1", "a{1000}{1000}"] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
    }
}
