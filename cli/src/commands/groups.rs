//! `millstream groups`: list, describe.

use base::TopicPartition;
use client::admin::OffsetSpec;
use client::{Admin, block_on};
use protocol::api::ErrorCode;

use super::{admin, table};
use crate::options::{Cluster, NamedGroups};
use crate::report::{Failure, print};

/// All groups, one a line.
pub fn list(cluster: &Cluster) -> Result<(), Failure> {
    let admin = admin(cluster)?;
    let mut rows = vec![["GROUP", "STATE", "TYPE", "PROTOCOL"].map(str::to_owned).to_vec()];
    for group in block_on(admin.list_groups())? {
        rows.push(vec![group.group, group.state, group.kind, group.protocol_type]);
    }
    if rows.len() == 1 {
        return Ok(());
    }
    print(&table(&rows))
}

/// State and members of each group, then its committed offsets and their distance from the ends of the logs.
pub fn describe(options: &NamedGroups) -> Result<(), Failure> {
    let admin = admin(&options.cluster)?;
    let names: Vec<&str> = options.names.iter().map(String::as_str).collect();
    for (name, result) in block_on(admin.describe_groups(&names))? {
        // Brokers of before KIP-1043 say of a group that they do not know that it is dead.
        let group = match result {
            Ok(group) if group.state != "Dead" => group,
            Err(error) if error.code() != Some(ErrorCode::GroupIdNotFound) => return Err(error.into()),
            _ => {
                return Err(Failure::new(format!("there is no group {name}"))
                    .hint("`millstream groups list` shows those that there are"));
            }
        };
        let mut text = format!("{name}  {}  {} member(s)", group.state, group.members.len());
        if !group.protocol.is_empty() {
            text += &format!("  assignor {}", group.protocol);
        }
        text.push('\n');
        if !group.members.is_empty() {
            let mut rows = vec![["  MEMBER", "CLIENT", "HOST"].map(str::to_owned).to_vec()];
            for member in &group.members {
                rows.push(vec![format!("  {}", member.member_id), member.client_id.clone(), member.host.clone()]);
            }
            text += &table(&rows);
        }
        print(&(text + &offsets(&admin, &name)?))?;
    }
    Ok(())
}

fn offsets(admin: &Admin, group: &str) -> Result<String, Failure> {
    let mut committed = block_on(admin.list_group_offsets(group))?;
    if committed.is_empty() {
        return Ok(String::new());
    }
    committed.sort_by(|a, b| a.0.cmp(&b.0));
    let asked: Vec<(TopicPartition, OffsetSpec)> =
        committed.iter().map(|(partition, _)| (partition.clone(), OffsetSpec::Latest)).collect();
    let ends = block_on(admin.list_offsets(&asked))?;
    let mut rows = vec![["  PARTITION", "COMMITTED", "LOG END", "LAG"].map(str::to_owned).to_vec()];
    for (partition, offset) in &committed {
        let end = ends.iter().find(|(of, _)| of == partition).and_then(|(_, end)| end.as_ref().ok());
        let unknown = || "unknown".to_owned();
        rows.push(vec![
            format!("  {partition}"),
            offset.offset.to_string(),
            end.map_or_else(unknown, |end| end.offset.to_string()),
            end.map_or_else(unknown, |end| (end.offset - offset.offset).max(0).to_string()),
        ]);
    }
    Ok(table(&rows))
}
