//! The engine over RocksDB.

use super::backend::{StoreKind, StoreSpec};
use super::budget::{BudgetOptions, StateBudget};
use super::engine::Engine;
use super::error::StateError;

/// What all RocksDB stores of a budget share.
#[derive(Clone)]
pub(super) struct SharedMemory;

impl SharedMemory {
    pub(super) fn new(_options: &BudgetOptions) -> Self {
        Self
    }
}

pub(super) fn open(
    spec: &StoreSpec<'_>,
    _kind: StoreKind,
    budget: &StateBudget,
) -> Result<Box<dyn Engine>, StateError> {
    let _ = budget.shared();
    Err(StateError::invalid(spec.name, "RocksDB stores are not there yet"))
}
