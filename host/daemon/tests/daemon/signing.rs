//! Files that are signed, and hosts that ask for it.

use crate::process::{Daemon, replug, text};
use minisign::KeyPair;
use replug_tests::{artifacts, harness::wait_until};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Somebody who signs files, with the comment that `replug inspect` prints.
pub(crate) struct Signer(pub(crate) KeyPair);

impl Signer {
    pub(crate) fn new() -> Signer {
        Signer(KeyPair::generate_unencrypted_keypair().expect("keys"))
    }

    /// Its public key as a line of `[trust]`.
    pub(crate) fn line(&self, table: &str, name: &str) -> String {
        format!("{table} = {{ {name} = \"{}\" }}\n", self.0.pk.to_base64())
    }

    pub(crate) fn signature(&self, library: &Path) -> String {
        self.signature_saying(library, library)
    }

    /// A signature of a library with the comment for another.
    pub(crate) fn signature_saying(&self, library: &Path, said: &Path) -> String {
        let inspected = replug().args(["inspect", "-o", "json"]).arg(said).output().expect("runs");
        let manifest: serde_json::Value = serde_json::from_slice(&inspected.stdout).expect("JSON");
        let comment = manifest["signed_comment"].as_str().expect("text");
        let bytes = fs::read(library).expect("reads");
        let signed = minisign::sign(Some(&self.0.pk), &self.0.sk, &*bytes, Some(comment), None);
        signed.expect("signs").into_string()
    }
}

/// A production host that trusts `signer`; a signature may be a minute late.
pub(crate) fn trusting(signer: &Signer, more: &str) -> Daemon {
    within_ms(60_000, signer, more)
}

/// The same with another patience.
pub(crate) fn within_ms(patience_ms: u64, signer: &Signer, more: &str) -> Daemon {
    Daemon::with(&(trust_in(signer, patience_ms) + more))
}

/// The configuration of such a host.
pub(crate) fn trust_in(signer: &Signer, patience_ms: u64) -> String {
    let keys = signer.line("keys", "release");
    format!("[trust]\nsignature-timeout-ms = {patience_ms}\n{keys}")
}

pub(crate) fn plugins(daemon: &Daemon) -> PathBuf {
    daemon.home().join("plugins")
}

pub(crate) fn sign_as(daemon: &Daemon, name: &str, signature: &str) {
    fs::write(plugins(daemon).join(format!("{name}.minisig")), signature).expect("writes");
}

/// Waits for an event that has these words; it.
pub(crate) fn told(daemon: &Daemon, words: &str) -> String {
    let mut found = None;
    wait_until(&format!("an event with {words}"), || {
        let events = text(&daemon.verb(&["events"]).stdout);
        found = events.lines().find(|line| line.contains(words)).map(ToOwned::to_owned);
        found.is_some()
    });
    found.expect("just found")
}

/// Waits until a file was refused with a code; the event.
pub(crate) fn refused(daemon: &Daemon, file: &str, code: &str) -> String {
    let mut found = None;
    wait_until(&format!("{file} being refused with {code}"), || {
        let events = text(&daemon.verb(&["events"]).stdout);
        let is_it = |line: &&str| line.contains("\"refused\"") && line.contains(file) && line.contains(code);
        found = events.lines().find(is_it).map(ToOwned::to_owned);
        found.is_some()
    });
    found.expect("just found")
}

/// A library with permissions that production asks for.
pub(crate) fn library(daemon: &Daemon, package: &str) -> PathBuf {
    let own = daemon.home().join(package);
    fs::copy(artifacts::plugin(package), &own).expect("copies");
    fs::set_permissions(&own, Permissions::from_mode(0o644)).expect("is ours");
    own
}

/// Drops a library with its signature.
pub(crate) fn drop_signed(daemon: &Daemon, signer: &Signer, library: &Path, name: &str) {
    sign_as(daemon, name, &signer.signature(library));
    daemon.drop_file(library, name);
}

pub(crate) fn serves(daemon: &Daemon, version: &str) -> bool {
    daemon.status_of("markdown", "active").as_str().is_some_and(|active| active.contains(version))
}

/// Drops 1.0.0 and, when it serves, 2.0.0 under these names; the libraries, when the
/// second serves.
pub(crate) fn upgraded(daemon: &Daemon, signer: &Signer, names: [&str; 2]) -> [PathBuf; 2] {
    let libraries = ["markdown-v1", "markdown-v2"].map(|package| library(daemon, package));
    for ((library, name), version) in libraries.iter().zip(names).zip(["1.0.0", "2.0.0"]) {
        drop_signed(daemon, signer, library, name);
        wait_until(&format!("{version} serving"), || serves(daemon, version));
    }
    libraries
}
