//! What a plugin says about itself: a note's records as validated values.
//!
//! It serialises with stable field names, for `replug inspect -o json`. How the
//! values are read is the business of `records`; this file knows nothing of
//! notes or of ELF.

use std::fmt;

use semver::{Version, VersionReq};
use serde::{Serialize, Serializer};

use crate::id::PluginName;

/// The identity and the needs of a plugin, as its note states them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Manifest {
    /// The plugin's name.
    pub name: PluginName,
    /// The plugin's version.
    pub version: Version,
    /// The version of the SDK that it was built with.
    pub sdk: Version,
    /// The version of the ABI package.
    pub abi: Version,
    /// The version of abi_stable.
    pub abi_stable: Version,
    /// The interfaces that it exports.
    pub interfaces: Vec<Interface>,
    /// The interfaces that it expects of the host.
    pub requires: Vec<Interface>,
    /// How it keeps state.
    pub state: StateModel,
    /// The version of the state's schema.
    pub schema_version: u32,
    /// The plugins that it calls.
    pub dependencies: Vec<Dependency>,
    /// The routes that it asks to be served under.
    pub routes: Vec<String>,
    /// Its optional abilities.
    pub capabilities: Vec<Capability>,
    /// What `rustc --version` printed.
    pub rustc: String,
    /// The target triple.
    pub target: String,
    /// Whether it was built for debugging.
    pub profile: Profile,
    /// What a panic does.
    pub panic: PanicStrategy,
    /// Whether the unload ledger is linked in, by its own account.
    pub ledger: bool,
}

/// An interface and the version of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// The id, 1 to 128 printable ASCII characters without spaces.
    pub id: String,
    /// The version.
    pub version: Version,
}

/// Another plugin, and the versions of it that will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dependency {
    /// The other plugin's name.
    pub name: PluginName,
    /// The versions.
    pub range: VersionReq,
}

/// An optional ability of a plugin, written `name/revision`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Capability {
    /// The name, 1 to 128 printable ASCII characters without spaces.
    pub name: String,
    /// The revision; another one is another ability.
    pub revision: u32,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.revision)
    }
}

impl Serialize for Capability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How a plugin keeps state; neither means that it keeps none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StateModel {
    /// It exports and imports a snapshot of itself.
    pub snapshot: bool,
    /// Its state lies in tables of the host.
    pub tables: bool,
}

impl StateModel {
    /// Whether nothing has to be handed over.
    pub fn is_stateless(self) -> bool {
        !self.snapshot && !self.tables
    }
}

/// Whether a plugin was built for debugging.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Assertions are checked.
    Debug,
    /// Assertions are compiled out.
    Release,
}

/// What a panic does in a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PanicStrategy {
    /// It unwinds and is caught at the plugin's exports.
    Unwind,
    /// It ends the process.
    Abort,
}
