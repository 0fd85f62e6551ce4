//! Names and `describe()` of DSL topologies, byte for byte as Kafka Streams 4.3.1 printed them: names become topics.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use streams_core::store::Stores;
use streams_core::{BoxError, Processor, ProcessorContext, Record};
use streams_dsl::{
    Consumed, Grouped, Joined, KStream, KTable, Materialized, Produced, Repartitioned, StreamsBuilder, TimeWindows,
};

const GOLDEN: &str = include_str!("../../streams-core/tests/data/topology-golden.txt");

/// The text that the reference printed under `title`.
fn golden(title: &str) -> String {
    let section = GOLDEN.split("##### ").find(|section| section.split('\n').next() == Some(title)).unwrap();
    let is_described =
        |line: &&str| !["   R ", "   C ", "   copartition"].iter().any(|internal| line.starts_with(internal));
    let lines = section.lines().skip_while(|line| !line.starts_with("Topologies:")).filter(is_described);
    lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

fn check(title: &str, build: impl FnOnce(&StreamsBuilder)) {
    let builder = StreamsBuilder::new();
    build(&builder);
    let described = builder.build().unwrap().describe();
    assert_eq!(described.trim_end(), golden(title), "{title}");
}

type Texts = KStream<String, String>;

fn texts(builder: &StreamsBuilder, topic: &str) -> Texts {
    builder.stream(topic, Consumed::default())
}

fn table(builder: &StreamsBuilder, materialized: Materialized<String, String>) -> KTable<String, String> {
    builder.table("t", Consumed::default(), materialized)
}

#[test]
fn operators_are_numbered() {
    check("stateless chain unnamed", |builder| {
        texts(builder, "in")
            .filter(|_, _| true)
            .filter_not(|_, _| false)
            .map_values(Clone::clone)
            .map(|_, value| (value.clone(), value.clone()))
            .flat_map(|_, value| [(value.clone(), value.clone())])
            .flat_map_values(|value| [value.clone()])
            .peek(|_, _| {})
            .select_key(|_, value| value.clone())
            .to("out", Produced::default());
    });
}

#[test]
fn operators_take_the_names_given() {
    check("stateless named", |builder| {
        let stream = builder.stream("in", Consumed::<String, String>::default().named("src"));
        let stream = stream.named("f").filter(|_, _| true).named("mv").map_values(Clone::clone);
        let stream = stream.named("sk").select_key(|_, value| value.clone());
        stream.to("out", Produced::default().named("snk"));
    });
}

#[test]
fn branches_are_named_after_their_split() {
    check("split default names", |builder| {
        let _ = texts(builder, "a").split().branch(|_, _| true).branch(|_, _| true).default_branch();
    });
    check("split named", |builder| {
        let split = texts(builder, "a").named("sp-").split();
        let branches = split.branch_named("x", |_, _| true).branch(|_, _| true).default_branch_named("dflt");
        assert_eq!(branches.names(), ["sp-x", "sp-2", "sp-dflt"]);
    });
    check("split noDefault", |builder| {
        let _ = texts(builder, "a").split().branch(|_, _| true).branch(|_, _| true).no_default_branch();
    });
}

#[test]
fn repartitions_are_named_after_their_topic() {
    check("repartition()", |builder| {
        let stream = texts(builder, "a");
        stream.repartition(Repartitioned::inherited()).to("o1", Produced::inherited());
        stream.repartition(Repartitioned::inherited().named("rp")).to("o2", Produced::inherited());
        let three = Repartitioned::inherited().named("rp3").with_partitions(3);
        stream.repartition(three).to("o3", Produced::inherited());
    });
}

#[test]
fn counts_name_their_stores_and_topics() {
    check("groupByKey count no key change", |builder| {
        texts(builder, "a").group_by_key(Grouped::inherited()).count(Materialized::unnamed());
    });
    let by_value = |builder: &StreamsBuilder, grouped| texts(builder, "a").group_by(|_, value| value.clone(), grouped);
    check("groupBy count unnamed", |builder| {
        by_value(builder, Grouped::default()).count(Materialized::unnamed());
    });
    check("groupBy Grouped.as count Materialized.as Named.as", |builder| {
        by_value(builder, Grouped::default().named("g")).named("cnt").count(Materialized::named("st"));
    });
    check("groupBy, Materialized.as only", |builder| {
        by_value(builder, Grouped::default()).count(Materialized::named("st"));
    });
    check("groupBy, Named only", |builder| {
        by_value(builder, Grouped::default()).named("cnt").count(Materialized::unnamed());
    });
}

#[test]
fn aggregations_without_names_repartition_each_for_itself() {
    check("groupBy reduce/aggregate unnamed", |builder| {
        let grouped = texts(builder, "a").group_by(|_, value| value.clone(), Grouped::default());
        grouped.reduce(|old, _| old, Materialized::unnamed());
        grouped.aggregate(String::new, |_, _, all| all, Materialized::default());
    });
}

#[test]
fn windowed_counts_name_their_stores() {
    check("groupByKey windowed count", |builder| {
        let grouped = texts(builder, "a").group_by_key(Grouped::inherited());
        grouped.windowed_by(TimeWindows::of_size_ms(60_000)).count(Materialized::unnamed());
    });
    check("groupByKey windowed count grace 5m, Materialized retention 1h", |builder| {
        let grouped = texts(builder, "a").group_by_key(Grouped::inherited());
        let windows = TimeWindows::of_size_ms(60_000).with_grace_ms(300_000);
        grouped.windowed_by(windows).count(Materialized::named("w").with_retention_ms(3_600_000));
    });
}

#[test]
fn tables_keep_a_store_when_it_is_named_or_needed() {
    check("table unnamed", |builder| {
        table(builder, Materialized::unnamed());
    });
    check("table Materialized.as", |builder| {
        table(builder, Materialized::named("s"));
    });
    check("table Consumed.as", |builder| {
        builder.table("t", Consumed::<String, String>::default().named("c"), Materialized::unnamed());
    });
    check("toTable", |builder| {
        let stream = texts(builder, "a");
        stream.to_table(Materialized::unnamed());
        stream.select_key(|_, value| value.clone()).to_table(Materialized::default());
        stream.named("tt").to_table(Materialized::named("tts"));
    });
}

#[test]
fn joins_repartition_under_their_name() {
    check("stream-table join", |builder| {
        let (stream, table) = (texts(builder, "a"), table(builder, Materialized::unnamed()));
        stream.join(&table, |left, _| left.clone(), Joined::inherited());
        let rekeyed = stream.select_key(|_, value| value.clone());
        rekeyed.left_join(&table, |left, _| left.clone(), Joined::default().named("jj"));
    });
}

struct Pass;

impl Processor<String, String, String, String> for Pass {
    fn process(
        &mut self,
        record: Record<String, String>,
        ctx: &mut ProcessorContext<String, String>,
    ) -> Result<(), BoxError> {
        ctx.forward(record)
    }
}

/// The one operator whose given name leaves the numbers alone.
#[test]
fn a_named_processor_uses_up_no_number() {
    let builder = StreamsBuilder::new();
    let serde = || streams_core::serde::StringSerde;
    builder.add_state_store(Stores::key_value("st", serde(), serde()));
    let stream = texts(&builder, "a").named("p").process(|| Pass, &["st"]);
    stream.to("out", Produced::<String, String>::default());
    assert!(builder.build().unwrap().describe().contains("Sink: KSTREAM-SINK-0000000001"));
}
