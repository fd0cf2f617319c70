//! The bodies of calls, and the configuration.

use replug_plugin_api::table::Durability;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub(crate) durability: Kept,
    pub(crate) rows_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config { durability: Kept::Memory, rows_max: 2_000_000 }
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kept {
    Memory,
    Process,
    Disk,
}

impl From<Kept> for Durability {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::Memory => Durability::Memory,
            Kept::Process => Durability::Process,
            Kept::Disk => Durability::Disk,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Open {
    pub(crate) token: String,
    pub(crate) user: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fill {
    pub(crate) from: u64,
    pub(crate) count: u64,
}

#[derive(Serialize)]
pub(crate) struct Audit {
    pub(crate) sessions: u64,
    pub(crate) hits: u64,
    /// Sessions that their user's row does not name, and the other way round.
    pub(crate) strays: u64,
}
