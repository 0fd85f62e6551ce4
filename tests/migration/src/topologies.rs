//! The topologies that both sides run, with the names that each side generates: those of `jvm/Migration.java`.

use anyhow::{Result, bail};
use millstream::prelude::*;

/// All of them.
pub const NAMES: [&str; 3] = ["word-count", "windowed-count", "foreign-key-join"];

/// What the names of an application's source topics and sink begin with.
pub fn data(application_id: &str) -> String {
    format!("data-{application_id}")
}

/// Source topics and the sink of an application.
pub fn topics(application_id: &str) -> [String; 3] {
    ["input", "customers", "output"].map(|topic| format!("{}-{topic}", data(application_id)))
}

/// The topology called `name`, of an application.
pub fn build(name: &str, application_id: &str) -> Result<Topology> {
    let builder = StreamsBuilder::new();
    let [input, customers, output] = topics(application_id);
    let texts = Consumed::<String, String>::default;
    match name {
        "word-count" => builder
            .stream(&input, texts())
            .flat_map_values(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .group_by(|_, word| word.clone(), Grouped::default())
            .count(Materialized::unnamed())
            .to_stream()
            .map_values(i64::to_string)
            .to(&output, Produced::default()),
        "windowed-count" => builder
            .stream(&input, texts())
            .group_by_key(Grouped::inherited())
            .windowed_by(TimeWindows::of_size_ms(60_000).with_grace_ms(10_000))
            .count(Materialized::named("clicks-per-minute"))
            .to_stream()
            .map(|window, count| {
                let key = window.map(|window| format!("{}@{}", window.key, window.window.start));
                (key.unwrap_or_default(), count.to_string())
            })
            .to(&output, Produced::default()),
        "foreign-key-join" => {
            let orders = builder.table(&input, texts(), Materialized::default());
            let customers = builder.table(&customers, texts(), Materialized::default());
            orders
                .join_foreign_key(
                    &customers,
                    |_, order| order.split('|').next().map(str::to_owned),
                    |order, customer| format!("{order}/{customer}"),
                    TableJoined::new(),
                    Materialized::default(),
                )
                .to_stream()
                .to(&output, Produced::default());
        }
        other => bail!("unknown topology {other}: {NAMES:?}"),
    }
    Ok(builder.build()?)
}
