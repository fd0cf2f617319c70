//! The tables of a host's plugins, and the stores that keep them.
//!
//! A table belongs to a plugin and stays when its versions go: unless none of
//! those that had it open ever served. What a version may do with one is not
//! known here.

use crate::{
    failure::{Code, Failure},
    id::PluginName,
    table::{Limits, Table, TableError},
    table_store::{self, RestoredTable, TableStore, TableStoreError, TableStoreOptions},
};
use replug_abi::Durability;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

/// Tables of one plugin.
pub(super) const TABLES_MAX: usize = 256;

/// The tables of all plugins of a host.
#[derive(Debug)]
pub(crate) struct Tables {
    limits: Limits,
    /// Where durable ones are kept, a folder for each plugin.
    folder: PathBuf,
    /// The witnesses have a folder for each plugin, too.
    options: TableStoreOptions,
    plugins: Mutex<Plugins>,
}

#[derive(Debug, Default)]
struct Plugins {
    /// No store is opened any more.
    closed: bool,
    by_name: BTreeMap<PluginName, Arc<PluginTables>>,
}

/// The tables of one plugin.
#[derive(Debug, Default)]
pub(super) struct PluginTables {
    /// Locked while a disk works, which may take any time; before `tables`.
    pub(super) store: Mutex<Store>,
    /// Locked for moments only, so that status never waits for a disk.
    tables: Mutex<BTreeMap<String, Known>>,
    /// Those that were read, and that nobody was told of, of which rows are
    /// missing.
    partial: Mutex<Vec<String>>,
    /// Those that are in the store and were forgotten.
    forgotten: Mutex<Vec<String>>,
}

/// Where the durable tables of a plugin are kept.
#[derive(Debug, Default)]
pub(super) enum Store {
    /// Opened when there is something in it, or has to be.
    #[default]
    Shut,
    Open(TableStore),
    /// The host has ended: whoever comes late does not open it again.
    Closed,
}

#[derive(Debug)]
pub(super) struct Known {
    table: Arc<Table>,
    durability: Durability,
    /// Versions that have it open.
    pub(super) users: usize,
    /// Versions that were let write to it, and not refused afterwards. While there
    /// was none, it ends with the last version that has it open.
    pub(super) writers: usize,
}

/// What a version says of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec<'a> {
    pub(crate) name: &'a str,
    pub(crate) schema: u32,
    pub(crate) steps: &'a [(u32, u32)],
    pub(crate) durability: Durability,
    pub(crate) rows_max: u64,
    pub(crate) bytes_max: u64,
}

impl Tables {
    pub(crate) fn new(limits: Limits, folder: PathBuf, options: TableStoreOptions) -> Arc<Self> {
        Arc::new(Tables { limits, folder, options, plugins: Mutex::default() })
    }

    /// The tables of a plugin, by name.
    pub(crate) fn of(&self, plugin: &PluginName) -> Vec<TableOf> {
        let Some(plugin) = lock(&self.plugins).by_name.get(plugin).cloned() else { return Vec::new() };
        let tables = lock(&plugin.tables);
        tables
            .values()
            .map(|known| TableOf { table: Arc::clone(&known.table), durability: known.durability })
            .collect()
    }

    /// Reads the durable tables of a plugin, if that has not been done. Blocks on
    /// the disk; a second for a million rows.
    ///
    /// Returns the tables whose store had not been told all their rows when the
    /// process ended, once: the rest was in memory only, and is lost.
    ///
    /// # Errors
    /// They are not what was written, or cannot be read.
    #[must_use = "somebody has to be told that rows are missing"]
    pub(crate) fn load(&self, plugin: &PluginName) -> Result<Vec<String>, TableStoreError> {
        if !self.has_store(plugin) {
            return Ok(Vec::new());
        }
        self.with_store(plugin, |_, of| Ok(std::mem::take(&mut *lock(&of.partial))))
    }

    /// Whether there is nothing for [`load`](Self::load) to do. Does not wait for
    /// a disk.
    pub(crate) fn is_loaded(&self, plugin: &PluginName) -> bool {
        let tables = lock(&self.plugins).by_name.get(plugin).cloned();
        // Who holds the lock works on the disk, and is not waited for.
        let is_open = tables.is_some_and(|tables| {
            tables.store.try_lock().is_ok_and(|store| matches!(*store, Store::Open(_)))
        });
        is_open || !self.has_store(plugin)
    }

    /// Whether there is a store of a plugin, or was.
    fn has_store(&self, plugin: &PluginName) -> bool {
        let folders = [Some(&self.folder), self.options.witnesses.as_ref()];
        folders.into_iter().flatten().any(|folder| folder.join(plugin.as_str()).is_dir())
    }

    /// Writes out what is queued and gives the files back, for good.
    ///
    /// # Errors
    /// The first of a store that failed, now or earlier.
    pub(crate) fn close(&self) -> Result<(), TableStoreError> {
        let plugins: Vec<_> = {
            let mut plugins = lock(&self.plugins);
            plugins.closed = true;
            plugins.by_name.values().cloned().collect()
        };
        let close =
            |plugin: &Arc<PluginTables>| match std::mem::replace(&mut *lock(&plugin.store), Store::Closed) {
                Store::Open(store) => plugin.remove_forgotten(&store).and(store.close()),
                Store::Shut | Store::Closed => Ok(()),
            };
        // All of them are closed, whatever the first one says or its disk does.
        thread::scope(|scope| {
            let closing: Vec<_> = plugins
                .iter()
                .map(|plugin| {
                    let thread = thread::Builder::new().name("replug-close".to_owned());
                    (plugin, thread.spawn_scoped(scope, || close(plugin)))
                })
                .collect();
            let closed = closing.into_iter().map(|(plugin, thread)| match thread {
                Ok(thread) => thread.join().unwrap_or(Ok(())),
                Err(_) => close(plugin),
            });
            closed.fold(Ok(()), Result::and)
        })
    }

    pub(super) fn plugin(&self, plugin: &PluginName) -> Arc<PluginTables> {
        let Plugins { closed, by_name } = &mut *lock(&self.plugins);
        let store = || Mutex::new(if *closed { Store::Closed } else { Store::Shut });
        let tables = || Arc::new(PluginTables { store: store(), ..PluginTables::default() });
        Arc::clone(by_name.entry(plugin.clone()).or_insert_with(tables))
    }

    /// Does something with the store of a plugin, which is opened if it was not.
    /// Blocks on the disk.
    fn with_store<R, E: From<TableStoreError>>(
        &self,
        plugin: &PluginName,
        body: impl FnOnce(&TableStore, &PluginTables) -> Result<R, E>,
    ) -> Result<R, E> {
        let (of, folder) = (self.plugin(plugin), self.folder.join(plugin.as_str()));
        let mut store = lock(&of.store);
        if let Store::Shut = *store {
            let witnesses = self.options.witnesses.as_ref().map(|folder| folder.join(plugin.as_str()));
            let accept_loss = self.options.accept_loss;
            let opened = TableStore::open(&folder, TableStoreOptions { accept_loss, witnesses })?;
            let mut tables = lock(&of.tables);
            for RestoredTable { table, durability, .. } in opened.tables {
                table.set_limits(self.limits);
                if table.record().partial {
                    lock(&of.partial).push(table.name().to_owned());
                }
                let (name, durability) = (table.name().to_owned(), durability.into());
                // Who wrote to it was in another life.
                tables.insert(name, Known { table, durability, users: 0, writers: 1 });
            }
            *store = Store::Open(opened.store);
        }
        match &*store {
            Store::Open(store) => {
                of.remove_forgotten(store)?;
                body(store, &of)
            }
            Store::Shut | Store::Closed => Err(TableStoreError::Closed { folder }.into()),
        }
    }

    /// Finds the table of a version that is prepared, and sees to it that it
    /// could be kept as the version wants. Nothing changes for versions that
    /// serve: this one may be refused yet.
    pub(super) fn find_or_make(&self, plugin: &PluginName, spec: &Spec<'_>) -> Result<Arc<Table>, OpenError> {
        if let Some(durability) = in_store(spec.durability) {
            // So that activation, which callers may wait for, adds a record only.
            self.with_store(plugin, |store, _| store.make_ready(durability))?;
        }
        let of = self.plugin(plugin);
        let mut tables = lock(&of.tables);
        if tables.len() == TABLES_MAX && !tables.contains_key(spec.name) {
            return Err(OpenError::TooMany { table: spec.name.to_owned() });
        }
        let known = tables.entry(spec.name.to_owned()).or_insert_with(|| Known {
            table: Table::new(spec.name, self.limits),
            durability: Durability::MEMORY,
            users: 0,
            writers: 0,
        });
        known.needs(spec.durability)?;
        known.users += 1;
        Ok(Arc::clone(&known.table))
    }

    /// Changes what is known of those tables that a version has open.
    pub(super) fn update<'a>(
        &self,
        plugin: &PluginName,
        names: impl Iterator<Item = &'a str>,
        change: impl Fn(&mut Known),
    ) {
        let of = self.plugin(plugin);
        let mut tables = lock(&of.tables);
        for name in names {
            if let Some(known) = tables.get_mut(name) {
                change(known);
            }
        }
        let mut forgotten = lock(&of.forgotten);
        tables.retain(|name, known| {
            let stays = known.users > 0 || known.writers > 0;
            if !stays && known.durability != Durability::MEMORY {
                forgotten.push(name.clone());
            }
            stays
        });
    }

    /// Keeps a table at least as a version wants that is activated.
    pub(super) fn keep(&self, plugin: &PluginName, name: &str, wanted: Durability) -> Result<(), OpenError> {
        let Some(durability) = in_store(wanted) else { return Ok(()) };
        let to_do = |of: &PluginTables| {
            let tables = lock(&of.tables);
            let Some(known) = tables.get(name) else { return Ok(None) };
            Ok::<_, OpenError>(known.needs(wanted)?.then(|| Arc::clone(&known.table)))
        };
        if to_do(&self.plugin(plugin))?.is_none() {
            return Ok(());
        }
        self.with_store(plugin, |store, of| {
            let Some(table) = to_do(of)? else { return Ok(()) };
            // Rows that are there already follow with the next sweep.
            table.attach(store.create(name, durability)?)?;
            if let Some(known) = lock(&of.tables).get_mut(name) {
                known.durability = wanted;
            }
            Ok(())
        })
    }
}

impl PluginTables {
    /// Removes from the store what was forgotten since. Later than that, because
    /// whoever forgets must not wait for a disk.
    fn remove_forgotten(&self, store: &TableStore) -> Result<(), TableStoreError> {
        let forgotten = std::mem::take(&mut *lock(&self.forgotten));
        forgotten.iter().try_for_each(|name| store.remove(name))
    }
}

impl Known {
    /// Whether it has to be kept otherwise than it is.
    fn needs(&self, wanted: Durability) -> Result<bool, OpenError> {
        if wanted.0 <= self.durability.0 {
            return Ok(false);
        }
        if self.durability != Durability::MEMORY {
            return Err(OpenError::Durability { table: self.table.name().to_owned() });
        }
        Ok(true)
    }
}

/// How a store keeps it; none if no store does.
fn in_store(durability: Durability) -> Option<table_store::Durability> {
    match durability {
        Durability::PROCESS => Some(table_store::Durability::Process),
        Durability::DISK => Some(table_store::Durability::Disk),
        _ => None,
    }
}

/// A table of a plugin, and when writes to it are acknowledged.
pub(crate) struct TableOf {
    pub(crate) table: Arc<Table>,
    pub(crate) durability: Durability,
}

impl From<table_store::Durability> for Durability {
    fn from(durability: table_store::Durability) -> Self {
        match durability {
            table_store::Durability::Process => Durability::PROCESS,
            table_store::Durability::Disk => Durability::DISK,
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is added to in one step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A table was not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// Its name is none.
    #[error("{table:?} is no name of a table: 1 to 64 of a-z, 0-9, - and _, a letter first")]
    Name { table: String },
    /// What was said of it makes no sense.
    #[error(
        "table {table}: schema, steps or durability are none that this host knows, or differ from those that it was opened with before"
    )]
    Spec { table: String },
    /// It is too late.
    #[error("table {table} is opened after `prepare`: open tables there and keep them")]
    NotOpen { table: String },
    /// It is kept already, and not as it should be.
    #[error(
        "table {table} is kept by the process, and how it is kept cannot be changed: open another table by the disk, and copy the rows"
    )]
    Durability { table: String },
    /// Where it should be kept is not usable.
    #[error(transparent)]
    Store(#[from] TableStoreError),
    /// Its store has failed.
    #[error(transparent)]
    Table(#[from] TableError),
    /// There are enough.
    #[error("table {table} would be one more than the {TABLES_MAX} that a plugin may have")]
    TooMany { table: String },
}

impl Failure for OpenError {
    fn code(&self) -> Code {
        match self {
            OpenError::Name { .. } => Code::TableName,
            OpenError::Spec { .. } => Code::TableSchema,
            OpenError::NotOpen { .. } => Code::TableNotOpen,
            OpenError::TooMany { .. } | OpenError::Durability { .. } => Code::TableSchema,
            OpenError::Store(error) => error.code(),
            OpenError::Table(error) => error.code(),
        }
    }
}
