//! Programs whose types do not fit do not compile, and the compiler says why in terms of serdes, streams and tables.
//!
//! Each program is handed to the compiler that built this test, against the library that cargo built for it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it unwraps")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The libraries `name` that cargo built beside this test, the newest first: there is one for each set of features.
fn libraries(dependencies: &Path, name: &str) -> Vec<PathBuf> {
    let is_library = |path: &PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.starts_with(&format!("lib{name}-")) && file.ends_with(".rlib")
    };
    let built = std::fs::read_dir(dependencies).unwrap().map(|entry| entry.unwrap().path()).filter(is_library);
    let mut built: Vec<PathBuf> = built.collect();
    built.sort_by_key(|path| std::cmp::Reverse(path.metadata().unwrap().modified().unwrap()));
    built
}

/// The newest streams_dsl, and the streams_core that it was built with.
fn pair() -> &'static (PathBuf, PathBuf) {
    static PAIR: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    PAIR.get_or_init(|| {
        let dependencies = dependencies();
        let dsl = libraries(&dependencies, "streams_dsl").remove(0);
        let fits = "Produced::<String, i64>::with(StringSerde, I64Serde);";
        let cores = libraries(&dependencies, "streams_core").into_iter();
        let mut pairs = cores.map(|core| (dsl.clone(), core));
        pairs.find(|pair| compile_with(pair, "pair", fits).0).expect("no streams_core fits the newest streams_dsl")
    })
}

fn dependencies() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_owned()
}

/// What the compiler says about a `main` of these lines; empty if it compiles.
fn compile(name: &str, body: &str) -> String {
    let (compiled, said) = compile_with(pair(), name, body);
    assert_eq!(compiled, said.is_empty(), "{said}");
    said
}

fn compile_with((dsl, core): &(PathBuf, PathBuf), name: &str, body: &str) -> (bool, String) {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("messages-{name}"));
    std::fs::create_dir_all(&directory).unwrap();
    let source = directory.join("main.rs");
    let program = format!(
        "#![allow(unused)]\nuse streams_dsl::*;\nuse streams_core::serde::*;\n#[derive(Clone)]\nstruct Order;\nfn main() {{\n\
         let builder = StreamsBuilder::new();\n{body}\n}}\n"
    );
    std::fs::write(&source, program).unwrap();
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.args(["--edition=2024", "--crate-type=bin", "--emit=metadata"]);
    command.arg("-L").arg(format!("dependency={}", dependencies().display()));
    for (library_name, library) in [("streams_dsl", dsl), ("streams_core", core)] {
        command.arg("--extern").arg(format!("{library_name}={}", library.display()));
    }
    let output = command.arg("--out-dir").arg(&directory).arg(&source).stdin(Stdio::null()).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[track_caller]
fn says(name: &str, body: &str, phrases: &[&str]) {
    let said = compile(name, body);
    for phrase in phrases {
        assert!(said.contains(phrase), "{phrase:?} is not in\n{said}");
    }
    let errors = said.lines().filter(|line| line.starts_with("error")).count();
    assert!(errors <= 3, "one mistake, {errors} errors:\n{said}");
}

#[test]
fn programs_whose_types_fit_compile() {
    let said = compile(
        "fits",
        "let lines = builder.stream(\"lines\", Consumed::<String, String>::default());
         let counts = lines.group_by_key(Grouped::inherited()).count(Materialized::named(\"counts\"));
         counts.to_stream().to(\"out\", Produced::with(StringSerde, I64Serde));",
    );
    assert_eq!(said, "");
}

#[test]
fn a_type_without_default_serde_is_named_with_the_way_out() {
    says(
        "default",
        "builder.stream(\"orders\", Consumed::<String, Order>::default());",
        &["`Order` has no default serde", "with(key serde, value serde)", "Json::<Order>::new()"],
    );
}

#[test]
fn a_serde_of_another_type_is_named_with_both_types() {
    says(
        "serde",
        "builder.stream(\"lines\", Consumed::<String, i64>::with(StringSerde, StringSerde));",
        &["StringSerde` is not a serde of `i64`", "I64Serde"],
    );
}

#[test]
fn a_sink_of_other_types_shows_both() {
    says(
        "sink",
        "let lines = builder.stream(\"lines\", Consumed::<String, String>::default());
         lines.map_values(|line| line.len() as i64).to(\"lengths\", Produced::<String, String>::default());",
        &["expected `Produced<String, i64>`, found `Produced<String, String>`"],
    );
}

#[test]
fn a_join_over_different_keys_shows_both() {
    says(
        "join",
        "let orders = builder.stream(\"orders\", Consumed::<String, i64>::default());
         let prices = builder.table(\"prices\", Consumed::<i64, i64>::default(), Materialized::unnamed());
         orders.join(&prices, |pieces, price| pieces * price, Joined::inherited());",
        &["expected `&KTable<String, i64>`, found `&KTable<i64, i64>`"],
    );
}

#[test]
fn a_closure_over_another_value_shows_the_value_given() {
    says(
        "closure",
        "let lines = builder.stream(\"lines\", Consumed::<String, i64>::default());
         lines.map_values(|line: &String| line.len() as i64);",
        &["expected closure signature `for<'a> fn(&'a i64) -> _`"],
    );
}
