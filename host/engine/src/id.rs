//! Names, digests and versions: how a plugin's code is told apart.
//!
//! A [`VersionId`] names one exact library: the same name and semver with other
//! bytes is another version. These are values that are checked when they are
//! made, so that nothing behind this file checks again.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use semver::Version;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// The longest plugin name, in bytes.
pub const PLUGIN_NAME_MAX_BYTES: usize = 64;

/// A plugin's name: 1 to 64 of `a-z 0-9 _ -`, the first of them a letter.
///
/// It is safe in file names, metric labels and URLs, and cheap to clone.
///
/// ```
/// use replug_host::id::PluginName;
///
/// let name: PluginName = "image-resize".parse()?;
/// assert_eq!(name.as_str(), "image-resize");
/// assert!("Image Resize".parse::<PluginName>().is_err());
/// # Ok::<(), replug_host::id::InvalidPluginName>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PluginName(Arc<str>);

impl PluginName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PluginName {
    type Err = InvalidPluginName;

    fn from_str(text: &str) -> Result<Self, InvalidPluginName> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        let valid = text.len() <= PLUGIN_NAME_MAX_BYTES
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.bytes().all(allowed);
        if valid {
            Ok(PluginName(text.into()))
        } else {
            // What is shown is bounded: the text may come from a hostile file.
            let found = text.chars().take(PLUGIN_NAME_MAX_BYTES + 1).collect();
            Err(InvalidPluginName { found })
        }
    }
}

impl TryFrom<String> for PluginName {
    type Error = InvalidPluginName;

    fn try_from(text: String) -> Result<Self, InvalidPluginName> {
        text.parse()
    }
}

impl From<PluginName> for String {
    fn from(name: PluginName) -> String {
        name.0.as_ref().into()
    }
}

impl AsRef<str> for PluginName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for PluginName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PluginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A text that is not a plugin name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is not a plugin name: 1 to 64 of a-z, 0-9, '_' and '-' are allowed, \
     and the first is a letter"
)]
pub struct InvalidPluginName {
    /// The text, cut after 65 characters.
    pub found: String,
}

/// A SHA-256 digest; written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(sha2::Sha256::digest(bytes).into())
    }

    /// The digest whose 32 bytes were computed or stored elsewhere.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Digest(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first eight hexadecimal digits, for people; never an identity.
    pub fn short(&self) -> String {
        format!("{self:.8}")
    }
}

impl fmt::Display for Digest {
    /// All 64 digits, or the first `n` of them with the precision `{:.n}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0_u8; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 0xf)];
        }
        f.pad(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        if text.len() != 64 {
            return Err(InvalidDigest);
        }
        let mut bytes = [0_u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let (high, low) = (digit(pair[0]), digit(pair[1]));
            *byte = high.zip(low).map(|(high, low)| high << 4 | low).ok_or(InvalidDigest)?;
        }
        Ok(Digest(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

/// A text that is not a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a sha256 digest: 64 lower-case hexadecimal digits are expected")]
pub struct InvalidDigest;

/// One exact library: its plugin, its declared version, and its bytes.
///
/// Shown as `name@semver+digest8`. The alternate form `{:#}`, which serde and
/// [`FromStr`] use too, has the whole digest.
///
/// ```
/// use replug_host::id::{Digest, VersionId};
///
/// let id = VersionId {
///     name: "markdown".parse()?,
///     version: "1.2.0".parse()?,
///     digest: Digest::of(b"the library"),
/// };
/// assert_eq!(id.to_string(), "markdown@1.2.0+0ea2bff2");
/// assert_eq!(format!("{id:#}").parse::<VersionId>()?, id);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VersionId {
    /// The plugin's name.
    pub name: PluginName,
    /// The version that the plugin declares.
    pub version: Version,
    /// The digest of the library's file.
    pub digest: Digest,
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if f.alternate() { 64 } else { 8 };
        write!(f, "{}@{}+{:.digits$}", self.name, self.version, self.digest)
    }
}

impl FromStr for VersionId {
    type Err = InvalidVersionId;

    fn from_str(text: &str) -> Result<Self, InvalidVersionId> {
        let parse = || {
            let (name, rest) = text.split_once('@')?;
            // A semver's build metadata may hold a '+' too; the digest never does.
            let (version, digest) = rest.rsplit_once('+')?;
            Some(VersionId {
                name: name.parse().ok()?,
                version: version.parse().ok()?,
                digest: digest.parse().ok()?,
            })
        };
        parse().ok_or_else(|| InvalidVersionId { found: text.into() })
    }
}

impl TryFrom<String> for VersionId {
    type Error = InvalidVersionId;

    fn try_from(text: String) -> Result<Self, InvalidVersionId> {
        text.parse()
    }
}

impl From<VersionId> for String {
    fn from(id: VersionId) -> String {
        format!("{id:#}")
    }
}

/// A text that is not a whole version id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a version id: name@semver+sha256 is expected, with all 64 digits")]
pub struct InvalidVersionId {
    /// The text.
    pub found: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_plugin_name_has_only_safe_characters_and_a_bounded_length() {
        for good in ["a", "markdown", "image-resize_2", &"x".repeat(64)] {
            assert_eq!(good.parse::<PluginName>().expect(good).to_string(), good);
        }
        let bad = ["", "2fast", "-a", "_a", "Markdown", "a b", "a/b", "a.so", "é", "a\0"];
        for bad in bad.into_iter().chain([&*"x".repeat(65)]) {
            let error = bad.parse::<PluginName>().expect_err(bad);
            assert!(error.to_string().contains("a-z, 0-9"), "{error}");
        }
    }

    #[test]
    fn the_error_of_a_huge_name_is_small() {
        let error = "X".repeat(1 << 20).parse::<PluginName>().expect_err("too long");
        assert!(error.to_string().len() < 300);
    }

    #[test]
    fn a_digest_is_sha256_in_hexadecimal() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(Digest::of(b"").short(), "e3b0c442");
    }

    proptest! {
        #[test]
        fn ids_survive_serde_whole(
            name in "[a-z][a-z0-9_-]{0,63}",
            version in "(0|[1-9][0-9]{0,4})\\.[1-9]\\.0(-rc\\.1)?(\\+b[0-9a-f]{1,9})?",
            bytes in any::<[u8; 32]>(),
        ) {
            let id = VersionId {
                name: name.parse().expect("valid by construction"),
                version: version.parse().expect("valid by construction"),
                digest: Digest::from_bytes(bytes),
            };
            let json = serde_json::to_string(&id).expect("a string");
            prop_assert_eq!(serde_json::from_str::<VersionId>(&json).expect("the same"), id);
        }

        #[test]
        fn any_text_is_parsed_or_refused_without_panic(text in ".*") {
            let _ = text.parse::<PluginName>();
            let _ = text.parse::<Digest>();
            let _ = text.parse::<VersionId>();
        }
    }
}
