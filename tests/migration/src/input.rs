//! What goes into the topologies, made up from a seed, and what must have come out in the end, counted here in the plainest way.

use std::collections::BTreeMap;

/// A record to produce.
pub struct Input {
    pub topic: String,
    pub key: String,
    pub value: String,
    pub timestamp: i64,
}

/// Records in two halves, and the last value of every key of the output.
pub struct Case {
    pub halves: [Vec<Input>; 2],
    pub expected: BTreeMap<String, String>,
}

/// Xorshift: the same records for the same seed on any machine.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

const RECORDS: i64 = 20_000;

/// The case of the topology called `name` with these topics, with timestamps from `start_ms` on: not long ago, or topics would throw the records away by age.
pub fn case(name: &str, [topic, customers_topic, _]: &[String; 3], start_ms: i64) -> Case {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut halves = [Vec::new(), Vec::new()];
    let mut expected = BTreeMap::new();
    let (mut orders, mut customers) = (BTreeMap::new(), BTreeMap::new());
    for index in 0..RECORDS {
        let half = &mut halves[usize::from(index >= RECORDS / 2)];
        let timestamp = start_ms + index * 10;
        let mut send = |topic: &str, key: String, value: String| {
            half.push(Input { topic: topic.to_owned(), key, value, timestamp })
        };
        match name {
            "word-count" => {
                let words: Vec<String> = (0..4).map(|_| format!("w{}", numbers.below(300))).collect();
                for word in &words {
                    add(&mut expected, word.clone());
                }
                send(topic, format!("line-{index}"), words.join(" "));
            }
            "windowed-count" => {
                let key = format!("k{}", numbers.below(50));
                add(&mut expected, format!("{key}@{}", timestamp - timestamp % 60_000));
                send(topic, key, "click".to_owned());
            }
            _ => {
                let customer = format!("c{}", numbers.below(40));
                if index % 5 == 0 {
                    let name = format!("name{}", numbers.below(1_000));
                    customers.insert(customer.clone(), name.clone());
                    send(customers_topic, customer, name);
                } else {
                    let (order, value) = (format!("o{}", numbers.below(500)), format!("{customer}|{index}"));
                    orders.insert(order.clone(), value.clone());
                    send(topic, order, value);
                }
            }
        }
    }
    for (order, value) in orders {
        if let Some(name) = value.split('|').next().and_then(|customer| customers.get(customer)) {
            expected.insert(order, format!("{value}/{name}"));
        }
    }
    Case { halves, expected }
}

fn add(counts: &mut BTreeMap<String, String>, key: String) {
    let count = counts.entry(key).or_insert_with(|| "0".to_owned());
    *count = (count.parse::<u64>().unwrap_or(0) + 1).to_string();
}
