//! Reads scenarios: `.json` (one scenario), `.jsonl` (one a line), either also as `.gz`, and folders of them, recursively.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

/// The scenarios of a file or of all files below a folder, in the order of their paths.
///
/// # Errors
/// Text that names the file: it cannot be read, is no JSON, or a folder holds no scenario.
pub fn read(path: &Path) -> Result<Vec<Json>, String> {
    let mut files = Vec::new();
    collect(path, &mut files)?;
    if files.is_empty() {
        return Err(format!("{}: no .json or .jsonl file below it", path.display()));
    }
    files.sort();
    let mut scenarios = Vec::new();
    for file in files {
        scenarios.extend(read_file(&file, path.is_dir())?);
    }
    Ok(scenarios)
}

fn failed(path: &Path, error: impl std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

fn is_scenario(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    let name = name.strip_suffix(".gz").unwrap_or(name);
    name.ends_with(".json") || name.ends_with(".jsonl")
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(path).map_err(|error| failed(path, error))? {
        let below = entry.map_err(|error| failed(path, error))?.path();
        if below.is_dir() {
            collect(&below, files)?;
        } else if is_scenario(&below) {
            files.push(below);
        }
    }
    Ok(())
}

fn read_file(path: &Path, below_folder: bool) -> Result<Vec<Json>, String> {
    let bytes = std::fs::read(path).map_err(|error| failed(path, error))?;
    let is_compressed = path.extension().is_some_and(|extension| extension == "gz");
    let plain = if is_compressed { path.with_extension("") } else { path.to_owned() };
    let text = if is_compressed { unzip(&bytes) } else { String::from_utf8(bytes).map_err(|error| error.to_string()) };
    let text = text.map_err(|error| failed(path, error))?;
    if plain.extension().is_some_and(|extension| extension == "jsonl") {
        return lines(&text).map_err(|error| failed(path, error));
    }
    let document: Json = serde_json::from_str(&text).map_err(|error| failed(path, error))?;
    // Folders of scenarios hold documents about them, too.
    let says_it_is_none =
        document.is_object() && document.get("topology").is_none() && document.get("format").is_none();
    if below_folder && says_it_is_none {
        eprintln!("{}: no scenario, left out", path.display());
        return Ok(Vec::new());
    }
    Ok(vec![document])
}

fn unzip(bytes: &[u8]) -> Result<String, String> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

/// Scenarios, one a line.
///
/// # Errors
/// The number of the line that is no JSON.
pub fn lines(text: &str) -> Result<Vec<Json>, String> {
    let numbered = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parse = |(index, line)| serde_json::from_str(line).map_err(|error| format!("line {}: {error}", index + 1));
    numbered.map(parse).collect()
}

/// The scenarios that come with this program.
///
/// # Errors
/// The file is damaged.
pub fn own() -> Result<Vec<Json>, String> {
    lines(&unzip(include_bytes!("../data/scenarios.jsonl.gz"))?)
}
