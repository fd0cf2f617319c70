//! `dlopen`, `dlsym` and `dlclose` of one private copy.

use libloading::os::unix::{Library as Handle, RTLD_LOCAL, RTLD_NOW};
use std::{
    path::{Path, PathBuf},
    sync::Mutex,
};

use super::proof::{self, Pin};
use crate::{
    artifact::stage::may_be_code,
    failure::{Code, Failure},
};

/// One `dlopen` or `dlclose` at a time: which libraries came along with a
/// plugin is found by comparing what is mapped before and after.
static LOADER: Mutex<()> = Mutex::new(());

/// An open library. Dropping it leaves the library mapped: unmapping code that
/// may still be in use is never an accident.
pub struct Library {
    handle: std::mem::ManuallyDrop<Handle>,
    path: PathBuf,
    /// Files that were mapped by opening this one: its shared dependencies.
    companions: Vec<PathBuf>,
}

impl Library {
    /// Opens the file. It is a private copy under a name that was never used
    /// before: the loader returns an already loaded library by name.
    ///
    /// # Errors
    /// [`OpenError`] with the loader's own words: a missing symbol or shared
    /// dependency by name.
    ///
    /// # Safety
    /// Constructors of the library run now; the caller trusts them.
    pub unsafe fn open(path: &Path) -> Result<Library, OpenError> {
        let _one_at_a_time = LOADER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = proof::mapped_files();
        // NOW: with LAZY a missing symbol would end the process at the first
        // call that needs it. LOCAL: plugins must not see each other's symbols.
        // SAFETY: the caller's promise.
        let handle = unsafe { Handle::open(Some(path), RTLD_NOW | RTLD_LOCAL) }
            .map_err(|source| OpenError::of(path, &source))?;
        let companions =
            proof::mapped_files().into_iter().filter(|file| file != path && !before.contains(file)).collect();
        Ok(Library { handle: std::mem::ManuallyDrop::new(handle), path: path.to_owned(), companions })
    }

    /// The address of a symbol.
    pub fn symbol(&self, name: &str) -> Option<*const std::ffi::c_void> {
        // SAFETY: the type is a plain pointer; nothing is read through it here.
        let symbol = unsafe { self.handle.get::<*const std::ffi::c_void>(name.as_bytes()) }.ok()?;
        Some(symbol.as_raw_ptr().cast_const())
    }

    /// The private copy.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes the library and looks whether it is gone. Returns the shared
    /// dependencies that came with it and stayed.
    ///
    /// # Errors
    /// [`Kept`]: it is still mapped.
    ///
    /// # Safety
    /// No code of the library runs or will run, on any thread, and nobody holds
    /// a pointer into it.
    pub unsafe fn close(self) -> Result<Vec<PathBuf>, Kept> {
        let _one_at_a_time = LOADER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Library { handle, path, companions } = self;
        let handle = std::mem::ManuallyDrop::into_inner(handle);
        let mut pins = Vec::new();
        // The caller's promise is what `dlclose` needs.
        if let Err(error) = handle.close() {
            pins.push(Pin::Loader(loader_words(&error, &path)));
        }
        pins.extend(proof::still_mapped(&path, &companions));
        if pins.is_empty() { Ok(stayed(companions)) } else { Err(Kept { pins, companions }) }
    }
}

/// A library that stays although it was closed.
pub struct Kept {
    /// What keeps it, as far as can be found out.
    pub pins: Vec<Pin>,
    /// The shared dependencies that came with it.
    pub companions: Vec<PathBuf>,
}

/// Looks again at a library that was closed and stayed.
pub(super) fn look_again(path: &Path, companions: Vec<PathBuf>) -> Result<Vec<PathBuf>, Kept> {
    let _one_at_a_time = LOADER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let pins = proof::still_mapped(path, &companions);
    if pins.is_empty() { Ok(stayed(companions)) } else { Err(Kept { pins, companions }) }
}

/// Those of a library's dependencies that did not go with it.
fn stayed(companions: Vec<PathBuf>) -> Vec<PathBuf> {
    if companions.is_empty() {
        return companions;
    }
    let mapped = proof::mapped_files();
    companions.into_iter().filter(|file| mapped.contains(file)).collect()
}

/// The loader refused the file.
#[derive(Debug, thiserror::Error)]
#[error("cannot load {}: {reason}", path.display())]
pub struct OpenError {
    /// The private copy.
    pub path: PathBuf,
    /// The loader's words, and what they leave out.
    pub reason: String,
    /// Its file system allows no execution.
    pub is_noexec: bool,
}

impl OpenError {
    fn of(path: &Path, source: &libloading::Error) -> OpenError {
        let is_noexec = matches!(may_be_code(path), Ok(false));
        let mut reason = loader_words(source, path);
        if is_noexec {
            reason += ": its file system is mounted noexec";
        }
        OpenError { path: path.to_owned(), reason, is_noexec }
    }
}

impl Failure for OpenError {
    fn code(&self) -> Code {
        if self.is_noexec { Code::LoadExecutableStore } else { Code::LoadOpen }
    }
}

/// What `dlerror` said, without the path that it repeats.
fn loader_words(error: &libloading::Error, path: &Path) -> String {
    let text = match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    };
    let prefix = format!("{}: ", path.display());
    text.strip_prefix(&prefix).unwrap_or(&text).to_owned()
}
