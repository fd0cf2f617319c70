//! What a file name claims about the plugin in it.
//!
//! Only names that end in a full semver version are claims; everything else,
//! `libmarkdown.so` as cargo builds it or `markdown_v2.so`, is free.

use std::path::Path;

use semver::Version;

/// The name and version that a file name states.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claim<'a> {
    /// As written, perhaps with a leading `lib`.
    pub(super) name: &'a str,
    pub(super) version: Version,
}

impl Claim<'_> {
    /// Whether the claim is true. `-` and `_` are equal in names, for cargo
    /// turns one into the other; a leading `lib` may be part of the name.
    pub(super) fn holds_for(&self, name: &str, version: &Version) -> bool {
        let stripped = self.name.strip_prefix("lib").unwrap_or(self.name);
        self.version == *version && (same(self.name, name) || same(stripped, name))
    }
}

/// The claim of a path's last part: `[lib]NAME-X.Y.Z.so`, with `-`, `_` or `@`
/// before the version. The version starts as far to the left as it can.
pub(super) fn claim(path: &Path) -> Option<Claim<'_>> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".so")?;
    stem.match_indices(['-', '_', '@']).find_map(|(at, _)| {
        let version = Version::parse(&stem[at + 1..]).ok()?;
        let name = &stem[..at];
        (!name.is_empty()).then_some(Claim { name, version })
    })
}

fn same(left: &str, right: &str) -> bool {
    let fold = |byte: u8| if byte == b'-' { b'_' } else { byte };
    left.bytes().map(fold).eq(right.bytes().map(fold))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(file: &str, name: &str, version: &str) -> Option<bool> {
        let version = Version::parse(version).expect("a version");
        Some(claim(Path::new(file))?.holds_for(name, &version))
    }

    #[test]
    fn a_name_that_ends_in_a_version_is_a_claim() {
        for file in
            ["markdown-1.2.0.so", "libmarkdown-1.2.0.so", "plugins/markdown@1.2.0.so", "libmarkdown_1.2.0.so"]
        {
            assert_eq!(holds(file, "markdown", "1.2.0"), Some(true), "{file}");
            assert_eq!(holds(file, "markdown", "1.2.1"), Some(false), "{file}");
            assert_eq!(holds(file, "markup", "1.2.0"), Some(false), "{file}");
        }
    }

    #[test]
    fn dashes_and_underscores_are_equal_in_names_only() {
        assert_eq!(holds("a_b-c-1.0.0.so", "a-b_c", "1.0.0"), Some(true));
        assert_eq!(
            holds("a-1.0.0-rc.1.so", "a", "1.0.0-rc.1"),
            Some(true),
            "the version starts as far to the left as it can"
        );
    }

    #[test]
    fn a_leading_lib_may_be_part_of_the_name() {
        assert_eq!(holds("library-1.0.0.so", "library", "1.0.0"), Some(true));
        assert_eq!(holds("library-1.0.0.so", "rary", "1.0.0"), Some(true));
        assert_eq!(holds("liblibrary-1.0.0.so", "library", "1.0.0"), Some(true));
    }

    #[test]
    fn other_names_are_free() {
        for file in [
            "libmarkdown.so",
            "markdown_v2.so",
            "markdown-1.2.so",
            "markdown-1.2.0.so.1",
            "-1.2.0.so",
            "markdown-1.2.0",
            "",
        ] {
            assert_eq!(claim(Path::new(file)), None, "{file}");
        }
    }
}
