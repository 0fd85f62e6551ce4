//! Compaction.

use base::Now;

use super::directory::LogDirectory;

impl LogDirectory {
    /// Cleans the dirtiest compacted partition; whether there was one.
    pub(super) fn clean_dirtiest(&self, _now: Now) -> bool {
        false
    }
}
