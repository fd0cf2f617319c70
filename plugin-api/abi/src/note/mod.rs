//! The ELF note in which a plugin says what it is, without being run.
//!
//! Loading a library runs its constructors, so all that a host must know
//! before it decides to load one stands in a note: the plugin writes it at
//! compile time with [`encode()`], the host reads it from the file with
//! [`records()`]. This module owns the bytes of the format and nothing else:
//! it never reads a file, never judges what the texts mean, and depends on
//! `core` only, so that it also compiles on its own.
//!
//! # Format
//!
//! One ELF note per library: owner `"replug\0"`, type [`FORMAT`], and at most
//! [`MAX_DESC_BYTES`] of description. The description is a sequence of
//! records, everything little-endian:
//!
//! ```text
//! u16 kind      the low 15 bits; the top bit says that the record is critical
//! u16 length    of the value in bytes, without padding
//! value         text, or two texts with a NUL between them, or u32 words
//! padding       NULs up to the next multiple of four
//! ```
//!
//! # How the format grows
//!
//! The bytes are frozen; a golden test fails when they change.
//!
//! 1. A new fact is a new [`Kind`] with the next free number. Numbers are never
//!    reused and kinds are never renamed. Kind 0 stays unassigned.
//! 2. A reader skips a kind that it does not know, unless the record is
//!    critical: then it refuses the plugin. A new kind is critical exactly when
//!    a host that ignored it would do the wrong thing.
//! 3. A value may grow at its end: a pair by further NUL-separated texts, words
//!    by further words. Readers ignore what follows the part they know. What
//!    must not be ignored goes into a new, critical kind.
//! 4. The set of values of [`Profile`], [`Panic`] and [`State`] is closed, for
//!    a reader refuses what it does not know there.
//! 5. Only a change that breaks these rules raises [`FORMAT`]; a reader refuses
//!    another format by its number.
//!
//! # What the export macro emits
//!
//! These lines, in the cdylib crate itself: `cfg!` and `env!` must be evaluated
//! there, and a `#[used]` static of a dependency may be left out by the linker.
//!
//! ```
//! use replug_abi::note::{self, Panic, Profile, Record, State};
//!
//! const _: () = {
//!     const RECORDS: &[Record<'static>] = &[
//!         Record::Name("markdown"),
//!         Record::Version("1.2.0"),
//!         Record::Sdk("0.1.0"),
//!         Record::Abi(note::ABI_VERSION),
//!         Record::AbiStable(note::ABI_STABLE_VERSION),
//!         Record::Interface { id: "replug.service", version: [1, 0, 0] },
//!         Record::State { model: State::SNAPSHOT, schema: 3 },
//!         Record::Dependency { name: "templates", range: "^2.1" },
//!         Record::Rustc("rustc 1.95.0 (59807616e 2026-04-14)"),
//!         Record::Target("x86_64-unknown-linux-gnu"),
//!         Record::Profile(Profile::of(cfg!(debug_assertions))),
//!         Record::Panic(Panic::of(cfg!(panic = "unwind"))),
//!         Record::Ledger(true),
//!     ];
//!     const LEN: usize = note::encoded_len(&[RECORDS]);
//!     #[used]
//!     #[unsafe(link_section = ".note.replug")]
//!     static NOTE: note::Note<LEN> = note::encode::<LEN>(&[RECORDS]);
//! };
//! ```

mod decode;
mod encode;

pub use decode::{NoteError, RawRecord, Records, records};
pub use encode::{Note, encode, encoded_len};

/// The owner of the note, with its terminating NUL as ELF counts it.
pub const OWNER: &[u8; 7] = b"replug\0";

/// The type of the note: the major version of its format.
pub const FORMAT: u32 = 1;

/// The most bytes that the note's description may have.
pub const MAX_DESC_BYTES: usize = 64 * 1024;

/// The version of this package, as a plugin states it in [`Record::Abi`].
pub const ABI_VERSION: &str = "1.0.0";

/// The version of abi_stable behind this package, as a plugin states it in
/// [`Record::AbiStable`].
pub const ABI_STABLE_VERSION: &str = "0.11.3";

/// The bit of the kind word that forbids a reader to skip the record.
pub const CRITICAL: u16 = 0x8000;

/// One fact about a plugin.
///
/// Texts are UTF-8 without control characters and never empty; [`encode()`]
/// refuses others at compile time. Versions and ranges are semver texts, which
/// the host parses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// The plugin's name, see [`is_name`]. Required, once.
    Name(&'a str),
    /// The plugin's version. Required, once.
    Version(&'a str),
    /// The version of the SDK that it was built with. Required, once.
    Sdk(&'a str),
    /// The version of this package; pass [`ABI_VERSION`]. Required, once.
    Abi(&'a str),
    /// The version of abi_stable; pass [`ABI_STABLE_VERSION`]. Required, once.
    AbiStable(&'a str),
    /// An interface that the plugin exports.
    Interface {
        /// The interface's id, such as `replug.service`.
        id: &'a str,
        /// The version that the plugin was built with: major, minor, patch.
        version: [u32; 3],
    },
    /// An interface that the plugin expects of the host.
    Requires {
        /// The interface's id.
        id: &'a str,
        /// The lowest version that will do: major, minor, patch.
        version: [u32; 3],
    },
    /// How the plugin keeps state. Required, once.
    State {
        /// What has to be handed over when a version replaces another.
        model: State,
        /// The version of the state's schema, chosen by the author.
        schema: u32,
    },
    /// A plugin that this one calls.
    Dependency {
        /// The other plugin's name, see [`is_name`].
        name: &'a str,
        /// The versions that will do, as a semver range.
        range: &'a str,
    },
    /// A route that the plugin asks to be served under.
    Route(&'a str),
    /// An optional ability, `name/revision`.
    Capability(&'a str),
    /// What `rustc --version` printed. Required, once.
    Rustc(&'a str),
    /// The target triple. Required, once.
    Target(&'a str),
    /// Whether the build checks its assertions. Required, once.
    Profile(Profile),
    /// What a panic does. Required, once.
    Panic(Panic),
    /// Whether the ledger of thread-local destructors, keys and threads is
    /// linked in, without which a library may stay in memory. Required, once.
    Ledger(bool),
}

impl Record<'_> {
    /// The kind under which the record is written.
    pub const fn kind(&self) -> Kind {
        match self {
            Record::Name(_) => Kind::Name,
            Record::Version(_) => Kind::Version,
            Record::Sdk(_) => Kind::Sdk,
            Record::Abi(_) => Kind::Abi,
            Record::AbiStable(_) => Kind::AbiStable,
            Record::Interface { .. } => Kind::Interface,
            Record::Requires { .. } => Kind::Requires,
            Record::State { .. } => Kind::State,
            Record::Dependency { .. } => Kind::Dependency,
            Record::Route(_) => Kind::Route,
            Record::Capability(_) => Kind::Capability,
            Record::Rustc(_) => Kind::Rustc,
            Record::Target(_) => Kind::Target,
            Record::Profile(_) => Kind::Profile,
            Record::Panic(_) => Kind::Panic,
            Record::Ledger(_) => Kind::Ledger,
        }
    }
}

macro_rules! kinds {
    ($($kind:ident = $number:literal, $name:literal, $critical:literal;)*) => {
        /// What a record is about: its number in the file.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Kind {
            $(#[doc = concat!("The record `", $name, "`, see [`Record::", stringify!($kind), "`].")]
            $kind = $number,)*
        }

        impl Kind {
            /// Every kind, in the order of their numbers.
            pub const ALL: &'static [Kind] = &[$(Kind::$kind),*];

            /// The kind with this number (without the critical bit), if known.
            pub const fn from_number(number: u16) -> Option<Kind> {
                match number {
                    $($number => Some(Kind::$kind),)*
                    _ => None,
                }
            }

            /// The name in messages.
            pub const fn as_str(self) -> &'static str {
                match self { $(Kind::$kind => $name),* }
            }

            /// Whether [`encode()`] marks records of this kind as critical.
            pub const fn is_critical(self) -> bool {
                match self { $(Kind::$kind => $critical),* }
            }
        }
    };
}

kinds! {
    Name = 1, "name", true;
    Version = 2, "version", true;
    Sdk = 3, "sdk", true;
    Abi = 4, "abi", true;
    AbiStable = 5, "abi_stable", true;
    Interface = 6, "interface", true;
    Requires = 7, "requires", true;
    State = 8, "state", true;
    Dependency = 9, "dependency", true;
    Route = 10, "route", false;
    Capability = 11, "capability", false;
    Rustc = 12, "rustc", false;
    Target = 13, "target", false;
    Profile = 14, "profile", false;
    Panic = 15, "panic", true;
    Ledger = 16, "ledger", true;
}

/// What of a plugin's state has to be handed over to its next version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State(u32);

impl State {
    /// Nothing is kept between calls.
    pub const STATELESS: State = State(0);
    /// The plugin exports and imports a snapshot of itself.
    pub const SNAPSHOT: State = State(1);
    /// The state lies in tables of the host.
    pub const TABLES: State = State(2);

    /// Both models together.
    pub const fn and(self, other: State) -> State {
        State(self.0 | other.0)
    }

    /// Whether all of `other` is part of this model.
    pub const fn includes(self, other: State) -> bool {
        self.0 & other.0 == other.0
    }

    /// The word in the note.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The model of a word, if this reader knows all of its bits.
    pub const fn from_bits(bits: u32) -> Option<State> {
        if State::SNAPSHOT.and(State::TABLES).includes(State(bits)) { Some(State(bits)) } else { None }
    }
}

/// Whether the plugin was built for debugging.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Assertions are checked.
    Debug,
    /// Assertions are compiled out.
    Release,
}

impl Profile {
    /// The profile; pass `cfg!(debug_assertions)`, evaluated in the plugin.
    pub const fn of(debug_assertions: bool) -> Profile {
        if debug_assertions { Profile::Debug } else { Profile::Release }
    }

    /// The text in the note.
    pub const fn as_str(self) -> &'static str {
        match self {
            Profile::Debug => "debug",
            Profile::Release => "release",
        }
    }
}

/// What a panic does in the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Panic {
    /// It unwinds, so that the plugin's exports can catch it.
    Unwind,
    /// It ends the process, and the host with it.
    Abort,
}

impl Panic {
    /// The strategy; pass `cfg!(panic = "unwind")`, evaluated in the plugin.
    pub const fn of(unwind: bool) -> Panic {
        if unwind { Panic::Unwind } else { Panic::Abort }
    }

    /// The text in the note.
    pub const fn as_str(self) -> &'static str {
        match self {
            Panic::Unwind => "unwind",
            Panic::Abort => "abort",
        }
    }
}

/// Whether `name` may be the name of a plugin: 1 to 64 characters of `a-z`,
/// `0-9`, `-` and `_`, of which the first is a letter.
pub const fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() > 64 || !bytes[0].is_ascii_lowercase() {
        return false;
    }
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => at += 1,
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests;
