//! What a plugin's own tests are made of: plain `cargo test`, without a daemon
//! and without loading a library.
//!
//! ```toml
//! [dev-dependencies]
//! proptest = "1"
//! replug-plugin-api = { version = "0.1", features = ["testing"] }
//! ```
//!
//! | for | see |
//! |---|---|
//! | one state, up or down the chain | [`upgrade`], [`downgrade`], [`upgrade_bytes`] |
//! | any state, up and down again | [`assert_round_trip`], [`assert_round_trip_but`] |
//! | rows that two versions use at once | [`assert_row_shared`], [`Host`] |
//! | bytes that are out there | [`assert_golden`], [`golden`], [`bytes_of`] |
//! | a plugin with tables, called as in a host | [`context`], [`Host`] |
//!
//! States and rows are compared by `==`. One with a NaN in it, which equals nothing,
//! itself neither, fails whatever the steps make of it: have proptest leave NaN out,
//! or implement `PartialEq` by `to_bits`.
//!
//! # A plugin with tables
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
//! # Prove an upgrade before its release
//!
//! Version 2 of a plugin changes what it keeps: a snapshot, or the rows of a
//! table. Both are [versioned types](crate::state), and all that follows is for
//! both.
//!
//! **1. Before anything changes, nail down what is out there.** A golden file
//! holds the bytes of a state of version 1. It is made once, with
//! `REPLUG_GOLDEN=write cargo test`, and committed:
//!
//! ```no_run
//! # use replug_plugin_api::{state::State, testing};
//! # use serde::{Deserialize, Serialize};
//! #[derive(Debug, PartialEq, Serialize, Deserialize, State)]
//! #[state(version = 1)]
//! struct UserV1 { name: String }
//!
//! testing::assert_golden("tests/golden/user-v1.hex", &UserV1 { name: "Ada Lovelace".into() });
//! ```
//!
//! From now on, who edits the type without a new version is told.
//!
//! **2. Declare version 2 beside it, with a step up and a step down.** A step
//! that loses something may do so; it has to be known what.
//!
//! **3. Say what one state becomes**, as a reader of the release notes would:
//! state of version 1 in, [`upgrade`] to 2, assert.
//!
//! **4. Let any state go up and come back.** What is true of the one that came
//! to mind is often not true of the empty one:
//!
//! ```
//! use proptest::prelude::*;
//! use replug_plugin_api::{state::{State, StateError, Step}, testing};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize, State)]
//! #[state(version = 1)]
//! struct UserV1 { name: String }
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize, State)]
//! #[state(version = 2, previous = UserV1)]
//! struct User { given: String, family: Option<String> }
//!
//! impl Step<UserV1> for User {
//!     fn up(old: UserV1) -> Result<Self, StateError> {
//!         Ok(match old.name.split_once(' ') {
//!             Some((given, family)) => User { given: given.into(), family: Some(family.into()) },
//!             None => User { given: old.name, family: None },
//!         })
//!     }
//!     fn down(self) -> Result<UserV1, StateError> {
//!         Ok(UserV1 {
//!             name: match self.family {
//!                 Some(family) => format!("{} {family}", self.given),
//!                 None => self.given,
//!             },
//!         })
//!     }
//! }
//!
//! // Up and down: what version 1 finds again after a rollback.
//! proptest!(|(name: String)| testing::assert_round_trip::<UserV1, User>(&UserV1 { name }));
//!
//! // Down and up: what version 2 wrote, before a rollback and a second attempt.
//! proptest!(|(given in "[^ ]*", family: Option<String>)| {
//!     testing::assert_round_trip::<User, UserV1>(&User { given, family });
//! });
//!
//! // Of a table also: both versions at once, on the same row.
//! proptest!(|(name: String)| testing::assert_row_shared::<UserV1, User>(&UserV1 { name }));
//! ```
//!
//! With `family: String` the first of them fails, and proptest says for which
//! name: the empty one, which comes back as a blank. That is the point at which
//! to make it an `Option`, not after the release.
//!
//! **5. Let the golden bytes arrive**: [`upgrade_bytes`] of [`golden`] gives the
//! state of step 3, also when version 3 comes and the file is older than anybody
//! remembers.
//!
//! **6. Try the libraries that will be dropped.** All the above is one crate. What
//! a host does with the files of two is tried by the package `replug-tests` of
//! this project, module `kit`: version 1 serves and is called, version 2 takes
//! over, answers and state are compared, and the way back is gone.
//!
//! # Two versions on the same rows
//!
//! A [`Host`] keeps tables in memory as the ABI says: revisions, images, limits.
//! It has no other plugins, writes no log, and keeps nothing on a disk. What it
//! leaks ends with the test's process.
//!
//! Each [`Host::context`] is another version of the plugin: what the old one
//! wrote, the new one reads, and the other way round until it is committed.
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

mod store;
mod abi;
mod upgrade;
mod golden;

use crate::Context;
use store::Store;

pub use golden::{assert_golden, bytes_of, golden};
pub use upgrade::{
    assert_round_trip, assert_round_trip_but, assert_row_shared, downgrade, upgrade, upgrade_bytes,
};

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

    /// Refuses writes as a host does whose disk has failed (`table.store_failed`):
    /// what is there can be read. That of a real host never mends.
    pub fn fail_disk(&self, fail: bool) {
        self.store.fail_disk(fail);
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
