//! The test kit for built plugins: the files that will be dropped, in a host of
//! their own.
//!
//! What types and steps promise is tested in the plugin's crate, with
//! `replug_plugin_api::testing`, whose documentation goes through it step by
//! step. This is the last one: version 1 serves and is called, version 2 takes
//! over, what it answers is compared, and so is what version 1 finds after the
//! way back. It shows what no single crate can: that two packages agree.
//!
//! ```no_run
//! use replug_tests::kit::Kit;
//!
//! let mut kit = Kit::of("target/release/libcounter_v1.so");
//! kit.call("add", "5");
//! kit.upgrade_to("target/release/libcounter_v2.so");
//! assert_eq!(kit.call("count", ""), "5");
//! kit.call("add", "2");
//! kit.go_back();
//! assert_eq!(kit.call("count", ""), "7");
//! ```
//!
//! Everything here fails the test, by a panic that says what happened, unless
//! it returns a `Result`. A library is loaded once and serves any number of
//! cases, so these can be proptest's. What a plugin runs, runs in this process:
//! a hook that never returns holds the test.

use crate::harness::{Harness, How, is, wait_until};
use replug_host::{
    CallError, HostBuilder, HostError, Plugin, PluginStatus, Reply, TableStatus,
    artifact::inspect::Manifest,
    event::{EventKind, FailureReport},
    failure::{Code, Failure},
    service::Serving,
    state::chain::{self, MigratePolicy, Plan},
};
use serde_json::Value;
use std::{fmt::Debug, path::Path, time::Duration};

/// Longer than any test: a version before is kept until the test decides.
const PROBATION: Duration = Duration::from_secs(24 * 3_600);

/// One plugin in a host, and the versions that it has had.
pub struct Kit {
    harness: Harness,
    plugin: Plugin,
    /// Those whose files are there, and which of them served in turn.
    dropped: Vec<String>,
    trail: Vec<Manifest>,
}

/// A version serves, and goes.
impl Kit {
    /// A host in which this library serves.
    pub fn of(library: impl AsRef<Path>) -> Kit {
        Kit::with(library, |options| options)
    }

    /// The same, with other options: the plugin's configuration, say.
    ///
    /// ```no_run
    /// use replug_tests::kit::Kit;
    /// use serde_json::json;
    ///
    /// let kit = Kit::with("libcounter_v1.so", |host| host.config("counter", json!({"step": 2})));
    /// ```
    pub fn with(library: impl AsRef<Path>, adjust: impl FnOnce(HostBuilder) -> HostBuilder) -> Kit {
        let manifest = read(library.as_ref()).unwrap_or_else(|failure| panic!("{failure}"));
        let harness = Harness::with(|options| adjust(options.probation(PROBATION)));
        let plugin = harness.plugin(manifest.name.as_ref());
        let mut kit = Kit { harness, plugin, dropped: Vec::new(), trail: Vec::new() };
        kit.upgrade_to(library);
        kit
    }

    /// Drops a library, and waits until it serves. The version before is kept
    /// until [`commit`](Kit::commit).
    pub fn upgrade_to(&mut self, library: impl AsRef<Path>) {
        let library = library.as_ref();
        if let Err(failure) = self.try_upgrade_to(library) {
            panic!("{} does not serve: {failure}", library.display());
        }
    }

    /// [`upgrade_to`](Kit::upgrade_to) for libraries that may be refused.
    ///
    /// # Errors
    /// Why the host refuses it; the version before serves on.
    pub fn try_upgrade_to(&mut self, library: impl AsRef<Path>) -> Result<(), FailureReport> {
        let manifest = read(library.as_ref())?;
        assert_eq!(manifest.name, *self.plugin.name(), "the library is of another plugin");
        let version = manifest.version.to_string();
        if self.dropped.contains(&version) {
            self.activate(&version)?;
        } else {
            self.drop_in(library.as_ref(), &version)?;
            self.dropped.push(version);
        }
        self.trail.push(manifest);
        Ok(())
    }

    /// Gives up the way back in an instant: the version before is unloaded, and
    /// rows of tables are brought to the schema of the one that serves. Of a
    /// plugin without tables nothing is kept that long.
    pub fn commit(&mut self) {
        self.commit_version();
        wait_until("committing the tables", || {
            self.opened().iter().all(|(table, schema)| table.schema == *schema)
        });
        // Commands are taken one after the other: when this one is answered, the
        // sweep that follows from the commit has begun.
        self.commit_version();
        wait_until("the sweep of the tables", || {
            self.opened().iter().all(|(table, _)| table.sweep.as_ref().is_some_and(|sweep| sweep.done))
        });
    }

    /// Makes the version before serve again: at once where it is kept ready,
    /// otherwise as an operator would, who chooses it.
    pub fn go_back(&mut self) {
        assert!(self.trail.len() > 1, "there is no version before {}", self.version());
        let left = self.version();
        self.trail.pop();
        match self.harness.host.roll_back(self.plugin.name(), None) {
            Ok(_) => {}
            Err(error) if is_not_warm(&error) => {
                let version = self.manifest().version.to_string();
                let chosen = self.activate(&version);
                chosen.unwrap_or_else(|failure| panic!("{left} cannot be left: {failure}"));
            }
            Err(error) => panic!("{left} cannot be left: {error}"),
        }
        let (serves, wanted) = (self.serving(), self.version());
        assert_eq!(serves, wanted, "another version serves than the one before");
    }

    /// Demands that `look` sees the same in a newer version, after the way
    /// back, and when it takes over once more. That one serves at the end.
    ///
    /// ```no_run
    /// use replug_tests::kit::Kit;
    ///
    /// let mut kit = Kit::of("libcounter_v1.so");
    /// kit.call("add", "5");
    /// kit.assert_survives("libcounter_v2.so", |kit| kit.call("count", ""));
    /// ```
    #[track_caller]
    pub fn assert_survives<T>(&mut self, newer: impl AsRef<Path>, look: impl Fn(&Kit) -> T)
    where
        T: PartialEq + Debug,
    {
        let newer = newer.as_ref();
        let (version, before) = (self.version(), look(self));
        self.upgrade_to(newer);
        let there = look(self);
        assert!(there == before, "{version} had\n  {before:?}\n{} has\n  {there:?}", self.version());
        self.go_back();
        let back = look(self);
        assert!(back == before, "{version} had\n  {before:?}\nand after the way back\n  {back:?}");
        self.upgrade_to(newer);
        let again = look(self);
        assert!(again == before, "{version} had\n  {before:?}\nand at the second attempt\n  {again:?}");
    }
}

/// What a version answers and keeps.
impl Kit {
    /// The answer of a method, as text.
    #[track_caller]
    pub fn call(&self, method: &str, body: impl AsRef<[u8]>) -> String {
        let text = |reply: Reply| reply.text().map(str::to_owned).map_err(|error| error.to_string());
        let answer = self.try_call(method, body).map_err(|error| error.to_string()).and_then(text);
        answer.unwrap_or_else(|error| panic!("{method} of {}: {error}", self.version()))
    }

    /// The answer of a method, as JSON.
    #[track_caller]
    pub fn json(&self, method: &str, body: impl AsRef<[u8]>) -> Value {
        let text = self.call(method, body);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{method} is no JSON: {error}: {text}"))
    }

    /// Calls a method.
    ///
    /// # Errors
    /// As [`Plugin::call`].
    pub fn try_call(&self, method: &str, body: impl AsRef<[u8]>) -> Result<Reply, CallError> {
        self.plugin.call(method, body.as_ref())
    }

    /// The state that the version exports now; of a plugin with snapshots.
    #[track_caller]
    pub fn state(&self) -> Vec<u8> {
        let state = self.inside(|serving| serving.export(usize::MAX));
        state.unwrap_or_else(|error| panic!("the state of {}: {error}", self.version()))
    }

    /// A table: its schema, its rows, how far the sweep is.
    #[track_caller]
    pub fn table(&self, name: &str) -> TableStatus {
        let table =
            self.status().and_then(|plugin| plugin.tables.into_iter().find(|table| table.name == name));
        table.unwrap_or_else(|| panic!("{} has no table {name}", self.version()))
    }

    /// The version, `name@semver`.
    pub fn version(&self) -> String {
        let manifest = self.manifest();
        format!("{}@{}", manifest.name, manifest.version)
    }

    /// The host, for all that is not here.
    pub fn harness(&mut self) -> &mut Harness {
        &mut self.harness
    }
}

/// What the library makes of bytes. Nothing that it keeps is touched.
impl Kit {
    /// The bytes of a snapshot in another schema, over the steps that the
    /// library offers, as the host plans them.
    ///
    /// # Errors
    /// `state.no_path` where there are no such steps, and what a step fails
    /// with: also a panic, which does not leave the library.
    pub fn migrate_bytes(&self, from: u32, to: u32, bytes: &[u8]) -> Result<Vec<u8>, FailureReport> {
        self.inside(|serving| {
            let loaded = serving.loaded();
            let steps = loaded.steps().map_err(report)?;
            let request = chain::Request {
                from,
                to,
                steps: &steps,
                policy: MigratePolicy::Migrate,
                has_older_snapshot: false,
                allow_loss: false,
            };
            let mut bytes = bytes.to_vec();
            if let Plan::Steps(steps) = chain::plan(&request).map_err(report)? {
                for (from, to) in steps.iter().map(chain::Step::versions) {
                    let migrated = loaded.migrate(from, to, &bytes, usize::MAX).map_err(report)?;
                    bytes = migrated.ok_or_else(|| no_steps(from, to))?;
                }
            }
            Ok(bytes)
        })
    }

    /// The bytes of a row of a table in another schema, as the library converts
    /// them for a sweep or a rollback.
    ///
    /// # Errors
    /// As [`migrate_bytes`](Kit::migrate_bytes).
    pub fn convert_row(
        &self,
        table: &str,
        from: u32,
        to: u32,
        bytes: &[u8],
    ) -> Result<Vec<u8>, FailureReport> {
        let converted = self.inside(|serving| serving.convert_row(table, bytes, (from, to), usize::MAX));
        converted.map_err(report)?.and_then(|row| row.image).ok_or_else(|| no_steps(from, to))
    }

    #[track_caller]
    fn inside<T>(&self, look: impl FnOnce(&Serving) -> T) -> T {
        let looked = self.plugin.enter(|entered| look(entered.payload()));
        looked.unwrap_or_else(|error| panic!("{}: {error}", self.version()))
    }
}

/// How it gets there.
impl Kit {
    /// Renames a new file in, and makes it serve also where an earlier version
    /// was chosen.
    fn drop_in(&mut self, library: &Path, version: &str) -> Result<(), FailureReport> {
        let name = self.plugin.name().to_string();
        let (file, id) = (format!("{name}-{version}.so"), format!("{name}@{version}"));
        self.harness.drop_file(How::Rename, library, &file);
        let event = self.harness.expect(&format!("taking {id} or refusing it"), |event| match &event.kind {
            EventKind::Published { .. } | EventKind::Superseded { .. } | EventKind::DeployFailed { .. } => {
                is(event, &id)
            }
            EventKind::Refused { path, .. } => path.ends_with(&file),
            _ => false,
        });
        match &event.kind {
            EventKind::Superseded { .. } => self.activate(version),
            EventKind::DeployFailed { failure, .. } | EventKind::Refused { failure, .. } => {
                Err(failure.clone())
            }
            _ => Ok(()),
        }
    }

    fn activate(&self, version: &str) -> Result<(), FailureReport> {
        self.harness.activate(self.plugin.name().as_ref(), version).map(drop)
    }

    /// Commits, if there is something to commit.
    fn commit_version(&self) {
        match self.harness.host.commit(self.plugin.name()).wait() {
            Err(error) if !is_not_warm(&error) => panic!("{} cannot be committed: {error}", self.version()),
            _ => {}
        }
    }

    fn status(&self) -> Option<PluginStatus> {
        self.harness.host.status().plugin(self.plugin.name().as_ref()).cloned()
    }

    /// The tables of this version with its schema of each. There may be others,
    /// which it has given up.
    fn opened(&self) -> Vec<(TableStatus, u32)> {
        let tables = self.status().map_or_else(Vec::new, |plugin| plugin.tables);
        let own = |table: TableStatus| {
            let schema = self.inside(|serving| serving.table_schema(&table.name))?;
            Some((table, schema))
        };
        tables.into_iter().filter_map(own).collect()
    }

    /// What the host says, `name@semver`.
    fn serving(&self) -> String {
        let id = self.plugin.version().unwrap_or_else(|error| panic!("{error}"));
        format!("{}@{}", id.name, id.version)
    }

    fn manifest(&self) -> &Manifest {
        self.trail.last().expect("a kit begins with a version that serves")
    }
}

fn read(library: &Path) -> Result<Manifest, FailureReport> {
    replug_host::inspect(library).map(|(manifest, _)| manifest).map_err(report)
}

fn report(error: impl Failure) -> FailureReport {
    FailureReport::of(&error)
}

fn no_steps(from: u32, to: u32) -> FailureReport {
    let message = format!("the plugin has no steps from schema {from} to {to}");
    FailureReport::with_code(Code::StateNoPath, message)
}

/// Whether no version before is kept ready.
fn is_not_warm(error: &HostError) -> bool {
    matches!(error, HostError::Failed(report) if report.code == Code::RollbackNotWarm.as_str())
}
