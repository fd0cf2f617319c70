//! The configuration file.

mod rehearsal;
mod trust;

use rehearsal::RehearsalConfig;
use replug_host::{
    HostBuilder, RemovalPolicy,
    artifact::trust::Trust,
    failure::{Code, Failure},
    rehearse::Rehearsal,
    table::Limits,
};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use trust::TrustConfig;

/// What a configuration file may say. Flags win over it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Config {
    pub(crate) plugins: Option<PathBuf>,
    pub(crate) data: Option<PathBuf>,
    pub(crate) socket: Option<PathBuf>,
    removal: Removal,
    same_version: SameVersion,
    allow_state_loss: bool,
    gate_timeout_ms: Option<u64>,
    quiesce_timeout_ms: Option<u64>,
    hook_timeout_ms: Option<u64>,
    shutdown_timeout_ms: Option<u64>,
    snapshot_interval_ms: Option<u64>,
    snapshots_kept: Option<usize>,
    stuck_after_ms: Option<u64>,
    file_bytes_max: Option<u64>,
    body_bytes_max: Option<usize>,
    answer_bytes_max: Option<usize>,
    state_bytes_max: Option<usize>,
    in_flight_max: Option<usize>,
    residents_max: Option<usize>,
    table_rows_max: Option<u64>,
    table_bytes_max: Option<u64>,
    accept_table_loss: bool,
    trust: TrustConfig,
    rehearsal: RehearsalConfig,
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

/// What becomes of a file with the version that serves and other bytes. Unlike
/// an embedder, an operator has to say that it may take over: a version that
/// was rolled out names one library.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SameVersion {
    #[default]
    Refuse,
    Replace,
}

/// Hands one setting to the engine.
type Setter<T> = fn(HostBuilder, T) -> HostBuilder;

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// It says what it may not say: the place, what was found, what is allowed.
    #[error("{}, line {line}, column {column}: {message}", path.display())]
    Parse { path: PathBuf, line: usize, column: usize, message: String },
}

impl Failure for ConfigError {
    fn code(&self) -> Code {
        Code::ConfigInvalid
    }
}

impl ConfigError {
    /// What to do; nearer than the code's next step, which is about plugins.
    pub(crate) fn next_step(&self) -> &'static str {
        match self {
            ConfigError::Read { .. } => "name a file that the host may read, or leave --config out",
            ConfigError::Parse { .. } => "correct the file at the named place",
        }
    }

    fn of(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or_default();
        ConfigError::Parse {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1,
            message: error.message().replace('\n', ", "),
        }
    }
}

impl Config {
    /// How a version is checked by hand, also where none is rehearsed.
    pub(crate) fn rehearsal(&self) -> Rehearsal {
        self.rehearsal.rehearsal()
    }

    /// Whom the file trusts.
    pub(crate) fn trust(self, is_development: bool) -> Trust {
        self.trust.read(is_development)
    }

    pub(crate) fn read(path: &Path) -> Result<Config, ConfigError> {
        let text =
            fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Config::parse(path, &text)
    }

    /// Reads what stands in a file.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
        toml::from_str(text).map_err(|error| ConfigError::of(path, text, &error))
    }

    /// Hands every setting to the engine. In development whatever is dropped is loaded,
    /// also if the file says otherwise.
    pub(crate) fn apply(self, mut host: HostBuilder, is_development: bool) -> HostBuilder {
        host = self.rehearsal.apply(host.trust(self.trust.read(is_development)));
        host = host.allow_state_loss(self.allow_state_loss).removal(match self.removal {
            Removal::FallBack => RemovalPolicy::FallBack,
            Removal::Keep => RemovalPolicy::Keep,
        });
        host = host.same_version(match self.same_version {
            SameVersion::Refuse => replug_host::SameVersion::Refuse,
            SameVersion::Replace => replug_host::SameVersion::Replace,
        });
        let usual = HostBuilder::TABLE_LIMITS;
        host = host.accept_table_loss(self.accept_table_loss).table_limits(Limits {
            rows_max: self.table_rows_max.unwrap_or(usual.rows_max),
            bytes_max: self.table_bytes_max.unwrap_or(usual.bytes_max),
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
        let sizes: [(Option<usize>, Setter<usize>); 6] = [
            (self.body_bytes_max, HostBuilder::body_bytes_max),
            (self.answer_bytes_max, HostBuilder::answer_bytes_max),
            (self.state_bytes_max, HostBuilder::state_bytes_max),
            (self.snapshots_kept, HostBuilder::snapshots_kept),
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

    fn refusal(text: &str) -> String {
        Config::parse(Path::new("replug.toml"), text).expect_err("a mistake").to_string()
    }

    #[test]
    fn mistakes_are_told_with_file_line_and_column() {
        let typo = refusal("removal = \"keep\"\ngate-timout-ms = 5\n");
        assert!(typo.starts_with("replug.toml, line 2, column 1: unknown field `gate-timout-ms`"), "{typo}");
        let wrong_type = refusal("\n\ngate-timeout-ms = \"5\"\n");
        assert!(wrong_type.starts_with("replug.toml, line 3, column 19: invalid type"), "{wrong_type}");
        assert!(refusal("removal = ").starts_with("replug.toml, line 1, column 11: "));
    }

    #[test]
    fn limits_of_tables_and_an_accepted_loss_are_read() {
        let text = "table-rows-max = 1000\ntable-bytes-max = 65536\naccept-table-loss = true\n";
        let config: Config = toml::from_str(text).expect("reads");
        assert_eq!((config.table_rows_max, config.table_bytes_max), (Some(1000), Some(65_536)));
        assert!(config.accept_table_loss && !Config::default().accept_table_loss);
    }

    #[test]
    fn plugin_tables_reach_the_plugin_as_they_are() {
        let config: Config = toml::from_str("[plugin.limiter]\ncapacity = 5.0\n").expect("reads");
        assert_eq!(config.plugin["limiter"]["capacity"], 5.0);
    }
}
