//! A host in memory, for a plugin's own tests: plain `cargo test` of a plugin
//! with tables, without a daemon and without loading a library.
//!
//! ```toml
//! [dev-dependencies]
//! replug-plugin-api = { version = "0.1", features = ["testing"] }
//! ```
//!
//! ```
//! use replug_plugin_api::{prelude::*, state::State, testing};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize, State)]
//! #[state(version = 1)]
//! struct Visits { count: u64 }
//!
//! struct Tally { visits: Table<String, Visits> }
//!
//! impl Plugin for Tally {
//!     type Config = ();
//!     fn prepare((): (), context: &Context) -> Result<Self> {
//!         Ok(Tally { visits: context.table("visits")? })
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! // In a function with the attribute `test`.
//! let tally = Tally::prepare((), &testing::context())?;
//! tally.visits.put("alice", &Visits { count: 7 })?;
//! assert_eq!(tally.visits.get("alice")?, Some(Visits { count: 7 }));
//! # Ok(())
//! # }
//! ```
//!
//! It keeps tables as the ABI says: revisions, images, limits. It has no other
//! plugins, writes no log, and keeps nothing on a disk. What a host leaks here
//! ends with the test's process.
//!
//! # Two versions on the same rows
//!
//! Each [`Host::context`] is another version of the plugin. So a migration can
//! be tried before it is shipped: what the old one wrote, the new one reads, and
//! the other way round until it is committed.
//!
//! ```
//! use replug_plugin_api::{prelude::*, state::{State, StateError, Step}, testing::Host};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize, State)]
//! #[state(version = 1)]
//! struct UserV1 { name: String }
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize, State)]
//! #[state(version = 2, previous = UserV1)]
//! struct User { given: String, family: String }
//!
//! impl Step<UserV1> for User {
//!     fn up(old: UserV1) -> Result<Self, StateError> {
//!         let (given, family) = old.name.split_once(' ').unwrap_or((&old.name, ""));
//!         Ok(User { given: given.into(), family: family.into() })
//!     }
//!     fn down(self) -> Result<UserV1, StateError> {
//!         Ok(UserV1 { name: format!("{} {}", self.given, self.family) })
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let host = Host::new();
//! let old: Table<u64, UserV1> = host.context().table("users")?;
//! host.commit("users", 1);
//! old.put(&1, &UserV1 { name: "Ada Lovelace".into() })?;
//!
//! let new: Table<u64, User> = host.context().table("users")?;
//! assert_eq!(new.get(&1)?.map(|user| user.family).as_deref(), Some("Lovelace"));
//! new.put(&2, &User { given: "Grace".into(), family: "Hopper".into() })?;
//! assert_eq!(old.get(&2)?, Some(UserV1 { name: "Grace Hopper".into() }));
//! # Ok(())
//! # }
//! ```

mod abi;
mod store;

use crate::Context;
use store::Store;

/// A host of one test. Clones are the same host.
#[derive(Clone, Copy)]
pub struct Host {
    store: &'static Store,
}

impl Host {
    /// A host without tables.
    pub fn new() -> Self {
        // Contexts and tables point to it for as long as they live.
        Host { store: Box::leak(Box::default()) }
    }

    /// The host as one version of the plugin sees it. Its tables can be opened
    /// at any time, and written.
    pub fn context(&self) -> Context {
        Context::new(abi::host_context(self.store), "test", "0.0.0", true)
    }

    /// Makes a schema the committed one of a table: what versions of other
    /// schemas write from now on leaves an image for it. Before the first
    /// commit nothing does.
    pub fn commit(&self, table: &str, schema: u32) {
        self.store.table(table).commit(schema);
    }

    /// Refuses writes to all tables, as a host does until the version is being
    /// activated, or takes them again.
    pub fn refuse_writes(&self, refuse: bool) {
        self.store.refuse_writes(refuse);
    }
}

impl Default for Host {
    fn default() -> Self {
        Host::new()
    }
}

/// The context of a plugin on a host of its own.
pub fn context() -> Context {
    Host::new().context()
}
