//! The engine over RocksDB: one database per store, its time segments as column families.
//!
//! Column families: `default` (entries of a key-value store), `offsets` (changelog positions and other metadata, `status`
//! 1 from the first write and 0 after a clean close), `<store>.<segment start>` for each segment. Kafka Streams keeps a
//! database per segment instead; column families of one database share one atomic batch, so that a store's offsets are
//! true for all of its segments after a crash, and they open several times faster.
//!
//! Opening costs a handful of fsyncs, so a thread of its own does it: stores open side by side, and whoever needs the
//! database first waits. Nobody waits to learn that a new store is empty.
//!
//! Without write-ahead log; atomic flush keeps all families at one and the same batch. This file and its parts are the
//! only ones that name RocksDB, and the only ones in `state` that touch the disk past [`Files`](crate::files::Files) or
//! start threads.

mod iterator;
mod options;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, ErrorKind, FlushOptions, ReadOptions, WriteBatch, WriteOptions,
};

use crate::files::RealFiles;

use super::budget::StateBudget;
use super::byte_store::{ByteIterator, Direction, EmptyIterator, OwnedEntry};
use super::directory::{self, Claim, Shape};
use super::engine::{Engine, Family, is_empty_range};
use super::error::{StateError, StateErrorKind};
use super::key_value::KeyValueStore;
use super::offsets::STATUS;

use iterator::RocksIterator;
pub(super) use options::SharedMemory;

const ENGINE: &str = "rocksdb";
const OFFSETS: &str = "offsets";
const STATUS_OPEN: i64 = 1;
const STATUS_CLOSED: i64 = 0;

/// A key-value store in RocksDB.
pub type RocksStore = KeyValueStore<RocksEngine>;

impl RocksStore {
    /// Opens or makes the key-value store in `directory`; `format` names the format of its values.
    ///
    /// # Errors
    /// `Foreign` or `Poisoned`; the first call that needs the database may answer `InUse`, `Corrupt` or `Poisoned`, see
    /// [`StateErrorKind`].
    pub fn open(directory: &Path, format: &str, budget: &StateBudget) -> Result<Self, StateError> {
        Ok(Self::new(RocksEngine::open(directory, "", format, Shape::KeyValue, budget)?))
    }
}

/// Families in one RocksDB.
pub struct RocksEngine {
    plan: Arc<Plan>,
    database: Database,
    /// In a mutex only because a batch must not be shared between threads; never locked.
    batch: Mutex<WriteBatch>,
    write_options: WriteOptions,
    /// Whether `status` says open.
    is_marked_open: bool,
    /// Why writes are refused, after the medium failed.
    poisoned: Option<StateError>,
}

/// What it takes to open the database, for the thread that does it.
struct Plan {
    claim: Claim,
    directory: PathBuf,
    place: Box<str>,
    store: Box<str>,
    shape: Shape,
    budget: StateBudget,
}

/// A database that is being opened, is open, could not be opened, or is closed.
struct Database {
    opening: Mutex<Option<JoinHandle<Result<Open, StateError>>>>,
    opened: OnceLock<Result<Open, StateError>>,
    /// Nothing was there: reads need not wait for it to be opened.
    is_new: bool,
    is_closed: bool,
}

struct Open {
    db: DB,
    /// Names of the segments' column families.
    segments: BTreeMap<i64, String>,
    read_options: ReadOptions,
    was_closed_cleanly: bool,
}

impl Database {
    fn start(plan: &Arc<Plan>, is_new: bool) -> Self {
        let (opened, for_thread) = (OnceLock::new(), Arc::clone(plan));
        let thread = std::thread::Builder::new().name("state-open".to_owned());
        let opening = thread.spawn(move || for_thread.open(is_new)).map_err(|_| {
            // No thread to be had: open it here.
            let _ = opened.set(plan.open(is_new));
        });
        Self { opening: Mutex::new(opening.ok()), opened, is_new, is_closed: false }
    }

    /// The open database, waited for.
    fn get(&self, plan: &Plan) -> Result<&Open, StateError> {
        if self.is_closed {
            return Err(StateError::closed(&*plan.place));
        }
        let died = || StateError::new(StateErrorKind::Poisoned, &*plan.place, "the thread that opened it died");
        let opened = self.opened.get_or_init(|| {
            let thread = self.opening.lock().take();
            thread.and_then(|thread| thread.join().ok()).unwrap_or_else(|| Err(died()))
        });
        opened.as_ref().map_err(Clone::clone)
    }

    /// The open database; `None` if it is new and not open yet, so that reads find nothing.
    fn get_to_read(&self, plan: &Plan) -> Result<Option<&Open>, StateError> {
        let is_opening =
            || self.opened.get().is_none() && self.opening.lock().as_ref().is_some_and(|t| !t.is_finished());
        if self.is_new && !self.is_closed && is_opening() { Ok(None) } else { self.get(plan).map(Some) }
    }

    fn get_mut(&mut self, plan: &Plan) -> Result<&mut Open, StateError> {
        self.get(plan)?;
        match self.opened.get_mut() {
            Some(Ok(open)) => Ok(open),
            _ => Err(StateError::closed(&*plan.place)),
        }
    }

    /// Releases the database and its files.
    fn release(&mut self) {
        if let Some(thread) = self.opening.get_mut().take() {
            // What it opened goes with it.
            drop(thread.join());
        }
        self.opened = OnceLock::new();
        self.is_closed = true;
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.release();
    }
}

impl Plan {
    fn open(&self, is_new: bool) -> Result<Open, StateError> {
        if is_new {
            self.claim.stake(&RealFiles)?;
        }
        let fail = |error| classify(&self.place, "cannot open it", &error);
        let shared = self.budget.shared();
        let segments = self.existing_segments()?;
        let mut families = vec![
            ColumnFamilyDescriptor::new("default", shared.data_options()),
            ColumnFamilyDescriptor::new(OFFSETS, shared.offsets_options()),
        ];
        families.extend(segments.values().map(|name| ColumnFamilyDescriptor::new(name, shared.data_options())));
        let options = shared.database_options();
        let db = DB::open_cf_descriptors(&options, &self.directory, families).map_err(fail)?;
        let mut open = Open { db, segments, read_options: ReadOptions::default(), was_closed_cleanly: true };
        if let Some(status) = open.offsets_get(&self.place, STATUS.as_bytes())? {
            open.was_closed_cleanly = status == STATUS_CLOSED.to_be_bytes();
        }
        Ok(open)
    }

    /// Names of the segments on disk, by id.
    fn existing_segments(&self) -> Result<BTreeMap<i64, String>, StateError> {
        let Shape::Segmented { segment_interval_ms, .. } = self.shape else { return Ok(BTreeMap::new()) };
        if !self.directory.join("CURRENT").exists() {
            return Ok(BTreeMap::new());
        }
        let names = DB::list_cf(&self.budget.shared().database_options(), &self.directory)
            .map_err(|error| classify(&self.place, "cannot list its segments", &error))?;
        let mut segments = BTreeMap::new();
        for name in names.into_iter().filter(|name| name != "default" && name != OFFSETS) {
            let start = name.rsplit_once('.').and_then(|(_, start)| start.parse::<i64>().ok());
            let Some(start) = start else {
                let reason = format_args!("holds the column family {name}, which is not a segment of this store");
                return Err(StateError::new(StateErrorKind::Foreign, &*self.place, reason));
            };
            segments.insert(start.div_euclid(segment_interval_ms), name);
        }
        Ok(segments)
    }

    fn create_segment(&self, open: &mut Open, segment: i64) -> Result<(), StateError> {
        let Shape::Segmented { segment_interval_ms, .. } = self.shape else {
            return Err(StateError::invalid(&*self.place, "a key-value store has no segments"));
        };
        let start = segment.saturating_mul(segment_interval_ms);
        let name = directory::segment_name(&self.store, start, segment_interval_ms);
        let options = self.budget.shared().data_options();
        open.db.create_cf(&name, &options).map_err(|error| classify(&self.place, "cannot make a segment", &error))?;
        open.segments.insert(segment, name);
        Ok(())
    }
}

impl RocksEngine {
    pub(super) fn open(
        directory: &Path,
        store: &str,
        format: &str,
        shape: Shape,
        budget: &StateBudget,
    ) -> Result<Self, StateError> {
        let claim = Claim::new(directory, ENGINE, format, &shape);
        let is_new = !claim.check(&RealFiles)?;
        let plan = Arc::new(Plan {
            claim,
            directory: directory.to_owned(),
            place: directory.to_string_lossy().into(),
            store: store.into(),
            shape,
            budget: budget.clone(),
        });
        let database = Database::start(&plan, is_new);
        let mut write_options = WriteOptions::default();
        write_options.disable_wal(true);
        Ok(Self { plan, database, batch: Mutex::default(), write_options, is_marked_open: false, poisoned: None })
    }

    fn error(&self, action: &str, error: &rocksdb::Error) -> StateError {
        classify(&self.plan.place, action, error)
    }

    /// The database to read from; `None` if there is nothing in it yet.
    fn readable(&self) -> Result<Option<&Open>, StateError> {
        self.database.get_to_read(&self.plan)
    }

    fn writable(&self) -> Result<&Open, StateError> {
        if let Some(error) = &self.poisoned {
            return Err(error.clone());
        }
        self.database.get(&self.plan)
    }

    fn flush_families(&self) -> Result<(), StateError> {
        let open = self.writable()?;
        let mut families = Vec::with_capacity(open.segments.len() + 2);
        for name in ["default", OFFSETS].into_iter().chain(open.segments.values().map(String::as_str)) {
            families.extend(open.db.cf_handle(name));
        }
        let mut options = FlushOptions::default();
        options.set_wait(true);
        let flushed = open.db.flush_cfs_opt(&families.iter().collect::<Vec<_>>(), &options);
        flushed.map_err(|error| self.error("cannot flush", &error))
    }

    fn stage_status(&mut self, status: i64) -> Result<(), StateError> {
        self.is_marked_open = status == STATUS_OPEN;
        self.stage_metadata(STATUS.as_bytes(), &status.to_be_bytes())
    }

    fn write_staged(&mut self) -> Result<(), StateError> {
        let batch = std::mem::take(self.batch.get_mut());
        let written = self.writable()?.db.write_opt(batch, &self.write_options);
        written.map_err(|error| self.error("cannot write a batch", &error))
    }

    fn poison<T>(&mut self, result: Result<T, StateError>) -> Result<T, StateError> {
        if let Err(error) = &result
            && !self.database.is_closed
        {
            self.poisoned.get_or_insert_with(|| error.clone());
        }
        result
    }
}

impl Open {
    /// The column family of `family`; `None` for a segment that does not exist.
    fn family(&self, family: Family) -> Option<&ColumnFamily> {
        match family {
            Family::Default => self.db.cf_handle("default"),
            Family::Segment(segment) => self.db.cf_handle(self.segments.get(&segment)?),
        }
    }

    fn offsets_family(&self, place: &str) -> Result<&ColumnFamily, StateError> {
        // Opened with the database; asked for by name, since a handle cannot be kept beside what it borrows from.
        let missing = || StateError::new(StateErrorKind::Corrupt, place, "the column family offsets is missing");
        self.db.cf_handle(OFFSETS).ok_or_else(missing)
    }

    fn offsets_get(&self, place: &str, name: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let value = self.db.get_cf_opt(self.offsets_family(place)?, name, &self.read_options);
        value.map_err(|error| classify(place, "cannot read its offsets", &error))
    }
}

/// Turns RocksDB's error into ours: its kind from what the caller can do, its place from the store.
pub(super) fn classify(place: &str, action: &str, error: &rocksdb::Error) -> StateError {
    let text = error.as_ref();
    let is_lock = text.contains("While lock file") || text.contains("lock hold by current process");
    let kind = match error.kind() {
        _ if is_lock => StateErrorKind::InUse,
        ErrorKind::Corruption => StateErrorKind::Corrupt,
        ErrorKind::InvalidArgument | ErrorKind::NotSupported if action.contains("open") => StateErrorKind::Foreign,
        _ => StateErrorKind::Poisoned,
    };
    if is_lock {
        return StateError::new(kind, place, format_args!("another process or store has it open: {text}"));
    }
    StateError::new(kind, place, format_args!("{action}: {text}"))
}

impl Engine for RocksEngine {
    fn place(&self) -> &str {
        &self.plan.place
    }

    fn segments(&self) -> Result<Vec<i64>, StateError> {
        Ok(self.readable()?.map_or_else(Vec::new, |open| open.segments.keys().copied().collect()))
    }

    fn get_with(&self, family: Family, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool, StateError> {
        let Some(open) = self.readable()? else { return Ok(false) };
        let Some(family) = open.family(family) else { return Ok(false) };
        let value = open
            .db
            .get_pinned_cf_opt(family, key, &open.read_options)
            .map_err(|error| self.error("cannot read a key", &error))?;
        if let Some(value) = &value {
            read(value);
        }
        Ok(value.is_some())
    }

    fn scan(
        &self,
        family: Family,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
    ) -> Result<Box<dyn ByteIterator + '_>, StateError> {
        let Some(open) = self.readable()? else { return Ok(Box::new(EmptyIterator)) };
        match open.family(family) {
            Some(family) if !is_empty_range(from, to) => {
                Ok(Box::new(RocksIterator::new(&open.db, family, from, to, direction, &self.plan.place)))
            }
            _ => Ok(Box::new(EmptyIterator)),
        }
    }

    fn stage(&mut self, family: Family, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        if let Some(error) = &self.poisoned {
            return Err(error.clone());
        }
        let open = self.database.get_mut(&self.plan)?;
        if let (Family::Segment(segment), Some(_)) = (family, value)
            && !open.segments.contains_key(&segment)
        {
            self.plan.create_segment(open, segment)?;
        }
        let Some(family) = open.family(family) else { return Ok(()) };
        match value {
            Some(value) => self.batch.get_mut().put_cf(family, key, value),
            None => self.batch.get_mut().delete_cf(family, key),
        }
        Ok(())
    }

    fn stage_metadata(&mut self, name: &[u8], value: &[u8]) -> Result<(), StateError> {
        // Field by field, since the batch is borrowed beside the database.
        let family = self.database.get(&self.plan)?.offsets_family(&self.plan.place)?;
        self.batch.get_mut().put_cf(family, name, value);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StateError> {
        if !self.is_marked_open {
            self.stage_status(STATUS_OPEN)?;
        }
        let result = self.write_staged();
        self.poison(result)
    }

    fn discard(&mut self) {
        self.batch.get_mut().clear();
    }

    fn drop_segment(&mut self, segment: i64) -> Result<(), StateError> {
        self.writable()?;
        let open = self.database.get_mut(&self.plan)?;
        let Some(name) = open.segments.remove(&segment) else { return Ok(()) };
        let dropped = open.db.drop_cf(&name);
        let result = dropped.map_err(|error| self.error("cannot drop an expired segment", &error));
        self.poison(result)
    }

    fn metadata(&self, name: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.readable()?.map_or(Ok(None), |open| open.offsets_get(&self.plan.place, name))
    }

    fn all_metadata(&self) -> Result<Vec<OwnedEntry>, StateError> {
        let Some(open) = self.readable()? else { return Ok(Vec::new()) };
        let family = open.offsets_family(&self.plan.place)?;
        let (from, to) = (Bound::Unbounded, Bound::Unbounded);
        RocksIterator::new(&open.db, family, from, to, Direction::Forward, &self.plan.place).collect_entries()
    }

    fn approximate_entries(&self) -> Result<u64, StateError> {
        let Some(open) = self.readable()? else { return Ok(0) };
        let families = std::iter::once(Family::Default).chain(open.segments.keys().map(|&id| Family::Segment(id)));
        let mut sum = 0;
        for family in families.filter_map(|family| open.family(family)) {
            let entries = open.db.property_int_value_cf(family, rocksdb::properties::ESTIMATE_NUM_KEYS);
            sum += entries.map_err(|error| self.error("cannot count its entries", &error))?.unwrap_or(0);
        }
        Ok(sum)
    }

    fn flush(&mut self) -> Result<(), StateError> {
        let result = self.flush_families();
        self.poison(result)
    }

    fn close(&mut self) -> Result<(), StateError> {
        if self.database.is_closed {
            return Ok(());
        }
        self.discard();
        let was_clean = self.writable().map(|open| open.was_closed_cleanly);
        // A store that was not written to is as it was.
        let needs_mark = self.is_marked_open || matches!(was_clean, Ok(false));
        let mut result = was_clean.map(|_| ());
        if needs_mark {
            result = result
                .and_then(|()| self.stage_status(STATUS_CLOSED))
                .and_then(|()| self.write_staged())
                .and_then(|()| self.flush_families());
        }
        self.database.release();
        result
    }

    fn wipe(&mut self) -> Result<(), StateError> {
        self.discard();
        self.database.release();
        self.plan.claim.clear(&RealFiles)?;
        self.poisoned = None;
        self.is_marked_open = false;
        self.database = Database::start(&self.plan, true);
        Ok(())
    }

    fn was_closed_cleanly(&self) -> Result<bool, StateError> {
        Ok(self.readable()?.is_none_or(|open| open.was_closed_cleanly))
    }

    fn is_persistent(&self) -> bool {
        true
    }
}
