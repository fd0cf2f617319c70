//! What all threads of the soak share: the plugins, the pause, the counts.

use replug_host::{CallError, CallFuture, Host, Plugin};
use replug_tests::{dice::Dice, harness::Harness, load::Load};
use std::{
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// What everybody shares.
pub(crate) struct Cast {
    pub(crate) host: Host,
    pub(crate) threads: Plugin,
    pub(crate) hostile: Plugin,
    pub(crate) markdown: Plugin,
    pub(crate) markdown_file: PathBuf,
    pub(crate) paused: AtomicBool,
    /// Held while the markdown plugin is out.
    pub(crate) out: Mutex<()>,
    /// A call that was given up, for whoever comes next to drop.
    pub(crate) left: Mutex<Option<Pin<Box<CallFuture>>>>,
    /// Versions that were told to leave.
    pub(crate) leaving: AtomicU64,
    pub(crate) counts: Counts,
}

/// Relaxed throughout: statistics, read when all threads have been joined.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) born: AtomicU64,
    pub(crate) given_up: AtomicU64,
    pub(crate) given_up_elsewhere: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) out: AtomicU64,
    pub(crate) status: AtomicU64,
    /// Additions that were acknowledged.
    pub(crate) added: AtomicU64,
    /// Additions that were given up: made, or not.
    pub(crate) unsure: AtomicU64,
}

impl Cast {
    pub(crate) fn of(harness: &Harness) -> Cast {
        Cast {
            host: harness.host.clone(),
            threads: harness.plugin("threads"),
            hostile: harness.plugin("hostile"),
            markdown: harness.plugin("markdown"),
            markdown_file: harness.plugin_dir().join("markdown.so"),
            paused: AtomicBool::new(false),
            out: Mutex::default(),
            left: Mutex::default(),
            // The first of hostile and of threads, as the harness began.
            leaving: AtomicU64::new(2),
            counts: Counts::default(),
        }
    }

    pub(crate) fn callers(
        self: &Arc<Self>,
        threads: usize,
        call: fn(&Cast, &mut Dice) -> Result<(), CallError>,
    ) -> Load {
        let cast = Arc::clone(self);
        Load::start(threads, move |number, turn, _| {
            while cast.paused.load(Ordering::Acquire) {
                // sleep: the load is paused on purpose, and its threads pass by.
                thread::sleep(Duration::from_millis(1));
                replug_host::dispatch::pass_by();
            }
            call(&cast, &mut Dice::new(number as u64 + 1, turn))
        })
    }

    /// Drops the call that was given up last.
    pub(crate) fn drop_left(&self) {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(left);
    }

    /// Additions that were acknowledged and are not counted, or the reverse.
    pub(crate) fn lost_updates(&self) -> u64 {
        let reply = self.hostile.call("count", b"").expect("it counts");
        let counted: u64 = reply.text().expect("text").parse().expect("a number");
        let added = self.counts.added.load(Ordering::Relaxed);
        let at_most = added + self.counts.unsure.load(Ordering::Relaxed);
        added.saturating_sub(counted) + counted.saturating_sub(at_most)
    }
}
