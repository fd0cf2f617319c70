//! Reading the records of a note into a manifest.
//!
//! The format and its rule for growing are [`replug_abi::note`]'s; this file
//! owns what the records must contain, and how often each may stand. It knows
//! nothing of ELF, and of no file.

use replug_abi::note::{self, Kind, NoteError, RawRecord};
use semver::{Version, VersionReq};

use super::manifest::{Capability, Dependency, Interface, Manifest, PanicStrategy, Profile, StateModel};
use crate::{failure::Code, id::PluginName};

impl Manifest {
    /// Reads the description of a replug note.
    ///
    /// # Errors
    ///
    /// When the note is too large, damaged or incomplete, when a record that
    /// stands once stands twice, when a value is not what its kind asks for, or
    /// when a critical record is unknown.
    pub fn parse(desc: &[u8]) -> Result<Manifest, NoteFault> {
        if desc.len() > note::MAX_DESC_BYTES {
            return Err(NoteFault::TooLarge { found: desc.len() });
        }
        let mut draft = Draft::default();
        for record in note::records(desc) {
            draft.take(record?)?;
        }
        draft.finish()
    }
}

/// A manifest of which some records have been read.
#[derive(Default)]
struct Draft {
    name: Option<PluginName>,
    version: Option<Version>,
    sdk: Option<Version>,
    abi: Option<Version>,
    abi_stable: Option<Version>,
    interfaces: Vec<Interface>,
    requires: Vec<Interface>,
    state: Option<(StateModel, u32)>,
    dependencies: Vec<Dependency>,
    routes: Vec<String>,
    capabilities: Vec<Capability>,
    rustc: Option<String>,
    target: Option<String>,
    profile: Option<Profile>,
    panic: Option<PanicStrategy>,
    ledger: Option<bool>,
}

impl Draft {
    fn take(&mut self, record: RawRecord<'_>) -> Result<(), NoteFault> {
        let Some(kind) = record.kind() else {
            return skip(record);
        };
        match kind {
            Kind::Name => once(&mut self.name, kind, name(kind, record.text()?)?),
            Kind::Version => once(&mut self.version, kind, version(kind, record.text()?)?),
            Kind::Sdk => once(&mut self.sdk, kind, version(kind, record.text()?)?),
            Kind::Abi => once(&mut self.abi, kind, version(kind, record.text()?)?),
            Kind::AbiStable => once(&mut self.abi_stable, kind, version(kind, record.text()?)?),
            Kind::Interface => many(&mut self.interfaces, interface(kind, record)?),
            Kind::Requires => many(&mut self.requires, interface(kind, record)?),
            Kind::State => once(&mut self.state, kind, state(record)?),
            Kind::Dependency => many(&mut self.dependencies, dependency(kind, record)?),
            Kind::Route => many(&mut self.routes, record.text()?.to_owned()),
            Kind::Capability => many(&mut self.capabilities, capability(kind, record.text()?)?),
            Kind::Rustc => once(&mut self.rustc, kind, record.text()?.to_owned()),
            Kind::Target => once(&mut self.target, kind, record.text()?.to_owned()),
            Kind::Profile => once(&mut self.profile, kind, profile(kind, record.text()?)?),
            Kind::Panic => once(&mut self.panic, kind, panic(kind, record.text()?)?),
            Kind::Ledger => once(&mut self.ledger, kind, record.words()? != [0]),
        }
    }

    fn finish(self) -> Result<Manifest, NoteFault> {
        let (state, schema_version) = required(self.state, Kind::State)?;
        Ok(Manifest {
            name: required(self.name, Kind::Name)?,
            version: required(self.version, Kind::Version)?,
            sdk: required(self.sdk, Kind::Sdk)?,
            abi: required(self.abi, Kind::Abi)?,
            abi_stable: required(self.abi_stable, Kind::AbiStable)?,
            interfaces: self.interfaces,
            requires: self.requires,
            state,
            schema_version,
            dependencies: self.dependencies,
            routes: self.routes,
            capabilities: self.capabilities,
            rustc: required(self.rustc, Kind::Rustc)?,
            target: required(self.target, Kind::Target)?,
            profile: required(self.profile, Kind::Profile)?,
            panic: required(self.panic, Kind::Panic)?,
            ledger: required(self.ledger, Kind::Ledger)?,
        })
    }
}

fn skip(record: RawRecord<'_>) -> Result<(), NoteFault> {
    if record.is_critical() {
        return Err(NoteFault::UnknownCritical { kind: record.number() });
    }
    Ok(())
}

fn once<T>(place: &mut Option<T>, kind: Kind, value: T) -> Result<(), NoteFault> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(NoteFault::Twice { record: kind.as_str() }),
    }
}

fn many<T>(list: &mut Vec<T>, value: T) -> Result<(), NoteFault> {
    list.push(value);
    Ok(())
}

fn required<T>(value: Option<T>, kind: Kind) -> Result<T, NoteFault> {
    value.ok_or(NoteFault::Missing { record: kind.as_str() })
}

fn name(kind: Kind, text: &str) -> Result<PluginName, NoteFault> {
    let expected = "1 to 64 of a-z, 0-9, - and _, starting with a letter";
    text.parse().map_err(|_| invalid(kind, expected, text))
}

fn version(kind: Kind, text: &str) -> Result<Version, NoteFault> {
    Version::parse(text).map_err(|source| not_semver(kind, text, source))
}

fn interface(kind: Kind, record: RawRecord<'_>) -> Result<Interface, NoteFault> {
    let (name, of) = record.pair()?;
    Ok(Interface { id: id(kind, name)?, version: version(kind, of)? })
}

fn dependency(kind: Kind, record: RawRecord<'_>) -> Result<Dependency, NoteFault> {
    let (of, range) = record.pair()?;
    Ok(Dependency {
        name: name(kind, of)?,
        range: VersionReq::parse(range).map_err(|source| not_semver(kind, range, source))?,
    })
}

fn capability(kind: Kind, text: &str) -> Result<Capability, NoteFault> {
    let (name, revision) = text
        .rsplit_once('/')
        .and_then(|(name, revision)| Some((name, revision.parse().ok()?)))
        .ok_or_else(|| invalid(kind, "name/revision", text))?;
    Ok(Capability { name: id(kind, name)?, revision })
}

fn id(kind: Kind, text: &str) -> Result<String, NoteFault> {
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    if !printable || !(1..=128).contains(&text.len()) {
        let expected = "1 to 128 printable ASCII characters without spaces";
        return Err(invalid(kind, expected, text));
    }
    Ok(text.to_owned())
}

fn state(record: RawRecord<'_>) -> Result<(StateModel, u32), NoteFault> {
    let [bits, schema] = record.words()?;
    let state = note::State::from_bits(bits).ok_or(NoteFault::UnknownState { found: bits })?;
    let model = StateModel {
        snapshot: state.includes(note::State::SNAPSHOT),
        tables: state.includes(note::State::TABLES),
    };
    Ok((model, schema))
}

fn profile(kind: Kind, text: &str) -> Result<Profile, NoteFault> {
    match text {
        "debug" => Ok(Profile::Debug),
        "release" => Ok(Profile::Release),
        _ => Err(invalid(kind, "debug or release", text)),
    }
}

fn panic(kind: Kind, text: &str) -> Result<PanicStrategy, NoteFault> {
    match text {
        "unwind" => Ok(PanicStrategy::Unwind),
        "abort" => Ok(PanicStrategy::Abort),
        _ => Err(invalid(kind, "unwind or abort", text)),
    }
}

fn invalid(kind: Kind, expected: &'static str, text: &str) -> NoteFault {
    NoteFault::Invalid { record: kind.as_str(), expected, found: clip(text) }
}

fn not_semver(kind: Kind, text: &str, source: semver::Error) -> NoteFault {
    NoteFault::NotSemver { record: kind.as_str(), found: clip(text), source }
}

/// So much of a text of the file as fits into one line.
fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Why a note is not a manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoteFault {
    /// The note has more bytes than a host reads.
    #[error("expected a note of at most {} bytes, found {found}", note::MAX_DESC_BYTES)]
    TooLarge {
        /// The length of its description in bytes.
        found: usize,
    },
    /// The note's bytes are damaged.
    #[error("damaged note: {0}")]
    Damaged(NoteError),
    /// A record that must be there is not.
    #[error("expected the record {record} in the note, found none")]
    Missing {
        /// The record's name.
        record: &'static str,
    },
    /// A record that stands once stands twice.
    #[error("expected the record {record} once in the note, found it twice")]
    Twice {
        /// The record's name.
        record: &'static str,
    },
    /// A text is not what its record asks for.
    #[error("expected {expected} in the record {record} of the note, found {found:?}")]
    Invalid {
        /// The record's name.
        record: &'static str,
        /// What it asks for.
        expected: &'static str,
        /// The text, cut after 80 characters.
        found: String,
    },
    /// A version or a range is not one.
    #[error("expected semver in the record {record} of the note, found {found:?}")]
    NotSemver {
        /// The record's name.
        record: &'static str,
        /// The text, cut after 80 characters.
        found: String,
        /// What is wrong with it.
        source: semver::Error,
    },
    /// A newer SDK wrote something that may not be ignored.
    #[error("expected records that this host knows, found critical record {kind} in the note")]
    UnknownCritical {
        /// The number of the record's kind.
        kind: u16,
    },
    /// A newer SDK keeps state in a way that this host does not know.
    #[error("expected a state model that this host knows, found {found:#x} in the note")]
    UnknownState {
        /// The model's bits.
        found: u32,
    },
}

impl From<NoteError> for NoteFault {
    fn from(error: NoteError) -> NoteFault {
        NoteFault::Damaged(error)
    }
}

impl NoteFault {
    /// The stable code of the fault.
    pub(super) fn code(&self) -> Code {
        match self {
            NoteFault::TooLarge { .. } => Code::InspectTooLarge,
            NoteFault::UnknownCritical { .. } | NoteFault::UnknownState { .. } => {
                Code::InspectNoteUnsupported
            }
            NoteFault::Damaged(_)
            | NoteFault::Missing { .. }
            | NoteFault::Twice { .. }
            | NoteFault::Invalid { .. }
            | NoteFault::NotSemver { .. } => Code::InspectBadNote,
        }
    }
}
