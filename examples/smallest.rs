//! The smallest program: counts the words of what is typed or piped in.
use millstream::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Embedded::temporary()?;
    broker.create_topic("lines", 1)?;
    let builder = StreamsBuilder::new();
    builder
        .stream("lines", Consumed::<String, String>::default())
        .flat_map_values(|line| line.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>())
        .group_by(|_, word| word.clone(), Grouped::default())
        .count(Materialized::named("counts"))
        .to_stream()
        .for_each(|word, count| println!("{} {}", word.map_or("", |word| word), count.unwrap_or(&0)));
    let config = StreamsConfig::new("word-count").with("state.dir", broker.state_dir().display())?;
    let app = Streams::start(builder.build()?, config, broker.client())?;
    let producer = Producer::new(broker.client(), ProducerConfig::default())?;
    for line in std::io::stdin().lines() {
        producer.send_blocking(ProducerRecord::to("lines").value(line?))?;
    }
    app.wait_until_caught_up()?;
    Ok(app.close()?)
}
