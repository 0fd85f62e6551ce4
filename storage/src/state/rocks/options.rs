//! What RocksDB is told: Kafka Streams' choices (universal compaction, no compression, 4 KiB blocks, Bloom filters of 10
//! bits), within memory that all stores share, and with nothing that makes opening slow.

use std::sync::Arc;

use rocksdb::{
    BlockBasedOptions, Cache, DBCompactionStyle, DBCompressionType, InfoLogger, LogLevel, LruCacheOptions, Options,
    WriteBufferManager,
};

use crate::state::budget::BudgetOptions;

/// What all RocksDB stores of a budget share.
#[derive(Clone)]
pub(in crate::state) struct SharedMemory {
    options: BudgetOptions,
    cache: Cache,
    write_buffers: WriteBufferManager,
    /// Options of families, made once: each clone is cheap.
    families: Arc<Families>,
}

struct Families {
    data: Options,
    offsets: Options,
}

impl SharedMemory {
    pub(in crate::state) fn new(options: &BudgetOptions) -> Self {
        let mut cache_options = LruCacheOptions::default();
        cache_options.set_capacity(options.block_cache_bytes);
        // Few shards: a shard of a small cache must still hold an index block.
        cache_options.set_num_shard_bits(2);
        let cache = Cache::new_lru_cache_opts(&cache_options);
        let write_buffers = WriteBufferManager::new_write_buffer_manager(options.write_buffer_bytes, false);
        let families = Families { data: data_options(options, &cache), offsets: offsets_options(&cache) };
        Self { options: *options, cache, write_buffers, families: Arc::new(families) }
    }

    /// Options of the database, made anew for each since the logger belongs to one.
    pub(super) fn database_options(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_atomic_flush(true);
        options.set_write_buffer_manager(&self.write_buffers);
        options.set_max_background_jobs(i32::try_from(self.options.background_jobs.max(1)).unwrap_or(i32::MAX));
        options.set_max_open_files(i32::try_from(self.options.open_files).unwrap_or(-1));
        options.set_table_cache_num_shard_bits(1);
        options.set_max_file_opening_threads(1);
        // One writer per store.
        options.set_allow_concurrent_memtable_write(false);
        options.set_enable_write_thread_adaptive_yield(false);
        // Statistics are neither read nor written.
        options.set_skip_stats_update_on_db_open(true);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options.set_manifest_preallocation_size(64 << 10);
        options.set_max_manifest_file_size(1 << 20);
        options.set_keep_log_file_num(1);
        options.set_avoid_unnecessary_blocking_io(true);
        options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Error, |level, text| {
            // Its settings, hundreds of lines at each open, count as more than an error there.
            if matches!(level, LogLevel::Error | LogLevel::Fatal) {
                tracing::error!(target: "storage::state::rocksdb", "{text}");
            }
        }));
        options
    }

    pub(super) fn data_options(&self) -> Options {
        self.families.data.clone()
    }

    pub(super) fn offsets_options(&self) -> Options {
        self.families.offsets.clone()
    }

    /// Bytes taken by write buffers and cached blocks together.
    pub(in crate::state) fn used_bytes(&self) -> usize {
        self.write_buffers.get_usage() + self.cache.get_usage()
    }
}

fn data_options(budget: &BudgetOptions, cache: &Cache) -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(budget.family_write_buffer_bytes);
    // Small blocks of memory: a store with little in it takes little.
    options.set_arena_block_size(64 << 10);
    options.set_max_write_buffer_number(3);
    options.set_compaction_style(DBCompactionStyle::Universal);
    options.set_compression_type(DBCompressionType::None);
    options.set_optimize_filters_for_hits(true);
    options.set_memtable_whole_key_filtering(true);
    options.set_memtable_prefix_bloom_ratio(0.02);
    let mut table = table_options(cache);
    table.set_bloom_filter(10.0, false);
    options.set_block_based_table_factory(&table);
    options
}

fn offsets_options(cache: &Cache) -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(1 << 20);
    options.set_arena_block_size(4 << 10);
    options.set_compaction_style(DBCompactionStyle::Universal);
    options.set_compression_type(DBCompressionType::None);
    options.set_block_based_table_factory(&table_options(cache));
    options
}

fn table_options(cache: &Cache) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(4 << 10);
    // Index and filter blocks count towards the budget, and go last.
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table
}
