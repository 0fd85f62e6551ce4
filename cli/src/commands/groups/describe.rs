//! `millstream groups describe`: state and members of groups, their committed offsets and how far these are behind.

use base::TopicPartition;
use client::admin::{GroupListing, OffsetAndMetadata, OffsetSpec};
use client::consumer::decode_assignment;
use client::{Admin, ClientError, block_on};
use protocol::api::ErrorCode;
use serde_json::{Value, json};

use super::super::json::{Fields, print_lines};
use super::super::{admin, table};
use super::not_there;
use crate::options::DescribeGroupsOptions;
use crate::report::{Failure, print};

/// A group of any protocol.
pub(super) struct Described {
    pub(super) state: String,
    kind: String,
    assignor: String,
    pub(super) members: Vec<Member>,
}

/// One member.
pub(super) struct Member {
    id: String,
    instance: Option<String>,
    client: String,
    host: String,
    partitions: Vec<TopicPartition>,
}

/// A committed offset and the end of its partition; `None` if that is not known.
struct Committed {
    partition: TopicPartition,
    offset: OffsetAndMetadata,
    end: Option<i64>,
}

impl Committed {
    fn lag(&self) -> Option<i64> {
        self.end.map(|end| (end - self.offset.offset).max(0))
    }
}

/// Prints each group.
pub(super) fn run(options: &DescribeGroupsOptions) -> Result<(), Failure> {
    let admin = admin(&options.cluster)?;
    let listed = block_on(admin.list_groups())?;
    let mut names = options.names.clone();
    if names.is_empty() {
        names = listed.iter().map(|group| group.group.clone()).collect();
    }
    for name in &names {
        let group = describe(&admin, name, listed.iter().find(|group| group.group == *name))?;
        let committed = committed(&admin, name)?;
        if options.json {
            print_lines([as_json(name, &group, &committed)])?;
        } else {
            print(&as_text(name, &group, &committed))?;
        }
    }
    Ok(())
}

/// What the coordinator says of a group; a failure if there is none of that name.
pub(super) fn describe(admin: &Admin, name: &str, listed: Option<&GroupListing>) -> Result<Described, Failure> {
    let kind = listed.map_or("", |group| group.kind.as_str());
    match kind.to_ascii_lowercase().as_str() {
        "consumer" => by_consumer_protocol(admin, name, kind),
        "" | "classic" => by_classic_protocol(admin, name, kind),
        // What their members do is not asked for here.
        _ => Ok(Described {
            state: listed.map(|group| group.state.clone()).unwrap_or_default(),
            kind: kind.to_owned(),
            assignor: String::new(),
            members: Vec::new(),
        }),
    }
}

fn by_consumer_protocol(admin: &Admin, name: &str, kind: &str) -> Result<Described, Failure> {
    let mut described = block_on(admin.describe_consumer_groups(&[name]))?;
    let (_, result) = described.pop().ok_or_else(|| Failure::new(format!("no answer about group {name}")))?;
    let group = result.map_err(|error| not_there(name, error))?;
    let members = group.members.into_iter().map(|member| Member {
        id: member.member_id,
        instance: member.instance_id,
        client: member.client_id,
        host: member.host,
        partitions: member.assignment,
    });
    let members = members.collect();
    Ok(Described { state: group.state, kind: kind.to_owned(), assignor: group.assignor, members })
}

fn by_classic_protocol(admin: &Admin, name: &str, kind: &str) -> Result<Described, Failure> {
    let mut described = block_on(admin.describe_groups(&[name]))?;
    let (_, result) = described.pop().ok_or_else(|| Failure::new(format!("no answer about group {name}")))?;
    // Brokers of before KIP-1043 say of a group that they do not know that it is dead.
    let unknown = || ClientError::broker(format!("group {name}"), ErrorCode::GroupIdNotFound, None);
    let group = match result {
        Ok(group) if group.state == "Dead" => return Err(not_there(name, unknown())),
        result => result.map_err(|error| not_there(name, error))?,
    };
    let members = group.members.into_iter().map(|member| Member {
        id: member.member_id,
        instance: member.instance_id,
        client: member.client_id,
        host: member.host,
        // Members of other protocols than the consumers' have bytes of their own there.
        partitions: match group.protocol_type.as_str() {
            "consumer" => decode_assignment(&member.assignment).map(|it| it.partitions).unwrap_or_default(),
            _ => Vec::new(),
        },
    });
    let members = members.collect();
    Ok(Described { state: group.state, kind: kind.to_owned(), assignor: group.protocol, members })
}

fn committed(admin: &Admin, group: &str) -> Result<Vec<Committed>, Failure> {
    let mut committed = block_on(admin.list_group_offsets(group))?;
    if committed.is_empty() {
        return Ok(Vec::new());
    }
    committed.sort_by(|a, b| a.0.cmp(&b.0));
    let asked: Vec<(TopicPartition, OffsetSpec)> =
        committed.iter().map(|(partition, _)| (partition.clone(), OffsetSpec::Latest)).collect();
    let ends = block_on(admin.list_offsets(&asked))?;
    let with_end = |(partition, offset): (TopicPartition, OffsetAndMetadata)| {
        let end = ends.iter().find(|(of, _)| *of == partition).and_then(|(_, end)| end.as_ref().ok());
        Committed { end: end.map(|end| end.offset), partition, offset }
    };
    Ok(committed.into_iter().map(with_end).collect())
}

fn as_text(name: &str, group: &Described, committed: &[Committed]) -> String {
    let mut text = format!("{name}  {}  {} member(s)", group.state, group.members.len());
    if !group.kind.is_empty() {
        text += &format!("  type {}", group.kind);
    }
    if !group.assignor.is_empty() {
        text += &format!("  assignor {}", group.assignor);
    }
    text.push('\n');
    if !group.members.is_empty() {
        let mut rows = vec![["  MEMBER", "CLIENT", "HOST", "PARTITIONS"].map(str::to_owned).to_vec()];
        for member in &group.members {
            let id = match &member.instance {
                Some(instance) => format!("  {} (static {instance})", member.id),
                None => format!("  {}", member.id),
            };
            let partitions: Vec<String> = member.partitions.iter().map(ToString::to_string).collect();
            rows.push(vec![id, member.client.clone(), member.host.clone(), partitions.join(" ")]);
        }
        text += &table(&rows);
    }
    if committed.is_empty() {
        return text;
    }
    let mut rows = vec![["  PARTITION", "COMMITTED", "LOG END", "LAG"].map(str::to_owned).to_vec()];
    let known = |value: Option<i64>| value.map_or("unknown".to_owned(), |value| value.to_string());
    for one in committed {
        rows.push(vec![
            format!("  {}", one.partition),
            one.offset.offset.to_string(),
            known(one.end),
            known(one.lag()),
        ]);
    }
    text + &table(&rows)
}

fn as_json(name: &str, group: &Described, committed: &[Committed]) -> Fields {
    let partition = |one: &TopicPartition| json!({ "topic": &*one.topic, "partition": one.partition });
    let members = group.members.iter().map(|member| {
        json!({
            "member_id": member.id,
            "instance_id": member.instance,
            "client_id": member.client,
            "host": member.host,
            "partitions": member.partitions.iter().map(partition).collect::<Vec<Value>>(),
        })
    });
    let offsets = committed.iter().map(|one| {
        json!({
            "topic": &*one.partition.topic,
            "partition": one.partition.partition,
            "committed": one.offset.offset,
            "metadata": one.offset.metadata,
            "log_end": one.end,
            "lag": one.lag(),
        })
    });
    Fields::default()
        .with("group", name)
        .with("state", group.state.as_str())
        .with("type", group.kind.as_str())
        .with("assignor", group.assignor.as_str())
        .with("members", members.collect::<Vec<Value>>())
        .with("offsets", offsets.collect::<Vec<Value>>())
}
