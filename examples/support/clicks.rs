//! Clicks as they come in, and made-up ones: a day at a site whose favourite pages stay the same, with a crowd on one page now and then.

use std::io;

use millstream::base::Rng;
use millstream::prelude::*;
use millstream::streams_core::processor::SourceRecord;
use millstream::streams_core::{SerdeError, TimestampExtractor};
use serde::{Deserialize, Serialize};

use super::support::source::{Lines, Source};

/// One click, as in `{"page":"/a","user":"u1","ts":1700000000000}`; `ts` is in milliseconds since 1970.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Click {
    /// Page clicked on.
    pub page: String,
    /// Who clicked.
    pub user: String,
    /// When.
    pub ts: i64,
}

/// Clicks as JSON objects. (`Json<Click>` would do, but takes `["/a","u1",0]` and negative times, too.)
pub struct ClickSerde;

impl Serde<Click> for ClickSerde {
    fn serialize(&self, topic: &str, headers: &Headers, click: &Click, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        Json::<Click>::new().serialize(topic, headers, click, out)
    }

    fn deserialize(&self, topic: &str, headers: &Headers, bytes: &[u8]) -> Result<Click, SerdeError> {
        let malformed = |reason: &str| SerdeError::Malformed { type_name: "click", reason: reason.to_owned() };
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(malformed("not a JSON object"));
        }
        let click = Json::<Click>::new().deserialize(topic, headers, bytes)?;
        // Times whose windows could not be reckoned with are as impossible as those before 1970.
        if (0..i64::MAX / 2).contains(&click.ts) { Ok(click) } else { Err(malformed("ts is out of range")) }
    }
}

/// Event time is when the click happened, not when it arrived.
pub struct ClickTime;

impl<K> TimestampExtractor<K, Click> for ClickTime {
    fn extract(&self, record: &SourceRecord<'_, K, Click>, _: i64, _: i64) -> Result<i64, BoxError> {
        Ok(record.value.map_or(record.timestamp, |click| click.ts))
    }
}

/// `count` made-up clicks; the same seed makes the same ones.
pub fn made_up(count: u64, seed: u64) -> Source {
    let lines = MadeUp { count, seed, position: 0 };
    Source::new(format!("made-up clicks of seed {seed}"), Some(count), true, Box::new(lines))
}

/// A position is the number of clicks so far; each click follows from seed and number alone.
struct MadeUp {
    count: u64,
    seed: u64,
    position: u64,
}

const START_MS: i64 = 1_700_000_040_000;
/// One click every three milliseconds on average.
const STEP_MS: i64 = 3;
const PAGES: u64 = 60;
const USERS: u64 = 5_000;
/// Every so many minutes there is a crowd on one page for a minute.
const CROWD_MINUTES: i64 = 5;

impl MadeUp {
    fn click(&self, number: u64) -> Click {
        let mut rng = Rng::from_seed(self.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let passed_ms = number as i64 * STEP_MS;
        let minute = passed_ms / 60_000;
        let is_crowded = minute % CROWD_MINUTES == CROWD_MINUTES - 1 && rng.chance(3, 5);
        let page = if is_crowded { minute as u64 % PAGES } else { popular(&mut rng) };
        // Most arrive at once, some a few seconds late, very few too late.
        let late_ms = match rng.below(2_000) {
            0 => 150_000,
            1..20 => rng.below(25_000),
            _ => rng.below(50),
        };
        let ts = START_MS + passed_ms - (late_ms as i64).min(passed_ms);
        Click { page: format!("/page/{page}"), user: format!("user-{}", rng.below(USERS)), ts }
    }
}

/// A page, the first ones far more often: the least of three draws.
fn popular(rng: &mut Rng) -> u64 {
    rng.below(PAGES).min(rng.below(PAGES)).min(rng.below(PAGES))
}

impl Lines for MadeUp {
    fn seek(&mut self, position: u64) -> io::Result<()> {
        self.position = position;
        Ok(())
    }

    fn next(&mut self, line: &mut Vec<u8>) -> io::Result<Option<u64>> {
        if self.position >= self.count {
            return Ok(None);
        }
        line.clear();
        serde_json::to_writer(&mut *line, &self.click(self.position))?;
        self.position += 1;
        Ok(Some(self.position))
    }
}
