//! Why a file is refused, in one line: the path, what was expected, and what
//! was found.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use replug_abi::InterfaceVersion;
use semver::Version;

use super::NoteFault;
use crate::failure::{Code, Failure};

/// A plugin file that can never be loaded here, and why.
#[derive(Debug)]
pub struct InspectError {
    path: PathBuf,
    refusal: Refusal,
}

impl InspectError {
    pub(super) fn new(path: &Path, refusal: Refusal) -> InspectError {
        InspectError { path: path.to_owned(), refusal }
    }

    /// The file, under the name that was given to the inspection.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The reason.
    pub fn refusal(&self) -> &Refusal {
        &self.refusal
    }
}

impl fmt::Display for InspectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.refusal)
    }
}

impl Error for InspectError {
    /// The cause of the refusal: the refusal itself is part of the text.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.refusal.source()
    }
}

impl Failure for InspectError {
    fn code(&self) -> Code {
        match &self.refusal {
            Refusal::NotElf { .. } => Code::InspectNotElf,
            Refusal::WrongClass { .. } => Code::InspectWrongClass,
            Refusal::WrongMachine { .. } => Code::InspectWrongMachine,
            Refusal::NotLibrary { .. } => Code::InspectNotLibrary,
            Refusal::Truncated { .. } => Code::InspectTruncated,
            Refusal::Malformed { .. } | Refusal::Unreadable { .. } => Code::InspectMalformed,
            Refusal::NoNote => Code::InspectNoNote,
            Refusal::ManyNotes => Code::InspectBadNote,
            Refusal::NoteFormat { .. } => Code::InspectNoteUnsupported,
            Refusal::Note(fault) => fault.code(),
            Refusal::NoRoot { .. } => Code::InspectNoRoot,
            Refusal::PanicAbort { .. } => Code::InspectPanicAbort,
            Refusal::StaticTls => Code::InspectStaticTls,
            Refusal::AbiMajor { .. } => Code::InspectAbiMajor,
            Refusal::AbiStable { .. } => Code::AbiHeader,
            Refusal::MissingHostInterface { .. } => Code::AbiMissingInterface,
            Refusal::HostInterface { expected, found, .. } if found.major == u64::from(expected.major) => {
                Code::AbiMissingInterface
            }
            Refusal::HostInterface { .. } => Code::AbiInterfaceMajor,
            Refusal::NameMismatch { .. } => Code::InspectNameMismatch,
        }
    }
}

/// Why a plugin file was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The file does not start with the ELF magic.
    #[error("not an ELF file: expected \"\\x7fELF\", found \"{found}\"")]
    NotElf {
        /// The first four bytes, escaped.
        found: String,
    },
    /// The file is for a processor of another word size or byte order.
    #[error("expected a 64-bit little-endian ELF file, found {found}")]
    WrongClass {
        /// Word size and byte order of the file.
        found: String,
    },
    /// The file is for another processor.
    #[error("expected a library for {expected}, found one for {found}")]
    WrongMachine {
        /// The host's processor.
        expected: String,
        /// The file's processor.
        found: String,
    },
    /// The file is of another kind.
    #[error("expected a shared library, found {found}")]
    NotLibrary {
        /// What it is instead.
        found: &'static str,
    },
    /// The file ends before something that its headers speak of.
    #[error("cut short: expected at least {expected} bytes for {part}, found {found}")]
    Truncated {
        /// What is missing.
        part: &'static str,
        /// The size in bytes that the file must have at least.
        expected: u64,
        /// The size in bytes that it has.
        found: u64,
    },
    /// The headers contradict each other.
    #[error("malformed ELF file: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// The headers cannot be read.
    #[error("malformed ELF file")]
    Unreadable {
        /// What the ELF reader says.
        source: object::read::Error,
    },
    /// The library is no replug plugin.
    #[error("expected one replug note, found none")]
    NoNote,
    /// Two plugins were linked into one library.
    #[error("expected one replug note, found several")]
    ManyNotes,
    /// The note is of a format that this host does not know.
    #[error("expected a note of format {}, found format {found}", replug_abi::note::FORMAT)]
    NoteFormat {
        /// The note's format.
        found: u32,
    },
    /// The note cannot be understood.
    #[error(transparent)]
    Note(#[from] NoteFault),
    /// The entry point is missing.
    #[error("expected the exported symbol {symbol}, found none")]
    NoRoot {
        /// The symbol of the root module.
        symbol: &'static str,
    },
    /// A panic in the plugin would end the host.
    #[error("expected a plugin that unwinds on panic, found {found}")]
    PanicAbort {
        /// How it shows.
        found: &'static str,
    },
    /// Memory of the thread-local kind that cannot be given back.
    #[error("expected dynamic thread-local storage, found DF_STATIC_TLS")]
    StaticTls,
    /// The plugin is for another generation of hosts.
    #[error("expected ABI version {expected}.x, found {found}")]
    AbiMajor {
        /// The host's major version.
        expected: u64,
        /// The plugin's version.
        found: Version,
    },
    /// The plugin was built with an incompatible abi_stable.
    #[error("expected abi_stable compatible with {expected}, found {found}")]
    AbiStable {
        /// The host's version.
        expected: Version,
        /// The plugin's version.
        found: Version,
    },
    /// The plugin uses an interface that this host does not have.
    #[error("it needs host interface {id}, which this host does not have")]
    MissingHostInterface {
        /// The interface.
        id: String,
    },
    /// The plugin uses another major, or a later minor, of a host interface.
    #[error("it needs host interface {id} {found}, this host has {expected}")]
    HostInterface {
        /// The interface.
        id: String,
        /// The host's version.
        expected: InterfaceVersion,
        /// The lowest version that will do.
        found: Version,
    },
    /// The file name states another plugin than the note.
    #[error("expected {expected} as the file name says, found {found} in the note")]
    NameMismatch {
        /// Name and version in the file name.
        expected: String,
        /// Name and version in the note.
        found: String,
    },
}
