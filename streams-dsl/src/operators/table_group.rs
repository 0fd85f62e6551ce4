//! `group_by` of a table: its rows under another key, on their way through a repartition topic.
//!
//! The topic's values hold what came and what went: `new | 01`, `old | 00`, or, where both belong to one key,
//! `length of new as a zig-zag varint | new | old | 02`.

use std::rc::Rc;
use std::sync::Arc;

use streams_core::topology::RepartitionOptions;
use streams_core::{
    BoxError, Change, Headers, Processor, ProcessorContext, Record, Serde, SerdeError, SerdeRef, SinkOptions,
    SourceOptions,
};

use crate::graph::Place;
use crate::grouped_table::KGroupedTable;
use crate::ktable::KTable;
use crate::naming;
use crate::options::Grouped;

const OLD: u8 = 0;
const NEW: u8 = 1;
const BOTH: u8 = 2;

/// Old and new value in one record.
struct ChangeSerde<V>(SerdeRef<V>);

fn malformed(reason: impl Into<String>) -> SerdeError {
    SerdeError::Malformed { type_name: "update of a grouped table", reason: reason.into() }
}

/// `length` as a zig-zag varint.
fn write_length(length: usize, out: &mut Vec<u8>) -> Result<(), SerdeError> {
    let length = i32::try_from(length).map_err(|_| malformed(format!("a value of {length} bytes")))?;
    let mut rest = (length as u32) << 1;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
    Ok(())
}

/// The length at the start of `bytes`, and what follows it.
fn read_length(bytes: &[u8]) -> Result<(usize, &[u8]), SerdeError> {
    let mut value = 0u32;
    for (index, &byte) in bytes.iter().enumerate().take(5) {
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            if value & 1 == 1 {
                return Err(malformed("a negative length"));
            }
            return Ok(((value >> 1) as usize, &bytes[index + 1..]));
        }
    }
    Err(malformed("a length that does not end"))
}

impl<V> Serde<Change<V>> for ChangeSerde<V> {
    fn serialize(
        &self,
        topic: &str,
        headers: &Headers,
        value: &Change<V>,
        out: &mut Vec<u8>,
    ) -> Result<(), SerdeError> {
        let flag = match (&value.new, &value.old) {
            (Some(new), Some(old)) => {
                let mut bytes = Vec::new();
                self.0.serialize(topic, headers, new, &mut bytes)?;
                write_length(bytes.len(), out)?;
                out.extend_from_slice(&bytes);
                self.0.serialize(topic, headers, old, out)?;
                BOTH
            }
            (Some(new), None) => {
                self.0.serialize(topic, headers, new, out)?;
                NEW
            }
            (None, Some(old)) => {
                self.0.serialize(topic, headers, old, out)?;
                OLD
            }
            (None, None) => return Err(malformed("neither an old nor a new value")),
        };
        out.push(flag);
        Ok(())
    }

    fn deserialize(&self, topic: &str, headers: &Headers, bytes: &[u8]) -> Result<Change<V>, SerdeError> {
        let read = |bytes: &[u8]| self.0.deserialize(topic, headers, bytes);
        match bytes.split_last() {
            Some((&OLD, old)) => Ok(Change::new(None, Some(read(old)?))),
            Some((&NEW, new)) => Ok(Change::new(Some(read(new)?), None)),
            Some((&BOTH, rest)) => {
                let (length, rest) = read_length(rest)?;
                let (new, old) = rest.split_at_checked(length).ok_or_else(|| malformed("a length past the end"))?;
                Ok(Change::new(Some(read(new)?), Some(read(old)?)))
            }
            Some((flag, _)) => Err(malformed(format!("the unknown flag {flag}"))),
            None => Err(malformed("no flag")),
        }
    }
}

/// New key and value of a row; a row for which either is null does not take part.
type Selector<K, V, K2, V2> = Arc<dyn Fn(&K, &V) -> (Option<K2>, Option<V2>) + Send + Sync>;

struct Select<K, V, K2, V2> {
    selector: Selector<K, V, K2, V2>,
    /// Whether the table grouped is versioned.
    is_versioned: bool,
}

impl<K, V, K2, V2> Processor<K, Change<V>, K2, Change<V2>> for Select<K, V, K2, V2>
where
    K: 'static,
    V: 'static,
    K2: Clone + PartialEq + 'static,
    V2: Clone + 'static,
{
    fn process(
        &mut self,
        record: Record<K, Change<V>>,
        ctx: &mut ProcessorContext<K2, Change<V2>>,
    ) -> Result<(), BoxError> {
        let Record { key, value, timestamp, headers } = record;
        let Some(key) = key else { return Err("a table cannot be grouped by a row without key".into()) };
        let Some(Change { new, old, is_latest }) = value else { return Ok(()) };
        if self.is_versioned && !is_latest {
            ctx.count_dropped();
            return Ok(());
        }
        let select = |value: Option<V>| {
            let (key, value) = (self.selector)(&key, &value?);
            key.zip(value)
        };
        let send = |key, new, old| {
            let (key, value) = (Some(key), Some(Change { new, old, is_latest }));
            ctx.forward(Record { key, value, timestamp, headers: headers.clone() })
        };
        match (select(old), select(new)) {
            (Some((old_key, old)), Some((new_key, new))) if old_key == new_key => send(new_key, Some(new), Some(old)),
            (old, new) => {
                if let Some((key, old)) = old {
                    send(key, None, Some(old))?;
                }
                match new {
                    Some((key, new)) => send(key, Some(new), None),
                    None => Ok(()),
                }
            }
        }
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KTable<K, V> {
    /// Groups the rows by a key of `selector`'s choice, with a value of its choice, to aggregate them through a repartition topic.
    ///
    /// ```
    /// # use streams_dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder};
    /// # let builder = StreamsBuilder::new();
    /// let city_of_user = builder.table("users", Consumed::<String, String>::default(), Materialized::unnamed());
    /// city_of_user
    ///     .group_by(|user, city| (city.clone(), user.clone()), Grouped::default())
    ///     .count(Materialized::named("users-of-city"))
    ///     .to_stream()
    ///     .to("cities", Produced::default());
    /// # builder.build().unwrap();
    /// ```
    pub fn group_by<K2: Clone + PartialEq + 'static, V2: Clone + 'static>(
        &self,
        selector: impl Fn(&K, &V) -> (K2, V2) + Send + Sync + 'static,
        grouped: Grouped<K2, V2>,
    ) -> KGroupedTable<K2, V2> {
        let selector = move |key: &K, value: &V| {
            let (key, value) = selector(key, value);
            (Some(key), Some(value))
        };
        self.group_by_nullable(selector, grouped)
    }

    /// As [`KTable::group_by`]; a row that is given a null key or value does not take part.
    pub fn group_by_nullable<K2: Clone + PartialEq + 'static, V2: Clone + 'static>(
        &self,
        selector: impl Fn(&K, &V) -> (Option<K2>, Option<V2>) + Send + Sync + 'static,
        grouped: Grouped<K2, V2>,
    ) -> KGroupedTable<K2, V2> {
        let given = grouped.name.clone().or_else(|| self.place.next_name.clone());
        let name = self.place.graph.name_or(given, naming::TABLE_SELECT);
        let selector: Selector<K, V, K2, V2> = Arc::new(selector);
        self.require_old_values();
        let is_versioned = self.is_versioned();
        let (node, parent) = (name.clone(), self.place.node.clone());
        self.place.graph.add(move |topology| {
            let selector = Arc::clone(&selector);
            let supplier = move || Select { selector: Arc::clone(&selector), is_versioned };
            topology.add_processor::<_, K, Change<V>, K2, Change<V2>>(&node, supplier, &[&parent]).map(|_| ())
        });
        KGroupedTable {
            place: self.place.at(name),
            key: grouped.key,
            value: grouped.value,
            repartition_name: grouped.name,
            repartitioned: Rc::default(),
        }
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KGroupedTable<K, V> {
    /// Where the repartition topic of this group is read, with the serdes of its keys and values; `store` names the topic unless the user
    /// did. Takes two numbers.
    pub(crate) fn repartitioned(&self, store: &str) -> Option<Place> {
        let graph = &self.place.graph;
        let (sink, source) = (graph.next_name(naming::SINK), graph.next_name(naming::SOURCE));
        let (sink, source) = match &self.place.next_name {
            Some(name) => (format!("{name}-sink"), format!("{name}-source")),
            None => (sink, source),
        };
        if let Some(place) = &*self.repartitioned.borrow() {
            return Some(place.clone());
        }
        let base = self.repartition_name.clone().unwrap_or_else(|| store.to_owned());
        let topic = format!("{base}{}", naming::REPARTITION_SUFFIX);
        let remedy = "Grouped::with(key serde, value serde)";
        let key = graph.need(self.key.clone(), &format!("the key of {topic}"), remedy)?;
        let value = graph.need(self.value.clone(), &format!("the value of {topic}"), remedy)?;
        let place = Place { sources: vec![source.clone()], ..self.place.at(source.clone()) };
        if self.repartition_name.is_some() {
            self.repartitioned.replace(Some(place.clone()));
        }
        let parent = self.place.node.clone();
        let value: SerdeRef<Change<V>> = Arc::new(ChangeSerde(value));
        graph.add(move |topology| {
            topology.add_repartition_topic(&topic, RepartitionOptions::default())?;
            let options = SinkOptions::new(Arc::clone(&key), Arc::clone(&value)).by_whole_key();
            topology.add_sink(&sink, options, &topic, &[&parent])?;
            let options = SourceOptions::new(Arc::clone(&key), Arc::clone(&value));
            topology.add_source(&source, options, [topic.as_str()]).map(|_| ())
        });
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use streams_core::serde::StringSerde;

    use super::*;

    fn round(new: Option<&str>, old: Option<&str>) -> Vec<u8> {
        let serde = ChangeSerde(StringSerde.into_ref());
        let change = Change::new(new.map(str::to_owned), old.map(str::to_owned));
        let mut bytes = Vec::new();
        serde.serialize("t", &Headers::default(), &change, &mut bytes).unwrap();
        assert_eq!(serde.deserialize("t", &Headers::default(), &bytes).unwrap(), change);
        bytes
    }

    #[test]
    fn the_last_byte_says_which_values_are_there() {
        assert_eq!(round(Some("n"), None), b"n\x01");
        assert_eq!(round(None, Some("o")), b"o\x00");
        assert_eq!(round(Some("ne"), Some("o")), b"\x04neo\x02");
        assert_eq!(round(Some(&"n".repeat(100)), Some("o"))[..2], [0xc8, 0x01]);
    }

    #[test]
    fn broken_bytes_are_errors() {
        let serde = ChangeSerde::<String>(StringSerde.into_ref());
        for bytes in [&b""[..], b"\x02", b"\x80\x80\x80\x80\x80\x80\x02", b"\x08ab\x02", b"\x03ab\x02", b"a\x07"] {
            assert!(serde.deserialize("t", &Headers::default(), bytes).is_err(), "{bytes:?}");
        }
    }
}
