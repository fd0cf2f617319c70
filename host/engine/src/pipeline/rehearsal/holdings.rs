//! What the child holds: memory, threads, open files.

use std::{collections::BTreeMap, fs, path::PathBuf};

/// The one that waits, and the one that runs hooks.
const OWN_THREADS: u64 = 2;

/// In KiB, and threads beside the child's own.
pub(super) fn memory_and_threads() -> (u64, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    (number("VmRSS:"), number("Threads:").saturating_sub(OWN_THREADS))
}

/// The open files of this process by number, with what each is; none if there is no room
/// for one more.
pub(super) fn descriptors() -> BTreeMap<String, PathBuf> {
    let Ok(folder) = fs::read_dir("/proc/self/fd") else { return BTreeMap::new() };
    let named = folder.flatten().filter_map(|entry| {
        // But for this very folder.
        let what = fs::read_link(entry.path()).ok().filter(|what| !what.starts_with("/proc"))?;
        Some((entry.file_name().to_string_lossy().into_owned(), what))
    });
    named.collect()
}
