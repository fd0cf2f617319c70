//! The command line.

use crate::demo::DemoArgs;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Replaces the native code of a running process without dropping a call.
#[derive(Parser)]
#[command(
    name = "replug",
    version,
    after_help = "Example:\n  replug run --dev --plugins ./plugins --data ./data"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Runs a host until it gets SIGTERM; then drains, saves and exits 0.
    #[command(
        after_help = "Examples:\n  replug run --config /etc/replug/replug.toml\n  replug run --dev --plugins ./plugins --data ./data"
    )]
    Run(RunArgs),
    /// Calls a method and writes its answer to standard output.
    #[command(after_help = "Example:\n  replug call markdown render --data '# Hello'")]
    Call {
        #[command(flatten)]
        host: HostArgs,
        /// The plugin.
        name: String,
        /// The method.
        method: String,
        /// The body: text, or @FILE, or @- for standard input.
        #[arg(long, value_name = "TEXT|@FILE")]
        data: Option<String>,
        /// Milliseconds to wait for the answer.
        #[arg(long, default_value_t = 30_000)]
        timeout_ms: u64,
    },
    /// Shows what every plugin is doing.
    #[command(after_help = "Example:\n  replug status --watch")]
    Status {
        #[command(flatten)]
        host: HostArgs,
        /// Redraws every second.
        #[arg(long)]
        watch: bool,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Lists the versions that are present.
    #[command(after_help = "Example:\n  replug list")]
    List {
        #[command(flatten)]
        host: HostArgs,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Makes a version the one that serves; `latest` takes the choice back.
    #[command(after_help = "Example:\n  replug activate limiter 2.0.0")]
    Activate {
        #[command(flatten)]
        host: HostArgs,
        /// The plugin.
        name: String,
        /// The version, or `latest`.
        version: String,
    },
    /// Prints what happened, one JSON object per line.
    #[command(after_help = "Example:\n  replug events --follow")]
    Events {
        #[command(flatten)]
        host: HostArgs,
        /// Goes on with what happens from now on.
        #[arg(long)]
        follow: bool,
        /// The first event's number.
        #[arg(long, default_value_t = 1)]
        since: u64,
    },
    /// Looks at saved state, carries it from host to host, and restores it.
    #[command(
        after_help = "Example:\n  replug state list limiter\n  replug state restore limiter --snapshot 42"
    )]
    State {
        #[command(subcommand)]
        verb: StateVerb,
    },
    /// Shows the tables of plugins, and how far their sweeps are.
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Example:\n  replug tables sessions --watch\n  replug tables pause sessions"
    )]
    Tables {
        #[command(subcommand)]
        verb: Option<TablesVerb>,
        #[command(flatten)]
        show: TablesArgs,
    },
    /// Reads a plugin file without running any of it.
    #[command(after_help = "Example:\n  replug inspect target/release/libhello.so -o json")]
    Inspect {
        /// The file.
        file: PathBuf,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Rehearses a plugin file as a host would before it deploys it, and says what it saw.
    #[command(
        after_help = "Examples:\n  replug check target/release/libhello.so\n  replug check markdown-2.0.0.so --against markdown-1.0.0.so\n  replug check limiter-2.0.0.so --against running --data-dir /var/lib/replug"
    )]
    Check(CheckArgs),
    /// For hosts, which start it: rehearses one upgrade, and tells the host.
    #[command(hide = true)]
    Rehearse,
    /// Shows the main job, live, on the sample plugins.
    #[command(after_help = "Example:\n  replug demo --threads 4")]
    Demo(DemoArgs),
}

/// `replug check`.
#[derive(Args)]
pub(crate) struct CheckArgs {
    /// The file.
    pub(crate) file: PathBuf,
    /// The version that it would take the place of: a file, or `running` for what serves
    /// on a host, which then rehearses it with its configuration, state, some rows and the
    /// calls that it keeps, and deploys nothing.
    #[arg(long, value_name = "FILE|running")]
    pub(crate) against: Option<PathBuf>,
    /// A saved state, as `replug state export` writes it.
    #[arg(long)]
    pub(crate) state: Option<PathBuf>,
    /// The configuration file of a host; what it says of the plugin and of rehearsals
    /// counts. One that runs has its own.
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) host: HostArgs,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// What to do with saved state. Where a snapshot is not named, the newest that
/// is sound is meant.
#[derive(Subcommand)]
pub(crate) enum StateVerb {
    /// Lists the snapshots of a plugin, or of all.
    #[command(after_help = "Example:\n  replug state list limiter")]
    List {
        #[command(flatten)]
        host: HostArgs,
        /// The plugin; all without.
        name: Option<String>,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Prints the state in a snapshot as JSON.
    #[command(after_help = "Example:\n  replug state show limiter --snapshot 42")]
    Show {
        #[command(flatten)]
        host: HostArgs,
        /// The plugin.
        name: String,
        /// The snapshot's number.
        #[arg(long)]
        snapshot: Option<u64>,
        /// How to print; `json` says what the snapshot is besides.
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Writes a snapshot to a file that any host can import.
    #[command(after_help = "Example:\n  replug state export limiter limiter.state")]
    Export {
        #[command(flatten)]
        host: HostArgs,
        /// The plugin.
        name: String,
        /// The file; one that is there is replaced.
        file: PathBuf,
        /// The snapshot's number.
        #[arg(long)]
        snapshot: Option<u64>,
    },
    /// Makes an exported file the newest snapshot of a plugin.
    #[command(after_help = "Example:\n  replug state import limiter limiter.state")]
    Import {
        #[command(flatten)]
        host: HostArgs,
        /// The plugin.
        name: String,
        /// The file.
        file: PathBuf,
        /// Takes a snapshot of another plugin too.
        #[arg(long)]
        foreign: bool,
    },
    /// Makes a snapshot the state of what serves, or of what starts next.
    #[command(after_help = "Example:\n  replug state restore limiter --snapshot 42")]
    Restore {
        #[command(flatten)]
        host: HostArgs,
        /// The plugin.
        name: String,
        /// The snapshot's number.
        #[arg(long)]
        snapshot: Option<u64>,
    },
    /// Takes a snapshot of every plugin that has state.
    #[command(after_help = "Example:\n  replug state save")]
    Save {
        #[command(flatten)]
        host: HostArgs,
    },
}

/// Which tables to show, and how.
#[derive(Debug, Args)]
pub(crate) struct TablesArgs {
    #[command(flatten)]
    pub(crate) host: HostArgs,
    /// The plugin; all without.
    pub(crate) name: Option<String>,
    /// Shows them again every second; on a terminal with a bar for each sweep
    /// that is under way.
    #[arg(long)]
    pub(crate) watch: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// What to do about the sweep of a plugin's tables.
#[derive(Subcommand)]
pub(crate) enum TablesVerb {
    /// Pauses the sweep, now and after later swaps, until it is resumed or the
    /// host ends. Rows that are read are converted all the same.
    #[command(after_help = "Example:\n  replug tables pause sessions")]
    Pause {
        #[command(flatten)]
        host: HostArgs,
        /// The plugin.
        name: String,
    },
    /// Lets the sweep go on.
    #[command(after_help = "Example:\n  replug tables resume sessions")]
    Resume {
        #[command(flatten)]
        host: HostArgs,
        /// The plugin.
        name: String,
    },
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Which host to talk to.
#[derive(Debug, Args)]
pub(crate) struct HostArgs {
    /// The host's data directory.
    #[arg(long = "data-dir", env = "REPLUG_DATA", default_value = ".replug")]
    pub(crate) data_dir: PathBuf,
    /// The host's socket; default: replug.sock in its data directory.
    #[arg(long)]
    socket: Option<PathBuf>,
}

impl HostArgs {
    pub(crate) fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.data_dir.join(SOCKET))
    }
}

/// The socket's name in the data directory.
pub(crate) const SOCKET: &str = "replug.sock";

/// How to run a host.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The directory that plugins are dropped into.
    #[arg(long)]
    pub(crate) plugins: Option<PathBuf>,
    /// For development: loads whatever is dropped, signed or not.
    #[arg(long)]
    pub(crate) dev: bool,
    /// Where state and private copies are kept; default: .replug here.
    #[arg(long, env = "REPLUG_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Where to listen; default: replug.sock in the data directory.
    #[arg(long)]
    pub(crate) socket: Option<PathBuf>,
    /// A configuration file (TOML).
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    /// Which log lines are written, as in `info,plugin=debug`.
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    pub(crate) log: String,
}
