//! What makes a plugin hard to contain or to unload, and can be seen from
//! outside.
//!
//! Hazards are no errors: a policy may warn about them or refuse them. They are
//! told from imports and headers, so they say what a library could do, not
//! what it does, and a library that hides its intent is not found out here.

use std::fmt;

use object::elf;
use serde::Serialize;

use super::Plugin;

/// A warning about a plugin.
///
/// Lists hold at most 16 names each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "hazard", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Hazard {
    /// The ledger of thread-local destructors, keys and threads is not linked
    /// in: the library may stay in memory after it was unloaded.
    NoLedger {
        /// What the library takes from libc instead; empty when only its note
        /// says so.
        imports: Vec<String>,
    },
    /// Symbols of which the process has one for ever: the first library that
    /// defines one is never unloaded.
    UniqueSymbols {
        /// How many there are.
        count: usize,
        /// The first of them.
        symbols: Vec<String>,
    },
    /// Code of its own runs at load, before the host can talk to the plugin.
    Constructors {
        /// The entries of `DT_INIT_ARRAY`.
        found: u64,
        /// The entries that any Rust library has.
        usual: u64,
    },
    /// Code of its own runs at unload, when the host cannot stop it any more.
    /// C++ statics with destructors bring some too.
    Finalisers {
        /// The entries of `DT_FINI_ARRAY`.
        found: u64,
        /// The entries that any Rust library has.
        usual: u64,
        /// What the library registers more of them with; empty when it imports
        /// nothing that does.
        imports: Vec<String>,
    },
    /// Functions that change the whole process, and may outlive the plugin.
    ProcessWide {
        /// The imported functions.
        imports: Vec<String>,
    },
    /// Shared libraries that are loaded with the plugin. The ledger does not
    /// cover them.
    Libraries {
        /// Their names, as the plugin asks for them.
        needed: Vec<String>,
    },
}

/// One look for each hazard, in the order in which they are listed.
pub(super) const TABLE: &[fn(&Plugin<'_>) -> Option<Hazard>] =
    &[no_ledger, unique_symbols, constructors, finalisers, process_wide, libraries];

/// A list in a hazard has at most so many names: they come from the file.
const MAX_LISTED: usize = 16;

/// A plain cdylib has two: `frame_dummy` of gcc's crtbeginS.o, and the one with
/// which std picks up the arguments. `DT_INIT` is not counted: crti.o always
/// brings one.
const USUAL_CONSTRUCTORS: u64 = 2;

/// A plain cdylib has one: `__do_global_dtors_aux` of gcc's crtbeginS.o. As
/// above, `DT_FINI` is not counted.
const USUAL_FINALISERS: u64 = 1;

/// `atexit` itself is never imported: glibc links it statically, and it calls
/// the first of these.
const FINALISER_SYMBOLS: &[&str] = &["__cxa_atexit", "__cxa_at_quick_exit"];

/// What the ledger defines itself, so that it is not imported.
const LEDGER_SYMBOLS: &[&str] =
    &["__cxa_thread_atexit_impl", "pthread_key_create", "pthread_key_delete", "pthread_create"];

const PROCESS_WIDE_SYMBOLS: &[&str] =
    &["sigaction", "signal", "on_exit", "putenv", "setenv", "unsetenv", "clearenv", "dlopen", "dlmopen"];

/// What a plain cdylib needs, and the parts of glibc before it became one file.
const USUAL_LIBRARIES: &[&str] = &[
    "libc.so.6",
    "libm.so.6",
    "libgcc_s.so.1",
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
];

fn no_ledger(plugin: &Plugin<'_>) -> Option<Hazard> {
    let imports = listed(plugin.symbols.imported_of(LEDGER_SYMBOLS));
    (!imports.is_empty() || !plugin.manifest.ledger).then_some(Hazard::NoLedger { imports })
}

fn unique_symbols(plugin: &Plugin<'_>) -> Option<Hazard> {
    let unique = || plugin.symbols.iter().filter(|symbol| symbol.bind == elf::STB_GNU_UNIQUE);
    let count = unique().count();
    (count > 0).then(|| Hazard::UniqueSymbols {
        count,
        symbols: listed(unique().map(|symbol| printable(symbol.name))),
    })
}

fn constructors(plugin: &Plugin<'_>) -> Option<Hazard> {
    let bytes = plugin.dynamic.value(elf::DT_INIT_ARRAYSZ).unwrap_or(0);
    let found = bytes / 8;
    (found > USUAL_CONSTRUCTORS).then_some(Hazard::Constructors { found, usual: USUAL_CONSTRUCTORS })
}

fn finalisers(plugin: &Plugin<'_>) -> Option<Hazard> {
    let found = plugin.dynamic.value(elf::DT_FINI_ARRAYSZ).unwrap_or(0) / 8;
    let imports = listed(plugin.symbols.imported_of(FINALISER_SYMBOLS));
    (found > USUAL_FINALISERS || !imports.is_empty()).then_some(Hazard::Finalisers {
        found,
        usual: USUAL_FINALISERS,
        imports,
    })
}

fn process_wide(plugin: &Plugin<'_>) -> Option<Hazard> {
    let imports = listed(plugin.symbols.imported_of(PROCESS_WIDE_SYMBOLS));
    (!imports.is_empty()).then_some(Hazard::ProcessWide { imports })
}

fn libraries(plugin: &Plugin<'_>) -> Option<Hazard> {
    let usual = |name: &&[u8]| USUAL_LIBRARIES.iter().any(|u| u.as_bytes() == *name);
    let needed = plugin.dynamic.needed().filter(|name| !usual(name));
    let needed = listed(needed.map(printable));
    (!needed.is_empty()).then_some(Hazard::Libraries { needed })
}

fn listed<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Vec<String> {
    names.into_iter().take(MAX_LISTED).map(T::into).collect()
}

fn printable(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}

impl fmt::Display for Hazard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hazard::NoLedger { imports } if imports.is_empty() => {
                f.write_str("the unload ledger is not linked in")
            }
            Hazard::NoLedger { imports } => {
                let imports = imports.join(", ");
                write!(f, "the unload ledger is not linked in: imports {imports}")
            }
            Hazard::UniqueSymbols { count, symbols } => {
                let symbols = symbols.join(", ");
                write!(f, "{count} symbols can never be unloaded: {symbols}")
            }
            Hazard::Constructors { found, usual } => {
                write!(f, "{found} constructors run at load, expected {usual}")
            }
            Hazard::Finalisers { found, usual, imports } if imports.is_empty() => {
                write!(f, "{found} finalisers run at unload, expected {usual}")
            }
            Hazard::Finalisers { imports, .. } => {
                write!(f, "registers finalisers that run at unload: imports {}", imports.join(", "))
            }
            Hazard::ProcessWide { imports } => {
                write!(f, "may change the whole process: {}", imports.join(", "))
            }
            Hazard::Libraries { needed } => {
                write!(f, "loads further libraries: {}", needed.join(", "))
            }
        }
    }
}
