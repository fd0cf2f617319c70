//! What a process holds at one moment, and whether a soak made it hold more:
//! memory, open files, mappings, pthread keys, private copies of libraries.
//!
//! A second process counts the copies, so that their absence does not rest on
//! the word of the process that unmapped them. Nothing here runs the load: who
//! looks has brought it to rest.

use crate::report::{Limit, Report, median};
use std::{env, fs, path::Path, process::Command};

/// The first argument by which a soak is told to be the second process.
const OBSERVE: &str = "--observe";

/// More arenas of the C library's allocator than there are threads here.
const ARENAS: libc::c_int = 128;

/// Has the C library give each thread of this process an arena of its own. It has eight
/// for each core, and threads that share one wait for each other: with several hosts in
/// one process that is what would be measured.
///
/// # Panics
/// When the C library does not take the number. To be called before there are threads.
pub fn have_an_arena_for_each_thread() {
    // SAFETY: sets a number.
    let set = unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
    assert_eq!(set, 1, "the C library takes the number of arenas");
}

/// glibc's `PTHREAD_KEYS_MAX`: a key is an index below it.
const KEYS_MAX: libc::pthread_key_t = 1024;

/// One look at this process.
#[derive(Debug, Clone, Copy)]
pub struct Vitals {
    rss_kib: f64,
    files: f64,
    mappings: f64,
    keys: f64,
}

impl Vitals {
    /// Looks, after what is free in the heap was given back.
    pub fn now() -> Vitals {
        // SAFETY: trimming has no preconditions.
        unsafe { libc::malloc_trim(0) };
        Vitals {
            rss_kib: rss_kib(),
            files: fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as f64,
            mappings: fs::read_to_string("/proc/self/maps").unwrap_or_default().lines().count() as f64,
            keys: keys_in_use(),
        }
    }

    /// Targets for what was gained between two groups of looks, by their
    /// medians. `memory_mib` is how much memory may be.
    pub fn judge(report: &mut Report, before: &[Vitals], after: &[Vitals], memory_mib: f64) {
        let gained = |of: fn(&Vitals) -> f64| {
            let middle = |looks: &[Vitals]| median(&looks.iter().map(of).collect::<Vec<_>>());
            middle(after) - middle(before)
        };
        let memory = gained(|look| look.rss_kib) / 1024.0;
        report.target("memory gained", memory, "MiB", Limit::AtMost(memory_mib));
        report.target("open files gained", gained(|look| look.files), "files", Limit::AtMost(0.0));
        report.target("mappings gained", gained(|look| look.mappings), "mappings", Limit::AtMost(64.0));
        report.target("pthread keys gained", gained(|look| look.keys), "keys", Limit::AtMost(0.0));
    }
}

/// Executable mappings of files under `folder` in this process, as another
/// process sees them: this program, which calls
/// [`observer`] first of all.
///
/// # Panics
/// When it cannot be asked.
pub fn copies_seen_from_outside(folder: &Path) -> u64 {
    let output = Command::new(env::current_exe().expect("own path"))
        .args([OBSERVE, &std::process::id().to_string()])
        .arg(folder)
        .output()
        .expect("the observer runs");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number")
}

/// Whether this process is the second one; it has printed its count then, and
/// ends.
pub fn observer() -> bool {
    let words: Vec<String> = env::args().skip(1).collect();
    let [OBSERVE, pid, folder] = words.iter().map(String::as_str).collect::<Vec<_>>()[..] else {
        return false;
    };
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mapped = maps.lines().filter(|line| line.contains(folder) && line.contains("r-xp")).count();
    println!("{mapped}");
    true
}

fn rss_kib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)).and_then(|kib| kib.parse().ok()).unwrap_or(0.0)
}

/// How many pthread keys there are. The number of the next free one would not
/// tell: a version that goes leaves a hole below the key of the one that came.
fn keys_in_use() -> f64 {
    let is_in_use = |key: &libc::pthread_key_t| {
        // SAFETY: the value is set to what it is; for a key that nobody has, glibc
        // reads null and refuses to set it.
        unsafe { libc::pthread_setspecific(*key, libc::pthread_getspecific(*key)) == 0 }
    };
    (0..KEYS_MAX).filter(is_in_use).count() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_kept_counts_wherever_it_lies() {
        let before = keys_in_use();
        let [mut low, mut high] = [0; 2];
        // SAFETY: keys are created, and deleted once each; nobody sets a value.
        unsafe {
            assert_eq!(libc::pthread_key_create(&mut low, None), 0);
            assert_eq!(libc::pthread_key_create(&mut high, None), 0);
            assert_eq!(keys_in_use(), before + 2.0);
            libc::pthread_key_delete(low);
            assert_eq!(keys_in_use(), before + 1.0, "the one above the hole");
            libc::pthread_key_delete(high);
        }
        assert_eq!(keys_in_use(), before);
    }
}
