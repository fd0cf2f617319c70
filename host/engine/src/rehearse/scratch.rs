//! The folder of one rehearsal, and its removal: the plugin may have made anything in it.

use super::error::RehearsalError;
use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// Removed when dropped.
pub(super) struct Scratch(PathBuf);

/// Names are never used twice in one process, and one process has the folder.
static SERIAL: AtomicU64 = AtomicU64::new(0);

impl Scratch {
    pub(super) fn new(folder: &Path) -> Result<Scratch, RehearsalError> {
        // Relaxed: any number that no other has.
        let path = folder.join(format!("rehearsal-{}", SERIAL.fetch_add(1, Ordering::Relaxed)));
        // As the system names it: what the child has open below it is told by that.
        let made = remove(&path).and_then(|()| make(&path)).and_then(|()| fs::canonicalize(&path));
        made.map(Scratch).map_err(|source| RehearsalError::Host { what: "there is no folder for it", source })
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, RehearsalError> {
        let path = self.0.join(name);
        let written = fs::write(&path, bytes);
        written.map_err(|source| RehearsalError::Host { what: "its state cannot be written", source })?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "the folder of a rehearsal stays behind");
        }
    }
}

fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Removes a folder with all that is in it, if it is there: also folders that nobody may
/// read, and however deep they lie in each other. Needs one open folder and no stack for
/// that: each is moved to the top before it is looked into.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".removed");
    let top = folder.with_file_name(name);
    // Of a process that ended while it removed.
    let mut waiting: Vec<PathBuf> = match fs::read_dir(&top) {
        Ok(left) => left.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?,
        Err(_) => Vec::new(),
    };
    if waiting.is_empty() && !folder.try_exists()? && !top.try_exists()? {
        return Ok(());
    }
    make(&top)?;
    let mut serial = 0_u64;
    let mut to_top = |folder: &Path, waiting: &mut Vec<PathBuf>| -> io::Result<()> {
        let mut path = top.join(serial.to_string());
        while path.try_exists()? {
            serial += 1;
            path = top.join(serial.to_string());
        }
        // Who moves a folder writes to it.
        fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        fs::rename(folder, &path)?;
        waiting.push(path);
        Ok(())
    };
    if folder.try_exists()? {
        to_top(folder, &mut waiting)?;
    }
    while let Some(next) = waiting.pop() {
        fs::set_permissions(&next, Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&next)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => to_top(&entry.path(), &mut waiting)?,
                false => fs::remove_file(entry.path())?,
            }
        }
        match fs::remove_dir(&next) {
            // What came while it was read, or was left out.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => waiting.push(next),
            removed => removed?,
        }
    }
    fs::remove_dir(&top)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_folder_is_removed_also_where_nobody_may_look_and_with_links_left_alone() {
        let home = tempfile::tempdir().expect("a directory");
        let (folder, other) = (home.path().join("folder"), home.path().join("other"));
        fs::create_dir_all(folder.join("a/b/c")).expect("makes");
        fs::create_dir_all(folder.join("0")).expect("makes");
        fs::create_dir(&other).expect("makes");
        fs::write(other.join("file"), "stays").expect("writes");
        fs::write(folder.join("a/b/file"), "goes").expect("writes");
        symlink(&other, folder.join("a/link")).expect("links");
        for shut in ["a/b/c", "a/b", "a"] {
            fs::set_permissions(folder.join(shut), Permissions::from_mode(0o000)).expect("sets");
        }
        remove(&folder).expect("removes");
        let left: Vec<_> = fs::read_dir(home.path()).expect("reads").flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(fs::read_to_string(other.join("file")).expect("reads"), "stays");
        remove(&folder).expect("it is gone");
    }

    #[test]
    fn folders_that_lie_deep_in_each_other_are_removed() {
        let home = tempfile::tempdir().expect("a directory");
        let folder = home.path().join("folder");
        fs::create_dir(&folder).expect("makes");
        // Deeper than a path can be long.
        let mut inner = home.path().join("0");
        fs::create_dir(&inner).expect("makes");
        for n in 1..3_000 {
            let outer = home.path().join(n.to_string());
            fs::create_dir(&outer).expect("makes");
            fs::rename(&inner, outer.join("folder")).expect("moves");
            inner = outer;
        }
        fs::rename(&inner, folder.join("deep")).expect("moves");
        remove(&folder).expect("removes");
        assert_eq!(fs::read_dir(home.path()).expect("reads").count(), 0);
    }

    #[test]
    fn what_a_process_left_that_ended_while_it_removed_goes_too() {
        let home = tempfile::tempdir().expect("a directory");
        let folder = home.path().join("folder");
        fs::create_dir_all(home.path().join("folder.removed/0/inner")).expect("makes");
        fs::create_dir_all(folder.join("inner")).expect("makes");
        remove(&folder).expect("removes");
        assert_eq!(fs::read_dir(home.path()).expect("reads").count(), 0);
    }
}
