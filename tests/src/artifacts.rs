//! The plugins that tests drop, and programs that they run: built by cargo.

use std::{
    collections::HashMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

/// What this process has had built, by the command.
static BUILT: LazyLock<Mutex<HashMap<String, Arc<Built>>>> = LazyLock::new(Mutex::default);

/// Files that one command of cargo made, by package and target.
type Built = HashMap<(String, String), PathBuf>;

/// The library of a sample plugin's package, in release.
///
/// All of them are built at once: crates that they share are then built once, and
/// cargo is asked once by each process.
///
/// # Panics
/// When cargo cannot build it: the test cannot go on.
pub fn plugin(package: &str) -> PathBuf {
    let mut words = vec!["--release".to_owned()];
    words.extend(plugins().into_iter().flat_map(|name| ["-p".to_owned(), name]));
    library(package, package, &built(&workspace(), &words))
}

/// The library of an example of a package under `plugins`, in release: plugins
/// that only tests have a use for stand there.
///
/// # Panics
/// As [`plugin`].
pub fn example(package: &str, example: &str) -> PathBuf {
    let words = ["--release", "-p", package, "--examples"].map(ToOwned::to_owned);
    library(package, example, &built(&workspace(), &words))
}

/// The program that is an example of a package, built as tests are.
///
/// # Panics
/// As [`plugin`].
pub fn program(package: &str, example: &str) -> PathBuf {
    // Of the whole workspace: the crates that it shares with tests are theirs.
    let words = ["--workspace", "--example", example].map(ToOwned::to_owned);
    let found = built(&workspace(), &words).get(&(package.to_owned(), example.to_owned())).cloned();
    found.unwrap_or_else(|| panic!("cargo built no program {example} of {package}"))
}

/// The library of a package of `plugins/hostile`.
///
/// # Panics
/// As [`plugin`].
pub fn hostile(package: &str) -> PathBuf {
    apart(package, "", "hostile", &["--release"])
}

/// The same, built as if `replug.instance` were still 1.0.
///
/// # Panics
/// As [`plugin`].
pub fn hostile_of_instance_1_0(package: &str) -> PathBuf {
    // Not with the hostile plugins: the names of its libraries are theirs.
    apart(package, "instance-1-0", "instance-1-0", &["--release"])
}

/// The library of a package of `plugins/hostile`, where a panic aborts.
///
/// # Panics
/// As [`plugin`].
pub fn hostile_aborting(package: &str) -> PathBuf {
    apart(package, "", "hostile", &["--profile", "abort", "-p", package])
}

/// The plugin that was built against a changed copy of an ABI type.
///
/// # Panics
/// As [`plugin`].
pub fn changed_layout() -> PathBuf {
    // With the hostile plugins, whose crates are the same but for the SDK.
    apart("hostile-changed-layout", "changed-layout", "hostile", &["--release"])
}

/// The bytes of a file with every `old` in it made a `new` of the same length.
///
/// # Panics
/// When there is none, or the file cannot be read.
pub fn changed(file: &Path, old: &[u8], new: &[u8]) -> Vec<u8> {
    assert_eq!(old.len(), new.len(), "all that follows stays in its place");
    let mut bytes = fs::read(file).expect("the library can be read");
    let places: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(old)).collect();
    assert!(!places.is_empty(), "the file has the text");
    for at in places {
        bytes[at..][..new.len()].copy_from_slice(new);
    }
    bytes
}

/// The bytes of a library as if it had been built with another abi_stable: it is found,
/// and cannot be loaded.
///
/// # Panics
/// When it cannot be read.
pub fn of_another_abi_stable(library: &Path) -> Vec<u8> {
    let mut bytes = fs::read(library).expect("the library can be read");
    let header = b"abi stable library for Rust";
    let at = bytes.windows(header.len()).position(|window| window == header);
    // 32 bytes of text, then the major and the minor version.
    bytes[at.expect("the library has the header") + 36] += 1;
    bytes
}

/// Copies a library to `beside`, the same but for a byte that is in no segment:
/// what it holds is the same version with other bytes.
///
/// # Panics
/// When it cannot be copied.
pub fn with_other_bytes(library: &Path, beside: PathBuf) -> PathBuf {
    let mut bytes = fs::read(library).expect("the library can be read");
    bytes.push(0);
    fs::write(&beside, bytes).expect("the copy can be written");
    beside
}

/// The repository.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace is there")
}

fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// The packages of the workspace's plugins, as `scripts/build-plugins` finds them.
fn plugins() -> Vec<String> {
    let folders = fs::read_dir(workspace().join("plugins")).expect("the plugins are there");
    let folders = folders.map(|folder| folder.expect("can be listed"));
    let is_library = |folder: &fs::DirEntry| {
        let manifest = fs::read_to_string(folder.path().join("Cargo.toml"));
        folder.file_name() != "hostile" && manifest.is_ok_and(|manifest| manifest.contains("\"cdylib\""))
    };
    let packages = folders.filter(is_library).map(|folder| folder.file_name().into_string().expect("UTF-8"));
    let mut packages: Vec<String> = packages.collect();
    packages.sort();
    packages
}

/// The library of a package in a folder of `plugins/hostile`, built in a folder of
/// `target`.
fn apart(package: &str, folder: &str, target: &str, words: &[&str]) -> PathBuf {
    let target = target_dir().join(target).into_os_string().into_string().expect("UTF-8");
    let words = words.iter().map(|word| (*word).to_owned()).chain(["--target-dir".to_owned(), target]);
    let folder = workspace().join("plugins/hostile").join(folder);
    library(package, package, &built(&folder, &words.collect::<Vec<_>>()))
}

fn library(package: &str, target: &str, built: &Built) -> PathBuf {
    let found = built.get(&(package.to_owned(), target.replace('-', "_")));
    found.cloned().unwrap_or_else(|| panic!("cargo built no library {target} of {package}"))
}

fn built(folder: &Path, words: &[String]) -> Arc<Built> {
    let command = format!("{} {words:?}", folder.display());
    let mut all = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(all.entry(command).or_insert_with(|| Arc::new(build(folder, words))))
}

fn build(folder: &Path, words: &[String]) -> Built {
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(folder)
        .args(["build", "--quiet", "--message-format=json-render-diagnostics"])
        .args(words)
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo build {} failed with {}", words.join(" "), output.status);
    let messages = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    messages.lines().filter_map(|line| file_of(&serde_json::from_str(line).ok()?)).collect()
}

/// The program or the library to be loaded that a message of cargo tells of.
fn file_of(message: &serde_json::Value) -> Option<((String, String), PathBuf)> {
    let is_library = message["target"]["crate_types"][0] == "cdylib";
    let file = if is_library {
        let files = message["filenames"].as_array()?;
        files.iter().filter_map(|file| file.as_str()).find(|file| file.ends_with(".so"))?
    } else {
        message["executable"].as_str()?
    };
    let name = message["target"]["name"].as_str()?;
    // A library's name is that of its crate, or of its package.
    let name = if is_library { name.replace('-', "_") } else { name.to_owned() };
    Some(((package_of(message["package_id"].as_str()?).to_owned(), name), PathBuf::from(file)))
}

/// The name in an id of cargo's: `path+file:///a/name#0.1.0`, `...#name@0.1.0`.
fn package_of(id: &str) -> &str {
    let (path, version) = id.split_once('#').unwrap_or((id, ""));
    match version.split_once('@') {
        Some((name, _)) => name,
        None => path.rsplit('/').next().unwrap_or(path),
    }
}
