//! The small text files of a data directory and a partition: offset checkpoints, the leader epoch checkpoint,
//! `partition.metadata`, `meta.properties` and the clean-shutdown mark. Kafka's formats; reading and writing only.
//!
//! Offset checkpoints: a line `0`, a line with the count, then `topic partition offset` per line.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base::{LeaderEpoch, Offset, TopicPartition};
use uuid::Uuid;

use super::directory::MetaProperties;

/// Offsets by partition, as an offset checkpoint holds them.
pub(super) type Offsets = BTreeMap<TopicPartition, Offset>;

pub(super) fn format_offsets(offsets: &Offsets) -> String {
    let mut text = format!("0\n{}\n", offsets.len());
    for (partition, offset) in offsets {
        let _ = writeln!(text, "{} {} {offset}", partition.topic, partition.partition);
    }
    text
}

/// `None` if `text` is malformed.
pub(super) fn parse_offsets(text: &str) -> Option<Offsets> {
    let mut offsets = Offsets::new();
    for line in counted_lines(text)? {
        let mut fields = line.split_whitespace();
        let topic = fields.next()?;
        let partition = fields.next()?.parse().ok()?;
        let offset = fields.next()?.parse().ok()?;
        if fields.next().is_some() {
            return None;
        }
        offsets.insert(TopicPartition::new(topic, partition), offset);
    }
    Some(offsets)
}

pub(super) fn format_epochs(epochs: &[(LeaderEpoch, Offset)]) -> String {
    let mut text = format!("0\n{}\n", epochs.len());
    for (epoch, start) in epochs {
        let _ = writeln!(text, "{epoch} {start}");
    }
    text
}

/// `None` if `text` is malformed.
pub(super) fn parse_epochs(text: &str) -> Option<Vec<(LeaderEpoch, Offset)>> {
    let mut epochs = Vec::new();
    for line in counted_lines(text)? {
        let (epoch, start) = line.split_once(' ')?;
        epochs.push((epoch.parse().ok()?, start.trim().parse().ok()?));
    }
    Some(epochs)
}

/// The lines after version and count; `None` if those are not what they should be.
fn counted_lines(text: &str) -> Option<impl Iterator<Item = &str>> {
    let mut lines = text.lines();
    if lines.next()?.trim() != "0" {
        return None;
    }
    let count: usize = lines.next()?.trim().parse().ok()?;
    let rest: Vec<&str> = lines.filter(|line| !line.trim().is_empty()).collect();
    (rest.len() == count).then(|| rest.into_iter())
}

pub(super) fn format_partition_metadata(topic_id: Uuid) -> String {
    format!("version: 0\ntopic_id: {}", format_uuid(topic_id))
}

/// `None` if `text` is malformed.
pub(super) fn parse_partition_metadata(text: &str) -> Option<Uuid> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if field("version:")? != "0" {
        return None;
    }
    parse_uuid(field("topic_id:")?)
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Kafka's text of a uuid: url-safe base64 without padding, 22 characters.
pub(super) fn format_uuid(uuid: Uuid) -> String {
    let bits = uuid.as_u128();
    // 22 groups of six bits hold 132: the last four are padding.
    (0..22)
        .map(|group| {
            let index = if group < 21 { bits >> (122 - 6 * group) } else { bits << 4 } & 63;
            char::from(BASE64[index as usize])
        })
        .collect()
}

pub(super) fn parse_uuid(text: &str) -> Option<Uuid> {
    if text.len() != 22 {
        return None;
    }
    let mut bits: u128 = 0;
    for (group, letter) in text.bytes().enumerate() {
        let value = BASE64.iter().position(|known| *known == letter)? as u128;
        bits = if group < 21 { (bits << 6) | value } else { (bits << 2) | (value >> 4) };
    }
    Some(Uuid::from_u128(bits))
}

pub(super) fn format_meta_properties(properties: &MetaProperties) -> String {
    format!(
        "#\nnode.id={}\ndirectory.id={}\nversion=1\ncluster.id={}\n",
        properties.node_id, properties.directory_id, properties.cluster_id
    )
}

/// `None` if a property is missing or malformed.
pub(super) fn parse_meta_properties(text: &str) -> Option<MetaProperties> {
    let field = |name: &str| {
        text.lines()
            .filter(|line| !line.starts_with(['#', '!']))
            .filter_map(|line| line.split_once('='))
            .find(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim().replace('\\', ""))
    };
    if field("version")? != "1" {
        return None;
    }
    Some(MetaProperties {
        cluster_id: field("cluster.id")?,
        node_id: field("node.id")?.parse().ok()?,
        directory_id: field("directory.id").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_come_back_and_a_wrong_count_is_malformed() {
        let offsets = Offsets::from([(TopicPartition::new("a.b", 1), 6), (TopicPartition::new("a", 0), 0)]);
        let text = format_offsets(&offsets);
        assert_eq!(text, "0\n2\na 0 0\na.b 1 6\n");
        assert_eq!(parse_offsets(&text), Some(offsets));
        assert_eq!(parse_offsets("0\n2\na 0 0\n"), None);
        assert_eq!(parse_offsets("1\n0\n"), None);
        assert_eq!(parse_offsets("0\n0\n"), Some(Offsets::new()));
    }

    #[test]
    fn topic_id_is_kafkas_base64() {
        let text = "version: 0\ntopic_id: 46bGNzC2QGmb-62VHYAIFQ";
        let id = parse_partition_metadata(text).unwrap();
        assert_eq!(id.to_string(), "e3a6c637-30b6-4069-9bfb-ad951d800815");
        assert_eq!(format_partition_metadata(id), text);
    }

    #[test]
    fn meta_properties_as_the_reference_wrote_them() {
        let text = "#\n#Sat Nov 21 09:06:50 UTC 2026\nnode.id=1\ndirectory.id=2FZFZtKsv4PkxyJksirOKw\nversion=1\n\
                    cluster.id=MkU3OEVBNTcwNTJENDM2Qg\n";
        let properties = parse_meta_properties(text).unwrap();
        assert_eq!((properties.node_id, properties.cluster_id.as_str()), (1, "MkU3OEVBNTcwNTJENDM2Qg"));
        assert_eq!(parse_meta_properties(&format_meta_properties(&properties)), Some(properties));
    }
}
