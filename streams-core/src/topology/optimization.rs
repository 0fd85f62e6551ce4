//! `topology.optimization`: which changes the DSL makes to a topology when it is built.

use crate::error::{ErrorKind, StreamsError};

/// Which optimisations are made. They change names of topics and stores, so they are to be decided upon before an application first runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Optimization {
    /// A table's source topic serves as the changelog of its store: `reuse.ktable.source.topics`.
    pub reuse_source_topics: bool,
    /// Repartitions below one change of keys become one: `merge.repartition.topics`.
    pub merge_repartitions: bool,
    /// A join of a stream with itself keeps one store: `single.store.self.join`.
    pub single_store_self_join: bool,
}

impl Optimization {
    /// All of them.
    pub const ALL: Self = Self { reuse_source_topics: true, merge_repartitions: true, single_store_self_join: true };

    /// From `none`, `all`, or a list of names separated by commas.
    ///
    /// # Errors
    /// A name is not that of an optimisation.
    pub fn parse(text: &str) -> Result<Self, StreamsError> {
        let mut chosen = Self::default();
        for name in text.split(',').map(str::trim) {
            match name {
                "none" | "" if text.trim() == name => {}
                "all" if text.trim() == name => return Ok(Self::ALL),
                "reuse.ktable.source.topics" => chosen.reuse_source_topics = true,
                "merge.repartition.topics" => chosen.merge_repartitions = true,
                "single.store.self.join" => chosen.single_store_self_join = true,
                _ => {
                    let message = format!(
                        "topology.optimization must be none, all, or of reuse.ktable.source.topics, merge.repartition.topics, \
                         single.store.self.join, not {text}"
                    );
                    return Err(StreamsError::new(ErrorKind::Config, message));
                }
            }
        }
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_kafka_streams() {
        assert_eq!(Optimization::parse("none").unwrap(), Optimization::default());
        assert_eq!(Optimization::parse("all").unwrap(), Optimization::ALL);
        let two = Optimization::parse("merge.repartition.topics, reuse.ktable.source.topics").unwrap();
        assert!(two.merge_repartitions && two.reuse_source_topics && !two.single_store_self_join);
        assert!(Optimization::parse("all,none").is_err() && Optimization::parse("some").is_err());
    }
}
