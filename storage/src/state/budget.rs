//! Memory that all RocksDB stores of a process share: one block cache and one limit for write buffers.

/// How much memory RocksDB stores may take together, and how many threads work behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetOptions {
    /// Bytes of the block cache, which also holds index and filter blocks.
    pub block_cache_bytes: usize,
    /// Bytes of all write buffers; reaching them flushes.
    pub write_buffer_bytes: usize,
    /// Bytes of one family's write buffer.
    pub family_write_buffer_bytes: usize,
    /// Threads that flush and compact, for all stores.
    pub background_jobs: usize,
    /// Table files that one store keeps open.
    pub open_files: usize,
}

impl Default for BudgetOptions {
    fn default() -> Self {
        Self {
            block_cache_bytes: 8 << 20,
            write_buffer_bytes: 12 << 20,
            family_write_buffer_bytes: 8 << 20,
            background_jobs: 2,
            open_files: 256,
        }
    }
}

/// The shared memory of all RocksDB stores opened with it; cheap to clone, shared by all clones.
#[derive(Clone)]
pub struct StateBudget {
    options: BudgetOptions,
    #[cfg(feature = "rocksdb")]
    shared: super::rocks::SharedMemory,
}

impl StateBudget {
    /// Reserves nothing yet: memory is taken as stores use it.
    pub fn new(options: BudgetOptions) -> Self {
        Self {
            options,
            #[cfg(feature = "rocksdb")]
            shared: super::rocks::SharedMemory::new(&options),
        }
    }

    /// What it was made with.
    pub fn options(&self) -> &BudgetOptions {
        &self.options
    }

    /// Bytes that write buffers and cached blocks take at the moment.
    pub fn used_bytes(&self) -> usize {
        #[cfg(feature = "rocksdb")]
        return self.shared.used_bytes();
        #[cfg(not(feature = "rocksdb"))]
        0
    }

    #[cfg(feature = "rocksdb")]
    pub(super) fn shared(&self) -> &super::rocks::SharedMemory {
        &self.shared
    }
}

impl Default for StateBudget {
    fn default() -> Self {
        Self::new(BudgetOptions::default())
    }
}

impl std::fmt::Debug for StateBudget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateBudget").field("options", &self.options).finish_non_exhaustive()
    }
}
