//! A plugin with C++ code: thread-locals with destructors, once linked into the
//! plugin and once in `libhostile_tls.so`, which it links dynamically.
//!
//! The shared library is found beside the plugin, or where the build left it.
//! It stays in memory until the threads that called `shared` have ended,
//! whatever the plugin does: the ledger cannot see into it. What is linked in
//! must not keep anything.
//!
//! # Methods
//!
//! | method | body | answer |
//! |---|---|---|
//! | `linked` | ignored | destructors that ran in the plugin, as decimal text |
//! | `shared` | ignored | destructors that ran in the shared library |

use replug_plugin_api::prelude::*;
use std::ffi::c_ulong;

struct Cpp;

impl Plugin for Cpp {
    type Config = ();

    fn prepare((): (), _: &Context) -> Result<Self> {
        Ok(Cpp)
    }

    fn methods(methods: &mut Methods<Self>) {
        methods
            .method("linked", "Touches the plugin's thread-local", |_, _| {
                // SAFETY: takes nothing, touches its own thread-local only.
                Ok(unsafe { hostile_tls_linked() }.to_string())
            })
            .method("shared", "Touches the library's thread-local", |_, _| {
                // SAFETY: as above.
                Ok(unsafe { hostile_tls_shared() }.to_string())
            });
    }
}

// The two are compiled from `tls.cpp` by the build script.
unsafe extern "C" {
    fn hostile_tls_linked() -> c_ulong;
    fn hostile_tls_shared() -> c_ulong;
}

export!(Cpp, name = "cpp", version = "1.0.0");
