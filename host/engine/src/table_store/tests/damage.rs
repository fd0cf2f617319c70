//! Damaged files: reported, whatever was hit, and never served.

use super::super::database::open_database;
use super::super::format::{encode_row, row_key, table_key};
use super::*;
use crate::failure::{Code, Failure};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

/// The space of the first table of a volume.
const FIRST_SPACE: u64 = 0;

/// A volume with all that one can have: changed and removed rows, two tables,
/// a cleared one, and, if `written_out`, rows in files of each kind.
fn fill(place: &Place, durability: Durability, written_out: bool) -> OpenedStore {
    let opened = place.open();
    let one = opened.store.create("one", durability).expect("a new table");
    let two = opened.store.create("two", durability).expect("a new table");
    for number in 0..300_u64 {
        let key = (number % 200).to_le_bytes();
        one.append(&Change::Put(row(&key, &[number as u8; 40], number + 1))).expect("sound");
        if number % 7 == 0 {
            one.append(&Change::Remove { key: &key }).expect("sound");
        }
        if number == 150 && written_out {
            make(&one, &Change::Control(&Record { base: 1, ..Record::default() }));
            opened.store.state.lock().lanes[&durability].volume().write_out().expect("room");
        }
    }
    for number in 0..50_u64 {
        two.append(&Change::Put(row(&number.to_le_bytes(), b"two", 1))).expect("sound");
    }
    make(&two, &Change::Clear);
    make(&two, &Change::Control(&Record { generation: 3, newest: 1, ..Record::default() }));
    put(&two, b"last", b"row", 2);
    opened
}

/// All files below a folder, and how many bytes of each are data.
fn files(folder: &Path) -> Vec<(PathBuf, usize)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let data = data_bytes(&fs::read(&path).expect("a file"));
            found.push((path, data));
        }
    }
    found
}

/// Offsets of a file that are worth a flip: all at both ends, some between.
fn offsets(data: usize) -> Vec<usize> {
    const ENDS: usize = 12;
    const BETWEEN: usize = 14;
    let between = (1..=BETWEEN).map(|part| data * part / (BETWEEN + 1));
    let mut offsets: Vec<_> = (0..ENDS).chain(between).chain(data.saturating_sub(ENDS)..data).collect();
    offsets.retain(|offset| *offset < data);
    offsets.sort_unstable();
    offsets.dedup();
    offsets
}

/// Opens a copy of the folder for each flip of a bit in it. What is found has to
/// be refused as damaged, or to be right.
fn flip_all(folder: &Path, expected: &BTreeMap<String, (Rows, Record)>) {
    let (mut flips, mut refused) = (0_u32, 0_u32);
    for (path, data) in files(folder) {
        for offset in offsets(data) {
            let copy = Place::new();
            copy_folder(folder, &copy.folder());
            let relative = path.strip_prefix(folder).expect("a path in the folder");
            let target = copy.folder().join(relative);
            let file = OpenOptions::new().read(true).write(true).open(target).expect("a file");
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset as u64).expect("a byte");
            byte[0] ^= 1 << (flips % 8);
            file.write_all_at(&byte, offset as u64).expect("room");
            flips += 1;
            match copy.try_open() {
                Ok(opened) => {
                    assert_eq!(&tables(&opened), expected, "byte {offset} of {}", relative.display());
                }
                Err(TableStoreError::Corrupt { .. }) => refused += 1,
                Err(error) => panic!("byte {offset} of {}: {error:?}", relative.display()),
            }
        }
    }
    assert!(refused * 2 > flips, "{refused} of {flips} were seen");
}

#[test]
fn a_flipped_bit_of_a_store_that_was_killed_is_never_served() {
    let place = Place::new();
    let opened = fill(&place, Durability::Process, false);
    let crashed = Place::new();
    copy_folder(&place.folder(), &crashed.folder());
    drop(opened);
    let expected = tables(&place.open());
    flip_all(&crashed.folder(), &expected);
}

#[test]
fn a_flipped_bit_of_a_store_with_rows_in_files_is_never_served() {
    let place = Place::new();
    fill(&place, Durability::Process, true).store.close().expect("a sound store");
    let expected = tables(&place.open());
    flip_all(&place.folder(), &expected);
}

#[test]
fn a_flipped_bit_of_a_store_on_disk_is_never_served() {
    let place = Place::new();
    fill(&place, Durability::Disk, true).store.close().expect("a sound store");
    let expected = tables(&place.open());
    flip_all(&place.folder(), &expected);
}

#[test]
fn a_file_that_is_missing_or_cut_short_is_damage() {
    let place = Place::new();
    fill(&place, Durability::Process, true).store.close().expect("a sound store");
    let expected = tables(&place.open());
    for (path, data) in files(&place.folder()) {
        for cut in [None, Some(data / 2), Some(data.saturating_sub(1))] {
            let copy = Place::new();
            copy_folder(&place.folder(), &copy.folder());
            let target = copy.folder().join(path.strip_prefix(place.folder()).expect("a path in the folder"));
            match cut {
                None => fs::remove_file(&target).expect("a file"),
                Some(length) => {
                    let file = OpenOptions::new().write(true).open(&target).expect("a file");
                    file.set_len(length as u64).expect("room");
                }
            }
            match copy.try_open() {
                Ok(opened) => assert_eq!(tables(&opened), expected, "{} cut to {cut:?}", path.display()),
                Err(TableStoreError::Corrupt { .. }) => {}
                Err(error) => panic!("{} cut to {cut:?}: {error:?}", path.display()),
            }
        }
    }
}

/// Rows that are whole, but are not the last that were written: what a journal
/// leaves that was cut in its middle.
#[test]
fn rows_that_are_missing_or_older_than_the_last_are_damage() {
    let key = row_key(FIRST_SPACE, b"key");
    type Harm = fn(&fjall::Keyspace, &[u8]) -> fjall::Result<()>;
    let harms: [(Harm, &str); 4] = [
        (|rows, key| rows.insert(key, encode_row(&row(b"key", b"before", 1))), "older than the last"),
        (|rows, key| rows.remove(key), "it has 1 rows, and 2 were written"),
        (|rows, _| rows.remove(table_key("notes")), "it has 0 rows, and 2 were written"),
        (|rows, _| rows.insert([9], [0]), "of no kind"),
    ];
    for (harm, said) in harms {
        let place = Place::new();
        let opened = place.open();
        let journal = opened.store.create("notes", Durability::Process).expect("a new table");
        put(&journal, b"key", b"before", 1);
        put(&journal, b"key", b"after", 2);
        put(&journal, b"other", b"row", 1);
        opened.store.close().expect("a sound store");
        let (database, rows) = open_database(&place.folder().join("process")).expect("a database");
        harm(&rows, &key).expect("room");
        drop((rows, database));
        let error = place.try_open().expect_err("damage").to_string();
        assert!(error.contains(said), "{error}");
    }
}

/// A store whose database is three commits behind its seal.
fn behind(durability: Durability) -> Place {
    let place = Place::new();
    let opened = place.open();
    let journal = opened.store.create("notes", durability).expect("a new table");
    put(&journal, b"kept", b"row", 1);
    let early = Place::new();
    copy_folder(&place.folder(), &early.folder());
    for number in 0..3_u8 {
        put(&journal, &[number], b"lost", 1);
    }
    opened.store.close().expect("a sound store");
    let [rows, early_rows] =
        [&place, &early].map(|place| place.folder().join(durability.folder()).join("rows"));
    fs::remove_dir_all(&rows).expect("a folder");
    copy_folder(&early_rows, &rows);
    place
}

#[test]
fn commits_that_a_power_loss_took_are_a_loss_that_has_to_be_accepted() {
    let place = behind(Durability::Process);
    let error = place.open_after_boot(false).expect_err("a loss");
    assert!(matches!(error, TableStoreError::Loss { commits: 3, .. }), "{error}");
    assert!(error.to_string().contains("accept_loss"), "{error}");
    let opened = place.open_after_boot(true).expect("what is left");
    assert_eq!(rows_for(NEWEST, only(&opened).0).into_keys().collect::<Vec<_>>(), [b"kept"]);
    put(only(&opened).1, b"new", b"row", 2);
    drop(opened);
    assert_eq!(rows_for(NEWEST, only(&place.open()).0).len(), 2, "it was accepted for good");
}

#[test]
fn commits_that_are_missing_without_a_power_loss_are_damage() {
    let place = behind(Durability::Process);
    for _ in 0..2 {
        let error = place.try_open().expect_err("damage");
        assert_eq!(error.code(), Code::TableCorrupt);
        assert!(error.to_string().contains("its last 3 commits are missing"), "{error}");
    }
}

#[test]
fn commits_that_are_missing_where_the_disk_had_them_are_damage_in_any_case() {
    let place = behind(Durability::Disk);
    for accept_loss in [false, true] {
        let error = place.open_after_boot(accept_loss).expect_err("damage");
        assert!(matches!(error, TableStoreError::Corrupt { .. }), "{error}");
    }
}

#[test]
fn damage_in_the_store_of_one_plugin_is_not_seen_by_another() {
    let (place, other) = (Place::new(), Place::new());
    for place in [&place, &other] {
        fill(place, Durability::Process, false).store.close().expect("a sound store");
    }
    fs::write(place.folder().join("process/seal"), b"nonsense").expect("room");
    assert!(matches!(place.try_open(), Err(TableStoreError::Corrupt { .. })));
    assert_eq!(other.open().tables.len(), 2);
}
