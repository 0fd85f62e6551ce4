//! Generated names: one counter per builder, ten digits, the prefixes of Kafka Streams. They become topic names, so they are part of
//! what users store.
//!
//! The name of a node uses up a number even where the user gives another, except in `process`; the name of a store or of a repartition topic does not. A
//! repartition's three nodes take three.

pub(crate) const SOURCE: &str = "KSTREAM-SOURCE-";
pub(crate) const SINK: &str = "KSTREAM-SINK-";
pub(crate) const FILTER: &str = "KSTREAM-FILTER-";
pub(crate) const MAP: &str = "KSTREAM-MAP-";
pub(crate) const MAP_VALUES: &str = "KSTREAM-MAPVALUES-";
pub(crate) const FLAT_MAP: &str = "KSTREAM-FLATMAP-";
pub(crate) const FLAT_MAP_VALUES: &str = "KSTREAM-FLATMAPVALUES-";
pub(crate) const KEY_SELECT: &str = "KSTREAM-KEY-SELECT-";
pub(crate) const PEEK: &str = "KSTREAM-PEEK-";
pub(crate) const FOR_EACH: &str = "KSTREAM-FOREACH-";
pub(crate) const MERGE: &str = "KSTREAM-MERGE-";
pub(crate) const BRANCH: &str = "KSTREAM-BRANCH-";
pub(crate) const PROCESSOR: &str = "KSTREAM-PROCESSOR-";
pub(crate) const PROCESS_VALUES: &str = "KSTREAM-PROCESSVALUES-";
pub(crate) const PRINTER: &str = "KSTREAM-PRINTER-";
pub(crate) const COGROUP_AGGREGATE: &str = "COGROUPKSTREAM-AGGREGATE-";
pub(crate) const COGROUP_MERGE: &str = "COGROUPKSTREAM-MERGE-";
pub(crate) const REPARTITION: &str = "KSTREAM-REPARTITION-";
pub(crate) const TO_TABLE: &str = "KSTREAM-TOTABLE-";
pub(crate) const AGGREGATE: &str = "KSTREAM-AGGREGATE-";
pub(crate) const REDUCE: &str = "KSTREAM-REDUCE-";
pub(crate) const JOIN: &str = "KSTREAM-JOIN-";
pub(crate) const WINDOWED: &str = "KSTREAM-WINDOWED-";
pub(crate) const JOIN_THIS: &str = "KSTREAM-JOINTHIS-";
pub(crate) const JOIN_OTHER: &str = "KSTREAM-JOINOTHER-";
pub(crate) const OUTER_THIS: &str = "KSTREAM-OUTERTHIS-";
pub(crate) const OUTER_OTHER: &str = "KSTREAM-OUTEROTHER-";
pub(crate) const OUTER_SHARED: &str = "KSTREAM-OUTERSHARED-";
pub(crate) const LEFT_JOIN: &str = "KSTREAM-LEFTJOIN-";
pub(crate) const TABLE_SOURCE: &str = "KTABLE-SOURCE-";
pub(crate) const TABLE_FILTER: &str = "KTABLE-FILTER-";
pub(crate) const TABLE_MAP_VALUES: &str = "KTABLE-MAPVALUES-";
pub(crate) const TABLE_TRANSFORM_VALUES: &str = "KTABLE-TRANSFORMVALUES-";
pub(crate) const TABLE_SELECT: &str = "KTABLE-SELECT-";
pub(crate) const TABLE_AGGREGATE: &str = "KTABLE-AGGREGATE-";
pub(crate) const TABLE_REDUCE: &str = "KTABLE-REDUCE-";
pub(crate) const TABLE_MERGE: &str = "KTABLE-MERGE-";
pub(crate) const TABLE_JOIN_THIS: &str = "KTABLE-JOINTHIS-";
pub(crate) const TABLE_JOIN_OTHER: &str = "KTABLE-JOINOTHER-";
pub(crate) const SUPPRESS: &str = "KTABLE-SUPPRESS-";
pub(crate) const TO_STREAM: &str = "KTABLE-TOSTREAM-";
pub(crate) const STATE_STORE: &str = "STATE-STORE-";
pub(crate) const REPARTITION_SUFFIX: &str = "-repartition";

/// The counter of one builder.
#[derive(Debug, Default)]
pub(crate) struct Names {
    next: u32,
}

impl Names {
    /// `prefix` and the next number.
    pub(crate) fn next(&mut self, prefix: &str) -> String {
        let number = self.next;
        self.next += 1;
        format!("{prefix}{number:010}")
    }

    /// Whether `name` has been generated here.
    pub(crate) fn has_made(&self, name: &str) -> bool {
        let number = name.rsplit_once('-').and_then(|(_, digits)| digits.parse::<u32>().ok());
        number.is_some_and(|number| number < self.next && name.ends_with(&format!("-{number:010}")))
    }

    /// Leaves out `count` numbers.
    pub(crate) fn skip(&mut self, count: u32) {
        self.next += count;
    }

    /// A generated store name: `prefix`, then `STATE-STORE-` and the next number.
    pub(crate) fn next_store(&mut self, prefix: &str) -> String {
        self.next(&format!("{prefix}{STATE_STORE}"))
    }
}

/// Whether `base` is a generated name, after which a repartition's nodes get numbers instead of the topic's name.
pub(crate) fn is_generated(base: &str) -> bool {
    let Some((head, digits)) = base.rsplit_once('-') else { return false };
    head.starts_with("KSTREAM") && digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_count_from_zero_with_ten_digits() {
        let mut names = Names::default();
        assert_eq!(names.next(SOURCE), "KSTREAM-SOURCE-0000000000");
        assert_eq!(names.next_store(AGGREGATE), "KSTREAM-AGGREGATE-STATE-STORE-0000000001");
        assert_eq!(names.next_store("t-"), "t-STATE-STORE-0000000002");
    }

    #[test]
    fn only_kstream_names_with_ten_digits_count_as_generated() {
        assert!(is_generated("KSTREAM-AGGREGATE-STATE-STORE-0000000002"));
        assert!(!is_generated("counts"));
        assert!(!is_generated("KSTREAM-AGGREGATE-000000002"));
        assert!(!is_generated("COGROUPKSTREAM-AGGREGATE-0000000002x"));
        assert!(!is_generated("COGROUPKSTREAM-AGGREGATE-STATE-STORE-0000000002"));
    }
}
