//! Real Markdown: the corpus of the repository's tests, and the documentation
//! of every crate in the local cargo registry.

use markdown_core::{Anchors, render_v1, render_v2};
use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// A text and what `pulldown-cmark`, called directly, makes of it.
pub(super) struct Document {
    pub(super) markdown: String,
    pub(super) as_v1: String,
    pub(super) as_v2: String,
}

/// Larger files are left out: the plugin's default limit.
const BYTES_MAX: u64 = 1024 * 1024;

/// Reads the corpus and renders it once with each version's options.
pub(super) fn read(workspace: &Path) -> Vec<Document> {
    let mut files = Vec::new();
    collect(&workspace.join("tests/corpus"), &mut files);
    if let Some(registry) = registry() {
        collect(&registry, &mut files);
    }
    files.sort();
    files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .map(|markdown| Document {
            as_v1: render_v1(&markdown),
            as_v2: render_v2(&markdown, &Anchors::default()),
            markdown,
        })
        .collect()
}

fn registry() -> Option<PathBuf> {
    let cargo = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))?;
    Some(cargo.join("registry/src"))
}

/// All Markdown files below a folder; what cannot be read is not there.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        if metadata.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "md") && metadata.len() <= BYTES_MAX {
            files.push(path);
        }
    }
}
