//! `millstream transactions`: list, describe, describe-producers, find-hanging, abort.

use base::{Clock, SystemClock, TopicPartition};
use client::admin::{ProducerState, TransactionFilter};
use client::{Admin, ClientError, block_on};
use protocol::api::ErrorCode;
use serde_json::Value;

use super::json::{Fields, print_lines};
use super::partitions::{Selection, resolve};
use super::{admin, table};
use crate::options::{
    AbortOptions, DescribeTransactionsOptions, FindHangingOptions, ListTransactionsOptions, ProducersOptions,
    TransactionsCommand,
};
use crate::report::{Failure, print};

/// Runs what was asked.
pub fn run(command: &TransactionsCommand) -> Result<(), Failure> {
    match command {
        TransactionsCommand::List(options) => list(options),
        TransactionsCommand::Describe(options) => describe(options),
        TransactionsCommand::DescribeProducers(options) => describe_producers(options),
        TransactionsCommand::FindHanging(options) => find_hanging(options),
        TransactionsCommand::Abort(options) => abort(options),
    }
}

fn list(options: &ListTransactionsOptions) -> Result<(), Failure> {
    let filter = TransactionFilter {
        states: options.state.clone(),
        producer_ids: options.producer_id.clone(),
        duration_ms: options.running_for_ms.unwrap_or(-1),
        pattern: options.pattern.clone(),
    };
    let listed =
        block_on(admin(&options.listing.cluster)?.list_transactions(&filter)).map_err(|error| match error.code() {
            Some(ErrorCode::InvalidRegularExpression) => Failure::new(error.to_string()).hint("correct --pattern"),
            _ => error.into(),
        })?;
    if options.listing.json {
        return print_lines(listed.into_iter().map(|one| {
            Fields::default()
                .with("transactional_id", one.transactional_id)
                .with("producer_id", one.producer_id)
                .with("state", one.state)
        }));
    }
    if listed.is_empty() {
        return Ok(());
    }
    let mut rows = vec![["TRANSACTIONAL ID", "PRODUCER", "STATE"].map(str::to_owned).to_vec()];
    for one in listed {
        rows.push(vec![one.transactional_id, one.producer_id.to_string(), one.state]);
    }
    print(&table(&rows))
}

fn describe(options: &DescribeTransactionsOptions) -> Result<(), Failure> {
    let ids: Vec<&str> = options.ids.iter().map(String::as_str).collect();
    for (id, result) in block_on(admin(&options.listing.cluster)?.describe_transactions(&ids))? {
        let found = result.map_err(|error| match error.code() {
            Some(ErrorCode::TransactionalIdNotFound) => Failure::new(format!("there is no transactional id {id}"))
                .hint("`millstream transactions list` shows those that there are"),
            _ => error.into(),
        })?;
        let open_for = (found.start_ms >= 0).then(|| SystemClock::new().wall_ms() - found.start_ms);
        let partitions: Vec<String> = found.partitions.iter().map(ToString::to_string).collect();
        if options.listing.json {
            print_lines([Fields::default()
                .with("transactional_id", &*id)
                .with("state", found.state)
                .with("coordinator", found.coordinator)
                .with("producer_id", found.producer_id)
                .with("producer_epoch", found.producer_epoch)
                .with("timeout_ms", found.timeout_ms)
                .with("start_ms", if found.start_ms >= 0 { Value::from(found.start_ms) } else { Value::Null })
                .with("open_for_ms", open_for)
                .with("partitions", partitions)])?;
            continue;
        }
        let mut text = format!(
            "{id}  {}  producer {} epoch {}  coordinator {}  timeout {} ms\n",
            found.state, found.producer_id, found.producer_epoch, found.coordinator, found.timeout_ms
        );
        if let Some(ms) = open_for {
            text += &format!("  open for {ms} ms on {}\n", partitions.join(" "));
        }
        print(&text)?;
    }
    Ok(())
}

fn describe_producers(options: &ProducersOptions) -> Result<(), Failure> {
    let admin = admin(&options.listing.cluster)?;
    let partition = one_partition(&admin, &options.place.topic, options.place.partition)?;
    let producers = block_on(admin.describe_producers(&partition))?;
    if options.listing.json {
        return print_lines(producers.iter().map(producer_fields));
    }
    if producers.is_empty() {
        return Ok(());
    }
    let heads = ["PRODUCER", "EPOCH", "LAST SEQUENCE", "LAST TIMESTAMP", "COORDINATOR EPOCH", "OPEN SINCE OFFSET"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    let known = |value: i64| if value >= 0 { value.to_string() } else { "-".to_owned() };
    for one in producers {
        rows.push(vec![
            one.producer_id.to_string(),
            one.producer_epoch.to_string(),
            known(one.last_sequence.into()),
            known(one.last_timestamp),
            known(one.coordinator_epoch.into()),
            known(one.transaction_start),
        ]);
    }
    print(&table(&rows))
}

fn producer_fields(one: &ProducerState) -> Fields {
    let known = |value: i64| if value >= 0 { Value::from(value) } else { Value::Null };
    Fields::default()
        .with("producer_id", one.producer_id)
        .with("producer_epoch", one.producer_epoch)
        .with("last_sequence", known(one.last_sequence.into()))
        .with("last_timestamp", known(one.last_timestamp))
        .with("coordinator_epoch", known(one.coordinator_epoch.into()))
        .with("transaction_start_offset", known(one.transaction_start))
}

fn one_partition(admin: &Admin, topic: &str, partition: i32) -> Result<TopicPartition, Failure> {
    let selection = Selection { topic: topic.to_owned(), partitions: Some(vec![partition]) };
    let found = resolve(admin, &[selection])?.into_iter().next();
    found.ok_or_else(|| Failure::new(format!("there is no partition {partition} of {topic}")))
}

/// Open transactions of partitions that no coordinator has open: what a coordinator lost or never knew.
fn find_hanging(options: &FindHangingOptions) -> Result<(), Failure> {
    let admin = admin(&options.listing.cluster)?;
    let partitions = options.partition.map(|partition| vec![partition]);
    let mut selections: Vec<Selection> =
        options.topic.iter().map(|topic| Selection { topic: topic.clone(), partitions: partitions.clone() }).collect();
    if selections.is_empty() {
        let all = block_on(admin.list_topics())?;
        selections.extend(all.iter().map(|topic| Selection { topic: topic.name.to_string(), partitions: None }));
    }
    let now = SystemClock::new().wall_ms();
    let mut hanging: Vec<(TopicPartition, ProducerState)> = Vec::new();
    for partition in resolve(&admin, &selections)? {
        for producer in block_on(admin.describe_producers(&partition))? {
            let is_old = now - producer.last_timestamp >= options.older_than_ms;
            if producer.transaction_start >= 0 && is_old && !is_known(&admin, &partition, &producer)? {
                hanging.push((partition.clone(), producer));
            }
        }
    }
    if options.listing.json {
        return print_lines(hanging.iter().map(|(partition, producer)| {
            producer_fields(producer).with("topic", &*partition.topic).with("partition", partition.partition)
        }));
    }
    if hanging.is_empty() {
        return Ok(());
    }
    let mut rows =
        vec![["PARTITION", "PRODUCER", "EPOCH", "START OFFSET", "LAST TIMESTAMP"].map(str::to_owned).to_vec()];
    for (partition, producer) in &hanging {
        rows.push(vec![
            partition.to_string(),
            producer.producer_id.to_string(),
            producer.producer_epoch.to_string(),
            producer.transaction_start.to_string(),
            producer.last_timestamp.to_string(),
        ]);
    }
    print(&table(&rows))
}

/// Whether a coordinator has that transaction open on that partition.
fn is_known(admin: &Admin, partition: &TopicPartition, producer: &ProducerState) -> Result<bool, Failure> {
    let filter = TransactionFilter { producer_ids: vec![producer.producer_id], ..TransactionFilter::default() };
    let listed = block_on(admin.list_transactions(&filter))?;
    let ids: Vec<&str> = listed.iter().map(|one| one.transactional_id.as_str()).collect();
    for (_, described) in block_on(admin.describe_transactions(&ids))? {
        match described {
            Ok(described) if described.partitions.contains(partition) => return Ok(true),
            Ok(_) => {}
            // It has expired meanwhile.
            Err(error) if error.code() == Some(ErrorCode::TransactionalIdNotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

fn abort(options: &AbortOptions) -> Result<(), Failure> {
    let admin = admin(&options.cluster)?;
    let partition = one_partition(&admin, &options.place.topic, options.place.partition)?;
    let producers = block_on(admin.describe_producers(&partition))?;
    let found = producers.into_iter().filter(|producer| producer.transaction_start >= 0).find(|producer| {
        options.start_offset.is_none_or(|offset| producer.transaction_start == offset)
            && options.producer_id.is_none_or(|id| producer.producer_id == id)
    });
    let Some(producer) = found else {
        return Err(Failure::new(format!("{partition} has no open transaction like that"))
            .hint("`millstream transactions describe-producers` shows those that it has"));
    };
    block_on(admin.abort_transaction(&partition, &producer)).map_err(refused)?;
    print(&format!(
        "aborted the transaction of producer {} that began at offset {} of {partition}\n",
        producer.producer_id, producer.transaction_start
    ))
}

fn refused(error: ClientError) -> Failure {
    match error.code() {
        Some(ErrorCode::InvalidProducerEpoch | ErrorCode::TransactionCoordinatorFenced) => {
            Failure::new(error.to_string()).hint("its producer has gone on since: let it end the transaction itself")
        }
        _ => error.into(),
    }
}
