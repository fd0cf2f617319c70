//! What a signer says of a file in the signed comment, so that a signature cannot be
//! taken for that of another plugin, another version, or another machine.
//!
//! ```text
//! name=markdown version=2.0.0 target=x86_64-unknown-linux-gnu interface=replug.service@1.0.0
//! ```
//!
//! Words are separated by spaces or tabs, in any order; `interface` comes once for each.
//! Words without `=` and keys that are not known here are for people: minisign's own
//! comment is of that kind. A key that must be there once is neither left out nor said
//! twice.

use crate::artifact::inspect::{Interface, Manifest};
use std::{collections::BTreeSet, fmt};

/// Who a file claims to be, in its signed comment or in its note. Its text is what
/// belongs into a signed comment.
///
/// ```
/// use replug_host::artifact::trust::Statement;
///
/// let signed = Statement::parse("name=markdown version=2.0.0 target=here by=ada")?;
/// assert_eq!(signed.to_string(), "name=markdown version=2.0.0 target=here");
/// # Ok::<(), replug_host::artifact::trust::InvalidComment>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement<'a> {
    name: &'a str,
    version: String,
    target: &'a str,
    /// `id@version`, sorted.
    interfaces: BTreeSet<String>,
}

impl<'a> Statement<'a> {
    /// Reads a signed comment.
    ///
    /// # Errors
    /// Something is left out, or said twice.
    pub fn parse(comment: &'a str) -> Result<Self, InvalidComment> {
        let (mut name, mut version, mut target) = (None, None, None);
        let mut interfaces = BTreeSet::new();
        for (key, value) in comment.split_ascii_whitespace().filter_map(|word| word.split_once('=')) {
            let once = match key {
                "name" => &mut name,
                "version" => &mut version,
                "target" => &mut target,
                "interface" => {
                    interfaces.insert(value.to_owned());
                    continue;
                }
                _ => continue,
            };
            if once.replace(value).is_some() {
                return Err(InvalidComment(format!("something with two values of {key:?}")));
            }
        }
        let said = |key: &str, value: Option<&'a str>| {
            value.ok_or_else(|| InvalidComment(format!("something without {key:?} in its signed comment")))
        };
        Ok(Statement {
            name: said("name", name)?,
            version: said("version", version)?.to_owned(),
            target: said("target", target)?,
            interfaces,
        })
    }

    /// What a plugin says of itself.
    pub fn of(manifest: &'a Manifest) -> Self {
        let interface = |found: &Interface| format!("{}@{}", found.id, found.version);
        Statement {
            name: manifest.name.as_str(),
            version: manifest.version.to_string(),
            target: &manifest.target,
            interfaces: manifest.interfaces.iter().map(interface).collect(),
        }
    }
}

/// A signed comment that speaks of no file; for what it was made then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidComment(String);

impl fmt::Display for Statement<'_> {
    /// As it stands in a signed comment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "name={} version={} target={}", self.name, self.version, self.target)?;
        self.interfaces.iter().try_for_each(|interface| write!(f, " interface={interface}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FULL: &str = "name=a version=1.0.0 target=t interface=x@1.0.0 interface=y@2.0.0";

    #[test]
    fn order_and_words_for_people_do_not_count() {
        let other = "timestamp:1\tfile:a.so interface=y@2.0.0 target=t  version=1.0.0 by=ada name=a interface=x@1.0.0";
        assert_eq!(Statement::parse(FULL), Statement::parse(other));
        assert_eq!(Statement::parse(FULL).expect("is whole").to_string(), FULL);
    }

    #[test]
    fn what_is_left_out_or_said_twice_is_named() {
        for (comment, named) in [
            ("timestamp:1\tfile:a.so\thashed", "without \"name\""),
            ("name=a target=t", "without \"version\""),
            ("name=a version=1.0.0", "without \"target\""),
            ("name=a name=b version=1.0.0 target=t", "two values of \"name\""),
            ("name=a version=1.0.0 version=1.0.0 target=t", "two values of \"version\""),
        ] {
            let wrong = Statement::parse(comment).expect_err(comment).to_string();
            assert!(wrong.contains(named), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_words_are_read_or_refused_and_what_is_read_is_written_the_same(
            words in proptest::collection::vec("(name|version|target|interface|by)?[=]?[a-c=]{0,3}", 0..8),
            whole in any::<bool>(),
        ) {
            let rest = if whole { "name=a version=1 target=t" } else { "" };
            let comment = format!("{} {rest}", words.join(" "));
            match Statement::parse(&comment) {
                Ok(statement) => {
                    let written = statement.to_string();
                    prop_assert_eq!(Statement::parse(&written), Ok(statement));
                }
                Err(wrong) => prop_assert!(wrong.to_string().starts_with("something with")),
            }
        }
    }
}
