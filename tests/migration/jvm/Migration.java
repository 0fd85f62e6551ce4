// The topologies of src/topologies.rs on the JVM: Migration TOPOLOGY BOOTSTRAP APPLICATION-ID STATE-DIR; runs until stdin ends, then closes.

import java.time.Duration;
import java.util.Arrays;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;

public final class Migration {
    private static final Consumed<String, String> TEXTS = Consumed.with(Serdes.String(), Serdes.String());
    private static final Produced<String, String> TO_TEXTS = Produced.with(Serdes.String(), Serdes.String());

    public static void main(final String[] arguments) throws Exception {
        final String topology = arguments[0];
        final StreamsBuilder builder = new StreamsBuilder();
        final String data = "data-" + arguments[2];
        final String in = data + "-input";
        final String out = data + "-output";
        switch (topology) {
            case "word-count" -> builder.stream(in, TEXTS)
                .flatMapValues(line -> Arrays.asList(line.split(" ")))
                .groupBy((key, word) -> word, Grouped.with(Serdes.String(), Serdes.String()))
                .count()
                .toStream()
                .mapValues(String::valueOf)
                .to(out, TO_TEXTS);
            case "windowed-count" -> builder.stream(in, TEXTS)
                .groupByKey(Grouped.with(Serdes.String(), Serdes.String()))
                .windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofMinutes(1), Duration.ofSeconds(10)))
                .count(Materialized.as("clicks-per-minute"))
                .toStream()
                .map((window, count) -> KeyValue.pair(window.key() + "@" + window.window().start(), String.valueOf(count)))
                .to(out, TO_TEXTS);
            case "foreign-key-join" -> {
                final KTable<String, String> orders = builder.table(in, TEXTS, Materialized.with(Serdes.String(), Serdes.String()));
                final KTable<String, String> customers =
                    builder.table(data + "-customers", TEXTS, Materialized.with(Serdes.String(), Serdes.String()));
                orders
                    .join(customers, order -> order.split("\\|")[0], (order, customer) -> order + "/" + customer,
                        Materialized.with(Serdes.String(), Serdes.String()))
                    .toStream()
                    .to(out, TO_TEXTS);
            }
            default -> throw new IllegalArgumentException("unknown topology " + topology);
        }
        final Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[2]);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[1]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[3]);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        settings.put(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG, 6000);
        try (KafkaStreams streams = new KafkaStreams(builder.build(), settings)) {
            streams.start();
            while (System.in.read() >= 0) {
                // until the end
            }
            streams.close(new KafkaStreams.CloseOptions().leaveGroup(true).timeout(Duration.ofSeconds(30)));
        }
    }

    private Migration() { }
}
