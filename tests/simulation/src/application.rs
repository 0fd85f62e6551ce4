//! The application, stepped: what `Streams` does on threads, done by the scheduler.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use base::Now;
use client::Client;
use parking_lot::Mutex;
use storage::files::Files;
use storage::state::Backend;
use streams_core::runtime::{Application, State, StreamThread, Streams, set_up};
use streams_core::{StreamsConfig, StreamsError, TimestampedKeyValueStore};

use crate::ledger::Ledger;
use crate::settings::Settings;
use crate::topology::{APPLICATION, WORDS, topology};

type SettingUp = Pin<Box<dyn Future<Output = Result<(), StreamsError>>>>;

/// One life of the application.
pub struct App {
    application: Arc<Application>,
    setting_up: Option<SettingUp>,
    threads: Vec<StreamThread>,
}

impl App {
    /// Opens the state directory; everything else takes steps.
    ///
    /// # Errors
    /// The state directory cannot be used.
    pub fn new(
        settings: &Settings,
        client: Client,
        files: Arc<dyn Files>,
        ledger: &Arc<Mutex<Ledger>>,
    ) -> Result<Self, StreamsError> {
        let config = StreamsConfig::new(APPLICATION)
            .with("state.dir", "/data/state")?
            .with("num.stream.threads", settings.threads)?
            .with("commit.interval.ms", settings.commit_interval_ms)?
            .with("statestore.cache.max.bytes", settings.cache_bytes)?
            .with("statestore.pending.max.bytes", settings.pending_bytes)?
            .with("repartition.purge.interval.ms", 200)?
            .with("producer.batch.size", settings.largest_batch_bytes())?
            .with("topic.internal.segment.bytes", settings.segment_bytes)?;
        let topology = topology(ledger, settings.input_partitions, settings.flaw)?;
        let application = Streams::builder(topology, config, client)
            .with_files(Arc::clone(&files))
            .with_backend(Backend::Files { files, sync_writes: settings.stores_sync })
            .prepare()?;
        let setting_up: SettingUp = Box::pin(set_up(Arc::clone(&application)));
        Ok(Self { application, setting_up: Some(setting_up), threads: Vec::new() })
    }

    /// One step of the start, or of the stream thread number `index`, modulo their number; whether it did anything.
    ///
    /// # Errors
    /// What ends a stream thread.
    pub fn step(&mut self, index: usize, now: Now, waker: &Waker) -> Result<bool, StreamsError> {
        if let Some(setting_up) = &mut self.setting_up {
            let client = &self.application.client;
            let did_work = client.step(now, waker).did_work;
            let Poll::Ready(result) = setting_up.as_mut().poll(&mut Context::from_waker(waker)) else {
                return Ok(did_work);
            };
            self.setting_up = None;
            result?;
            let count = self.application.built.config().num_stream_threads();
            for index in 0..count {
                self.threads.push(StreamThread::new(Arc::clone(&self.application), index)?);
            }
            return Ok(true);
        }
        let count = self.threads.len().max(1);
        let Some(thread) = self.threads.get_mut(index % count) else { return Ok(false) };
        let stepped = thread.step(now, waker);
        if stepped.is_err() {
            // It is not stepped again; whether that is a violation is for others to say.
            self.threads.clear();
        }
        Ok(stepped?.did_work)
    }

    /// Whether all tasks run.
    pub fn is_running(&self) -> bool {
        self.application.state() == State::Running
    }

    /// Asks for a clean close.
    pub fn begin_close(&mut self) {
        self.threads.iter_mut().for_each(StreamThread::begin_close);
    }

    /// Whether all threads have closed.
    pub fn is_closed(&self) -> bool {
        self.setting_up.is_none() && self.threads.iter().all(StreamThread::is_closed)
    }

    /// What the stores count.
    ///
    /// # Errors
    /// A store cannot be read.
    pub fn counts(&self) -> Result<BTreeMap<String, i64>, StreamsError> {
        let mut counts = BTreeMap::new();
        for task in self.threads.iter().flat_map(|thread| thread.tasks().tasks()) {
            let Some(store) = task.store::<TimestampedKeyValueStore<String, i64>>(WORDS) else { continue };
            for entry in store.all() {
                let (word, count) = entry?;
                counts.insert(word, count.value);
            }
        }
        Ok(counts)
    }
}
