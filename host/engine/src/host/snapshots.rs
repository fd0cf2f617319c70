//! What an embedder can do with saved state: look at it, carry it elsewhere, and
//! have it restored.
//!
//! Looking reads the disk on the caller's thread, beside whatever the host does;
//! what changes something is a command to its loop.

use super::{
    control::Command,
    error::HostError,
    handle::Host,
    outcome::Outcome,
    stored::{Imported, Restored, ShownSnapshot, SnapshotStatus},
};
use crate::{
    id::PluginName,
    state::{
        json::to_json,
        store::{Exported, Found, SnapshotStore},
    },
};
use std::sync::Arc;

/// The snapshots of a host's plugins. Keeps the host running, as a handle to it
/// does.
///
/// Snapshots have numbers, counted for each plugin: later is higher. Where a
/// number may be left out, the newest sound snapshot is meant, which is what a
/// start restores.
///
/// ```no_run
/// use replug_host::Host;
///
/// let host = Host::builder("plugins").start()?;
/// let limiter = "limiter".parse()?;
/// let snapshots = host.snapshots();
/// for snapshot in snapshots.list(Some(&limiter))? {
///     println!("{} of schema {}", snapshot.sequence, snapshot.schema_version);
/// }
/// println!("{:#}", snapshots.show(&limiter, None)?.state);
///
/// // Into a file, and from there into another host.
/// let exported = snapshots.export(&limiter, None)?;
/// replug_host::state::store::write_export("limiter.state".as_ref(), &exported.bytes)?;
/// let imported = snapshots.import(&limiter, &exported.bytes, false).wait()?;
///
/// // From now on it is the state of the version that serves.
/// let restored = snapshots.restore(&limiter, Some(imported.snapshot)).wait()?;
/// println!("what there was is snapshot {:?}", restored.before);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Snapshots {
    host: Host,
    store: Arc<SnapshotStore>,
}

impl Host {
    /// The snapshots of its plugins.
    pub fn snapshots(&self) -> Snapshots {
        Snapshots { host: self.clone(), store: Arc::clone(self.store()) }
    }
}

impl Snapshots {
    /// The snapshots of one plugin or of all, by name and then newest first.
    /// Each file is read and checked, one at a time; blocks on the disk.
    ///
    /// # Errors
    /// [`HostError::Store`] if a folder cannot be read: damaged snapshots are
    /// none, they are listed with what is wrong. [`HostError::Stopped`].
    pub fn list(&self, plugin: Option<&PluginName>) -> Result<Vec<SnapshotStatus>, HostError> {
        self.host.runs()?;
        let plugins = match plugin {
            Some(name) => vec![name.to_string()],
            None => self.store.plugins()?,
        };
        let mut all = Vec::new();
        for plugin in plugins {
            let examined = self.store.examine(&plugin)?;
            all.extend(examined.into_iter().map(|examined| SnapshotStatus::of(&plugin, examined)));
        }
        Ok(all)
    }

    /// A snapshot with its state as bytes. Blocks on the disk.
    ///
    /// # Errors
    /// [`HostError::Store`] with `state.unknown_snapshot`, `state.corrupt`,
    /// `state.format`, `state.too_large` or `state.store`;
    /// [`HostError::Stopped`].
    pub fn read(&self, plugin: &PluginName, snapshot: Option<u64>) -> Result<Found, HostError> {
        self.host.runs()?;
        Ok(self.store.find(plugin.as_str(), snapshot)?)
    }

    /// A snapshot with its state as JSON, in the form that
    /// [`state::json`](crate::state::json) describes. Blocks on the disk.
    ///
    /// # Errors
    /// As [`Snapshots::read`]; [`HostError::Json`] with `state.bad_bytes` or
    /// `state.not_shown`.
    pub fn show(&self, plugin: &PluginName, snapshot: Option<u64>) -> Result<ShownSnapshot, HostError> {
        let Found { snapshot, envelope } = self.read(plugin, snapshot)?;
        Ok(ShownSnapshot {
            state: to_json(&envelope.payload)?,
            sequence: snapshot.sequence(),
            taken_at_unix_ms: envelope.taken_at_unix_ms,
            schema_version: envelope.schema_version,
            plugin_version: envelope.plugin_version,
            state_bytes: envelope.payload.len() as u64,
            plugin: envelope.plugin,
        })
    }

    /// A snapshot as the bytes of a file that any host can import. Blocks on the
    /// disk. [`write_export`](crate::state::store::write_export) writes them as
    /// durably as the host does.
    ///
    /// # Errors
    /// As [`Snapshots::read`].
    pub fn export(&self, plugin: &PluginName, snapshot: Option<u64>) -> Result<Exported, HostError> {
        self.host.runs()?;
        Ok(self.store.export(plugin.as_str(), snapshot)?)
    }

    /// Makes an exported file the newest snapshot of a plugin, which need not be
    /// there yet: its first start restores it. The state of a version that serves
    /// stays what it is until the snapshot is [restored](Snapshots::restore), and
    /// will be the newest again when it is saved. One of another plugin is
    /// refused, unless it may be `foreign`.
    ///
    /// The file is checked on this thread. Fails with `state.bad_import`,
    /// `state.foreign`, `state.format`, `state.too_large` or `state.store`.
    pub fn import(&self, plugin: &PluginName, file: &[u8], foreign: bool) -> Outcome<Imported> {
        match self.store.check_import(plugin.as_str(), file, foreign) {
            Ok(envelope) => self.host.ask(|done| Command::ImportState { envelope: Box::new(envelope), done }),
            Err(error) => Outcome::not_accepted(error.into()),
        }
    }

    /// The largest file that [`import`](Snapshots::import) takes, in bytes.
    pub fn import_bytes_max(&self) -> u64 {
        self.store.options().max_file_bytes()
    }

    /// Makes a snapshot the state of the version that serves: a second instance
    /// of it takes the snapshot over, through the same gate and with the same
    /// guarantees as a deployment; until it serves, every failure leaves all as
    /// it was. What was written since that snapshot is lost to the plugin, which
    /// an event says, and kept as a snapshot of its own. If nothing serves, the
    /// next start restores the snapshot.
    ///
    /// Fails with `state.unknown_snapshot`, `state.corrupt`, `state.no_path` if
    /// no way leads to the schema of the version that serves,
    /// `state.model_changed` if that has no state, or as a deployment does.
    pub fn restore(&self, plugin: &PluginName, snapshot: Option<u64>) -> Outcome<Restored> {
        self.host.ask(|done| Command::RestoreState { name: plugin.clone(), snapshot, done })
    }
}
