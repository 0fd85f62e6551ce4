//! Topologies and topics, and what is decided about them.

use protocol::api::streams_group_heartbeat::CopartitionGroup;

use super::*;

fn names(topics: &[&str]) -> Vec<Arc<str>> {
    topics.iter().map(|topic| Arc::from(*topic)).collect()
}

fn info(name: &str, partitions: i32) -> StreamsTopicInfo {
    StreamsTopicInfo { name: name.into(), partitions, ..StreamsTopicInfo::default() }
}

fn subtopology(
    id: &str,
    sources: &[&str],
    sinks: &[&str],
    repartition: &[(&str, i32)],
    changelogs: &[&str],
) -> StreamsSubtopology {
    StreamsSubtopology {
        subtopology_id: id.into(),
        source_topics: names(sources),
        repartition_sink_topics: names(sinks),
        repartition_source_topics: repartition.iter().map(|(name, count)| info(name, *count)).collect(),
        state_changelog_topics: changelogs.iter().map(|name| info(name, 0)).collect(),
        ..StreamsSubtopology::default()
    }
}

fn configured(subtopologies: Vec<StreamsSubtopology>, topics: &[(&str, i32)]) -> Result<Configured, Problem> {
    let partitions = |topic: &str| topics.iter().find(|(name, _)| *name == topic).map(|(_, count)| *count);
    configure(&StreamsTopology { epoch: 0, subtopologies }, &partitions)
}

fn word_count() -> Vec<StreamsSubtopology> {
    vec![subtopology("0", &["in"], &["r"], &[], &[]), subtopology("1", &[], &[], &[("r", 0)], &["c"])]
}

fn missing(configured: &Configured) -> Vec<(&str, i32)> {
    configured.missing.iter().map(|topic| (&*topic.name, topic.partitions)).collect()
}

#[test]
fn internal_topics_take_their_number_of_partitions_from_what_feeds_them() {
    let first = configured(word_count(), &[("in", 3)]).unwrap();
    assert_eq!(missing(&first), [("c", 3), ("r", 3)]);
    let text = "Internal topics are missing: [c, r]".to_owned();
    assert_eq!(first.problem(), Some(Problem::Topics(Status::MissingInternalTopics, text)));
    let tasks: Vec<_> = first.subtopologies.iter().map(|one| (&*one.id, one.tasks, one.is_stateful)).collect();
    assert_eq!(tasks, [("0", 3, false), ("1", 3, true)]);
    let ready = configured(word_count(), &[("in", 3), ("c", 3), ("r", 3)]).unwrap();
    assert_eq!((ready.problem(), missing(&ready)), (None, vec![]));
    // A chain, whose end comes first.
    let chain = vec![
        subtopology("0", &["small"], &[], &[("r2", 0)], &[]),
        subtopology("1", &["wide"], &["r2"], &[("r1", 0)], &[]),
        subtopology("2", &["in"], &["r1"], &[], &[]),
    ];
    let chain = configured(chain, &[("in", 7), ("wide", 4), ("small", 1)]).unwrap();
    assert_eq!(missing(&chain), [("r1", 7), ("r2", 7)]);
}

#[test]
fn a_circle_takes_what_is_known_and_one_without_a_way_in_is_refused() {
    let circle = |sources: &[&str]| {
        vec![subtopology("0", sources, &["a"], &[("b", 0)], &[]), subtopology("1", &[], &["b"], &[("a", 0)], &[])]
    };
    assert_eq!(missing(&configured(circle(&["in"]), &[("in", 5)]).unwrap()), [("a", 5), ("b", 5)]);
    assert!(matches!(configured(circle(&[]), &[]), Err(Problem::Topology(_))));
    let unfed = vec![subtopology("0", &["in"], &[], &[("r", 0)], &[])];
    assert!(matches!(configured(unfed, &[("in", 1)]), Err(Problem::Topology(_))));
    assert!(matches!(configured(vec![subtopology("0", &[], &[], &[], &[])], &[]), Err(Problem::Topology(_))));
}

#[test]
fn missing_sources_and_topics_of_another_width_are_named() {
    let status = |result: Result<Configured, Problem>| match result {
        Err(Problem::Topics(status, text)) => (status, text),
        other => panic!("{other:?}"),
    };
    let (code, text) = status(configured(vec![subtopology("0", &["b", "a"], &[], &[], &[])], &[]));
    assert_eq!((code, &*text), (Status::MissingSourceTopics, "Source topics a, b are missing."));
    let (code, text) = status(configured(word_count(), &[("in", 3), ("c", 2)]));
    assert_eq!(code, Status::IncorrectlyPartitionedTopics);
    assert_eq!(text, "Existing topic c has different number of partitions: expected 3, found 2");
}

#[test]
fn topics_that_are_read_together_get_the_same_number_or_are_refused() {
    let join = |fixed: i32, sources: &[&str]| {
        let mut join = subtopology("1", sources, &[], &[("r", fixed)], &["c"]);
        let source_topics = (0..sources.len() as i16).collect();
        let group =
            CopartitionGroup { source_topics, repartition_source_topics: vec![0], ..CopartitionGroup::default() };
        join.copartition_groups = vec![group];
        vec![subtopology("0", &["in"], &["r"], &[], &[]), join]
    };
    let topics = [("in", 2), ("users", 6), ("more", 4)];
    assert_eq!(missing(&configured(join(0, &["users"]), &topics).unwrap()), [("c", 6), ("r", 6)]);
    assert_eq!(missing(&configured(join(0, &[]), &topics).unwrap()), [("c", 2), ("r", 2)]);
    assert_eq!(missing(&configured(join(6, &["users"]), &topics).unwrap()), [("c", 6), ("r", 6)]);
    for refused in [join(5, &["users"]), join(0, &["users", "more"])] {
        let result = configured(refused, &topics);
        assert!(matches!(result, Err(Problem::Topics(Status::IncorrectlyPartitionedTopics, _))), "{result:?}");
    }
    let mut wrong = join(0, &["users"]);
    wrong[1].copartition_groups[0].source_topics = vec![-1];
    assert!(matches!(configured(wrong, &topics), Err(Problem::Topology(_))));
}

#[test]
fn a_source_topic_that_is_a_changelog_is_not_made() {
    let table = vec![subtopology("0", &["users"], &[], &[], &["users"])];
    let configured = configured(table, &[("users", 4)]).unwrap();
    assert_eq!((missing(&configured), configured.subtopologies[0].is_stateful), (vec![], true));
}
