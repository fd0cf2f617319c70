//! The pipeline: reads what was appended to a file, and passes it through both
//! plugins.

use super::{books::Books, source::Source};
use logs_interface::{Enrich, EnrichProxy, Filter, FilterProxy};
use replug_host::{Fault, Typed};
use std::{error::Error, fs::File, io::Read, path::Path, thread, time::Duration};

/// Bytes that are read at a time; also the longest line.
const READ_BYTES: usize = 64 * 1024;
/// Before the file is looked at again.
const PAUSE: Duration = Duration::from_micros(200);

/// Works until the file has ended and all of it is worked off.
pub(crate) fn run(
    log: &Path,
    source: &Source,
    filter: &Typed<dyn Filter>,
    enrich: &Typed<dyn Enrich>,
    books: &Books,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut file = File::open(log)?;
    let mut buffer = vec![0; READ_BYTES];
    let mut filled = 0;
    loop {
        // Asked before the file is read: what it had then is read now.
        let ended = source.lines() > 0;
        let read = file.read(&mut buffer[filled..])?;
        filled += read;
        let Some(last) = buffer[..filled].iter().rposition(|byte| *byte == b'\n') else {
            match (read, ended) {
                (0, true) => return Ok(()),
                (0, false) if filled < READ_BYTES => thread::sleep(PAUSE),
                (0, false) => return Err("a line is longer than what is read at a time".into()),
                _ => {}
            }
            continue;
        };
        let lines = std::str::from_utf8(&buffer[..last])?;
        // One version of each plugin for all of these lines: whoever is replaced
        // now goes when the closures have returned.
        filter.call(|filter| Ok(enrich.call(|enrich| pass(lines, filter, enrich, books))))??;
        buffer.copy_within(last + 1..filled, 0);
        filled -= last + 1;
    }
}

/// Judges each line, and takes those apart that go on.
fn pass(lines: &str, filter: FilterProxy<'_>, enrich: EnrichProxy<'_>, books: &Books) -> Result<(), Fault> {
    let mut page = books.page();
    for line in lines.split('\n') {
        let verdict = filter.judge(line)?;
        page.judged(line, verdict.by);
        if verdict.keep {
            let entry = enrich.enrich(line)?;
            page.taken_apart(entry.sequence, entry.by);
        }
    }
    Ok(())
}
