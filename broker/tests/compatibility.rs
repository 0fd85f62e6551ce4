//! `docs/kafka-compatibility.md` says what the code does: its table of APIs, its lists of properties.

#![allow(clippy::unwrap_used, reason = "a test says where it failed")]

use broker::dispatch::is_served;
use broker::effects::{DYNAMIC_WITHOUT_EFFECT, REFUSED, TOPIC_WITHOUT_EFFECT, WITH_EFFECT};
use protocol::api::{ApiKey, advertised_versions};

const PAGE: &str = include_str!("../../docs/kafka-compatibility.md");

#[test]
fn the_table_of_apis_is_what_api_versions_lists() {
    let documented: Vec<String> = PAGE
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix("| ")?.split(" | ").collect();
            cells.get(1)?.parse::<i16>().ok()?;
            Some(cells[..3].join(" "))
        })
        .collect();
    let served: Vec<String> = ApiKey::ALL
        .iter()
        .filter(|key| is_served(**key))
        .map(|key| {
            let (min, max) = advertised_versions(*key);
            format!("{key:?} {} {min}-{max}", *key as i16)
        })
        .collect();
    assert_eq!(documented, served);
}

#[test]
fn the_lists_of_properties_are_those_of_the_code() {
    let lists = [
        ("These have an effect:", WITH_EFFECT),
        ("These can be changed too, and have no effect", DYNAMIC_WITHOUT_EFFECT),
        ("These are refused unless", REFUSED),
        ("These settings of topics have no effect", TOPIC_WITHOUT_EFFECT),
    ];
    for (heading, list) in lists {
        let section = PAGE.split_once(heading).unwrap().1.split_once("\n\n").unwrap().1;
        let section = section.split_once(".\n").unwrap().0;
        let documented: Vec<&str> = section.split('`').skip(1).step_by(2).collect();
        assert_eq!(documented, list, "{heading}");
    }
}
