//! A function of a loaded library, as a program without a host would find it:
//! the peer of the benches.

use replug_host::load::Loaded;
use std::{
    ffi::{CStr, CString, c_void},
    os::unix::ffi::OsStrExt,
    ptr::NonNull,
};

/// The address of an exported symbol; `None` when there is none of this name.
/// It is valid for as long as the library is mapped.
///
/// The handle that is asked for it is kept: a library that was asked is not
/// unloaded any more.
pub fn symbol(loaded: &Loaded, name: &CStr) -> Option<NonNull<c_void>> {
    let path = CString::new(loaded.path().as_os_str().as_bytes()).ok()?;
    // SAFETY: both strings end with a NUL, and the library is loaded already,
    // so that no code of it runs.
    unsafe {
        let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_NOW);
        NonNull::new(handle).and_then(|handle| NonNull::new(libc::dlsym(handle.as_ptr(), name.as_ptr())))
    }
}
