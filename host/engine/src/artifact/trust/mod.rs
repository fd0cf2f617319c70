//! Whether a file may be loaded: who could have written it, and who vouches for it.
//!
//! A native plugin can do all that its host can, so in production only files that
//! somebody vouches for are loaded: by their digest in the configuration, or by a
//! detached [minisign](https://jedisct1.github.io/minisign/) signature beside them, made
//! with a key that is trusted here. The signed comment names the plugin, its version, its
//! target and its interfaces (`statement.rs`), so that a signature speaks for one file.
//! And nobody but root and the host's own user can have written the file, or put it into
//! its folder.
//!
//! What is judged is the private copy, whose bytes were hashed when they were read:
//! nobody can put others in their place between the judgement and the load.
//!
//! ```
//! use replug_host::artifact::trust::Trust;
//!
//! let trust = Trust::production()
//!     .key("release", "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3".parse()?);
//! let host = replug_host::Host::builder("plugins").trust(trust);
//! # let _ = host;
//! # Ok::<(), replug_host::artifact::trust::InvalidKey>(())
//! ```
//!
//! A signature is made with the standard tool; `replug inspect FILE` prints the comment:
//!
//! ```text
//! minisign -S -s release.key -m markdown-2.0.0.so -t "name=markdown version=2.0.0 ..."
//! ```

mod error;
mod owner;
mod signature;
mod statement;

use super::{inspect::Manifest, stage::Staged};
use crate::id::{Digest, VersionId};
pub use error::{InvalidKey, TrustError};
use minisign_verify::{Error, Signature};
pub(crate) use owner::check_folder;
use serde::Deserialize;
pub use signature::SIGNATURE_SUFFIX;
pub(crate) use signature::{Seen, seen, signature_of};
pub use statement::{InvalidComment, Statement};
use std::{collections::BTreeSet, fmt, path::Path, str::FromStr, time::Duration};

/// The longest patience; more is meant as "no limit", and can be reckoned with.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// What a host asks of a file before it loads it.
#[derive(Debug, Clone)]
#[must_use = "a host asks for nothing unless it is handed this"]
pub struct Trust {
    /// None where everything is loaded.
    asked: Option<Asked>,
}

/// What is asked in production.
#[derive(Debug, Clone)]
struct Asked {
    keys: Vec<Key>,
    digests: BTreeSet<Digest>,
    signature_timeout: Duration,
}

#[derive(Debug, Clone)]
struct Key {
    name: String,
    key: PublicKey,
    is_revoked: bool,
}

/// A public key, as the second line of a `minisign.pub` has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PublicKey(minisign_verify::PublicKey);

impl FromStr for PublicKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        minisign_verify::PublicKey::from_base64(text.trim()).map(PublicKey).map_err(|_| InvalidKey)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = InvalidKey;

    fn try_from(text: String) -> Result<Self, InvalidKey> {
        text.parse()
    }
}

/// Who vouched for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Voucher {
    /// Nobody was asked: the host trusts whoever can write to the directory.
    Nobody,
    /// The operator, by naming its digest.
    Digest,
    /// Whoever has this key.
    Key { name: String, key: PublicKey },
}

impl fmt::Display for Voucher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Voucher::Nobody => f.write_str("nobody"),
            Voucher::Digest => f.write_str("its digest"),
            Voucher::Key { name, .. } => write!(f, "the key {name}"),
        }
    }
}

impl Trust {
    /// Loads what is dropped, whoever dropped it: for a developer's own machine, and for
    /// embedders who judge files themselves. Keys and digests make no difference.
    pub fn development() -> Trust {
        Trust { asked: None }
    }

    /// Loads what is vouched for. Without [keys](Self::key) and [digests](Self::digest)
    /// that is nothing, and no host starts with it.
    pub fn production() -> Trust {
        Trust {
            asked: Some(Asked {
                keys: Vec::new(),
                digests: BTreeSet::new(),
                signature_timeout: Duration::from_secs(10),
            }),
        }
    }

    /// Whether only what is vouched for is loaded.
    pub fn is_production(&self) -> bool {
        self.asked.is_some()
    }

    /// Trusts signatures of a key; its name is for people.
    pub fn key(self, name: impl Into<String>, key: PublicKey) -> Trust {
        self.with_key(Key { name: name.into(), key, is_revoked: false })
    }

    /// Refuses signatures of a key by its name, also if it is among the trusted ones:
    /// its owner lost it.
    pub fn revoked_key(self, name: impl Into<String>, key: PublicKey) -> Trust {
        self.with_key(Key { name: name.into(), key, is_revoked: true })
    }

    fn with_key(mut self, key: Key) -> Trust {
        if let Some(asked) = &mut self.asked {
            asked.keys.push(key);
            // A revoked key is asked first.
            asked.keys.sort_by_key(|key| !key.is_revoked);
        }
        self
    }

    /// Trusts the file with this SHA-256.
    pub fn digest(mut self, digest: Digest) -> Trust {
        if let Some(asked) = &mut self.asked {
            asked.digests.insert(digest);
        }
        self
    }

    /// How long a file waits for its signature, which may come after it, or take the
    /// place of that of the file before, before it is refused. Default 10 s.
    pub fn signature_timeout(mut self, timeout: Duration) -> Trust {
        if let Some(asked) = &mut self.asked {
            asked.signature_timeout = timeout.min(FOREVER);
        }
        self
    }

    /// Whether what vouched for a version when it was let in does so now.
    ///
    /// # Errors
    /// [`TrustError::RevokedSince`], [`TrustError::Withdrawn`].
    pub(crate) fn stands_by(&self, id: &VersionId, voucher: &Voucher) -> Result<(), TrustError> {
        let Some(asked) = &self.asked else { return Ok(()) };
        let version = id.to_string();
        let withdrawn = match voucher {
            // A file that was signed may be named by its digest since.
            _ if asked.digests.contains(&id.digest) => return Ok(()),
            Voucher::Nobody | Voucher::Digest => voucher.to_string(),
            // Revoked ones come first.
            Voucher::Key { key, .. } => match asked.keys.iter().find(|known| known.key == *key) {
                Some(Key { is_revoked: false, .. }) => return Ok(()),
                Some(Key { name, .. }) => {
                    return Err(TrustError::RevokedSince { version, key: name.clone() });
                }
                None => voucher.to_string(),
            },
        };
        Err(TrustError::Withdrawn { version, voucher: withdrawn })
    }

    /// How long a file that was refused with this waits for another signature.
    pub(crate) fn patience(&self, refused: &TrustError) -> Duration {
        let asked = self.asked.as_ref().filter(|_| refused.may_pass());
        asked.map_or(Duration::ZERO, |asked| asked.signature_timeout)
    }

    /// Whether nothing could ever be loaded.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| {
            let is_revoked =
                |key: &Key| asked.keys.iter().any(|other| other.is_revoked && other.key == key.key);
            asked.digests.is_empty() && asked.keys.iter().all(is_revoked)
        })
    }

    /// Who vouches for a file that was copied and read.
    ///
    /// # Errors
    /// [`TrustError`]: nobody does, or somebody else could have written it.
    pub(crate) fn judge(
        &self,
        staged: &Staged,
        bytes: &[u8],
        manifest: &Manifest,
    ) -> Result<Voucher, TrustError> {
        let Some(asked) = &self.asked else { return Ok(Voucher::Nobody) };
        owner::check(&staged.source, &staged.metadata)?;
        if asked.digests.contains(&staged.digest) {
            return Ok(Voucher::Digest);
        }
        let path = signature_of(&staged.source);
        let Some(signature) = signature::read(&path)? else {
            return Err(TrustError::Unsigned {
                path: staged.source.clone(),
                digest: staged.digest.to_string(),
                signature: path,
            });
        };
        let voucher = asked.signer(&path, bytes, &signature)?;
        let found = Statement::of(manifest);
        let other =
            |signed: String| TrustError::Statement { path: path.clone(), signed, found: found.to_string() };
        let comment = signature.trusted_comment();
        let signed = Statement::parse(comment).map_err(|invalid| other(invalid.to_string()))?;
        if signed != found {
            return Err(other(signed.to_string()));
        }
        Ok(voucher)
    }
}

impl Asked {
    /// Whose key a signature was made with.
    fn signer(&self, path: &Path, bytes: &[u8], signature: &Signature) -> Result<Voucher, TrustError> {
        let mut forged = None;
        for Key { name, key, is_revoked } in &self.keys {
            match key.0.verify(bytes, signature, false) {
                Err(Error::UnexpectedKeyId) => {}
                Ok(()) if *is_revoked => {
                    return Err(TrustError::Revoked { path: path.to_owned(), key: name.clone() });
                }
                Ok(()) => return Ok(Voucher::Key { name: name.clone(), key: key.clone() }),
                // Another key may have the same number.
                Err(Error::InvalidSignature) => {
                    forged = Some(TrustError::Forged { path: path.to_owned(), key: name.clone() });
                }
                Err(error) => {
                    let reason = signature::reason(&error);
                    return Err(TrustError::Malformed { path: path.to_owned(), reason });
                }
            }
        }
        Err(forged.unwrap_or_else(|| TrustError::UnknownKey { path: path.to_owned(), keys: self.keys.len() }))
    }
}

#[cfg(test)]
mod tests;
