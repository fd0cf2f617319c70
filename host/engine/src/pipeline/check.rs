//! The rehearsal by hand: of any file, without a host.

use super::candidate::{ReadError, read_manifest};
use crate::{
    artifact::inspect::{Hazard, Manifest},
    id::Digest,
    rehearse::{self, Rehearsal, RehearsalError, Report, Subject},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

/// What a file is checked with. Nothing of it has to be there.
#[derive(Debug, Clone)]
pub struct CheckWith {
    /// The library that it takes the place of. Without a `state` the one that a new
    /// instance of that one gives is taken over.
    pub before: Option<PathBuf>,
    /// The plugin's configuration.
    pub config: Option<serde_json::Value>,
    /// A saved state, as a host exports it.
    pub state: Option<Vec<u8>>,
    /// The largest state, in bytes.
    pub state_bytes_max: usize,
}

impl Default for CheckWith {
    fn default() -> Self {
        CheckWith { before: None, config: None, state: None, state_bytes_max: 256 * 1024 * 1024 }
    }
}

/// What a check has found.
#[derive(Debug)]
pub struct Checked {
    /// What the file says about itself.
    pub manifest: Manifest,
    /// What may make it hard to unload.
    pub hazards: Vec<Hazard>,
    /// What was done, and what it took.
    pub report: Report,
    /// Whether a host would deploy it, as far as a rehearsal can tell.
    pub verdict: Result<(), RehearsalError>,
}

/// Rehearses a file in a child that writes below `folder` only, which has to be on a file
/// system that allows execution. Blocks until the child has ended.
///
/// ```no_run
/// use replug_host::{CheckWith, check, rehearse::Rehearsal};
///
/// let rehearsal = Rehearsal::by("/usr/bin/replug").arg("rehearse");
/// let checked = check("markdown-2.0.0.so", &rehearsal, CheckWith::default(), "/tmp/check")?;
/// for done in &checked.report.steps {
///     println!("{} {} us", done.step.as_str(), done.measured.micros);
/// }
/// checked.verdict?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ReadError`]: it cannot be read, or is no plugin for this host. That it does not pass
/// is no error, but the [verdict](Checked::verdict).
pub fn check(
    file: impl AsRef<Path>,
    rehearsal: &Rehearsal,
    with: CheckWith,
    folder: impl AsRef<Path>,
) -> Result<Checked, ReadError> {
    let file = file.as_ref();
    let (manifest, hazards) = read_manifest(file)?;
    let bytes = fs::read(file).map_err(|source| ReadError::Io { path: file.to_owned(), source })?;
    let CheckWith { before, config, state, state_bytes_max } = with;
    let subject = Subject {
        library: file.to_owned(),
        digest: Digest::of(&bytes),
        before,
        config: config.map(|config| config.to_string()).unwrap_or_default(),
        state,
        state_bytes_max,
        rows: Vec::new(),
        calls: Vec::new(),
    };
    let (report, verdict) = rehearse::run(rehearsal, &subject, folder.as_ref(), &AtomicBool::new(false));
    Ok(Checked { manifest, hazards, report, verdict })
}
