//! A service that writes a log, until it is told to end.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// Lines between two looks at whether to end.
const BURST: u64 = 2_000;
/// A pause between bursts, so that the file stays small.
const PAUSE: Duration = Duration::from_millis(2);
/// The file ends here at the latest.
const LINES_MAX: u64 = 20_000_000;

const MESSAGES: [&str; 5] = [
    "INFO GET /index.html 200",
    "DEBUG cache miss for /index.html",
    "INFO GET /health 200",
    "WARN login of ada failed password=hunter2",
    "ERROR upstream did not answer",
];

/// A file that grows.
pub(crate) struct Source {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    ending: AtomicBool,
    /// Lines that are in the file for good, once it has ended; zero before.
    lines: AtomicU64,
}

impl Source {
    /// Begins to write `NUMBER LEVEL MESSAGE` lines to a new file.
    pub(crate) fn start(path: &Path) -> io::Result<Source> {
        let mut file = BufWriter::new(File::create(path)?);
        let shared = Arc::new(Shared::default());
        let inside = Arc::clone(&shared);
        thread::spawn(move || {
            let mut line = 0;
            // Relaxed: it is about when, not about what.
            while line < LINES_MAX && !inside.ending.load(Ordering::Relaxed) {
                if write_burst(&mut file, line).is_err() {
                    break;
                }
                line += BURST;
                thread::sleep(PAUSE);
            }
            // Release: partner is `lines`; who reads the number finds the lines.
            inside.lines.store(line, Ordering::Release);
        });
        Ok(Source { shared })
    }

    /// Asks it to end.
    pub(crate) fn end(&self) {
        self.shared.ending.store(true, Ordering::Relaxed);
    }

    /// How many lines the file has; zero while it grows.
    pub(crate) fn lines(&self) -> u64 {
        self.shared.lines.load(Ordering::Acquire)
    }
}

fn write_burst(file: &mut impl Write, first: u64) -> io::Result<()> {
    for line in first..first + BURST {
        writeln!(file, "{line} {}", MESSAGES[line as usize % MESSAGES.len()])?;
    }
    file.flush()
}
