//! Reading a plugin file before anything in it runs.
//!
//! dlopen maps a file, runs its constructors, and dies with the process when
//! the file is damaged. So what can be told from the bytes is told from the
//! bytes: whether this is a whole shared library for this host, what it says
//! about itself in its note, and what in it will make unloading hard. This
//! stage refuses what can never work and lists the rest as [`Hazard`]s, for a
//! policy to judge. It never opens, maps, runs or changes a file, and never
//! panics, whatever the bytes are.
//!
//! The order of reading: the ELF header and program headers (section headers
//! may be stripped), the dynamic section as ld.so finds it, the dynamic
//! symbols, the note. The checks stand in the tables of `checks` and `hazard`.

mod elf;
mod file_name;
mod hazard;
mod manifest;
mod records;
mod refusal;
mod checks;

use std::path::Path;

use object::elf::DF_1_NODELETE;

pub(crate) use checks::host_interface;
pub use hazard::Hazard;
pub use manifest::{Capability, Dependency, Interface, Manifest, PanicStrategy, Profile, StateModel};
pub use records::NoteFault;
pub use refusal::{InspectError, Refusal};

use elf::{Dynamic, Image, Symbols};

/// What reading a plugin file has told.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Inspected {
    /// What the plugin says about itself.
    pub manifest: Manifest,
    /// What is no reason to refuse the file, but worth a warning; often empty.
    pub hazards: Vec<Hazard>,
    /// The change that makes a library of `DF_1_NODELETE` unloadable.
    pub clear_nodelete: Option<Patch>,
}

/// Bytes to write into the private copy of a plugin, after it was hashed.
///
/// The linker marks a library with `DF_1_NODELETE` when it is told to; dlclose
/// then does nothing. The patch clears that one bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patch {
    /// Where to write, in bytes from the start of the file.
    pub offset: u64,
    /// What to write.
    pub bytes: [u8; 8],
}

/// Reads a whole plugin file, without running any of it.
///
/// `origin` is the path under which an operator knows the file: it stands in
/// errors, and its last part is compared with the note. A file name of the form
/// `[lib]NAME-X.Y.Z.so`, where `_` and `@` may take the place of `-`, is a
/// claim: name and version must be those of the note (with `-` and `_` taken as
/// equal in names, as cargo does). Any other file name is free.
///
/// # Errors
///
/// One line with the path, what was expected, and what was found; see
/// [`Refusal`] for the reasons.
///
/// ```
/// use std::path::Path;
/// use replug_host::artifact::inspect::inspect;
/// use replug_host::failure::{Code, Failure};
///
/// let error = inspect(b"#!/bin/sh\n", Path::new("plugins/markdown.so")).unwrap_err();
/// assert_eq!(error.code(), Code::InspectNotElf);
/// assert_eq!(
///     error.to_string(),
///     r##"plugins/markdown.so: not an ELF file: expected "\x7fELF", found "#!/b""##
/// );
/// ```
pub fn inspect(bytes: &[u8], origin: &Path) -> Result<Inspected, InspectError> {
    examine(bytes, origin).map_err(|refusal| InspectError::new(origin, refusal))
}

fn examine(bytes: &[u8], origin: &Path) -> Result<Inspected, Refusal> {
    let image = Image::read(bytes)?;
    for check in checks::OF_THE_IMAGE {
        check(&image)?;
    }
    let dynamic = Dynamic::read(&image)?;
    let plugin = Plugin {
        symbols: Symbols::read(&image, &dynamic)?,
        manifest: Manifest::parse(elf::the_note(&image)?)?,
        dynamic,
        origin,
    };
    for check in checks::OF_THE_PLUGIN {
        check(&plugin)?;
    }
    Ok(Inspected {
        hazards: hazard::TABLE.iter().filter_map(|h| h(&plugin)).collect(),
        clear_nodelete: nodelete(&plugin.dynamic),
        manifest: plugin.manifest,
    })
}

/// A library whose parts could be read, on its way through the checks.
struct Plugin<'a> {
    dynamic: Dynamic<'a>,
    symbols: Symbols<'a>,
    manifest: Manifest,
    origin: &'a Path,
}

fn nodelete(dynamic: &Dynamic<'_>) -> Option<Patch> {
    let (offset, flags) = dynamic.place_of(object::elf::DT_FLAGS_1)?;
    (flags & DF_1_NODELETE.0 != 0).then(|| Patch { offset, bytes: (flags & !DF_1_NODELETE.0).to_le_bytes() })
}
