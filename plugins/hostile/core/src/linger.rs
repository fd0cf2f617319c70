//! What stays when the plugin has stopped.

use crate::Hang;
use replug_plugin_api::{Error, Result};
use std::{
    ffi::{c_int, c_void},
    ptr, thread,
};

/// A thread that nobody tells to stop.
pub(crate) fn thread(hang: Hang) -> Result<()> {
    thread::Builder::new().name("hostile-linger".to_owned()).spawn(move || hang.wait())?;
    Ok(())
}

/// Starts the threads of rayon's global pool, and waits until each has run.
pub(crate) fn rayon_global() {
    rayon::broadcast(|_| ());
}

type Destructor = unsafe extern "C" fn(*mut c_void);
type Register = unsafe extern "C" fn(Destructor, *mut c_void, *mut c_void) -> c_int;

unsafe extern "C" {
    /// Stands for this library in the C library's books; the compiler's start
    /// files define it in each.
    static __dso_handle: c_void;
}

/// Registers a destructor for this thread with the C library, as code would
/// that the ledger does not see.
pub(crate) fn pin() -> Result<()> {
    // SAFETY: the name is a C string.
    let register = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__cxa_thread_atexit_impl".as_ptr()) };
    if register.is_null() {
        return Err(Error::new("hostile.pin", "the C library has no thread-local destructors"));
    }
    // SAFETY: the C library's function of this name has this type.
    let register = unsafe { std::mem::transmute::<*mut c_void, Register>(register) };
    // SAFETY: the destructor does nothing, and its library stays until it ran,
    // which is the point.
    let status = unsafe {
        let library = (&raw const __dso_handle).cast_mut();
        register(nothing, ptr::null_mut(), library)
    };
    match status {
        0 => Ok(()),
        other => Err(Error::new("hostile.pin", format!("refused with {other}"))),
    }
}

unsafe extern "C" fn nothing(_: *mut c_void) {}
