//! `millstream groups`: list, describe, reset-offsets, delete, delete-offsets.

mod describe;
mod reset_offsets;

use client::{ClientError, block_on};
use protocol::api::ErrorCode;

use super::json::{Fields, print_lines};
use super::partitions::{Selection, resolve};
use super::{admin, table};
use crate::options::{DeleteOffsetsOptions, GroupsCommand, ListGroupsOptions, NamedGroups};
use crate::report::{Failure, print};

/// Runs what was asked.
pub fn run(command: &GroupsCommand) -> Result<(), Failure> {
    match command {
        GroupsCommand::List(options) => list(options),
        GroupsCommand::Describe(options) => describe::run(options),
        GroupsCommand::ResetOffsets(options) => reset_offsets::run(options),
        GroupsCommand::Delete(options) => delete(options),
        GroupsCommand::DeleteOffsets(options) => delete_offsets(options),
    }
}

/// All groups, one a line.
fn list(options: &ListGroupsOptions) -> Result<(), Failure> {
    let admin = admin(&options.listing.cluster)?;
    let among =
        |wanted: &[String], is: &str| wanted.is_empty() || wanted.iter().any(|one| one.eq_ignore_ascii_case(is));
    let mut groups = block_on(admin.list_groups())?;
    groups.retain(|group| among(&options.state, &group.state) && among(&options.kind, &group.kind));
    if options.listing.json {
        return print_lines(groups.into_iter().map(|group| {
            Fields::default()
                .with("group", group.group)
                .with("state", group.state)
                .with("type", group.kind)
                .with("protocol", group.protocol_type)
        }));
    }
    let mut rows = vec![["GROUP", "STATE", "TYPE", "PROTOCOL"].map(str::to_owned).to_vec()];
    for group in groups {
        rows.push(vec![group.group, group.state, group.kind, group.protocol_type]);
    }
    if rows.len() == 1 {
        return Ok(());
    }
    print(&table(&rows))
}

/// Deletes groups; the first that cannot be deleted is the failure, the others are deleted all the same.
fn delete(options: &NamedGroups) -> Result<(), Failure> {
    let admin = admin(&options.cluster)?;
    let names: Vec<&str> = options.names.iter().map(String::as_str).collect();
    let mut failed = None;
    for (name, result) in block_on(admin.delete_groups(&names))? {
        match result {
            Ok(()) => print(&format!("deleted group {name}\n"))?,
            Err(error) => failed = failed.or(Some(not_there(&name, error))),
        }
    }
    failed.map_or(Ok(()), Err)
}

fn delete_offsets(options: &DeleteOffsetsOptions) -> Result<(), Failure> {
    let selections = options.topics.iter().map(|text| Selection::parse(text)).collect::<Result<Vec<_>, Failure>>()?;
    let admin = admin(&options.cluster)?;
    let partitions = resolve(&admin, &selections)?;
    let group = options.group.as_str();
    let results = block_on(admin.delete_group_offsets(group, &partitions)).map_err(|error| not_there(group, error))?;
    let mut failed = None;
    for (partition, result) in results {
        match result {
            Ok(()) => print(&format!("deleted the offset of {partition}\n"))?,
            Err(error) => failed = failed.or(Some(not_there(group, error))),
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The failure of a call about a group.
fn not_there(group: &str, error: ClientError) -> Failure {
    let failure = match error.code() {
        Some(ErrorCode::GroupIdNotFound) => Failure::new(format!("there is no group {group}")),
        _ => Failure::new(error.to_string()),
    };
    match error.code() {
        Some(ErrorCode::GroupIdNotFound) => failure.hint("`millstream groups list` shows those that there are"),
        Some(ErrorCode::NonEmptyGroup | ErrorCode::UnknownMemberId) => {
            failure.hint("stop its members first; `millstream groups describe` shows them")
        }
        Some(ErrorCode::GroupSubscribedToTopic) => {
            failure.hint("its members still read that topic; stop them, or subscribe to others")
        }
        _ => error.into(),
    }
}
