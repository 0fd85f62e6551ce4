//! What becomes of state when a topology changes.

use streams_core::topology::{Fate, TopologyDescription, TopologyDiff, diff};

const GOLDEN: &str = include_str!("../data/topology-golden.txt");

/// A chain of sub-topologies by short words: `in > source node > ... ; ...`. A word `p+s` is a processor p with store s, `[t]` a topic.
fn topology(text: &str) -> TopologyDescription {
    let mut description = String::from("Topologies:\n ");
    for (id, chain) in text.split(';').enumerate() {
        description += &format!("  Sub-topology: {id}\n");
        let words: Vec<&str> = chain.split_whitespace().collect();
        let name = |index: usize| words.get(index).map(|word| word.split('+').next().unwrap().to_owned());
        let is_topic = |index: usize| words.get(index).is_none_or(|word| word.starts_with('['));
        for index in 0..words.len() {
            let Some(node) = name(index).filter(|_| !is_topic(index)) else { continue };
            let next = if is_topic(index + 1) { None } else { name(index + 1) };
            let before = if index == 0 || is_topic(index - 1) { None } else { name(index - 1) };
            let topic = |index: usize| words[index].trim_matches(['[', ']']);
            if index > 0 && is_topic(index - 1) {
                description += &format!("    Source: {node} (topics: [{}])\n", topic(index - 1));
                description += &format!("      --> {}\n", next.unwrap_or("none".to_owned()));
            } else if index + 1 < words.len() && is_topic(index + 1) {
                description +=
                    &format!("    Sink: {node} (topic: {})\n      <-- {}\n", topic(index + 1), before.unwrap());
            } else {
                let store = words[index].split_once('+').map_or("", |(_, store)| store);
                description += &format!("    Processor: {node} (stores: [{store}])\n");
                description += &format!("      --> {}\n", next.unwrap_or("none".to_owned()));
                description += &format!("      <-- {}\n", before.unwrap());
            }
        }
        description += "\n";
    }
    description.parse().unwrap()
}

fn compared(old: &str, new: &str) -> TopologyDiff {
    diff(&topology(old), &topology(new))
}

const COUNT: &str = "[in] KSTREAM-SOURCE-0000000000 KSTREAM-AGGREGATE-0000000002+KSTREAM-AGGREGATE-STATE-STORE-0000000001 KTABLE-TOSTREAM-0000000003 KSTREAM-SINK-0000000004 [out]";

#[test]
fn a_filter_before_an_unnamed_count_renames_its_store() {
    let with_filter = "[in] KSTREAM-SOURCE-0000000000 KSTREAM-FILTER-0000000001 KSTREAM-AGGREGATE-0000000003+KSTREAM-AGGREGATE-STATE-STORE-0000000002 KTABLE-TOSTREAM-0000000004 KSTREAM-SINK-0000000005 [out]";
    let diff = compared(COUNT, with_filter);
    assert!(diff.loses_state());
    insta::assert_snapshot!(diff, @r#"
    renamed   store KSTREAM-AGGREGATE-STATE-STORE-0000000001 -> KSTREAM-AGGREGATE-STATE-STORE-0000000002
              give the operator the store name KSTREAM-AGGREGATE-STATE-STORE-0000000001: Materialized::named("KSTREAM-AGGREGATE-STATE-STORE-0000000001")
    "#);
}

#[test]
fn naming_the_store_in_an_old_topology_would_lose_it_and_its_repartition_topic() {
    let grouped = |store: &str, base: &str| {
        format!(
            "[in] KSTREAM-SOURCE-0000000000 KSTREAM-KEY-SELECT-0000000001 {base}-filter {base}-sink [{base}-repartition] ; \
             [{base}-repartition] {base}-source KSTREAM-AGGREGATE-0000000003+{store}"
        )
    };
    let generated = "KSTREAM-AGGREGATE-STATE-STORE-0000000002";
    let diff = compared(&grouped(generated, generated), &grouped("counts", "counts"));
    insta::assert_snapshot!(diff, @r#"
    renamed   store KSTREAM-AGGREGATE-STATE-STORE-0000000002 -> counts
              give the operator the store name KSTREAM-AGGREGATE-STATE-STORE-0000000002: Materialized::named("KSTREAM-AGGREGATE-STATE-STORE-0000000002")
    renamed   internal topic KSTREAM-AGGREGATE-STATE-STORE-0000000002-repartition -> counts-repartition
              give the operator the name KSTREAM-AGGREGATE-STATE-STORE-0000000002: Grouped::default().named("KSTREAM-AGGREGATE-STATE-STORE-0000000002") of a grouping, Repartitioned or Joined of others
    "#);
    let same = compared(&grouped(generated, generated), &grouped(generated, generated));
    assert!(!same.loses_state() && same.changes.len() == 2);
}

#[test]
fn what_is_gone_is_orphaned_and_what_is_added_is_new() {
    let two = format!("{COUNT} ; [other] source reduce+latest");
    let diff = compared(&two, COUNT);
    insta::assert_snapshot!(diff, @r#"
    same      store KSTREAM-AGGREGATE-STATE-STORE-0000000001
    orphaned  store latest
              give the operator the store name latest: Materialized::named("latest"); if it is not needed any more, delete its changelog topic
    "#);
    assert!(diff.loses_state());
    let diff = compared(COUNT, &two);
    insta::assert_snapshot!(diff, @"
    same      store KSTREAM-AGGREGATE-STATE-STORE-0000000001
    new       store latest
    ");
    assert!(!diff.loses_state());
    let replaced = compared("[in] source count+counts", "[other] source reduce+latest");
    assert_eq!(
        replaced.changes.iter().map(|change| change.fate.clone()).collect::<Vec<_>>(),
        [Fate::Orphaned, Fate::New]
    );
}

#[test]
fn a_generated_name_that_goes_to_another_store_would_be_misread() {
    let chain = |topic: &str, number: u32, out: &str| {
        format!(
            "[{topic}] KSTREAM-SOURCE-{:010} KSTREAM-AGGREGATE-{:010}+KSTREAM-AGGREGATE-STATE-STORE-{:010} KTABLE-TOSTREAM-{:010} KSTREAM-SINK-{:010} [{out}]",
            number,
            number + 2,
            number + 1,
            number + 3,
            number + 4
        )
    };
    // Two counts of different topics change places in the program.
    let old = format!("{} ; {}", chain("a", 0, "x"), chain("b", 5, "y"));
    let new = format!("{} ; {}", chain("b", 0, "y"), chain("a", 5, "x"));
    let diff = compared(&old, &new);
    insta::assert_snapshot!(diff, @r#"
    renamed   store KSTREAM-AGGREGATE-STATE-STORE-0000000001 -> KSTREAM-AGGREGATE-STATE-STORE-0000000006
              its name goes to another store, which would read what is not its own
              give the operator the store name KSTREAM-AGGREGATE-STATE-STORE-0000000001: Materialized::named("KSTREAM-AGGREGATE-STATE-STORE-0000000001")
    renamed   store KSTREAM-AGGREGATE-STATE-STORE-0000000006 -> KSTREAM-AGGREGATE-STATE-STORE-0000000001
              its name goes to another store, which would read what is not its own
              give the operator the store name KSTREAM-AGGREGATE-STATE-STORE-0000000006: Materialized::named("KSTREAM-AGGREGATE-STATE-STORE-0000000006")
    "#);
    // A count of the same topic in front of another.
    let old = chain("a", 0, "x");
    let new = format!("{} ; {}", chain("a", 0, "first"), chain("a", 5, "x"));
    insta::assert_snapshot!(compared(&old, &new), @r#"
    renamed   store KSTREAM-AGGREGATE-STATE-STORE-0000000001 -> KSTREAM-AGGREGATE-STATE-STORE-0000000006
              its name goes to another store, which would read what is not its own
              give the operator the store name KSTREAM-AGGREGATE-STATE-STORE-0000000001: Materialized::named("KSTREAM-AGGREGATE-STATE-STORE-0000000001")
    "#);
    // One of another topic takes the name.
    insta::assert_snapshot!(compared(&chain("a", 0, "x"), &chain("b", 0, "x")), @"
    misread   store KSTREAM-AGGREGATE-STATE-STORE-0000000001
              its name goes to another store, which would read what is not its own
              name the store that has this name now otherwise; if what is kept under it is not needed any more, delete its changelog topic
    ");
}

#[test]
fn names_of_processors_and_stateless_operators_make_no_difference() {
    let old = "[in] KSTREAM-SOURCE-0000000000 KSTREAM-AGGREGATE-0000000001+counts";
    let new = "[in] lines KSTREAM-MAPVALUES-0000000001 counting+counts KTABLE-TOSTREAM-0000000002";
    assert_eq!(compared(old, new).to_string(), "same      store counts\n");
}

#[test]
fn a_store_that_gets_more_users_stays_the_same() {
    let table = "[in] KSTREAM-SOURCE-0000000001 KTABLE-SOURCE-0000000002+in-STATE-STORE-0000000000";
    let joined = format!("{table} KTABLE-SELECT-0000000003+in-STATE-STORE-0000000000");
    assert_eq!(compared(table, &joined).to_string(), "same      store in-STATE-STORE-0000000000\n");
    assert_eq!(compared(&joined, table).to_string(), "same      store in-STATE-STORE-0000000000\n");
}

#[test]
fn every_topology_of_the_reference_is_the_same_as_itself() {
    for section in GOLDEN.split("##### ").skip(1) {
        let is_described = |line: &&str| !["   R ", "   C ", "   cop"].iter().any(|mark| line.starts_with(mark));
        let text: String = section.lines().filter(is_described).map(|line| format!("{line}\n")).collect();
        let description: TopologyDescription = text.parse().unwrap();
        let diff = diff(&description, &description);
        assert!(diff.changes.iter().all(|change| change.fate == Fate::Same), "{diff}");
    }
}

#[test]
fn a_difference_can_be_read_by_programs() {
    insta::assert_snapshot!(compared("[in] source count+counts", "[in] source count+sums").to_json(), @r#"
    {
      "loses_state": true,
      "changes": [
        {
          "kind": "store",
          "name": "counts",
          "fate": "renamed",
          "to": "sums",
          "is_taken_over": false,
          "remedy": "give the operator the store name counts: Materialized::named(\"counts\")"
        }
      ]
    }
    "#);
}

#[test]
fn a_global_store_is_filled_again_and_never_lost() {
    let text = "Topologies:\n   Sub-topology: 0 for global store (will not generate tasks)\n    Source: s (topics: [in])\n      --> p\n    \
                Processor: p (stores: [countries])\n      --> none\n      <-- s\n";
    let description: TopologyDescription = text.parse().unwrap();
    let gone = diff(&description, &topology("[in] source count+counts"));
    insta::assert_snapshot!(gone, @"
    new       store counts
    orphaned  global store countries
    ");
    assert!(!gone.loses_state());
}
