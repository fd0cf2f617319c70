//! Why a file is not trusted.

use crate::failure::{Code, Failure};
use std::{io, path::PathBuf};

/// Why a file is not trusted. It was not loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// Somebody else could have written it.
    #[error(
        "{} belongs to user {owner}; expected is root or the host's own user, {host}",
        path.display()
    )]
    Owner {
        /// The file or its folder.
        path: PathBuf,
        /// The user id that it belongs to.
        owner: u32,
        /// The host's.
        host: u32,
    },
    /// Others can write to it.
    #[error("{} has mode {mode:04o}, so that others than its owner may change it", path.display())]
    Writable {
        /// The file or its folder.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Nobody vouches for it.
    #[error(
        "{} is in no list of digests and has no signature: its digest is {digest}, its signature would be {}",
        path.display(), signature.display()
    )]
    Unsigned {
        /// The file.
        path: PathBuf,
        /// The digest of its bytes.
        digest: String,
        /// Where the signature is looked for.
        signature: PathBuf,
    },
    /// The signature, or the folder, cannot be looked at.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// Which of them.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is not one that minisign makes.
    #[error("{} is no signature: {reason}", path.display())]
    Malformed {
        /// The signature.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It was not made with a key that is trusted.
    #[error("{} was made with none of the {keys} keys that are known here", path.display())]
    UnknownKey {
        /// The signature.
        path: PathBuf,
        /// How many are known.
        keys: usize,
    },
    /// It was made with a key that is trusted no more.
    #[error("{} was made with the key {key}, which is revoked", path.display())]
    Revoked {
        /// The signature.
        path: PathBuf,
        /// The key's name.
        key: String,
    },
    /// The file or the signature is not what was signed.
    #[error("{} does not fit the file and the key {key}: one of them was changed", path.display())]
    Forged {
        /// The signature.
        path: PathBuf,
        /// The key's name.
        key: String,
    },
    /// What was let in was made with a key that was revoked since.
    #[error("{version} was let in on a signature of the key {key}, which is revoked now")]
    RevokedSince {
        /// `name@semver+digest8`.
        version: String,
        /// The key's name.
        key: String,
    },
    /// Nobody vouches any more for what was let in.
    #[error("{version} was let in on {voucher}, which is not in the configuration any more")]
    Withdrawn {
        /// `name@semver+digest8`.
        version: String,
        /// Who vouched for it.
        voucher: String,
    },
    /// The signer meant another file.
    #[error("{} was made for {signed}, the file holds {found}", path.display())]
    Statement {
        /// The signature.
        path: PathBuf,
        /// What the signed comment says, or lacks.
        signed: String,
        /// What the plugin says of itself.
        found: String,
    },
}

impl TrustError {
    /// Whether a signature that is still being written, or comes later than its file,
    /// could be why.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            TrustError::Unsigned { .. }
            | TrustError::Unreadable { .. }
            | TrustError::Malformed { .. }
            | TrustError::UnknownKey { .. }
            | TrustError::Forged { .. }
            | TrustError::Statement { .. } => true,
            TrustError::Owner { .. }
            | TrustError::Writable { .. }
            | TrustError::Revoked { .. }
            | TrustError::RevokedSince { .. }
            | TrustError::Withdrawn { .. } => false,
        }
    }
}

impl Failure for TrustError {
    fn code(&self) -> Code {
        match self {
            TrustError::Owner { .. } => Code::TrustOwner,
            TrustError::Writable { .. } => Code::TrustWritable,
            TrustError::Unsigned { .. } => Code::TrustUnsigned,
            TrustError::Unreadable { .. } => Code::StageUnreadable,
            TrustError::Malformed { .. } => Code::TrustBadSignature,
            TrustError::UnknownKey { .. } => Code::TrustUnknownKey,
            TrustError::Revoked { .. } | TrustError::RevokedSince { .. } => Code::TrustRevokedKey,
            TrustError::Withdrawn { .. } => Code::TrustWithdrawn,
            TrustError::Forged { .. } => Code::TrustForged,
            TrustError::Statement { .. } => Code::TrustStatement,
        }
    }
}

/// Text that is no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no public key: expected is the second line of a minisign.pub, 56 characters")]
pub struct InvalidKey;
