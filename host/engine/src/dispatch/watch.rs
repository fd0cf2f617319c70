//! Stuck calls, found by looking twice.
//!
//! A [`Scan`] notes every frame on every thread's stack together with its
//! version's call count on that thread. A frame that is in two scans, with the
//! count unchanged, is one call that has not returned in between. How long that was
//! only the caller knows: there is no clock here, and nothing on the hot path.

use super::index;
use super::record::ThreadRecord;
use super::version::VersionId;

/// All calls that are running, over all hosts of the process. A host picks out
/// its own versions.
#[derive(Debug, Clone, Default)]
pub struct Scan {
    frames: Vec<Seen>,
}

/// A call that has not returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StuckCall {
    /// The kernel's id of the thread (`gettid`).
    pub thread: u32,
    /// How deep the call is nested; 0 is the thread's outermost.
    pub depth: usize,
    /// The version that it is in.
    pub version: VersionId,
}

impl Scan {
    /// Looks at all threads once.
    pub fn take() -> Self {
        // A hazard may hold an address that was not validated yet and is long
        // freed: it is looked up, never read.
        index::with_known(|known| {
            let frames_of = |record: &'static ThreadRecord| {
                let depth = record.depth();
                let frames = record.frames().take(depth).enumerate();
                frames.filter_map(move |(depth, frame)| {
                    let (version, index) = known(frame)?;
                    Some(Seen {
                        record: record.number(),
                        entries: record.entry(index).entries(),
                        call: StuckCall { thread: record.thread(), depth, version },
                    })
                })
            };
            Scan { frames: ThreadRecord::all().flat_map(frames_of).collect() }
        })
    }

    /// The calls that ran at the time of `earlier` and still do.
    ///
    /// A call that keeps calling its own version on its own thread is not
    /// among them: it is busy, not stuck.
    pub fn stuck_since(&self, earlier: &Scan) -> Vec<StuckCall> {
        let is_old = |seen: &&Seen| earlier.frames.contains(seen);
        self.frames.iter().filter(is_old).map(|seen| seen.call).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    record: u32,
    /// How often the thread entered the version.
    entries: u64,
    call: StuckCall,
}
