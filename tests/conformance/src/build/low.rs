//! Topologies made of the Processor API's parts.

use streams_core::store::Stores;
use streams_core::{SinkOptions, SourceOptions, StreamsError, Topology};

use super::options::{partitioner, store};
use super::*;

fn names<'a>(step: &'a Json, field: &str) -> Vec<&'a str> {
    step[field].as_array().map_or_else(Vec::new, |names| names.iter().map(|name| name.as_str().unwrap()).collect())
}

fn sink_options(step: &Json) -> Result<SinkOptions<Value, Value>, Skip> {
    let (key, value) = types(step);
    let options = SinkOptions::new(DynamicSerde(key), DynamicSerde(value));
    Ok(match partitioner::<Value, Value>(step)? {
        Some(partitioner) => options.with_partitioner(partitioner),
        None => options,
    })
}

/// Performs one `pa.` step.
pub(super) fn step(topology: &mut Topology, step: &Json) -> Result<Result<(), StreamsError>, Skip> {
    let (key, value) = types(step);
    let name = str_of(step, "name").unwrap_or("");
    let spec = step["proc"].clone();
    if !spec.is_null() {
        CatalogueProcessor::check(&spec)?;
    }
    let supplier = move || CatalogueProcessor::new(spec.clone());
    let source = SourceOptions::<Value, Value>::new(DynamicSerde(key), DynamicSerde(value));
    let (source_name, topic) = (str_of(step, "source").unwrap_or(""), str_of(step, "topic").unwrap_or(""));
    let processor = str_of(step, "processor").unwrap_or("");
    let result = match op(step) {
        "pa.source" if !step["pattern"].is_null() => {
            topology.add_pattern_source(name, source, str_of(step, "pattern").unwrap()).map(|_| ())
        }
        "pa.source" => topology.add_source(name, source, names(step, "topics")).map(|_| ()),
        "pa.processor" => {
            let parents = names(step, "parents");
            topology
                .add_processor::<CatalogueProcessor, Value, Value, Value, Value>(name, supplier, &parents)
                .map(|_| ())
        }
        "pa.sink" => topology.add_sink(name, sink_options(step)?, topic, &names(step, "parents")).map(|_| ()),
        "pa.store" => topology.add_shared_state_store(store(&step["def"])?, &names(step, "processors")).map(|_| ()),
        "pa.connect" => topology.connect(processor, &names(step, "stores")).map(|_| ()),
        "pa.globalStore" => topology
            .add_shared_global_store::<CatalogueProcessor, Value, Value>(
                store(&step["def"])?,
                source_name,
                source,
                topic,
                processor,
                supplier,
            )
            .map(|_| ()),
        "pa.readOnlyStore" if step["def"]["type"] == "kv" => {
            let (key, value) = types(&step["def"]);
            let store = Stores::key_value::<Value, Value>(
                str_of(&step["def"], "name").unwrap(),
                DynamicSerde(key),
                DynamicSerde(value),
            );
            topology
                .add_read_only_state_store::<CatalogueProcessor, Value, Value>(
                    store,
                    source_name,
                    source,
                    topic,
                    processor,
                    supplier,
                )
                .map(|_| ())
        }
        _ => return skip(step),
    };
    Ok(result)
}
