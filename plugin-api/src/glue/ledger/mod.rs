//! The unload ledger: thread-local destructors, pthread keys and threads of
//! this plugin, kept here instead of in glibc.
//!
//! glibc counts every registered thread-local destructor against the library
//! that registered it, and `dlclose` then does nothing for as long as that
//! thread lives; std's pthread keys are never deleted; a thread may execute the
//! library's code while it is unmapped. The export macro defines *hidden*
//! copies of the five registering functions in the cdylib, which the linker
//! binds std and C++ code to, and which lead here. The host then asks for
//! `detach` on each thread that leaves the plugin.
//!
//! Not covered: libraries that the plugin links dynamically, threads that glibc
//! makes itself, raw system calls. The host's proof of unload finds those.

mod keys;
mod table;
mod threads;

pub use keys::{key_create, key_delete};
pub use table::{HeapBooks, LedgerHeap, LedgerTable, SystemHeap};
pub use threads::{register_destructor, thread_create};

use std::{
    ffi::CStr,
    sync::atomic::{AtomicUsize, Ordering},
};

/// The libc function that a hidden symbol of the plugin stands in for.
struct Real {
    name: &'static CStr,
    address: AtomicUsize,
}

impl Real {
    const fn new(name: &'static CStr) -> Self {
        Real { name, address: AtomicUsize::new(0) }
    }

    /// Looks the function up; done for all of them when the host installs the
    /// ledger, so that no later use enters the loader's lock.
    fn resolve(&self) -> usize {
        // Relaxed: the value is the same whoever stores it.
        let known = self.address.load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
        // SAFETY: the name is a C string; the default scope holds libc, and not
        // this library's hidden symbols.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, self.name.as_ptr()) } as usize;
        self.address.store(found, Ordering::Relaxed);
        found
    }
}

/// Looks all libc functions up before they are needed.
fn resolve_all() -> bool {
    [&keys::CREATE, &keys::DELETE, &threads::CREATE].iter().all(|real| real.resolve() != 0)
}

/// Defines the hidden symbols. Expanded by the export macro in the final
/// cdylib only: a plugin's own test binary keeps libc's.
#[doc(hidden)]
#[macro_export]
macro_rules! __hidden_symbols {
    () => {
        $crate::__hidden_symbol!("__cxa_thread_atexit_impl", $crate::glue::ledger::register_destructor);
        $crate::__hidden_symbol!("__cxa_thread_atexit", $crate::glue::ledger::register_destructor);
        $crate::__hidden_symbol!("pthread_key_create", $crate::glue::ledger::key_create);
        $crate::__hidden_symbol!("pthread_key_delete", $crate::glue::ledger::key_delete);
        $crate::__hidden_symbol!("pthread_create", $crate::glue::ledger::thread_create);
    };
}

/// One hidden symbol: a jump to a function of the SDK. `no_mangle` would export
/// it, and the dynamic linker would then bind it to libc's. In a section of its
/// own: otherwise it lands in the one that earlier assembly left off in.
#[doc(hidden)]
#[macro_export]
macro_rules! __hidden_symbol {
    ($name:literal, $target:path) => {
        #[cfg(target_arch = "x86_64")]
        ::core::arch::global_asm!(
            ".pushsection .text.replug,\"ax\",@progbits",
            concat!(".globl ", $name),
            concat!(".hidden ", $name),
            concat!(".type ", $name, ",@function"),
            concat!($name, ": jmp {target}"),
            concat!(".size ", $name, ", . - ", $name),
            ".popsection",
            target = sym $target,
        );
        #[cfg(target_arch = "aarch64")]
        ::core::arch::global_asm!(
            ".pushsection .text.replug,\"ax\",%progbits",
            concat!(".globl ", $name),
            concat!(".hidden ", $name),
            concat!(".type ", $name, ",%function"),
            concat!($name, ": b {target}"),
            concat!(".size ", $name, ", . - ", $name),
            ".popsection",
            target = sym $target,
        );
    };
}
