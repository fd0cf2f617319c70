//! A daemon in a directory of its own.

use replug_tests::harness::wait_until;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule, apply_filter};
use std::{
    collections::BTreeMap,
    fs::{self, File, Permissions},
    io,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
};
use tempfile::TempDir;

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    home: TempDir,
    process: Child,
}

impl Daemon {
    /// One without a configuration.
    pub(crate) fn start() -> Daemon {
        Daemon::with("")
    }

    /// One with a configuration file; `{home}` in it is the daemon's directory.
    pub(crate) fn with(config: &str) -> Daemon {
        let home = home();
        let config = config.replace("{home}", &home.path().display().to_string());
        fs::write(home.path().join("replug.toml"), config).expect("writes");
        let process = run(home.path()).spawn().expect("starts");
        Daemon::of(home, process)
    }

    /// One on a system without landlock, by the looks of it.
    pub(crate) fn without_landlock() -> Daemon {
        let calls = BTreeMap::from([(libc::SYS_landlock_create_ruleset, Vec::new())]);
        Daemon::refused("", calls, libc::ENOSYS)
    }

    /// One with a configuration to which the system answers these calls with an error.
    pub(crate) fn refused(config: &str, calls: BTreeMap<i64, Vec<SeccompRule>>, error: i32) -> Daemon {
        let home = home();
        fs::write(home.path().join("replug.toml"), config).expect("writes");
        let process = run_refused(home.path(), calls, error).spawn().expect("starts");
        Daemon::of(home, process)
    }

    /// One that was started like this.
    pub(crate) fn of(home: TempDir, process: Child) -> Daemon {
        let mut daemon = Daemon { home, process };
        daemon.wait_until_it_answers();
        daemon
    }

    /// Starts it again on its directory, once it has ended.
    pub(crate) fn start_again(&mut self) {
        self.process = run(self.home.path()).spawn().expect("starts");
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&mut self) {
        wait_until("the daemon answering", || {
            let ended = self.process.try_wait().expect("waits");
            assert!(ended.is_none(), "the daemon ended with {ended:?}:\n{}", self.log());
            self.verb(&["status"]).status.success()
        });
    }

    /// Ends it as a crash would: nothing of it runs any more.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("is running");
        self.process.wait().expect("ends");
    }

    /// Its directory.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.home().join("data/replug.sock")
    }

    /// What it wrote to standard error.
    pub(crate) fn log(&self) -> String {
        log(self.home())
    }

    /// Renames a library in.
    pub(crate) fn drop_file(&self, library: &Path, name: &str) {
        let beside = self.home().join("part");
        fs::copy(library, &beside).expect("copies");
        fs::rename(beside, self.home().join("plugins").join(name)).expect("renames");
    }

    /// Renames a library in and waits until its version, `name@semver`, serves.
    pub(crate) fn deploy(&self, library: &Path, version: &str) {
        self.drop_file(library, &format!("{}.so", version.replace('@', "-")));
        wait_until(&format!("{version} serving"), || text(&self.verb(&["status"]).stdout).contains(version));
    }

    /// A field of a plugin's status.
    pub(crate) fn status_of(&self, plugin: &str, field: &str) -> serde_json::Value {
        let status = self.verb(&["status", "-o", "json"]).stdout;
        let status: serde_json::Value = serde_json::from_slice(&status).expect("JSON");
        let plugins = status["plugins"].as_array().expect("plugins");
        plugins
            .iter()
            .find(|one| one["name"] == plugin)
            .map_or_else(Default::default, |one| one[field].clone())
    }

    /// Runs a verb to its end.
    pub(crate) fn verb(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("runs")
    }

    /// Starts a verb whose standard output can be read.
    pub(crate) fn spawn(&self, words: &[&str]) -> Child {
        self.command(words).stdout(Stdio::piped()).spawn().expect("starts")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = replug();
        command.args(words).env("REPLUG_DATA", self.home().join("data"));
        command
    }

    /// Sends SIGTERM.
    pub(crate) fn signal(&self) {
        self.send("-TERM");
    }

    /// Sends SIGHUP.
    pub(crate) fn hang_up(&self) {
        self.send("-HUP");
    }

    fn send(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.id().to_string()]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Waits for its end; the exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        ended(&mut self.process).code()
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        self.signal();
        self.ended()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already in tests that end it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A directory with an empty plugin directory in it.
pub(crate) fn home() -> TempDir {
    let home = tempfile::tempdir().expect("a directory");
    let plugins = home.path().join("plugins");
    fs::create_dir(&plugins).expect("creates");
    // As production asks for, whatever the umask.
    fs::set_permissions(plugins, Permissions::from_mode(0o755)).expect("is ours");
    home
}

/// The binary.
pub(crate) fn replug() -> Command {
    Command::new(env!("CARGO_BIN_EXE_replug"))
}

/// `replug run` in a directory, with its configuration file if there is one, and for
/// development unless that says whom to trust; what it writes to standard error goes to a file there.
pub(crate) fn run(home: &Path) -> Command {
    let mut command = replug();
    command.arg("run").arg("--plugins").arg(home.join("plugins")).arg("--data").arg(home.join("data"));
    let config = home.join("replug.toml");
    let is_about_trust = |config: String| config.contains("[trust]");
    if !fs::read_to_string(&config).is_ok_and(is_about_trust) {
        command.arg("--dev");
    }
    if config.exists() {
        command.arg("--config").arg(config);
    }
    let log = File::create(home.join("log")).expect("creates");
    command.stdout(Stdio::null()).stderr(log);
    command
}

/// The same where the system answers these calls with an error.
pub(crate) fn run_refused(home: &Path, calls: BTreeMap<i64, Vec<SeccompRule>>, error: i32) -> Command {
    let refused = SeccompAction::Errno(error.cast_unsigned());
    let arch = std::env::consts::ARCH.try_into().expect("is known");
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, refused, arch).expect("is whole");
    let filter: BpfProgram = filter.try_into().expect("compiles");
    let mut command = run(home);
    // SAFETY: two system calls, with what is there already.
    unsafe { command.pre_exec(move || apply_filter(&filter).map_err(io::Error::other)) };
    command
}

/// What the latest run in a directory wrote to standard error.
pub(crate) fn log(home: &Path) -> String {
    text(&fs::read(home.join("log")).expect("reads"))
}

/// Waits for the end of a process; fails the test when it does not come.
pub(crate) fn ended(process: &mut Child) -> ExitStatus {
    let mut status = None;
    wait_until("the end of the process", || {
        status = process.try_wait().expect("waits");
        status.is_some()
    });
    status.expect("just ended")
}

/// Bytes as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
