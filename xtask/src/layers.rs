//! Which crate may depend on which: the table of ARCHITECTURE.md, compared with `cargo metadata`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Crate, and the crates of this workspace that it may depend on outside its tests.
const ALLOWED: [(&str, &[&str]); 14] = [
    ("base", &[]),
    ("protocol", &["base"]),
    ("storage", &["base", "protocol"]),
    ("broker", &["base", "protocol", "storage"]),
    ("client", &["base", "protocol"]),
    ("streams-core", &["base", "protocol", "client", "storage"]),
    ("streams-dsl", &["streams-core"]),
    ("cli", &["base", "protocol", "storage", "broker", "client", "streams-core"]),
    ("millstream", &["base", "protocol", "storage", "broker", "client", "streams-core", "streams-dsl"]),
    ("bench", &["millstream"]),
    ("simulation", &["millstream"]),
    ("conformance", &["millstream"]),
    ("migration", &["millstream"]),
    ("xtask", &[]),
];

/// Crates that join the others: their edges are free.
const JOINERS: [&str; 4] = ["bench", "simulation", "conformance", "migration"];

pub fn check(root: &Path) -> Result<Vec<String>> {
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root)
        .output()
        .context("running cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let members: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut breaches = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            breaches.push(format!(
                "crate {name} is not in the table of allowed edges (xtask/src/layers.rs, ARCHITECTURE.md)"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let target = dependency["name"].as_str().unwrap_or_default();
            let for_tests = dependency["kind"].as_str() == Some("dev");
            if members.contains(target) && !for_tests && !allowed.contains(&target) && !JOINERS.contains(&name) {
                breaches.push(format!(
                    "crate {name} depends on {target}; allowed: {allowed:?} (see the layers in ARCHITECTURE.md)"
                ));
            }
        }
    }
    Ok(breaches)
}
