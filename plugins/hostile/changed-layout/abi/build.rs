//! Copies the sources of the real ABI with one field changed, so that the copy
//! cannot fall behind: when the field is gone, the build says so.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

const ABI: &str = "../../../../plugin-api/abi/src";
const FILE: &str = "request.rs";
const FIELD: &str = "pub flags: u64,";
const CHANGED: &str = "pub flags: u32,";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={ABI}");
    let copy = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("abi");
    copy_tree(Path::new(ABI), &copy);

    let file = copy.join(FILE);
    let source = read(&file);
    assert_eq!(source.matches(FIELD).count(), 1, "{FILE} has no {FIELD:?}");
    write(&file, &source.replace(FIELD, CHANGED));

    // `include!` takes no inner documentation.
    let root = copy.join("lib.rs");
    let code: Vec<_> = read(&root)
        .lines()
        .filter(|line| !line.starts_with("//!"))
        .map(ToOwned::to_owned)
        .collect();
    write(&root, &code.join("\n"));
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("OUT_DIR can be written");
    for entry in fs::read_dir(from).expect("the ABI's sources are there") {
        let from = entry.expect("the ABI's sources can be listed").path();
        let to = to.join(from.file_name().expect("an entry has a name"));
        if from.is_dir() {
            copy_tree(&from, &to);
        } else {
            write(&to, &read(&from));
        }
    }
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn write(file: &Path, text: &str) {
    fs::write(file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}
