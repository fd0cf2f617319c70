//! The plugins that tests drop, and programs that they run: built by cargo.

use std::{
    collections::HashMap,
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{LazyLock, Mutex, PoisonError},
};

/// Libraries that this process has had built, by package.
static BUILT: LazyLock<Mutex<HashMap<String, PathBuf>>> = LazyLock::new(Mutex::default);

/// The library of a sample plugin's package, in release.
///
/// # Panics
/// When cargo cannot build it: the test cannot go on.
pub fn plugin(package: &str) -> PathBuf {
    built(package, &workspace(), &[])
}

/// The library of an example of a package under `plugins`, in release: plugins
/// that only tests have a use for stand there.
///
/// # Panics
/// As [`plugin`].
pub fn example(package: &str, example: &str) -> PathBuf {
    let extra = ["--release".into(), "--example".into(), example.into()];
    built_target(package, example, &workspace(), &extra)
}

/// The program that is an example of a package, built as tests are.
///
/// # Panics
/// As [`plugin`].
pub fn program(package: &str, example: &str) -> PathBuf {
    let built = cargo_build(package, &workspace(), &["--example".into(), example.into()]);
    let is_it = |message: &&serde_json::Value| message["target"]["name"] == example;
    let file = built.iter().filter(is_it).find_map(|message| message["executable"].as_str());
    file.map(PathBuf::from).unwrap_or_else(|| panic!("cargo built no program {example} of {package}"))
}

/// The library of a package of `plugins/hostile`.
///
/// # Panics
/// As [`plugin`].
pub fn hostile(package: &str) -> PathBuf {
    let target = target_dir().join("hostile");
    built(package, &workspace().join("plugins/hostile"), &["--target-dir".into(), target.into_os_string()])
}

/// The same, built as if `replug.instance` were still 1.0.
///
/// # Panics
/// As [`plugin`].
pub fn hostile_of_instance_1_0(package: &str) -> PathBuf {
    let folder = workspace().join("plugins/hostile/instance-1-0");
    // Apart: the names of its libraries are those of the hostile plugins.
    let target = target_dir().join("instance-1-0");
    built_target(package, package, &folder, &["--release".into(), "--target-dir".into(), target.into()])
}

/// The library of a package of `plugins/hostile`, where a panic aborts.
///
/// # Panics
/// As [`plugin`].
pub fn hostile_aborting(package: &str) -> PathBuf {
    let target = target_dir().join("hostile");
    let extra = ["--profile".into(), "abort".into(), "--target-dir".into(), target.into_os_string()];
    built(package, &workspace().join("plugins/hostile"), &extra)
}

/// The plugin that was built against a changed copy of an ABI type.
///
/// # Panics
/// As [`plugin`].
pub fn changed_layout() -> PathBuf {
    let folder = workspace().join("plugins/hostile/changed-layout");
    // With the hostile plugins, whose crates are the same but for the SDK.
    let target = target_dir().join("hostile");
    built("hostile-changed-layout", &folder, &["--target-dir".into(), target.into_os_string()])
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

fn built(package: &str, folder: &Path, extra: &[OsString]) -> PathBuf {
    let release = extra.iter().all(|word| word != "--profile").then(|| "--release".into());
    let extra: Vec<OsString> = release.into_iter().chain(extra.iter().cloned()).collect();
    built_target(package, package, folder, &extra)
}

/// The cdylib `target` of a package.
fn built_target(package: &str, target: &str, folder: &Path, extra: &[OsString]) -> PathBuf {
    let key = format!("{package} {} {extra:?}", folder.display());
    let mut all = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(file) = all.get(&key) {
        return file.clone();
    }
    let file = build(package, target, folder, extra);
    all.insert(key, file.clone());
    file
}

fn build(package: &str, target: &str, folder: &Path, extra: &[OsString]) -> PathBuf {
    cargo_build(package, folder, extra)
        .iter()
        .filter(|message| message["target"]["crate_types"][0] == "cdylib")
        .filter(|message| {
            message["target"]["name"].as_str().is_some_and(|name| name.replace('_', "-") == target)
        })
        .find_map(|message| {
            let files = message["filenames"].as_array()?;
            let file = files.iter().filter_map(|file| file.as_str()).find(|file| file.ends_with(".so"))?;
            Some(PathBuf::from(file))
        })
        .unwrap_or_else(|| panic!("cargo built no library {target} of {package}"))
}

/// What cargo says that it built.
fn cargo_build(package: &str, folder: &Path, extra: &[OsString]) -> Vec<serde_json::Value> {
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(folder)
        .args(["build", "--quiet", "--message-format=json-render-diagnostics", "-p", package])
        .args(extra)
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo build -p {package} failed with {}", output.status);
    let messages = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    messages.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
