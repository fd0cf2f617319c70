//! Whose files are loaded: the table `[trust]`.

use replug_host::{
    artifact::trust::{PublicKey, Trust},
    id::Digest,
};
use serde::Deserialize;
use std::{collections::BTreeMap, time::Duration};

/// As it stands in the file. Without it, nothing is vouched for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct TrustConfig {
    mode: Mode,
    /// Keys by a name that errors and events tell.
    keys: BTreeMap<String, PublicKey>,
    revoked_keys: BTreeMap<String, PublicKey>,
    digests: Vec<Digest>,
    signature_timeout_ms: Option<u64>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    #[default]
    Production,
    Dev,
}

impl TrustConfig {
    pub(super) fn read(self, is_development: bool) -> Trust {
        if is_development || self.mode == Mode::Dev {
            return Trust::development();
        }
        let trust =
            self.keys.into_iter().fold(Trust::production(), |trust, (name, key)| trust.key(name, key));
        let trust =
            self.revoked_keys.into_iter().fold(trust, |trust, (name, key)| trust.revoked_key(name, key));
        let trust = self.digests.into_iter().fold(trust, Trust::digest);
        match self.signature_timeout_ms {
            Some(ms) => trust.signature_timeout(Duration::from_millis(ms)),
            None => trust,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

    #[test]
    fn production_is_what_is_meant_and_mistakes_in_keys_and_digests_are_told() {
        let read = |text: &str| toml::from_str::<TrustConfig>(text);
        assert!(read("").expect("reads").read(false).is_production());
        assert!(!read("").expect("reads").read(true).is_production());
        assert!(!read("mode = \"dev\"").expect("reads").read(false).is_production());
        assert!(
            read(&format!("keys = {{ release = \"{KEY}\" }}")).expect("reads").read(false).is_production()
        );
        for (text, told) in [
            ("keys = { release = \"nonsense\" }", "no public key"),
            ("digests = [\"nonsense\"]", "digest"),
            ("mode = \"open\"", "unknown variant"),
            ("key = { }", "unknown field"),
        ] {
            let mistake = read(text).expect_err(text).to_string();
            assert!(mistake.contains(told), "{mistake}");
        }
    }
}
