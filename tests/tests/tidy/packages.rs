//! The rule on which package of the project may depend on which.
//!
//! Dependencies for tests are free: nobody who uses a package gets them.

use std::collections::{HashMap, HashSet};

use crate::tokens::{reads, tokens};
use crate::tree::{Fault, File, Tree, demand_none, places};

/// What each package of the project may use of the project, by its folder.
const ALLOWED: &[(&str, &[&str], &str)] = &[
    ("plugin-api/abi", &[], "the frozen ABI stands on nothing of the project"),
    ("plugin-api/macros", &[], "macros write names, they need no code"),
    ("plugin-api", &["replug-abi", "replug-plugin-macros"], "a plugin must not carry the host"),
    ("host/engine", &["replug-abi"], "host and plugins share the ABI and nothing else"),
    (
        "host/daemon",
        // The second is what the demo compares answers with.
        &["replug-host", "markdown-core"],
        "what the daemon can do, an embedder can do",
    ),
];

/// What plugins may use, besides each other.
const PLUGINS: &[&str] = &["replug-plugin-api", "replug-abi"];

struct Dependency {
    name: String,
    line: usize,
    by_path: bool,
}

fn dependencies(tree: &Tree) -> Vec<Fault> {
    let manifests: Vec<&File> = tree.files().filter(|file| file.path.ends_with("/Cargo.toml")).collect();
    let homes: HashMap<String, &str> = manifests
        .iter()
        .filter_map(|file| Some((package_name(file)?, file.path.trim_end_matches("/Cargo.toml"))))
        .collect();

    let mut faults = Vec::new();
    for (home, manifest) in manifests.iter().map(|file| (file.path.trim_end_matches("/Cargo.toml"), file)) {
        let alone = home.starts_with("plugins/hostile") || home == "tests/fuzz";
        for dependency in own_dependencies(manifest) {
            let Some(other) = homes.get(&dependency.name) else {
                continue;
            };
            let name = &dependency.name;
            if let Some(reason) = refused(home, name, other) {
                let what = format!("this package must not depend on {name}");
                faults.push(Fault::new(manifest, dependency.line, what, reason));
            }
            if dependency.by_path && !alone {
                let what = format!("{name} comes in by a path of its own");
                let mend = format!("write `{name}.workspace = true`");
                faults.push(Fault::new(manifest, dependency.line, what, mend));
            }
        }
    }
    faults
}

/// Locks of other workspaces that do not know what a package of the project needs
/// by now: nothing there can be built as it is locked.
fn stale_locks(tree: &Tree) -> Vec<Fault> {
    let manifests = tree.files().filter(|file| file.path.ends_with("/Cargo.toml"));
    let needs: HashMap<String, Vec<Dependency>> =
        manifests.filter_map(|file| Some((package_name(file)?, own_dependencies(file)))).collect();
    let mut faults = Vec::new();
    for lock in tree.files().filter(|file| file.path.ends_with("/Cargo.lock")) {
        let (mut package, mut listed) = ("", HashSet::new());
        for (line, text) in lock.lines().chain([(0, "")]) {
            if let Some(name) = text.strip_prefix("name = ") {
                package = name.trim_matches('"');
            } else if let Some(name) = text.strip_prefix(" \"") {
                listed.extend(name.split([' ', '"']).next());
            } else if text.is_empty() {
                let needed = needs.get(std::mem::take(&mut package)).into_iter().flatten();
                for missing in needed.filter(|needed| !listed.contains(needed.name.as_str())) {
                    let what = format!("the lock does not know that {} is needed", missing.name);
                    let mend = "let cargo write it anew: `cargo metadata --manifest-path` of its workspace";
                    faults.push(Fault::new(lock, line, what, mend));
                }
                listed.clear();
            }
        }
    }
    faults
}

/// Source that the daemon takes from the engine past its public API.
fn borrowed_sources(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in tree.rust().filter(|file| file.is_in("host/daemon")) {
        let tokens = tokens(file);
        for index in 0..tokens.len() {
            if reads(&tokens, index, &["#", "[", "path"]) || reads(&tokens, index, &["include", "!"]) {
                let mend = "use the engine's public API; what it lacks, an embedder lacks too";
                faults.push(Fault::new(file, tokens[index].line, "source of another place", mend));
            }
        }
    }
    faults
}

/// Why the package in `home` may not use `name`, which lives in `other`.
fn refused(home: &str, name: &str, other: &str) -> Option<String> {
    if home == "tests" || home.starts_with("tests/") {
        return None;
    }
    if home.starts_with("plugins/") {
        // A hostile plugin may go behind the SDK's back, but carries no host either.
        let hostile = home.starts_with("plugins/hostile") && other.starts_with("plugin-api");
        let may = PLUGINS.contains(&name) || other.starts_with("plugins/") || hostile;
        return (!may).then(|| "a plugin uses the SDK and crates under plugins/, never the host".into());
    }
    match ALLOWED.iter().find(|(place, ..)| *place == home) {
        Some((_, may, reason)) => (!may.contains(&name)).then(|| (*reason).to_owned()),
        None => Some("say what it may use: `ALLOWED` in tests/tests/tidy/packages.rs".into()),
    }
}

fn package_name(manifest: &File) -> Option<String> {
    let lines = manifest.text.lines().skip_while(|line| line.trim() != "[package]").skip(1);
    let mut keys = lines.take_while(|line| !line.starts_with('['));
    let name = keys.find_map(|line| line.strip_prefix("name")?.trim_start().strip_prefix('='))?;
    Some(name.trim().trim_matches('"').to_owned())
}

/// Dependencies for use and for the build, in any of TOML's spellings for them.
fn own_dependencies(manifest: &File) -> Vec<Dependency> {
    let mut found: Vec<Dependency> = Vec::new();
    let (mut listing, mut table) = (false, false);
    for (line, text) in manifest.lines() {
        let text = text.trim();
        if let Some(section) = text.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            let parts: Vec<&str> = section.rsplit('.').collect();
            let is_list = |part: &&str| matches!(*part, "dependencies" | "build-dependencies");
            // What a workspace offers is no package's yet.
            listing = parts.first().is_some_and(is_list) && parts.get(1) != Some(&"workspace");
            table = !listing && parts.get(1).is_some_and(is_list);
            if table {
                found.push(Dependency { name: parts[0].to_owned(), line, by_path: false });
            }
        } else if let (true, Some((key, value))) = (listing, text.split_once('=')) {
            let mut key = key.trim().split('.');
            let name = key.next().unwrap_or_default().trim_matches('"').to_owned();
            let by_path = key.next() == Some("path") || value.contains("path");
            found.push(Dependency { name, line, by_path });
        } else if let (true, true, Some(last)) = (table, text.starts_with("path"), found.last_mut()) {
            last.by_path = true;
        }
    }
    found
}

#[test]
fn packages_depend_on_what_they_may() {
    let tree = Tree::of_the_project();
    demand_none(&dependencies(&tree));
    for (home, ..) in ALLOWED {
        assert!(tree.has(&format!("{home}/Cargo.toml")), "{home} has moved: mend this rule");
    }
}

#[test]
fn the_daemon_uses_the_public_engine_only() {
    demand_none(&borrowed_sources(&Tree::of_the_project()));
}

/// Once, nobody saw that the fuzz targets could not be built any more.
#[test]
fn locks_of_other_workspaces_know_what_the_packages_need() {
    demand_none(&stale_locks(&Tree::of_the_project()));
}

#[test]
fn stale_locks_are_found() {
    let tree = Tree::sample(&[
        ("host/Cargo.toml", "[package]\nname = \"host\"\n[dependencies]\nlibc = \"1\"\nserde = \"1\"\n"),
        (
            "fuzz/Cargo.lock",
            "[[package]]\nname = \"host\"\ndependencies = [\n \"libc 0.2.1\",\n]\n\n\
             [[package]]\nname = \"serde\"\n",
        ),
    ]);
    assert_eq!(places(&stale_locks(&tree)), ["fuzz/Cargo.lock:6"]);
}

#[test]
fn forbidden_dependencies_are_found() {
    let tree = Tree::sample(&[
        ("plugin-api/abi/Cargo.toml", "[package]\nname = \"replug-abi\"\n[dependencies]\nserde = \"1\"\n"),
        (
            "host/engine/Cargo.toml",
            "[package]\nname = \"replug-host\"\n[dependencies]\nreplug-abi.workspace = true\n",
        ),
        (
            "host/daemon/Cargo.toml",
            "[package]\nname = \"replug\"\n[dependencies]\nreplug-host = { path = \"../engine\" }\n\
             replug-abi.workspace = true\n[dev-dependencies]\nnote.workspace = true\n",
        ),
        (
            "plugins/note/Cargo.toml",
            "[package]\nname = \"note\"\n[dependencies]\nreplug-abi.workspace = true\n\
             [target.'cfg(unix)'.dependencies.replug-host]\nworkspace = true\n",
        ),
        ("extra/Cargo.toml", "[package]\nname = \"extra\"\n[build-dependencies]\nnote.workspace = true\n"),
    ]);
    assert_eq!(
        places(&dependencies(&tree)),
        [
            "host/daemon/Cargo.toml:4",
            "host/daemon/Cargo.toml:5",
            "plugins/note/Cargo.toml:5",
            "extra/Cargo.toml:4",
        ]
    );
}

#[test]
fn borrowed_source_is_found() {
    let text = "//! A daemon.\n#[path = \"../../engine/src/id.rs\"]\nmod id;\ninclude!(\"x.rs\");\n";
    let tree = Tree::sample(&[("host/daemon/src/main.rs", text)]);
    assert_eq!(places(&borrowed_sources(&tree)), ["host/daemon/src/main.rs:2", "host/daemon/src/main.rs:4"]);
}
