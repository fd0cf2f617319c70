//! A part of build scripts: the sources of a package of this project, copied with
//! something changed in them, so that the copy cannot fall behind. When what is
//! changed is gone, the build says so.
//!
//! The copy's `lib.rs` is for `include!`, from the folder that this returns in
//! `OUT_DIR`; the files that it names stand beside it.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// A text that stands once in a file, and what stands there instead.
pub(crate) struct Change {
    pub(crate) file: &'static str,
    pub(crate) text: &'static str,
    pub(crate) instead: &'static str,
}

/// Copies the folder `sources` to `OUT_DIR`, as `name`.
pub(crate) fn copy(sources: &str, name: &str, changes: &[Change]) {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={sources}");
    let copy = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join(name);
    copy_tree(Path::new(sources), &copy);
    for Change { file, text, instead } in changes {
        let path = copy.join(file);
        let source = read(&path);
        assert_eq!(source.matches(text).count(), 1, "{file} has no {text:?}");
        write(&path, &source.replace(text, instead));
    }

    // `include!` takes nothing about what it stands in.
    let root = copy.join("lib.rs");
    let code: Vec<_> = read(&root)
        .lines()
        .filter(|line| !line.starts_with("//!") && !line.starts_with("#!"))
        .map(ToOwned::to_owned)
        .collect();
    write(&root, &code.join("\n"));
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("OUT_DIR can be written");
    for entry in fs::read_dir(from).expect("the sources are there") {
        let from = entry.expect("the sources can be listed").path();
        let to = to.join(from.file_name().expect("an entry has a name"));
        if from.is_dir() {
            copy_tree(&from, &to);
        } else {
            // Documentation from other folders, which are not copied.
            let code: Vec<_> = read(&from)
                .lines()
                .filter(|line| !line.contains("doc = include_str!"))
                .map(ToOwned::to_owned)
                .collect();
            write(&to, &code.join("\n"));
        }
    }
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn write(file: &Path, text: &str) {
    fs::write(file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}
