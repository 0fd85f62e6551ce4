//! The orders that a run gets from the harness: the `BENCH_*` variables of `bench/README.md`, "App protocol".

use anyhow::{Context, Result, bail};
use millstream::prelude::StreamsConfig;

use crate::embedded::inputs;
use crate::workloads::Workload;

/// What one run is to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The topology.
    pub workload: Workload,
    /// `host:port` of the cluster; unused when embedded.
    pub bootstrap: String,
    /// Topics that are read, in the order of the workload's datasets.
    pub inputs: Vec<String>,
    /// Topic that is written.
    pub output: String,
    /// Application id.
    pub application_id: String,
    /// Folder for state.
    pub state_dir: String,
    /// Records that the tasks process in all; `None`: run until standard input ends.
    pub expect: Option<u64>,
    /// Records of the input when the program brings its own broker.
    pub embedded: Option<u64>,
    /// Whether stores live in memory.
    pub in_memory: bool,
    properties: Vec<(String, String)>,
}

fn variable(name: &str, default: &str) -> String {
    std::env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
}

impl Settings {
    /// Reads the environment.
    ///
    /// # Errors
    /// A variable has a value that is not understood, or asks for what is not built.
    pub fn from_environment() -> Result<Self> {
        let guarantee = variable("BENCH_GUARANTEE", "alos");
        if guarantee != "alos" {
            bail!("BENCH_GUARANTEE={guarantee}: only alos is built");
        }
        let expect: i64 = variable("BENCH_EXPECT", "-1").parse().context("BENCH_EXPECT is not a number")?;
        let embedded = match variable("BENCH_MODE", "").as_str() {
            "" => None,
            "embedded" => Some(variable("BENCH_N", "0").parse().context("BENCH_N is not a number")?),
            other => bail!("BENCH_MODE={other}: use embedded, or leave it out"),
        };
        let mut properties = Vec::new();
        for (variable_name, property) in
            [("BENCH_CACHE", "statestore.cache.max.bytes"), ("BENCH_COMMIT_MS", "commit.interval.ms")]
        {
            let value = variable(variable_name, "default");
            if value != "default" {
                properties.push((property.to_owned(), value));
            }
        }
        properties.push(("num.stream.threads".to_owned(), variable("BENCH_THREADS", "1")));
        for pair in variable("BENCH_EXTRA", "").split(';').filter(|pair| !pair.is_empty()) {
            let (name, value) =
                pair.split_once('=').with_context(|| format!("BENCH_EXTRA: {pair} is not name=value"))?;
            properties.push((name.to_owned(), value.to_owned()));
        }
        let workload = Workload::named(&variable("BENCH_WORKLOAD", ""))?;
        let inputs = match embedded {
            Some(_) => inputs(workload),
            None => variable("BENCH_IN", "in").split(',').map(str::to_owned).collect(),
        };
        Ok(Self {
            workload,
            bootstrap: variable("BENCH_BOOTSTRAP", "127.0.0.1:9092"),
            inputs,
            output: variable("BENCH_OUT", "out"),
            application_id: variable("BENCH_APP_ID", "bench"),
            state_dir: variable("BENCH_STATE_DIR", "state"),
            expect: u64::try_from(expect).ok(),
            embedded,
            in_memory: variable("BENCH_STORE", "rocks") == "mem",
            properties,
        })
    }

    /// The application's configuration.
    ///
    /// # Errors
    /// A property is unknown or wrong.
    pub fn config(&self) -> Result<StreamsConfig> {
        let mut config = StreamsConfig::new(&self.application_id).with("state.dir", &self.state_dir)?;
        config = config.with("auto.offset.reset", "earliest")?;
        for (name, value) in &self.properties {
            config = config.with(name, value)?;
        }
        Ok(config)
    }
}
