//! The files of the project, read once, or a sample made by hand.
//!
//! It knows names and text only: what a rule makes of them is the rule's.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A text file; `path` is relative to the project's root.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    /// Lines with their numbers, from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Whether the file is `place`, the module `place`.rs, or lies in the folder `place`.
    pub(crate) fn is_in(&self, place: &str) -> bool {
        let rest = self.path.strip_prefix(place);
        rest.is_some_and(|rest| matches!(rest, "" | ".rs") || rest.starts_with('/'))
    }

    /// Whether the whole file is test code or the harness.
    pub(crate) fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests") || self.path.ends_with("tests.rs")
    }
}

/// All files that a rule may look at, and the names of the others.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: Vec<File>,
    names: BTreeSet<String>,
    executable: BTreeSet<String>,
}

impl Tree {
    /// The project that this test belongs to.
    pub(crate) fn of_the_project() -> Tree {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent");
        let mut tree = Tree::default();
        tree.read(root, "");
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        tree
    }

    /// A tree of the given files; those under `scripts/` are executable.
    pub(crate) fn sample(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::default();
        for (path, text) in files {
            let mut folder = *path;
            while let Some((parent, _)) = folder.rsplit_once('/') {
                tree.names.insert(parent.to_owned());
                folder = parent;
            }
            tree.add(path, path.starts_with("scripts/"), (*text).to_owned());
        }
        tree
    }

    /// Every text file.
    pub(crate) fn files(&self) -> impl Iterator<Item = &File> {
        self.files.iter()
    }

    /// Every Rust file.
    pub(crate) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files().filter(|file| file.path.ends_with(".rs"))
    }

    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files().find(|file| file.path == path)
    }

    /// Whether a file or a folder has this path.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.names.contains(path)
    }

    pub(crate) fn can_run(&self, path: &str) -> bool {
        self.executable.contains(path)
    }

    fn read(&mut self, folder: &Path, prefix: &str) {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            // Another test may have made this file for a moment.
            let Ok(info) = fs::symlink_metadata(entry.path()) else {
                continue;
            };
            if info.is_dir() {
                // Git's own files, and what cargo builds, are not the project's.
                if name != ".git" && !entry.path().join("CACHEDIR.TAG").exists() {
                    self.read(&entry.path(), &format!("{path}/"));
                    self.names.insert(path);
                }
            } else if info.is_file() {
                // What is not UTF-8 (an image, a library) is a name only.
                let text = fs::read(entry.path()).ok().and_then(|raw| String::from_utf8(raw).ok());
                let executable = info.permissions().mode() & 0o111 == 0o111;
                match text {
                    Some(text) => self.add(&path, executable, text),
                    None => _ = self.names.insert(path),
                }
            }
        }
    }

    fn add(&mut self, path: &str, executable: bool, text: String) {
        self.names.insert(path.to_owned());
        if executable {
            self.executable.insert(path.to_owned());
        }
        self.files.push(File { path: path.to_owned(), text });
    }
}

/// Where a rule is broken, how, and what to do.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) what: String,
    pub(crate) mend: String,
}

impl Fault {
    pub(crate) fn new(file: &File, line: usize, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Fault { path: file.path.clone(), line, what: what.into(), mend: mend.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.path, self.line, self.what, self.mend)
    }
}

/// Ends the test with the list of faults, if there are any.
#[track_caller]
pub(crate) fn demand_none(faults: &[Fault]) {
    let list: String = faults.iter().map(|fault| format!("\n  {fault}")).collect();
    assert!(faults.is_empty(), "{} to mend:{list}\n", faults.len());
}

/// The places of the faults, `path:line`, for tests of the rules themselves.
pub(crate) fn places(faults: &[Fault]) -> Vec<String> {
    faults.iter().map(|fault| format!("{}:{}", fault.path, fault.line)).collect()
}

#[test]
fn the_project_is_read_without_what_cargo_builds() {
    let tree = Tree::of_the_project();
    assert!(tree.file("tests/tests/tidy/tree.rs").is_some());
    assert!(tree.file("Cargo.toml").is_some() && tree.has("host/engine"));
    assert!(tree.can_run("scripts/check") && !tree.can_run("Cargo.toml"));
    assert!(!tree.has("target/debug"));
}
