//! The tables of a host's plugins, and those that one version has open.
//!
//! long: whose a table is, how it is kept and how a version stands to it is decided in one place.
//!
//! A table belongs to a plugin and stays when its versions go. A version opens
//! tables while it is prepared and says which schemas it can turn into which;
//! what follows from that for its deployment is found out here, and decided by
//! the host.

use crate::{
    failure::{Code, Failure},
    id::PluginName,
    table::{Limits, Table, TableError, View},
    table_store::{self, RestoredTable, TableStore, TableStoreError, TableStoreOptions},
};
use replug_abi::{Durability, note::is_name};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Tables of one plugin.
const TABLES_MAX: usize = 256;

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
struct PluginTables {
    /// Locked while a disk works, which may take any time; before `tables`.
    store: Mutex<Store>,
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
enum Store {
    /// Opened when there is something in it, or has to be.
    #[default]
    Shut,
    Open(TableStore),
    /// The host has ended: whoever comes late does not open it again.
    Closed,
}

#[derive(Debug)]
struct Known {
    table: Arc<Table>,
    durability: Durability,
    /// Versions that have it open.
    users: usize,
    /// Versions that were let write to it, and not refused afterwards. While there
    /// was none, it ends with the last version that has it open.
    writers: usize,
}

/// The tables that one version has open. While this lives, they may be written
/// to, from activation on.
#[derive(Debug)]
pub(crate) struct OpenTables {
    plugin: PluginName,
    tables: Arc<Tables>,
    // Boxes: the plugin keeps their addresses.
    open: Mutex<Opening>,
}

#[derive(Debug, Default)]
struct Opening {
    closed: bool,
    writing: Writing,
    // The plugin keeps the addresses of what is in these.
    tables: Vec<Arc<OpenTable>>,
}

/// Whether a version counts as a writer of its tables.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Writing {
    #[default]
    NotYet,
    Counts,
    /// It was refused: also when it is activated late.
    NoMore,
}

/// A table that a version has open.
#[derive(Debug)]
pub(crate) struct OpenTable {
    view: Arc<View>,
    steps: Vec<(u32, u32)>,
    /// How the version wants it to be kept, from its activation on.
    durability: Durability,
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

/// How a version's schema of a table stands to the committed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It is the same, or the first.
    Same,
    /// It is later, and rows can go back.
    Later,
    /// It is later, and what it writes cannot go back.
    OneWay,
    /// It is earlier.
    Earlier,
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
        // All of them are closed, whatever the first one says.
        plugins.iter().map(close).fold(Ok(()), Result::and)
    }

    fn plugin(&self, plugin: &PluginName) -> Arc<PluginTables> {
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
    fn find_or_make(&self, plugin: &PluginName, spec: &Spec<'_>) -> Result<Arc<Table>, OpenError> {
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
    fn update(&self, plugin: &PluginName, open: &[Arc<OpenTable>], change: impl Fn(&mut Known)) {
        let of = self.plugin(plugin);
        let mut tables = lock(&of.tables);
        for open in open {
            if let Some(known) = tables.get_mut(open.view.table().name()) {
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
    fn keep(&self, plugin: &PluginName, name: &str, wanted: Durability) -> Result<(), OpenError> {
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is added to in one step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OpenTables {
    pub(crate) fn new(plugin: &PluginName, tables: &Arc<Tables>) -> Arc<Self> {
        Arc::new(OpenTables { plugin: plugin.clone(), tables: Arc::clone(tables), open: Mutex::default() })
    }

    /// Opens a table, or gives the one that was opened before. What is returned
    /// lives as long as this.
    pub(crate) fn open(&self, spec: &Spec<'_>) -> Result<Arc<OpenTable>, OpenError> {
        let table = || spec.name.to_owned();
        if !is_name(spec.name) {
            return Err(OpenError::Name { table: table() });
        }
        let is_step = |(from, to): &(u32, u32)| *from != 0 && *to != 0 && from.abs_diff(*to) == 1;
        let is_known = [Durability::MEMORY, Durability::PROCESS, Durability::DISK].contains(&spec.durability);
        if spec.schema == 0 || spec.schema == u32::MAX || !spec.steps.iter().all(is_step) || !is_known {
            return Err(OpenError::Spec { table: table() });
        }
        let mut opening = lock(&self.open);
        if opening.closed {
            return Err(OpenError::NotOpen { table: table() });
        }
        let known = opening.tables.iter().find(|open| open.view.table().name() == spec.name);
        if let Some(known) = known {
            let same = known.view.schema() == spec.schema;
            return if same { Ok(Arc::clone(known)) } else { Err(OpenError::Spec { table: table() }) };
        }
        let or_none = |max: u64| if max == 0 { u64::MAX } else { max };
        let limits = Limits { rows_max: or_none(spec.rows_max), bytes_max: or_none(spec.bytes_max) };
        let table = self.tables.find_or_make(&self.plugin, spec)?;
        let view = Arc::new(View::new(&table, spec.schema).with_limits(limits));
        let open = Arc::new(OpenTable { view, steps: spec.steps.to_vec(), durability: spec.durability });
        opening.tables.push(Arc::clone(&open));
        Ok(open)
    }

    /// The version is prepared: it opens no more tables.
    pub(crate) fn close(&self) {
        lock(&self.open).closed = true;
    }

    /// Those that are open.
    pub(crate) fn all(&self) -> Vec<Arc<OpenTable>> {
        lock(&self.open).tables.clone()
    }

    /// One of those that are open.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<OpenTable>> {
        lock(&self.open).tables.iter().find(|open| open.view.table().name() == name).cloned()
    }

    /// Allows the version to write. From now on its tables are kept as it wants.
    /// Blocks on the disk, if they were not before.
    pub(crate) fn activate(&self) -> Result<(), OpenError> {
        self.count_as_writer(Writing::Counts);
        self.all().iter().try_for_each(|open| {
            self.tables.keep(&self.plugin, open.view.table().name(), open.durability)?;
            open.view.activate()?;
            Ok(())
        })
    }

    /// Allows it no longer: nothing of the version runs any more.
    pub(crate) fn leave(&self) {
        self.all().iter().for_each(|open| open.view.leave());
    }

    /// Takes back what the version wrote in later schemas than those of the
    /// version that is gone back to, and what it still writes in its last calls.
    /// Where that one does not have a table, it is the committed schema. What it
    /// wrote to tables that no version before it had stays: there is nothing that
    /// it hides.
    pub(crate) fn roll_back(&self, to: Option<&OpenTables>) -> Result<(), TableError> {
        self.take_back(to, |schema| schema != 0)
    }

    /// The same for a version that never served: nothing stays, tables that no
    /// other version has written to end with it, and what still activates it comes
    /// too late.
    pub(crate) fn undo(&self, to: Option<&OpenTables>) -> Result<(), TableError> {
        self.all().iter().for_each(|open| open.view.shut());
        self.count_as_writer(Writing::NoMore);
        self.take_back(to, |_| true)
    }

    fn count_as_writer(&self, writing: Writing) {
        let mut opening = lock(&self.open);
        match (opening.writing, writing) {
            (Writing::NotYet, Writing::Counts) => {
                self.tables.update(&self.plugin, &opening.tables, |known| known.writers += 1);
            }
            (Writing::Counts, Writing::NoMore) => {
                let one_less = |known: &mut Known| known.writers = known.writers.saturating_sub(1);
                self.tables.update(&self.plugin, &opening.tables, one_less);
            }
            (Writing::NotYet, Writing::NoMore) => {}
            _ => return,
        }
        opening.writing = writing;
    }

    fn take_back(&self, to: Option<&OpenTables>, is_due: impl Fn(u32) -> bool) -> Result<(), TableError> {
        self.all().iter().try_for_each(|open| {
            let table = open.view.table();
            let theirs = to.and_then(|to| to.find(table.name())).map(|theirs| theirs.view.schema());
            let schema = theirs.unwrap_or_else(|| table.record().base);
            if is_due(schema) { table.roll_back(open.view.generation(), schema) } else { Ok(()) }
        })
    }

    /// Makes the schemas of this version the ones that can be gone back to: in all
    /// of its tables, or in none.
    pub(crate) fn commit(&self) -> Result<(), TableError> {
        // Also where the schema is the committed one already: what is void then
        // was not before.
        let tables = self.all();
        let tables = tables.iter().map(|open| (Arc::clone(open.view.table()), open.view.schema()));
        Table::commit_all(&tables.collect::<Vec<_>>())
    }

    /// Whether its schemas are the committed ones.
    pub(crate) fn is_committed(&self) -> bool {
        self.all().iter().all(|open| open.is_committed())
    }

    /// Whether in each table its schema is the committed one, or that of `next` is.
    pub(crate) fn is_committed_for(&self, next: &OpenTables) -> bool {
        let is_next = |name: &str| next.find(name).is_some_and(|next| next.is_committed());
        self.all().iter().all(|open| open.is_committed() || is_next(open.view.table().name()))
    }

    /// Whether another schema than its own is committed in one of its tables, and
    /// can be gone back to from each.
    pub(crate) fn has_way_back(&self) -> bool {
        let fits: Vec<Fit> = self.all().iter().map(|open| open.fit()).collect();
        fits.iter().any(|fit| *fit != Fit::Same) && !fits.contains(&Fit::OneWay)
    }
}

impl Drop for OpenTables {
    fn drop(&mut self) {
        let opening = self.open.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.tables
            .update(&self.plugin, &opening.tables, |known| known.users = known.users.saturating_sub(1));
    }
}

impl OpenTable {
    pub(crate) fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// How the version's schema stands to the committed one.
    pub(crate) fn fit(&self) -> Fit {
        let (own, base) = (self.view.schema(), self.view.table().record().base);
        match () {
            () if base == 0 || base == own => Fit::Same,
            () if own < base => Fit::Earlier,
            () if self.goes_down_to(base) => Fit::Later,
            () => Fit::OneWay,
        }
    }

    /// Whether there may be rows of later schemas than the version's own: also
    /// where that is the committed one, after a way back that was not gone to its
    /// end.
    pub(crate) fn may_meet_newer_rows(&self) -> bool {
        let record = self.view.table().record();
        record.base != 0 && record.base.max(record.newest) > self.view.schema()
    }

    /// The oldest schema of rows that the version's steps do not bring up to its
    /// own, if there are such rows, or what serves writes them meanwhile.
    pub(crate) fn out_of_reach(&self) -> Option<u32> {
        let (own, base) = (self.view.schema(), self.view.table().record().base);
        let written = (self.fit() == Fit::Later).then_some(base);
        let schemas = self.view.table().schemas().into_iter().chain(written);
        schemas.filter(|schema| *schema < own && !self.comes_up_from(*schema)).min()
    }

    /// Whether the version can turn rows of an earlier schema into its own.
    fn comes_up_from(&self, schema: u32) -> bool {
        (schema..self.view.schema()).all(|from| self.steps.contains(&(from, from + 1)))
    }

    /// Whether the version can turn its rows into those of an earlier schema.
    pub(crate) fn goes_down_to(&self, schema: u32) -> bool {
        (schema..self.view.schema()).all(|to| self.steps.contains(&(to + 1, to)))
    }

    fn is_committed(&self) -> bool {
        let record = self.view.table().record();
        (record.base, record.floor()) == (self.view.schema(), self.view.schema())
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Write;

    fn name() -> PluginName {
        "sessions".parse().expect("a name")
    }

    fn tables() -> Arc<Tables> {
        Tables::new(Limits::NONE, "nowhere".into(), TableStoreOptions::default())
    }

    fn spec(schema: u32, steps: &[(u32, u32)]) -> Spec<'_> {
        Spec { name: "rows", schema, steps, durability: Durability::MEMORY, rows_max: 0, bytes_max: 0 }
    }

    #[test]
    fn a_table_is_opened_while_the_version_is_prepared_and_once() {
        let tables = tables();
        let open = OpenTables::new(&name(), &tables);
        let first = open.open(&spec(1, &[])).expect("opens");
        let again = open.open(&spec(1, &[])).expect("is open");
        assert!(Arc::ptr_eq(&first, &again));
        let refused = |spec: &Spec<'_>| open.open(spec).expect_err("is refused").code();
        assert_eq!(refused(&spec(2, &[])), Code::TableSchema);
        assert_eq!(refused(&spec(1, &[(1, 3)])), Code::TableSchema, "no such step, and another table's");
        assert_eq!(refused(&Spec { name: "No", ..spec(1, &[]) }), Code::TableName);
        open.close();
        assert_eq!(refused(&spec(1, &[])), Code::TableNotOpen);
        assert_eq!(tables.of(&name()).len(), 1);
    }

    #[test]
    fn rows_of_a_durable_table_are_there_when_it_is_opened_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let tables = || Tables::new(Limits::NONE, folder.path().to_owned(), TableStoreOptions::default());
        let durable = Spec { durability: Durability::PROCESS, ..spec(1, &[]) };
        let first = tables();
        assert!(first.load(&name()).expect("there is nothing").is_empty());
        let version = OpenTables::new(&name(), &first);
        let open = version.open(&durable).expect("opens");
        version.activate().expect("writes");
        open.view().put(b"key", &Write::new(b"value")).expect("is written");
        let refused =
            OpenTables::new(&name(), &first).open(&Spec { durability: Durability::DISK, ..durable });
        assert_eq!(refused.expect_err("is kept otherwise").code(), Code::TableSchema);
        drop((version, open));
        first.close().expect("closes");

        let second = tables();
        assert!(second.load(&name()).expect("is read").is_empty(), "no table lacks rows");
        assert_eq!(second.of(&name())[0].table.size().rows, 1);
        assert_eq!(second.of(&name())[0].durability, Durability::PROCESS);
        let open = OpenTables::new(&name(), &second).open(&spec(1, &[])).expect("asks for less");
        assert_eq!(open.view().size().rows, 1);
    }

    /// Once, the schema that was being gone down to was kept as the committed one:
    /// the next start took all rows that had no image yet for nothing.
    #[test]
    fn a_downgrade_that_a_crash_cut_short_is_one_again_at_the_next_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let tables = || Tables::new(Limits::NONE, folder.path().to_owned(), TableStoreOptions::default());
        let durable = |schema| Spec { durability: Durability::PROCESS, ..spec(schema, &[(1, 2), (2, 1)]) };
        let first = tables();
        let serving = OpenTables::new(&name(), &first);
        let open = serving.open(&durable(2)).expect("opens");
        serving.activate().expect("writes");
        serving.commit().expect("is the first");
        open.view().put(b"key", &Write::new(b"value")).expect("is written");
        open.view().table().prepare_downgrade(1).expect("is kept");
        assert!(!serving.is_committed());
        first.close().expect("closes");

        let second = tables();
        second.load(&name()).expect("is read");
        let earlier = OpenTables::new(&name(), &second).open(&durable(1)).expect("opens");
        assert_eq!((earlier.fit(), earlier.may_meet_newer_rows()), (Fit::Earlier, true));
        assert_eq!(earlier.view().table().losses(), 1);
    }

    #[test]
    fn a_version_that_is_only_prepared_changes_nothing_for_the_one_that_serves() {
        let folder = tempfile::tempdir().expect("a folder");
        let tables = Tables::new(Limits::NONE, folder.path().to_owned(), TableStoreOptions::default());
        let first = OpenTables::new(&name(), &tables);
        let serves = Arc::clone(first.open(&spec(1, &[])).expect("opens").view());
        first.activate().expect("writes");
        serves.put(b"a", &Write::new(b"")).expect("is written");

        let durable = Spec { durability: Durability::PROCESS, rows_max: 1, ..spec(1, &[]) };
        let second = OpenTables::new(&name(), &tables);
        let tried = Arc::clone(second.open(&durable).expect("opens").view());
        serves.put(b"b", &Write::new(b"")).expect("the limit is not that of this version");
        assert_eq!(tables.of(&name())[0].durability, Durability::MEMORY);

        second.activate().expect("writes");
        assert_eq!(tables.of(&name())[0].durability, Durability::PROCESS);
        let refused = tried.put(b"c", &Write::new(b"")).expect_err("there are more rows than it allows");
        assert_eq!(refused.code(), Code::TableRowsMax);
        serves.put(b"c", &Write::new(b"")).expect("the limit is not that of this version");
    }

    #[test]
    fn a_table_that_was_not_told_all_its_rows_is_not_restored_as_if_it_were_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let tables = || Tables::new(Limits::NONE, folder.path().to_owned(), TableStoreOptions::default());
        let (first, durable) = (tables(), Spec { durability: Durability::PROCESS, ..spec(1, &[]) });
        let put = |version: &OpenTables, key: &[u8]| {
            version.activate().expect("writes");
            version.all()[0].view().put(key, &Write::new(b"")).expect("is written");
        };
        let serves = OpenTables::new(&name(), &first);
        serves.open(&spec(1, &[])).expect("opens");
        put(&serves, b"in memory");
        let next = OpenTables::new(&name(), &first);
        next.open(&durable).expect("opens");
        put(&next, b"in the store");
        drop((serves, next));
        first.close().expect("closes");

        let second = tables();
        assert_eq!(second.load(&name()).expect("is read"), ["rows"]);
        assert!(second.load(&name()).expect("was read").is_empty(), "it was said");
        assert_eq!(second.of(&name())[0].table.size().rows, 1);
    }

    #[test]
    fn what_a_first_version_wrote_that_was_refused_does_not_count_and_what_served_stays() {
        for served in [false, true] {
            let tables = tables();
            let first = OpenTables::new(&name(), &tables);
            first.open(&spec(2, &[])).expect("opens");
            first.activate().expect("writes");
            let writes = |key| first.all()[0].view().put(key, &Write::new(b"")).map(drop);
            writes(b"early").expect("is written");
            if served { first.roll_back(None) } else { first.undo(None) }.expect("no journal");
            writes(b"late").expect("its last call does not fail");
            drop(first);

            let next = OpenTables::new(&name(), &tables);
            let view = Arc::clone(next.open(&spec(2, &[])).expect("opens").view());
            next.activate().expect("writes");
            view.put(b"own", &Write::new(b"")).expect("is written");
            let rows = tables.of(&name())[0].table.census().rows;
            assert_eq!(rows[&2], if served { 3 } else { 1 });
        }
    }

    /// Once, the names stayed, and when there were enough of them every version
    /// was refused.
    #[test]
    fn tables_that_only_refused_versions_had_are_forgotten_and_leave_no_trace_on_the_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let tables = || Tables::new(Limits::NONE, folder.path().to_owned(), TableStoreOptions::default());
        let first = tables();
        let open = |tables: &Arc<Tables>, table: &str, durability| {
            let version = OpenTables::new(&name(), tables);
            version.open(&Spec { name: table, durability, ..spec(1, &[]) }).expect("there is room");
            version
        };
        let serves = open(&first, "serves", Durability::PROCESS);
        serves.activate().expect("writes");
        for number in 0..TABLES_MAX + 1 {
            // In `prepare`, and after its activation.
            drop(open(&first, &format!("t{number}"), Durability::MEMORY));
            let refused = open(&first, &format!("u{number}"), Durability::MEMORY);
            refused.activate().expect("writes");
            refused.undo(Some(&serves)).expect("no journal");
            // Given up in its activation, which then went on; whatever that says.
            _ = refused.activate();
        }
        for _ in 0..2 {
            let refused = open(&first, "durable", Durability::PROCESS);
            refused.activate().expect("writes");
            refused.all()[0].view().put(b"key", &Write::new(b"")).expect("is written");
            refused.undo(Some(&serves)).expect("is written");
            // One that has not come to its activation has it open, too.
            let other = open(&first, "durable", Durability::MEMORY);
            drop(refused);
            assert_eq!(first.of(&name()).len(), 2);
            drop(other);
            assert_eq!(first.of(&name()).len(), 1);
        }
        // A version that left without being refused leaves its tables.
        drop(serves);
        assert_eq!(first.of(&name())[0].table.name(), "serves");
        first.close().expect("closes");
        let second = tables();
        assert!(second.load(&name()).expect("is read").is_empty());
        assert_eq!(second.of(&name()).len(), 1);
    }

    /// Once, an activation that was given up while it waited for a disk went on when
    /// that answered, and what the refused version wrote counted.
    #[test]
    fn a_version_that_was_refused_cannot_be_activated_any_more() {
        let tables = tables();
        let refused = OpenTables::new(&name(), &tables);
        let view = Arc::clone(refused.open(&spec(1, &[])).expect("opens").view());
        refused.undo(None).expect("no journal");
        assert_eq!(refused.activate().expect_err("comes too late").code(), Code::TableNotActive);
        let written = view.put(b"key", &Write::new(b""));
        assert_eq!(written.expect_err("is not active").code(), Code::TableNotActive);
    }

    #[test]
    fn tables_can_be_looked_at_while_the_disk_of_their_store_hangs() {
        let tables = tables();
        let version = OpenTables::new(&name(), &tables);
        version.open(&spec(1, &[])).expect("opens");
        let of = tables.plugin(&name());
        // As long as a disk takes.
        let _at_work = lock(&of.store);
        let (looked, look) = std::sync::mpsc::channel();
        let another = Arc::clone(&tables);
        std::thread::spawn(move || {
            let found = another.of(&name()).len();
            OpenTables::new(&name(), &another).open(&spec(2, &[])).expect("opens");
            // Whoever asked has given up, if it took too long.
            _ = looked.send(found);
        });
        assert_eq!(look.recv_timeout(std::time::Duration::from_secs(20)), Ok(1));
    }

    #[test]
    fn whoever_comes_after_the_end_does_not_open_a_store_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let tables = Tables::new(Limits::NONE, folder.path().to_owned(), TableStoreOptions::default());
        let durable = Spec { durability: Durability::DISK, ..spec(1, &[]) };
        let prepared = OpenTables::new(&name(), &tables);
        prepared.open(&durable).expect("opens");
        tables.close().expect("closes");

        let other = "other".parse().expect("a name");
        let late = [&name(), &other].map(|plugin| OpenTables::new(plugin, &tables).open(&durable));
        for refused in late {
            assert_eq!(refused.expect_err("it has ended").code(), Code::TableStoreFailed);
        }
        assert_eq!(prepared.activate().expect_err("it has ended").code(), Code::TableStoreFailed);
        assert!(!folder.path().join("other").exists());
        let again = TableStore::open(folder.path().join("sessions"), TableStoreOptions::default());
        assert!(again.expect("nobody has it").tables.is_empty());
    }

    /// Once, rows that a sweep had not got to were read by field name when the next
    /// version did not know their schema any more.
    #[test]
    fn rows_are_out_of_reach_of_a_version_without_the_step_from_their_schema() {
        let tables = tables();
        let out_of_reach = |schema, steps: &[(u32, u32)]| {
            let open = OpenTables::new(&name(), &tables);
            open.open(&spec(schema, steps)).expect("opens").out_of_reach()
        };
        assert_eq!(out_of_reach(3, &[]), None, "there are no rows");
        let first = OpenTables::new(&name(), &tables);
        let view = Arc::clone(first.open(&spec(1, &[])).expect("opens").view());
        first.activate().expect("writes");
        first.commit().expect("is the first");
        assert_eq!(out_of_reach(3, &[(2, 3), (3, 2), (2, 1)]), Some(1), "it serves beside the first");
        view.put(b"key", &Write::new(b"")).expect("is written");
        assert_eq!(out_of_reach(3, &[(2, 3)]), Some(1));
        assert_eq!(out_of_reach(3, &[(1, 2), (2, 3)]), None);
        view.clear().expect("is written");
        assert_eq!(out_of_reach(3, &[(2, 3)]), None, "there are none any more");
    }

    #[test]
    fn how_a_version_fits_follows_from_the_committed_schema_and_its_steps() {
        let tables = tables();
        let serves = OpenTables::new(&name(), &tables);
        serves.open(&spec(3, &[])).expect("opens");
        let fit = |schema, steps: &[(u32, u32)]| {
            let open = OpenTables::new(&name(), &tables);
            open.open(&spec(schema, steps)).expect("opens").fit()
        };
        assert_eq!(fit(3, &[]), Fit::Same, "nothing is committed yet");
        tables.of(&name())[0].table.commit(2).expect("commits");
        assert_eq!(fit(2, &[]), Fit::Same);
        assert_eq!(fit(4, &[(3, 4), (4, 3), (3, 2)]), Fit::Later);
        assert_eq!(fit(4, &[(3, 4), (4, 3)]), Fit::OneWay);
        assert_eq!(fit(1, &[]), Fit::Earlier);
    }
}
