//! The table against a model that is plain: rows in a map, and each rollback or
//! commit done to all of them at once, whatever it costs.
//!
//! Up to five versions use one table in any order: the committed one, one that
//! is tried, one that was rolled back and has calls left, one that was replaced
//! and has, and one that is being gone back to. Rows are migrated when they are
//! read and by a sweep whose steps and answers come at any time; and the process
//! may end at any time, and begins again with what its journal was told.
//!
//! long: model, acts and checks are one machine, and say nothing apart.

use super::*;
use proptest::prelude::*;

const KEYS: u8 = 6;
const SCHEMA_MAX: u32 = 5;

/// A row as it counts.
#[derive(Debug, Clone)]
struct ModelRow {
    schema: u32,
    value: Value,
    generation: u32,
    /// Schema, value, and whether it says what the value says.
    image: Option<(u32, Value, bool)>,
}

#[derive(Debug, Default)]
struct Model {
    rows: BTreeMap<u8, ModelRow>,
    /// The committed schema, or the one that is being gone back to.
    base: u32,
}

/// What a version reads of a row.
#[derive(Debug, PartialEq)]
enum Seen {
    Nothing,
    Value(Value),
    /// Not the value itself.
    Image(Value),
    Newer,
}

impl Model {
    fn seen(&self, reader: u32, key: u8) -> Seen {
        match self.rows.get(&key) {
            None => Seen::Nothing,
            Some(row) if row.schema <= reader => Seen::Value(converted(&row.value, reader)),
            Some(ModelRow { image: Some((schema, value, _)), .. }) if *schema <= reader => {
                Seen::Image(converted(value, reader))
            }
            Some(_) => Seen::Newer,
        }
    }

    fn put(&mut self, actor: &Actor, key: u8, value: &[u8]) {
        let (schema, generation) = (actor.version.schema(), actor.version.view.generation());
        let (value, down) = (value.to_vec(), actor.version.down);
        let before = self.rows.get(&key).cloned();
        let row = match actor.taken_back_to {
            Some(_) if !down => return,
            Some(to) => {
                let to = to.min(self.base);
                ModelRow { schema: to, value: converted(&value, to), generation, image: None }
            }
            None if schema <= self.base || self.base == 0 => {
                ModelRow { schema, value, generation, image: None }
            }
            None if down => {
                let image = Some((self.base, converted(&value, self.base), true));
                ModelRow { schema, value, generation, image }
            }
            None => {
                let image = before.and_then(|row| match row.image {
                    _ if row.schema <= self.base => Some((row.schema, row.value, false)),
                    Some((schema, value, _)) if schema <= self.base => Some((schema, value, false)),
                    _ => None,
                });
                ModelRow { schema, value, generation, image }
            }
        };
        self.rows.insert(key, row);
    }

    fn commit(&mut self, schema: u32) {
        self.base = schema;
        self.fall_back(|row| row.schema > schema);
    }

    fn roll_back(&mut self, generation: u32, to: u32) {
        self.fall_back(|row| row.generation == generation && row.schema > to);
    }

    fn fall_back(&mut self, is_void: impl Fn(&ModelRow) -> bool) {
        let rows = std::mem::take(&mut self.rows).into_iter();
        let kept = rows.filter_map(|(key, row)| {
            if !is_void(&row) {
                return Some((key, row));
            }
            let (schema, value, _) = row.image?;
            Some((key, ModelRow { schema, value, image: None, ..row }))
        });
        self.rows = kept.collect();
    }

    fn make_images(&mut self) {
        let base = self.base;
        for row in self.rows.values_mut().filter(|row| row.schema > base) {
            row.image = Some((base, converted(&row.value, base), true));
        }
    }

    fn losses(&self) -> u64 {
        let lost = |row: &&ModelRow| {
            let way_back = matches!(row.image, Some((schema, _, true)) if schema == self.base);
            row.schema > self.base && !way_back
        };
        self.rows.values().filter(lost).count() as u64
    }
}

#[derive(Debug)]
struct Actor {
    version: Version,
    /// It was rolled back to this schema.
    taken_back_to: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Who {
    Committed,
    Trial,
    Late,
    Replaced,
    Lower,
}

#[derive(Debug, Clone)]
enum Act {
    Put(Who, u8, u8),
    Update(Who, u8),
    PutIfStale(Who, u8),
    Remove(Who, u8),
    Get(Who, u8),
    Clear(Who),
    Step(usize),
    Settle(usize),
    Try { schemas: u32, down: bool },
    Commit,
    RollBack,
    PrepareDowngrade(u32),
    PublishLower,
    CommitLower,
    AbandonLower,
    LeaveAll,
    Crash,
}

struct World {
    table: Arc<Table>,
    journal: Arc<MemoryJournal>,
    model: Model,
    committed: Actor,
    trial: Option<Actor>,
    late: Option<Actor>,
    replaced: Option<Actor>,
    lower: Option<Actor>,
    preparing: Option<u32>,
    sweep: Sweep,
    out: Vec<SweptRow>,
}

impl World {
    fn new() -> World {
        let journal = Arc::new(MemoryJournal::default());
        let table = journal.restored(Some(journal.clone()));
        let committed = Actor { version: Version::start(&table, 1, true), taken_back_to: None };
        table.commit(1).expect("a sound journal");
        let sweep = Sweep::new(&committed.version.view);
        let model = Model { base: 1, ..Model::default() };
        let (trial, late, replaced, lower, preparing) = (None, None, None, None, None);
        let out = Vec::new();
        World { table, journal, model, committed, trial, late, replaced, lower, preparing, sweep, out }
    }

    fn actor(&self, who: Who) -> Option<&Actor> {
        match who {
            Who::Committed => Some(&self.committed),
            Who::Trial => self.trial.as_ref(),
            Who::Late => self.late.as_ref(),
            Who::Replaced => self.replaced.as_ref(),
            Who::Lower => self.lower.as_ref(),
        }
    }

    /// A version before the committed one, but for the one that is being gone
    /// back to, reads what the sweep has left to it: the model does not say.
    fn reader(&self, who: Who) -> Option<&Actor> {
        let least = if who == Who::Lower { 0 } else { self.committed.version.schema() };
        self.actor(who).filter(|actor| actor.version.schema() >= least)
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Put(..) | Act::Update(..) | Act::PutIfStale(..) | Act::Remove(..) | Act::Clear(..) => {
                self.write(act)
            }
            Act::Get(who, key) => self.migrate_by_reading(who, key),
            Act::Step(rows) => self.step(rows),
            Act::Settle(index) => {
                if !self.out.is_empty() {
                    let swept = self.out.swap_remove(index % self.out.len());
                    self.committed.version.settle(&mut self.sweep, &swept).expect("a sound journal");
                }
            }
            Act::Crash => self.crash(),
            _ => self.deploy(act),
        }
    }

    fn write(&mut self, act: &Act) {
        let who = match *act {
            Act::Put(who, ..) | Act::Update(who, _) | Act::PutIfStale(who, _) => who,
            Act::Remove(who, _) | Act::Clear(who) => who,
            _ => return,
        };
        let mut model = std::mem::take(&mut self.model);
        if let Some(actor) = self.actor(who) {
            let version = &actor.version;
            let reads = self.reader(who).is_some();
            match *act {
                Act::Put(_, key, first) => {
                    let value: Value =
                        (0..version.schema() as u8).map(|n| first.wrapping_add(n * 7)).collect();
                    version.put(&[key], &value).expect("a sound journal");
                    model.put(actor, key, &value);
                }
                Act::Update(_, key) if reads => {
                    if let Seen::Value(mut value) | Seen::Image(mut value) = model.seen(version.schema(), key)
                    {
                        let revision = version.read(&[key]).expect("as the model").0.revision;
                        value[0] = value[0].wrapping_add(1);
                        let outcome = version.put_if(&[key], &value, revision).expect("a sound journal");
                        assert!(matches!(outcome, WriteOutcome::Written(_)), "{outcome:?}");
                        model.put(actor, key, &value);
                    }
                }
                Act::PutIfStale(_, key) => {
                    let value = converted(&[key], version.schema());
                    let outcome = version.put_if(&[key], &value, u64::MAX - 1).expect("a sound journal");
                    let existed = u32::from(model.rows.contains_key(&key));
                    assert!(matches!(outcome, WriteOutcome::Conflict(row) if row.existed == existed));
                }
                Act::Remove(_, key) => {
                    let removed = version.remove(&[key]).expect("a sound journal");
                    assert_eq!(removed.existed == 1, model.rows.remove(&key).is_some());
                }
                Act::Clear(_) => {
                    version.view.clear().expect("a sound journal");
                    model.rows.clear();
                }
                _ => {}
            }
        }
        self.model = model;
    }

    fn migrate_by_reading(&self, who: Who, key: u8) {
        let Some(actor) = self.reader(who).filter(|actor| actor.taken_back_to.is_none()) else { return };
        if let Seen::Value(value) = self.model.seen(actor.version.schema(), key) {
            let found = actor.version.get(&[key]).expect("a row for it").expect("it is there");
            assert_eq!(found.1, value);
        }
    }

    fn step(&mut self, rows: usize) {
        match self.sweep.next_batch(rows).expect("a sound journal") {
            Batch::Rows(rows) => self.out.extend(rows),
            Batch::End(report) => {
                self.out.clear();
                self.check_swept(&report);
            }
        }
    }

    fn check_swept(&self, report: &Report) {
        let census = self.table.census();
        assert_eq!(census.unswept, 0);
        let above: u64 = census.rows.range(self.model.base + 1..).map(|(_, rows)| rows).sum();
        assert!(census.images <= above, "{census:?}");
        if report.complete && self.preparing.is_none() {
            assert!(census.rows.keys().all(|schema| *schema >= self.model.base), "{census:?}");
        }
        if report.complete && self.preparing.is_some() {
            assert_eq!(census.losses, 0);
        }
    }

    fn deploy(&mut self, act: &Act) {
        let schema = self.committed.version.schema();
        let ok = "a sound journal";
        match *act {
            Act::Try { schemas, down } if self.trial.is_none() && self.preparing.is_none() => {
                let version = Version::start(&self.table, (schema + schemas).min(SCHEMA_MAX), down);
                self.trial = Some(Actor { version, taken_back_to: None }).filter(|_| schema < SCHEMA_MAX);
            }
            Act::Commit => {
                let Some(trial) = self.trial.take() else { return };
                self.table.commit(trial.version.schema()).expect(ok);
                self.model.commit(trial.version.schema());
                self.replaced = Some(self.take_place_of_committed(trial));
            }
            Act::RollBack => {
                let Some(mut trial) = self.trial.take() else { return };
                let generation = trial.version.view.generation();
                self.table.roll_back(generation, schema).expect(ok);
                self.model.roll_back(generation, schema);
                trial.taken_back_to = Some(schema);
                self.late = Some(trial);
            }
            Act::PrepareDowngrade(to)
                if to < schema
                    && self.committed.version.down
                    && self.trial.is_none()
                    && self.preparing.is_none() =>
            {
                self.replaced = None;
                self.table.prepare_downgrade(to).expect(ok);
                (self.preparing, self.model.base) = (Some(to), to);
            }
            Act::PublishLower if self.lower.is_none() => {
                let Some(to) = self.preparing else { return };
                self.check_swept(&self.committed.version.sweep());
                self.model.make_images();
                let version = Version::start(&self.table, to, true);
                self.lower = Some(Actor { version, taken_back_to: None });
            }
            Act::CommitLower => {
                let Some(lower) = self.lower.take() else { return };
                self.preparing = None;
                let to = lower.version.schema();
                self.table.commit(to).expect(ok);
                self.model.commit(to);
                let before = self.take_place_of_committed(lower);
                self.late = Some(Actor { taken_back_to: Some(to), ..before });
            }
            Act::AbandonLower if self.preparing.take().is_some() => {
                if let Some(lower) = self.lower.take() {
                    self.table.roll_back(lower.version.view.generation(), schema).expect(ok);
                    self.replaced = Some(lower);
                }
                self.table.cancel_downgrade().expect(ok);
                self.model.base = schema;
            }
            Act::LeaveAll => (self.late, self.replaced) = (None, None),
            _ => {}
        }
    }

    fn take_place_of_committed(&mut self, next: Actor) -> Actor {
        self.sweep = Sweep::new(&next.version.view);
        self.out.clear();
        std::mem::replace(&mut self.committed, next)
    }

    fn crash(&mut self) {
        let (schema, down) = (self.committed.version.schema(), self.committed.version.down);
        self.table = self.journal.restored(Some(self.journal.clone()));
        assert_eq!(self.table.record().base, schema, "what was prepared is not committed");
        (self.trial, self.late, self.replaced, self.lower, self.preparing) = (None, None, None, None, None);
        let version = Version::start(&self.table, schema, down);
        self.table.commit(schema).expect("a sound journal");
        self.model.commit(schema);
        self.take_place_of_committed(Actor { version, taken_back_to: None });
    }

    /// What each version sees, key by key, and what a rollback would cost.
    fn check(&self) {
        // While going back is prepared, a sweep has done more than the model.
        if self.preparing.is_none() {
            assert_eq!(self.table.losses(), self.model.losses());
        }
        for who in [Who::Committed, Who::Trial, Who::Late, Who::Lower] {
            let Some(actor) = self.reader(who) else { continue };
            let schema = actor.version.schema();
            for key in 0..KEYS {
                let read = actor.version.read(&[key]).map(|(info, value)| {
                    assert_eq!(
                        (info.schema as usize, info.schema == 0),
                        (value.len(), info == RowInfo::NONE)
                    );
                    (info != RowInfo::NONE).then(|| converted(&value, schema))
                });
                match self.model.seen(schema, key) {
                    Seen::Nothing => assert_eq!(read.expect("no row"), None),
                    Seen::Value(value) | Seen::Image(value) => {
                        assert_eq!(read.expect("a row for it"), Some(value), "{who:?} reads {key}");
                    }
                    Seen::Newer => assert!(read.is_err(), "{who:?} reads {key}: {read:?}"),
                }
            }
        }
    }

    /// What is seen by a scan, and counted.
    fn check_whole(&self) {
        for who in [Who::Committed, Who::Trial, Who::Late, Who::Lower] {
            let Some(actor) = self.reader(who) else { continue };
            let (mut rows, mut unread) = (BTreeMap::new(), BTreeSet::new());
            for key in self.model.rows.keys() {
                match self.model.seen(actor.version.schema(), *key) {
                    Seen::Value(value) | Seen::Image(value) => drop(rows.insert(vec![*key], value)),
                    Seen::Newer => drop(unread.insert(vec![*key])),
                    Seen::Nothing => {}
                }
            }
            assert_eq!(actor.version.scan_all(), (rows, unread), "{who:?} scans");
        }
        assert_counters_are_exact(&self.table);
        let census = self.table.census();
        assert_eq!(census.rows.values().sum::<u64>(), self.model.rows.len() as u64);
        let restored = self.journal.restored(None);
        assert_eq!((restored.size(), restored.census()), (self.table.size(), census));
    }

    /// All others leave: then one pass leaves nothing to be done.
    fn end(&mut self) {
        self.act(&Act::AbandonLower);
        self.act(&Act::RollBack);
        self.act(&Act::LeaveAll);
        let report = self.committed.version.sweep();
        assert!(report.complete, "{report:?}");
        let (schema, rows) = (self.committed.version.schema(), self.model.rows.len() as u64);
        let census = self.table.census();
        assert_eq!((census.rows.get(&schema).copied().unwrap_or_default(), census.images), (rows, 0));
        assert_eq!((self.table.size().rows, self.table.record().voids.len()), (rows, 0));
        assert_eq!(self.table.record().newest, schema);
        assert!(self.committed.version.sweep().idle);
        self.check();
        self.check_whole();
    }
}

fn who() -> impl Strategy<Value = Who> {
    use Who::{Committed, Late, Lower, Replaced, Trial};
    prop::sample::select(vec![Committed, Committed, Trial, Trial, Lower, Lower, Late, Replaced])
}

fn act() -> impl Strategy<Value = Act> {
    let key = || 0..KEYS;
    prop_oneof![
        12 => (who(), key(), any::<u8>()).prop_map(|(who, key, value)| Act::Put(who, key, value)),
        8 => (who(), key()).prop_map(|(who, key)| Act::Update(who, key)),
        2 => (who(), key()).prop_map(|(who, key)| Act::PutIfStale(who, key)),
        4 => (who(), key()).prop_map(|(who, key)| Act::Remove(who, key)),
        8 => (who(), key()).prop_map(|(who, key)| Act::Get(who, key)),
        1 => who().prop_map(Act::Clear),
        8 => (1_usize..4).prop_map(Act::Step),
        8 => (0_usize..4).prop_map(Act::Settle),
        5 => (1_u32..3, prop::bool::weighted(0.7)).prop_map(|(schemas, down)| Act::Try { schemas, down }),
        3 => Just(Act::Commit),
        3 => Just(Act::RollBack),
        4 => (1..SCHEMA_MAX).prop_map(Act::PrepareDowngrade),
        4 => Just(Act::PublishLower),
        2 => Just(Act::CommitLower),
        2 => Just(Act::AbandonLower),
        2 => Just(Act::LeaveAll),
        1 => Just(Act::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn each_version_sees_what_the_model_says_in_whatever_order_things_happen(
        acts in prop::collection::vec(act(), 1..80),
    ) {
        let mut world = World::new();
        for act in &acts {
            world.act(act);
            world.check();
        }
        world.check_whole();
        world.end();
    }
}
