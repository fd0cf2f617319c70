//! The configuration file.

use replug_host::{HostBuilder, RemovalPolicy};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// What a configuration file may say. Flags win over it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Config {
    pub(crate) plugins: Option<PathBuf>,
    pub(crate) data: Option<PathBuf>,
    removal: Removal,
    allow_state_loss: bool,
    gate_timeout_ms: Option<u64>,
    quiesce_timeout_ms: Option<u64>,
    hook_timeout_ms: Option<u64>,
    shutdown_timeout_ms: Option<u64>,
    snapshot_interval_ms: Option<u64>,
    stuck_after_ms: Option<u64>,
    file_bytes_max: Option<u64>,
    body_bytes_max: Option<usize>,
    answer_bytes_max: Option<usize>,
    state_bytes_max: Option<usize>,
    in_flight_max: Option<usize>,
    residents_max: Option<usize>,
    /// One table for each plugin, handed to it as it is.
    plugin: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Removal {
    #[default]
    FallBack,
    Keep,
}

/// Hands one setting to the engine.
type Setter<T> = fn(HostBuilder, T) -> HostBuilder;

/// The file cannot be used.
#[derive(Debug)]
pub(crate) enum ConfigError {
    Read(PathBuf, io::Error),
    Parse(PathBuf, toml::de::Error),
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ConfigError::Read(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            // Line, column, the key, and what is allowed there.
            ConfigError::Parse(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl Config {
    pub(crate) fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = fs::read_to_string(path).map_err(|error| ConfigError::Read(path.to_owned(), error))?;
        toml::from_str(&text).map_err(|error| ConfigError::Parse(path.to_owned(), error))
    }

    /// Hands every setting to the engine.
    pub(crate) fn apply(self, mut host: HostBuilder) -> HostBuilder {
        host = host.allow_state_loss(self.allow_state_loss).removal(match self.removal {
            Removal::FallBack => RemovalPolicy::FallBack,
            Removal::Keep => RemovalPolicy::Keep,
        });
        for (name, value) in self.plugin {
            host = host.config(name, value);
        }
        let times: [(Option<u64>, Setter<Duration>); 6] = [
            (self.gate_timeout_ms, HostBuilder::gate_timeout),
            (self.quiesce_timeout_ms, HostBuilder::quiesce_timeout),
            (self.hook_timeout_ms, HostBuilder::hook_timeout),
            (self.shutdown_timeout_ms, HostBuilder::shutdown_timeout),
            (self.snapshot_interval_ms, HostBuilder::snapshot_interval),
            (self.stuck_after_ms, HostBuilder::stuck_after),
        ];
        for (value, set) in times {
            if let Some(ms) = value {
                host = set(host, Duration::from_millis(ms));
            }
        }
        let sizes: [(Option<usize>, Setter<usize>); 5] = [
            (self.body_bytes_max, HostBuilder::body_bytes_max),
            (self.answer_bytes_max, HostBuilder::answer_bytes_max),
            (self.state_bytes_max, HostBuilder::state_bytes_max),
            (self.in_flight_max, HostBuilder::in_flight_max),
            (self.residents_max, HostBuilder::residents_max),
        ];
        for (value, set) in sizes {
            if let Some(number) = value {
                host = set(host, number);
            }
        }
        match self.file_bytes_max {
            Some(bytes) => host.file_bytes_max(bytes),
            None => host,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = toml::from_str::<Config>("removal = \"keep\"\ngate-timout-ms = 5\n").expect_err("a typo");
        let text = error.to_string();
        assert!(text.contains("gate-timout-ms") && text.contains("line 2"), "{text}");
    }

    #[test]
    fn plugin_tables_reach_the_plugin_as_they_are() {
        let config: Config = toml::from_str("[plugin.limiter]\ncapacity = 5.0\n").expect("reads");
        assert_eq!(config.plugin["limiter"]["capacity"], 5.0);
    }
}
