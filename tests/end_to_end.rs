//! The example programs against independent scripts: same texts, same clicks, same results; whole, resumed, piped, and on a cluster.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use millstream::Embedded;
use millstream::base::Rng;
use support::{assert_as_reference, repository, result_of, run, run_piped, shipped_text, succeeded};

const SHIPPED: &str = "b10ef662cfbe81a1";

/// Letters that lower-case to several characters, final and inner sigma, marks that belong to words, digits of many scripts, line ends of all kinds,
/// no line end at the end.
const ODD: &str = "İstanbul ISTANBUL İSTANBUL\r\nStraße STRASSE ẞ\n\n\nΟΔΥΣΣΕΥΣ ΣΑΣ Σ ΑΣ1 Σας\r\n١٢٣ 123 ⅷ Ⅷ ½ ² x²\n\
    हिन्दी हिन्दी ก็ Ⓐⓐ ⒶB\ncafe\u{301} café CAFÉ\tcan't e-mail snake_case a.b 3.14\u{a0}end\n漢字かな交じり文 한국어\u{2028}same line\r\r\n\
    ǅ ǆ Ǆ ﬃ ŉ Kelvin\u{212a} 𐐀𐐨 𝒜 \u{feff}bom 😀emoji😀\nlast line without end ΤΕΛΟΣ";

/// Words of a small vocabulary, with everything in between that is no word, from a seed.
fn made_up_text(seed: u64, words: usize) -> String {
    const VOCABULARY: [&str; 20] = [
        "alpha",
        "Alpha",
        "ALPHA",
        "ΣΊΣΥΦΟΣ",
        "İ",
        "ß",
        "Groß",
        "42",
        "42a",
        "ñandú",
        "Ñandú",
        "naïve",
        "мир",
        "МИР",
        "日本",
        "x",
        "X",
        "of",
        "the",
        "The",
    ];
    const BETWEEN: [&str; 10] = [" ", " ", " ", "\n", "\r\n", ", ", " — ", "\n\n", "_", "\t"];
    let mut rng = Rng::from_seed(seed);
    let mut pick = |from: &[&'static str]| from[rng.below(from.len() as u64) as usize];
    (0..words).flat_map(|_| [pick(&VOCABULARY), pick(&BETWEEN)]).collect()
}

fn written(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    path
}

fn counted(files: &[&Path]) -> String {
    result_of("word_count", ["--input".as_ref()].into_iter().chain(files.iter().map(|path| path.as_os_str())))
}

#[test]
fn words_of_the_shipped_text_are_counted_exactly() {
    let text = shipped_text();
    assert_as_reference(&result_of("word_count", [""; 0]), "word_count.py", &[&text], SHIPPED);
}

#[test]
fn words_of_odd_characters_are_counted_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let text = written(folder.path(), "odd.txt", ODD);
    assert_as_reference(&counted(&[&text]), "word_count.py", &[&text], "5d7b64c9494b1a35");
}

#[test]
fn words_of_a_made_up_text_are_counted_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let text = written(folder.path(), "made-up.txt", made_up_text(7, 200_000));
    assert_as_reference(&counted(&[&text]), "word_count.py", &[&text], "9e6013f1589c2e7d");
}

#[test]
fn a_line_longer_than_any_buffer_is_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let text = written(folder.path(), "long.txt", "one two three ".repeat(200_000));
    assert_eq!(counted(&[&text]), "one\t200000\nthree\t200000\ntwo\t200000\n");
}

#[test]
fn an_empty_text_has_no_words() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(counted(&[&written(folder.path(), "empty.txt", "")]), "");
}

#[test]
fn a_text_read_to_its_end_adds_nothing_and_another_is_added() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").display().to_string();
    let a = written(folder.path(), "a.txt", "x y\ny\n").display().to_string();
    let b = written(folder.path(), "b.txt", "y z").display().to_string();
    let with = |file: &str| result_of("word_count", ["--data", &data, "--input", file]);
    assert_eq!(with(&a), "y\t2\nx\t1\n");
    assert_eq!(with(&a), "y\t2\nx\t1\n");
    assert_eq!(with(&b), "y\t3\nx\t1\nz\t1\n");
    // Also when the latest records are of another text.
    assert_eq!(with(&a), "y\t3\nx\t1\nz\t1\n");
    // What was appended meanwhile is new.
    fs::write(folder.path().join("a.txt"), "x y\ny\nx x x\n").unwrap();
    assert_eq!(with(&a), "x\t4\ny\t3\nz\t1\n");
    assert_eq!(result_of("word_count", ["--data", &data, "--input", &a, &b, &a]), "x\t4\ny\t3\nz\t1\n");
}

#[test]
fn standard_input_is_a_text() {
    let text = "b a b\n".as_bytes();
    assert_eq!(succeeded(run_piped("word_count", &["--input", "-"], text)).0, "b\t2\na\t1\n");
    assert_eq!(succeeded(run_piped("word_count", &[], text)).0, "b\t2\na\t1\n", "piped, without --input");
}

#[test]
fn a_cluster_serves_as_well_and_nothing_is_added_twice() {
    let mut broker = Embedded::temporary().unwrap();
    let address = broker.listen("127.0.0.1:0").unwrap().to_string();
    let text = shipped_text();
    for _ in 0..2 {
        let counts = result_of("word_count", ["--bootstrap", &address]);
        assert_as_reference(&counts, "word_count.py", &[&text], SHIPPED);
    }
    let clicks = repository("tests/reference/clicks.jsonl").display().to_string();
    let embedded = result_of("click_analytics", ["--input", &clicks]);
    assert_eq!(result_of("click_analytics", ["--bootstrap", &address, "--input", &clicks]), embedded);
}

#[test]
fn without_caches_the_counts_are_the_same() {
    let counts = result_of("word_count", ["--set", "statestore.cache.max.bytes=0", "--set", "num.stream.threads=2"]);
    assert_as_reference(&counts, "word_count.py", &[&shipped_text()], SHIPPED);
}

/// Clicks in disorder, around every border of lateness, between lines that are none.
fn made_up_clicks(seed: u64, count: u64) -> String {
    const NONE: [&str; 14] = [
        "",
        "   ",
        "{}",
        "not json",
        "[\"/a\",\"u\",1700000000000]",
        "{\"page\":\"/a\",\"user\":\"u\"}",
        "{\"page\":\"/a\",\"ts\":1700000000000}",
        "{\"user\":\"u\",\"ts\":1700000000000}",
        "{\"page\":1,\"user\":\"u\",\"ts\":1700000000000}",
        "{\"page\":\"/a\",\"user\":\"u\",\"ts\":\"1700000000000\"}",
        "{\"page\":\"/a\",\"user\":\"u\",\"ts\":1.5}",
        "{\"page\":\"/a\",\"user\":\"u\",\"ts\":-1}",
        "{\"page\":\"/a\",\"user\":\"u\",\"ts\":1700000000000",
        "null",
    ];
    let mut rng = Rng::from_seed(seed);
    let mut lines = String::new();
    let mut latest: u64 = 1_700_000_000_000;
    for _ in 0..count {
        if rng.chance(1, 40) {
            lines.push_str(NONE[rng.below(NONE.len() as u64) as usize]);
            lines.push('\n');
            continue;
        }
        latest += rng.below(400);
        let ts = match rng.below(10) {
            0 => latest - rng.below(200_000),
            // At the border: windows that end 30,000 before the latest click, and their neighbours.
            1 => (latest - 30_000) / 60_000 * 60_000 - 1 + rng.below(3),
            _ => latest,
        };
        let page = ["/a", "/b", "/é", "/with space", ""][rng.below(5) as usize];
        let end = if rng.chance(1, 9) { "\r\n" } else { "\n" };
        lines.push_str(&format!(
            "{{\"user\":\"u{}\", \"ts\": {ts},\"page\":\"{page}\",\"more\":[1]}}{end}",
            rng.below(9)
        ));
    }
    lines
}

/// The numbers that stderr ends with.
fn dropped_and_skipped(errors: &str) -> (u64, u64) {
    let summary = errors.lines().last().unwrap_or_default();
    let after = |word: &str| {
        let rest = summary.split_once(word).map_or("", |(_, rest)| rest);
        rest.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(u64::MAX)
    };
    (after("dropped "), after("skipped "))
}

#[test]
fn clicks_are_counted_dropped_and_skipped_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let made_up = written(folder.path(), "clicks.jsonl", made_up_clicks(3, 60_000));
    let checked_in = repository("tests/reference/clicks.jsonl");
    for (clicks, digest, expected) in
        [(made_up, "e0d703534ce1a3d3", (6024, 1532)), (checked_in, "ece7b67ff594b723", (3, 2))]
    {
        let (result, errors) = succeeded(run("click_analytics", ["--input".as_ref(), clicks.as_os_str()]));
        let reference = assert_as_reference(&result, "click_analytics.py", &[&clicks], digest);
        assert_eq!(dropped_and_skipped(&errors), expected, "{errors}");
        if let Some(reference) = reference {
            let (dropped, skipped) = expected;
            assert_eq!(reference, format!("dropped {dropped}\nskipped {skipped}\n"));
        }
    }
}

#[test]
fn clicks_go_on_from_where_they_were_and_late_ones_stay_late() {
    let folder = tempfile::tempdir().unwrap();
    let all = made_up_clicks(5, 20_000);
    let cut = all.match_indices('\n').nth(9_000).unwrap().0 + 1;
    let whole = written(folder.path(), "whole.jsonl", &all).display().to_string();
    let growing = written(folder.path(), "growing.jsonl", &all[..cut]).display().to_string();
    let data = folder.path().join("data").display().to_string();
    let expected = succeeded(run("click_analytics", ["--input", &whole]));
    let first = succeeded(run("click_analytics", ["--data", &data, "--input", &growing]));
    assert_eq!(result_of("click_analytics", ["--data", &data, "--input", &growing]), first.0, "nothing is added");
    fs::write(&growing, &all).unwrap();
    let second = succeeded(run("click_analytics", ["--data", &data, "--input", &growing]));
    assert_eq!(second.0, expected.0);
    let (before, after) = (dropped_and_skipped(&first.1), dropped_and_skipped(&second.1));
    assert_eq!((before.0 + after.0, before.1 + after.1), dropped_and_skipped(&expected.1));
}

#[test]
fn a_click_of_the_future_counts_and_makes_those_before_it_late() {
    let folder = tempfile::tempdir().unwrap();
    let click = |ts: i64| format!("{{\"page\":\"/a\",\"user\":\"u\",\"ts\":{ts}}}\n");
    // The year 2100: more than an hour from now, which is as far as a topic's times go by default.
    let clicks: String = [1_700_000_000_000, 4_102_444_800_000, 1_700_000_000_001].map(click).concat();
    let clicks = written(folder.path(), "future.jsonl", clicks);
    let (result, errors) = succeeded(run("click_analytics", ["--input".as_ref(), clicks.as_os_str()]));
    assert_eq!(result, "1699999980000\t/a\t1\n4102444800000\t/a\t1\n");
    assert_eq!(dropped_and_skipped(&errors), (1, 0), "{errors}");
}
