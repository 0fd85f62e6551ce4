//! `kill -9` at random moments of a word count, again and again on the same directory: nothing is lost, and it runs again at once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use millstream::Embedded;
use millstream::base::{Clock, Rng, SystemClock, TopicPartition};
use millstream::client::admin::Admin;
use millstream::client::block_on;
use millstream::client::consumer::{Consumer, ConsumerConfig, ConsumerRecord};
use support::{example, result_of, shipped_text};

const KILLS: usize = 12;
/// Texts that the first run is given; each one after it gets one more.
const FIRST_TEXTS: usize = 3;
/// A run gets this long at most before it is killed.
const LATEST_KILL_MS: u64 = 900;
/// Processing must have begun again by then; nothing may wait for the session of the member that was killed (45 s).
const RUNNING_WITHIN_MS: i64 = 1_000;

/// What one run that was killed has shown.
struct Killed {
    /// When it said that it runs, from its start.
    running_ms: Option<i64>,
    /// Whether it ended by itself before.
    completed: bool,
}

/// Starts a word count and kills it after `after`.
fn kill_after(arguments: &[String], after: Duration) -> Killed {
    let clock = SystemClock::new();
    let mut command = example("word_count");
    let started = clock.now().ticks_ms;
    let mut child =
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the example starts");
    let (said, heard) = mpsc::channel();
    let lines = BufReader::new(child.stderr.take().expect("stderr is piped"));
    let listener = std::thread::spawn(move || {
        for line in lines.lines().map_while(Result::ok) {
            // The test may have heard enough.
            let _ = said.send((SystemClock::new().now().wall_ms, line));
        }
    });
    let started_wall = clock.now().wall_ms;
    let mut running_ms = None;
    let mut completed = false;
    loop {
        let left = after.as_millis() as i64 - (clock.now().ticks_ms - started);
        if left <= 0 {
            break;
        }
        match heard.recv_timeout(Duration::from_millis(left as u64)) {
            Ok((at, line)) if line.ends_with("] running") => {
                running_ms.get_or_insert(at - started_wall);
            }
            Ok(_) | Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                completed = true;
                break;
            }
        }
    }
    // SIGKILL: no handler, no destructor.
    child.kill().expect("the example is ours");
    let status = child.wait().expect("the example ends");
    assert!(!completed || status.success(), "it failed by itself: {status}");
    listener.join().expect("it only reads");
    Killed { running_ms, completed }
}

fn counts(text: &str) -> BTreeMap<String, i64> {
    let count = |line: &str| line.split_once('\t').map(|(word, count)| (word.to_owned(), count.parse().unwrap()));
    text.lines().filter_map(count).collect()
}

/// All records of a topic.
fn records(broker: &Embedded, topic: &str, partitions: i32) -> Vec<ConsumerRecord> {
    records_from(broker, topic, partitions, &BTreeMap::new())
}

/// Records of a topic from these offsets on, where there are any for a partition.
fn records_from(
    broker: &Embedded,
    topic: &str,
    partitions: i32,
    from: &BTreeMap<TopicPartition, i64>,
) -> Vec<ConsumerRecord> {
    let mut consumer = Consumer::new(broker.client(), ConsumerConfig::default().enable_auto_commit(false)).unwrap();
    let all: Vec<TopicPartition> = (0..partitions).map(|partition| TopicPartition::new(topic, partition)).collect();
    let starts = block_on(consumer.beginning_offsets(all.clone())).unwrap();
    let ends: BTreeMap<_, _> = block_on(consumer.end_offsets(all.clone())).unwrap().into_iter().collect();
    consumer.assign(all).unwrap();
    for (partition, start) in &starts {
        consumer.seek(partition, *from.get(partition).unwrap_or(&0).max(start)).unwrap();
    }
    let mut records = Vec::new();
    while ends.iter().any(|(partition, end)| consumer.position(partition).is_none_or(|position| position < *end)) {
        let polled = consumer.poll_blocking(Duration::from_secs(10)).unwrap();
        assert!(!polled.is_empty(), "{topic} does not come to its end");
        records.extend(polled);
    }
    records
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What a kill left: how far the group had committed, and what lay behind that on its way to the counts.
#[derive(Default)]
struct Left {
    committed: BTreeMap<TopicPartition, i64>,
    /// Words published to the repartition topic so far.
    published: i64,
    /// Those of them whose counting is not committed.
    uncommitted: i64,
}

/// Looked up in a copy, so that the next run has to mend by itself what the kill left.
fn left_by_kill(data: &Path) -> Left {
    if !data.exists() {
        return Left::default();
    }
    let copy = tempfile::tempdir().unwrap();
    copy_folder(data, copy.path());
    left_in(&Embedded::open(copy.path()).unwrap())
}

fn left_in(broker: &Embedded) -> Left {
    let admin = Admin::new(broker.client());
    let committed = block_on(admin.list_group_offsets("word-count")).unwrap();
    let committed: BTreeMap<_, _> =
        committed.into_iter().map(|(partition, committed)| (partition, committed.offset)).collect();
    let mut left = Left { committed, ..Left::default() };
    let topics = block_on(admin.list_topics()).unwrap();
    let Some(topic) = topics.iter().find(|topic| topic.name.ends_with("-repartition")) else { return left };
    let partitions = (0..topic.partitions.len() as i32).map(|index| TopicPartition::new(&*topic.name, index)).collect();
    let consumer = Consumer::new(broker.client(), ConsumerConfig::default().enable_auto_commit(false)).unwrap();
    for (partition, end) in block_on({ consumer }.end_offsets(partitions)).unwrap() {
        left.published += end;
        left.uncommitted += end - left.committed.get(&partition).copied().unwrap_or(0);
    }
    left
}

/// Words of the lines behind these offsets.
fn words_behind(broker: &Embedded, committed: &BTreeMap<TopicPartition, i64>) -> i64 {
    let in_line = |line: &str| line.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).count();
    let lines = records_from(broker, "text-lines", 4, committed).into_iter().filter_map(|record| record.value);
    lines.map(|line| in_line(std::str::from_utf8(&line).unwrap()) as i64).sum()
}

fn header(record: &ConsumerRecord, name: &str) -> String {
    let value = record.headers.last(name).and_then(|header| header.value.clone()).unwrap_or_default();
    String::from_utf8(value.to_vec()).unwrap()
}

/// Each line of each text is in the topic exactly once: what was acknowledged stayed, what was not was sent again.
fn assert_lines_are_complete(broker: &Embedded, texts: &[PathBuf]) {
    let mut found: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for record in records(broker, "text-lines", 4) {
        let (source, end) = (header(&record, "source"), header(&record, "end").parse().unwrap());
        assert!(
            found.entry(source.clone()).or_default().insert(end),
            "the line up to {end} of {source} is there twice"
        );
    }
    for text in texts {
        let mut end = 0;
        let content = std::fs::read_to_string(text).unwrap();
        let ends: BTreeSet<u64> = content
            .split_inclusive('\n')
            .map(|line| {
                end += line.len() as u64;
                end
            })
            .collect();
        let source = text.canonicalize().unwrap().display().to_string();
        assert!(found.get(&source) == Some(&ends), "lines of {source} are missing");
    }
}

/// The latest record of each word says what the store says.
fn assert_published(broker: &Embedded, counts: &BTreeMap<String, i64>) {
    let mut latest = BTreeMap::new();
    for record in records(broker, "word-counts", 4) {
        let (Some(word), Some(count)) = (record.key, record.value) else { continue };
        let count = i64::from_be_bytes(count.as_ref().try_into().unwrap());
        latest.insert(String::from_utf8(word.to_vec()).unwrap(), count);
    }
    let differs = counts.iter().find(|(word, count)| latest.get(*word) != Some(*count));
    assert_eq!(differs.map(|(word, count)| (word, count, latest.get(word))), None, "(word, counted, published)");
}

fn copies(folder: &Path, count: usize) -> Vec<PathBuf> {
    let copy = |number: usize| {
        let path = folder.join(format!("copy-{number}.txt"));
        std::fs::copy(shipped_text(), &path).unwrap();
        path
    };
    (0..count).map(copy).collect()
}

fn killed_again_and_again(seed: u64, settings: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let texts = copies(folder.path(), FIRST_TEXTS + KILLS);
    let data = folder.path().join("data");
    let mut before = vec!["--data".to_owned(), data.display().to_string()];
    for setting in settings {
        before.extend(["--set".to_owned(), (*setting).to_owned()]);
    }
    before.push("--input".to_owned());
    // Each run is given a text more than the one before, so that a fast machine has work left too.
    let arguments_of = |texts: &[PathBuf]| {
        let texts = texts.iter().map(|text| text.display().to_string());
        before.iter().cloned().chain(texts).collect::<Vec<String>>()
    };
    let exact: BTreeMap<String, i64> = counts(&result_of("word_count", [""; 0]))
        .into_iter()
        .map(|(word, count)| (word, count * texts.len() as i64))
        .collect();

    let mut rng = Rng::from_seed(seed);
    let (mut running, mut unfinished) = (Vec::new(), 0);
    let (mut left, mut repeatable) = (Left::default(), 0);
    for kill in 0..KILLS {
        let after = rng.below(LATEST_KILL_MS);
        let arguments = arguments_of(&texts[..=FIRST_TEXTS + kill]);
        let killed = kill_after(&arguments, Duration::from_millis(after));
        eprintln!("seed {seed}, kill {kill} after {after} ms: running at {:?} ms", killed.running_ms);
        running.extend(killed.running_ms);
        unfinished += usize::from(!killed.completed);
        left = left_by_kill(&data);
        repeatable += left.uncommitted;
    }
    assert!(unfinished >= KILLS / 2, "seed {seed}: only {unfinished} runs were killed before they were done");
    assert!(!running.is_empty(), "seed {seed}: no run got to run");
    running.sort_unstable();
    let (median, slowest) = (running[running.len() / 2], running[running.len() - 1]);
    // The machine may be busy with other tests at one moment, but not at all of them.
    assert!(median <= RUNNING_WITHIN_MS, "seed {seed}: running again after {running:?} ms");
    assert!(slowest <= 5 * RUNNING_WITHIN_MS, "seed {seed}: running again after {running:?} ms");

    let counted = counts(&result_of("word_count", arguments_of(&texts)));
    for (word, exact) in &exact {
        let counted = counted.get(word).copied().unwrap_or(0);
        assert!(counted >= *exact, "seed {seed}: {word} was counted {counted} times, it is there {exact} times");
    }
    assert_eq!(counted.keys().find(|word| !exact.contains_key(*word)), None, "seed {seed}: a word that is not there");
    let (total, exact) = (counted.values().sum::<i64>(), exact.values().sum::<i64>());
    eprintln!("seed {seed}: {} of {exact} words counted more than once", total - exact);
    let broker = Embedded::open(&data).unwrap();
    // At least once, and repeated is only what followed a commit: the last run has published exactly the words of the lines behind
    // the last commit, and of what was published only what lay behind a commit at a kill was counted twice.
    let published = left_in(&broker).published;
    assert_eq!(published - left.published, words_behind(&broker, &left.committed), "seed {seed}: (published, behind)");
    assert!((published..=published + repeatable).contains(&total), "seed {seed}: {total} of {published}, {repeatable}");
    assert_lines_are_complete(&broker, &texts);
    assert_published(&broker, &counted);
}

#[test]
fn a_word_count_killed_at_any_moment_loses_nothing_and_runs_again_at_once() {
    // One after the other: they measure time.
    killed_again_and_again(1, &[]);
    killed_again_and_again(2, &["statestore.cache.max.bytes=0"]);
}
