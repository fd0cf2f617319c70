//! How versions are rehearsed: the table `[rehearsal]`.

use replug_host::{HostBuilder, rehearse::Rehearsal};
use serde::Deserialize;
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// This very program, also if its file was replaced since it was started.
const OWN: &str = "/proc/self/exe";

/// Hands one setting on.
type Setter = fn(Rehearsal, u64) -> Rehearsal;

/// As it stands in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RehearsalConfig {
    mode: Mode,
    /// Another program, which is called with `rehearse`.
    helper: Option<PathBuf>,
    timeout_ms: Option<u64>,
    memory_bytes_max: Option<u64>,
    threads_max: Option<u64>,
    descriptors_max: Option<u64>,
    /// How many of the last calls of which plugins are kept, to be made again.
    keep_calls: BTreeMap<String, usize>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    #[default]
    Always,
    Never,
}

impl RehearsalConfig {
    pub(super) fn apply(mut self, mut host: HostBuilder) -> HostBuilder {
        for (plugin, count) in std::mem::take(&mut self.keep_calls) {
            host = host.keep_calls(plugin, count);
        }
        match self.mode {
            Mode::Never => host,
            Mode::Always => host.rehearsal(self.rehearsal()),
        }
    }

    /// How a rehearsal is held, if one is.
    pub(super) fn rehearsal(&self) -> Rehearsal {
        let helper = self.helper.clone().unwrap_or_else(|| OWN.into());
        let mut rehearsal = Rehearsal::by(helper).arg("rehearse");
        if let Some(ms) = self.timeout_ms {
            rehearsal = rehearsal.timeout(Duration::from_millis(ms));
        }
        let numbers: [(Option<u64>, Setter); 3] = [
            (self.memory_bytes_max, Rehearsal::memory_bytes_max),
            (self.threads_max, Rehearsal::threads_max),
            (self.descriptors_max, Rehearsal::descriptors_max),
        ];
        for (number, set) in numbers {
            if let Some(number) = number {
                rehearsal = set(rehearsal, number);
            }
        }
        rehearsal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rehearsals_are_held_unless_it_is_said_otherwise_and_mistakes_are_told() {
        let read = |text: &str| toml::from_str::<RehearsalConfig>(text);
        assert_eq!(read("").expect("reads").mode, Mode::Always);
        assert_eq!(read("mode = \"never\"").expect("reads").mode, Mode::Never);
        assert_eq!(read("timeout-ms = 5").expect("reads").timeout_ms, Some(5));
        for (text, told) in [("mode = \"of\"", "unknown variant"), ("timeout = 5", "unknown field")] {
            let mistake = read(text).expect_err(text).to_string();
            assert!(mistake.contains(told), "{mistake}");
        }
    }
}
