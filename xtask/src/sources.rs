//! What a source file may contain: a header, no reach across forbidden borders, clocks and threads only in drivers.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A word that may stand only in the files whose path starts with one of `only_in` (of those under `within`).
struct Ban {
    within: &'static str,
    word: &'static str,
    only_in: &'static [&'static str],
    reason: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        within: "storage/src/log/",
        word: "crate::state",
        only_in: &[],
        reason: "log and state do not know each other",
    },
    Ban {
        within: "storage/src/state/",
        word: "crate::log",
        only_in: &[],
        reason: "log and state do not know each other",
    },
    Ban {
        within: "streams-core/src/",
        word: "client::",
        only_in: &["streams-core/src/runtime/", "streams-core/src/lib.rs"],
        reason: "only runtime/ knows the client",
    },
    Ban {
        within: "streams-core/src/",
        word: "tokio",
        only_in: &["streams-core/src/runtime/"],
        reason: "only runtime/ knows an async runtime",
    },
    Ban {
        within: "",
        word: "kafka_protocol",
        only_in: &["protocol/src/api", "xtask/"],
        reason: "wire structs enter through protocol::api",
    },
    Ban {
        within: "",
        word: "SystemTime::now",
        only_in: &["base/src/time.rs", "xtask/", "clippy.toml"],
        reason: "take a base::Clock",
    },
    Ban {
        within: "",
        word: "Instant::now",
        // Benchmarks measure real time.
        only_in: &[
            "base/src/time.rs",
            "xtask/",
            "clippy.toml",
            "bench/",
            "streams-core/benches/",
            "client/tests/shells.rs",
        ],
        reason: "take a base::Clock",
    },
    Ban { within: "", word: "RandomState", only_in: &["xtask/"], reason: "hash maps use base::hash" },
];

/// Libraries in which nothing may start a thread, a task or touch files but the drivers named here and in ARCHITECTURE.md.
const LIBRARIES: [&str; 7] = [
    "base/src/",
    "protocol/src/",
    "storage/src/",
    "broker/src/",
    "client/src/",
    "streams-core/src/",
    "streams-dsl/src/",
];
const DRIVER_WORDS: [&str; 5] = ["thread::spawn", "thread::Builder", "tokio::spawn", "tokio::time", "std::fs"];

fn rust_files(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "snapshots" {
                rust_files(&path, files)?;
            }
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The files that ARCHITECTURE.md names as drivers: its list items of the form "- `path.rs`: ...", under the heading "Drivers".
fn drivers(architecture: &str) -> Vec<&str> {
    architecture
        .lines()
        .skip_while(|line| !line.starts_with('#') || !line.contains("Drivers"))
        .skip(1)
        .take_while(|line| !line.starts_with('#'))
        .filter_map(|line| line.trim_start().strip_prefix("- `")?.split('`').next())
        .collect()
}

pub fn check(root: &Path) -> Result<Vec<String>> {
    let architecture = fs::read_to_string(root.join("ARCHITECTURE.md")).context("reading ARCHITECTURE.md")?;
    let drivers = drivers(&architecture);
    let mut files = Vec::new();
    rust_files(root, &mut files)?;
    let mut breaches = Vec::new();
    for path in files {
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {name}"))?;
        if !text.starts_with("//!") {
            breaches.push(format!("{name}: a file starts with a //! header that says what it is for"));
        }
        for (index, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            check_line(&name, index + 1, code, &drivers, &mut breaches);
        }
    }
    for line in crates_without_paragraph(root, &architecture)? {
        breaches.push(line);
    }
    Ok(breaches)
}

fn check_line(name: &str, number: usize, code: &str, drivers: &[&str], breaches: &mut Vec<String>) {
    for ban in BANS {
        if name.starts_with(ban.within)
            && code.contains(ban.word)
            && !ban.only_in.iter().any(|place| name.starts_with(place))
        {
            breaches.push(format!("{name}:{number}: {} may not stand here: {}", ban.word, ban.reason));
        }
    }
    let in_library = LIBRARIES.iter().any(|library| name.starts_with(library));
    if in_library && !drivers.contains(&name) {
        for word in DRIVER_WORDS {
            if code.contains(word) && !name.starts_with("base/src/random.rs") {
                breaches.push(format!("{name}:{number}: {word} stands only in the drivers that ARCHITECTURE.md lists"));
            }
        }
    }
}

fn crates_without_paragraph(root: &Path, architecture: &str) -> Result<Vec<String>> {
    let manifest = fs::read_to_string(root.join("Cargo.toml")).context("reading Cargo.toml")?;
    let members = manifest.lines().find(|line| line.starts_with("members")).unwrap_or_default();
    let names = members.split('"').skip(1).step_by(2).filter(|name| *name != ".");
    Ok(names
        .filter(|name| !architecture.contains(&format!("**{name}**")))
        .map(|name| format!("ARCHITECTURE.md has no paragraph that starts with **{name}**"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_banned_word_is_found_outside_its_place_and_allowed_inside() {
        let mut breaches = Vec::new();
        check_line("streams-core/src/task/task.rs", 3, "use client::Client;", &[], &mut breaches);
        check_line("streams-core/src/runtime/commit.rs", 3, "use client::Client;", &[], &mut breaches);
        assert_eq!(breaches.len(), 1, "{breaches:?}");
        assert!(breaches[0].starts_with("streams-core/src/task/task.rs:3"));
    }

    #[test]
    fn threads_start_only_in_listed_drivers() {
        let mut breaches = Vec::new();
        check_line("client/src/tcp.rs", 1, "std::thread::spawn(run)", &["client/src/tcp.rs"], &mut breaches);
        check_line("client/src/retry.rs", 1, "std::thread::spawn(run)", &["client/src/tcp.rs"], &mut breaches);
        assert_eq!(breaches.len(), 1, "{breaches:?}");
    }

    #[test]
    fn drivers_are_read_from_their_list() {
        let text = "# A\n- `x.rs`: no\n## Drivers\n\n- `a.rs`: one\n- `b.rs`: two\n## Next\n- `c.rs`\n";
        assert_eq!(drivers(text), ["a.rs", "b.rs"]);
    }
}
