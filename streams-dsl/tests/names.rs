//! Names and `describe()` of DSL topologies, byte for byte as Kafka Streams 4.3.1 printed them: names become topics.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use streams_core::store::Stores;
use streams_core::{BoxError, Processor, ProcessorContext, Record};
use streams_dsl::{
    Consumed, EmitStrategy, Grouped, JoinWindows, Joined, KStream, KTable, Materialized, Produced, Repartitioned,
    SessionWindows, SlidingWindows, StreamJoined, StreamsBuilder, TimeWindows,
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
fn windows_of_all_kinds_name_their_stores_alike() {
    let grouped = |builder: &StreamsBuilder| texts(builder, "a").group_by_key(Grouped::inherited());
    check("sliding windows", |builder| {
        let windows = SlidingWindows::of_difference_ms(60_000).with_grace_ms(30_000);
        grouped(builder).windowed_by(windows).count(Materialized::unnamed());
    });
    check("session windows", |builder| {
        let windows = SessionWindows::of_gap_ms(60_000).with_grace_ms(30_000);
        grouped(builder).windowed_by(windows).count(Materialized::unnamed());
    });
    check("emit final windowed", |builder| {
        let windowed = grouped(builder).windowed_by(TimeWindows::of_size_ms(60_000));
        windowed.emit_strategy(EmitStrategy::OnWindowClose).count(Materialized::unnamed());
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

#[test]
fn joins_of_streams_name_nodes_stores_and_repartitions() {
    const WINDOWS: JoinWindows = JoinWindows::of_difference_ms(60_000);
    let sides = |builder: &StreamsBuilder| (texts(builder, "a"), texts(builder, "b"));
    let rekeyed = |builder: &StreamsBuilder, topic| texts(builder, topic).select_key(|_, value| value.clone());
    let inner = |left: &Texts, right: &Texts, joined| {
        left.join_stream(right, |left, _| left.clone(), WINDOWS, joined);
    };
    check("stream-stream inner join unnamed", |builder| {
        let (left, right) = sides(builder);
        inner(&left, &right, StreamJoined::inherited());
    });
    check("stream-stream inner join, both rekeyed", |builder| {
        let (left, right) = (rekeyed(builder, "a"), rekeyed(builder, "b"));
        inner(&left, &right, StreamJoined::default());
    });
    check("stream-stream join rekeyed StreamJoined.as + store name", |builder| {
        let (left, right) = (rekeyed(builder, "a"), rekeyed(builder, "b"));
        inner(&left, &right, StreamJoined::default().named("jn").with_store_name("jst"));
    });
    check("self join", |builder| {
        let stream = texts(builder, "a");
        inner(&stream, &stream, StreamJoined::inherited());
    });
}

/// The second join reads what the first has repartitioned; the numbers of the nodes it would have made are used up.
#[test]
fn joins_of_one_rekeyed_stream_share_its_repartition() {
    let builder = StreamsBuilder::new();
    let (left, right) = (texts(&builder, "a").select_key(|_, value| value.clone()), texts(&builder, "b"));
    for _ in 0..2 {
        let windows = JoinWindows::of_difference_ms(60_000);
        left.join_stream(&right, |left, _| left.clone(), windows, StreamJoined::default());
    }
    let described = builder.build().unwrap().describe();
    assert_eq!(described.matches("Sink:").count(), 1, "{described}");
    assert!(described.contains("KSTREAM-MERGE-0000000018"), "{described}");
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
