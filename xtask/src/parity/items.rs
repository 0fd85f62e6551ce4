//! The items that the sources define, as far as lines tell: `crate::Type`, `crate::Type::member`, `crate::function`, and the settings of
//! applications that something uses. Modules are left out, as re-exports do.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const CRATES: [(&str, &str); 7] = [
    ("base", "base/src"),
    ("client", "client/src"),
    ("millstream", "src"),
    ("protocol", "protocol/src"),
    ("storage", "storage/src"),
    ("streams_core", "streams-core/src"),
    ("streams_dsl", "streams-dsl/src"),
];
const SETTINGS: &str = "streams-core/src/config/settings.rs";

/// All of them.
pub fn defined(root: &Path) -> Result<BTreeSet<String>> {
    let mut items = BTreeSet::new();
    for (name, folder) in CRATES {
        let mut files = Vec::new();
        rust_files(&root.join(folder), &mut files)?;
        for file in files {
            let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            items.extend(of_file(&text).into_iter().map(|item| format!("{name}::{item}")));
        }
    }
    let settings = fs::read_to_string(root.join(SETTINGS)).with_context(|| format!("reading {SETTINGS}"))?;
    items.extend(settings_of(&settings));
    Ok(items)
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Names in calls such as `number("poll.ms", ..`; those of `not_built` are accepted and have no effect but one.
fn settings_of(text: &str) -> Vec<String> {
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ").replace("( ", "(");
    let mut settings = Vec::new();
    for call in ["text(\"", "number(\"", "choice(\"", "elsewhere(\""] {
        let names = text.split(call).skip(1).filter_map(|rest| rest.split('"').next());
        settings.extend(names.map(|name| format!("setting:{name}")));
    }
    settings
}

/// A block that gives members to a type.
#[derive(Clone, PartialEq, Eq)]
struct Block {
    owner: String,
    indent: usize,
    /// Members of traits and of their implementations need no `pub`.
    is_open: bool,
    /// Its lines may be variants or fields.
    is_data: bool,
}

/// Text without what stands between `<` and `>`.
fn without_generics(text: &str) -> String {
    let mut depth = 0usize;
    let mut plain = String::new();
    let mut before = ' ';
    for char in text.chars() {
        match char {
            '<' => depth += 1,
            '>' if before != '-' && before != '=' => depth = depth.saturating_sub(1),
            _ if depth == 0 => plain.push(char),
            _ => {}
        }
        before = char;
    }
    plain
}

fn identifier(text: &str) -> &str {
    let end = text.find(|char: char| !char.is_alphanumeric() && char != '_' && char != '$').unwrap_or(text.len());
    &text[..end]
}

/// The type that an `impl` is for, and whether it is one of a trait.
fn owner(header: &str) -> (String, bool) {
    let header = without_generics(header.split(" where").next().unwrap_or(header));
    let header = header.trim().trim_start_matches("impl").trim();
    let (name, is_trait) = match header.split_once(" for ") {
        Some((_, name)) => (name, true),
        None => (header, false),
    };
    let name = name.trim().trim_start_matches('&').rsplit("::").next().unwrap_or_default();
    (identifier(name).to_owned(), is_trait)
}

fn of_file(text: &str) -> BTreeSet<String> {
    let mut items = BTreeSet::new();
    let mut block: Option<Block> = None;
    let mut header: Option<(String, usize)> = None;
    let mut arguments: Vec<String> = Vec::new();
    let mut is_called = false;
    for line in text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")) {
        let indent = line.len() - line.trim_start().len();
        let code = line.trim();
        if code.is_empty() || code.starts_with("//") || code.starts_with("#[") {
            continue;
        }
        if let Some((mut begun, at)) = header.take() {
            begun.push(' ');
            begun.push_str(code);
            header = end_of_header(begun, at, &mut block);
            continue;
        }
        if block.as_ref().is_some_and(|block| indent <= block.indent && code.starts_with('}')) {
            block = None;
            continue;
        }
        if code.starts_with("impl<") || code.starts_with("impl ") {
            header = end_of_header(code.to_owned(), indent, &mut block);
            continue;
        }
        if let Some(item) = top_level(code, indent, &mut block) {
            items.insert(item);
        } else if let Some(block) = &block {
            items.extend(member(block, code, indent).map(|member| format!("{}::{member}", block.owner)));
        }
        // What a macro is called with: its types get the members that it makes.
        is_called = (is_called && indent > 0) || (indent == 0 && (code.contains("!(") || code.contains("! {")));
        if is_called && block.is_none() {
            let called = code.split(|char: char| !char.is_alphanumeric() && char != '_');
            arguments
                .extend(called.filter(|word| word.starts_with(|char: char| char.is_uppercase())).map(str::to_owned));
        }
    }
    let made: Vec<String> = items
        .iter()
        .filter(|item| item.starts_with('$'))
        .filter_map(|item| Some(item.split_once("::")?.1.to_owned()))
        .collect();
    items.extend(arguments.iter().flat_map(|name| made.iter().map(move |member| format!("{name}::{member}"))));
    // The types themselves, where a macro defines them.
    items.extend(arguments);
    items
}

/// A header that goes on on the next line, or opens its block.
fn end_of_header(begun: String, indent: usize, block: &mut Option<Block>) -> Option<(String, usize)> {
    if !begun.contains('{') {
        return Some((begun, indent));
    }
    let (owner, is_open) = owner(begun.split('{').next().unwrap_or_default());
    if !begun.ends_with('}') {
        *block = Some(Block { owner, indent, is_open, is_data: false });
    }
    None
}

/// An item that stands by itself; opens the block of its members.
fn top_level(code: &str, indent: usize, block: &mut Option<Block>) -> Option<String> {
    if block.as_ref().is_some_and(|block| indent > block.indent) {
        return None;
    }
    let rest = code.strip_prefix("pub ")?;
    let rest = rest.strip_prefix("async ").or(rest.strip_prefix("const fn ").map(|_| &rest[6..])).unwrap_or(rest);
    let (kind, rest) = rest.split_once(' ')?;
    if !["struct", "enum", "trait", "type", "fn", "const", "static"].contains(&kind) {
        return None;
    }
    let name = identifier(rest).to_owned();
    // A long header may open its block on a later line; members follow all the same.
    let opens = ["struct", "enum", "trait"].contains(&kind) && !code.ends_with(';') && !code.ends_with('}');
    if opens {
        *block = Some(Block { owner: name.clone(), indent, is_open: kind == "trait", is_data: kind != "trait" });
    }
    Some(name)
}

fn member(block: &Block, code: &str, indent: usize) -> Option<String> {
    if indent != block.indent + 4 {
        return None;
    }
    let public = code.strip_prefix("pub ");
    let rest = match public {
        Some(rest) => rest,
        None if block.is_open || (block.is_data && code.starts_with(|char: char| char.is_uppercase())) => code,
        None => return None,
    };
    let rest = rest.strip_prefix("async ").unwrap_or(rest);
    for word in ["const fn ", "fn ", "const ", "type "] {
        if let Some(rest) = rest.strip_prefix(word) {
            return Some(identifier(rest).to_owned());
        }
    }
    // A field or a variant.
    let name = identifier(rest);
    (block.is_data && !name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_members_and_what_macros_make_are_found() {
        let text = "pub struct A<K> {\n    pub key: K,\n    hidden: i32,\n}\n\nimpl<K: Fn(i32) -> i32> A<K>\nwhere\n    K: Clone,\n{\n    /// Doc.\n    pub fn \
                    get(&self) {\n        let x = 1;\n    }\n    fn own() {}\n}\n\npub enum E {\n    One,\n    Two(i32),\n}\n\npub trait T {\n    fn needed(&self);\n}\n\nimpl \
                    T for E {\n    fn needed(&self) {}\n}\n\nmacro_rules! m {\n    ($name:ident) => {\n        impl<K> $name<K> {\n            pub fn made() {}\n        }\n    \
                    };\n}\nm!(A);\npub const fn f() {}\n";
        let items = of_file(text);
        let expected =
            ["A", "A::get", "A::key", "A::made", "E", "E::One", "E::Two", "E::needed", "T", "T::needed", "f"];
        for item in expected {
            assert!(items.contains(item), "{item}: {items:?}");
        }
        assert!(!items.contains("A::own") && !items.contains("A::hidden"));
    }

    #[test]
    fn settings_that_are_used_are_found() {
        let text = "text(\"a.b\", None),\n    number(\n        \"c.d\",\n    not_built(\"e.f\", None),";
        assert_eq!(settings_of(text), ["setting:a.b", "setting:c.d"]);
    }
}
