//! Books of which line was worked on, how often, and by which version.

use std::{
    fmt,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The books. One thread writes, others wait for figures.
#[derive(Default)]
pub(crate) struct Books {
    figures: Mutex<Figures>,
    changed: Condvar,
}

#[derive(Default)]
struct Figures {
    /// How often each line was judged.
    judged: Vec<u8>,
    /// How often each line was taken apart.
    taken_apart: Vec<u8>,
    /// Lines judged by version 1 and 2, and by any other.
    by_filter: [u64; 3],
    /// Lines taken apart, likewise.
    by_enrich: [u64; 3],
}

/// The books while somebody writes.
pub(crate) struct Page<'a> {
    figures: MutexGuard<'a, Figures>,
    changed: &'a Condvar,
}

impl Books {
    /// Opens the books for a batch of lines.
    pub(crate) fn page(&self) -> Page<'_> {
        Page { figures: self.lock(), changed: &self.changed }
    }

    /// Waits until versions 1 and 2 of both plugins have worked on so many lines.
    pub(crate) fn wait_for(
        &self,
        filter: [u64; 2],
        enrich: [u64; 2],
        patience: Duration,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let short = |done: &[u64; 3], wanted: [u64; 2]| done[0] < wanted[0] || done[1] < wanted[1];
        let missing =
            |figures: &mut Figures| short(&figures.by_filter, filter) || short(&figures.by_enrich, enrich);
        let waited = self.changed.wait_timeout_while(self.lock(), patience, missing);
        let (figures, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return Err(format!("lines do not flow: {figures}").into());
        }
        Ok(())
    }

    /// Whether each of `lines` was judged once, by version 1 or 2, and taken
    /// apart at most once, likewise.
    pub(crate) fn check(&self, lines: u64) -> Result<(), String> {
        let figures = self.lock();
        let found = figures.judged.len() as u64;
        if found != lines {
            return Err(format!("the file has {lines} lines, {found} were judged"));
        }
        if let Some(line) = figures.judged.iter().position(|times| *times != 1) {
            return Err(format!("line {line} was judged {} times", figures.judged[line]));
        }
        if let Some(line) = figures.taken_apart.iter().position(|times| *times > 1) {
            return Err(format!("line {line} was taken apart {} times", figures.taken_apart[line]));
        }
        if figures.by_filter[2] + figures.by_enrich[2] > 0 {
            return Err(format!("other versions than 1 and 2 were at work: {figures}"));
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Figures> {
        // Figures are counted up one by one: none is half done.
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Page<'_> {
    /// A line was judged. A line without a number counts as number 0 once more.
    pub(crate) fn judged(&mut self, line: &str, by: u32) {
        let sequence = line.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        count(&mut self.figures.judged, sequence);
        self.figures.by_filter[place(by)] += 1;
    }

    /// A line was taken apart.
    pub(crate) fn taken_apart(&mut self, sequence: u64, by: u32) {
        count(&mut self.figures.taken_apart, sequence);
        self.figures.by_enrich[place(by)] += 1;
    }
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        self.changed.notify_all();
    }
}

impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock().fmt(f)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (filter, enrich) = (self.by_filter, self.by_enrich);
        write!(f, "judged by filter 1: {}, by filter 2: {}; ", filter[0], filter[1])?;
        write!(f, "taken apart by enrich 1: {}, by enrich 2: {}", enrich[0], enrich[1])
    }
}

fn count(times: &mut Vec<u8>, sequence: u64) {
    let at = sequence as usize;
    if times.len() <= at {
        times.resize(at + 1, 0);
    }
    times[at] = times[at].saturating_add(1);
}

fn place(version: u32) -> usize {
    match version {
        1 => 0,
        2 => 1,
        _ => 2,
    }
}
