//! What a plugin asks of a table beside its name.

/// When a write to a table is acknowledged; the [module](super) has more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Durability {
    /// When it is in memory.
    #[default]
    Memory,
    /// When it survives the end of the process.
    Process,
    /// When it survives a loss of power.
    Disk,
}

impl Durability {
    pub(super) fn into_abi(self) -> replug_abi::Durability {
        match self {
            Durability::Memory => replug_abi::Durability::MEMORY,
            Durability::Process => replug_abi::Durability::PROCESS,
            Durability::Disk => replug_abi::Durability::DISK,
        }
    }
}

/// What is asked of a table beside its name.
///
/// ```
/// use replug_plugin_api::table::{Durability, TableOptions};
///
/// const ORDERS: TableOptions = TableOptions::new().durability(Durability::Disk).rows_max(100_000);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableOptions {
    pub(super) durability: Durability,
    pub(super) rows_max: u64,
    pub(super) bytes_max: u64,
}

impl TableOptions {
    /// In memory, with the host's limits.
    pub const fn new() -> Self {
        TableOptions { durability: Durability::Memory, rows_max: 0, bytes_max: 0 }
    }

    /// At least so durable.
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// At most so many rows.
    #[must_use]
    pub const fn rows_max(mut self, rows: u64) -> Self {
        self.rows_max = rows;
        self
    }

    /// At most so many bytes of keys and values, with what the host keeps for
    /// each row. The images that a version leaves until it is committed come on
    /// top: they never make a write fail.
    #[must_use]
    pub const fn bytes_max(mut self, bytes: u64) -> Self {
        self.bytes_max = bytes;
        self
    }
}
