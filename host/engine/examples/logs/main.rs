//! A log pipeline whose two stages are plugins behind typed interfaces, replaced
//! while lines flow.
//!
//! ```sh
//! scripts/build-plugins
//! cargo run --release -p replug-host --example logs
//! ```
//!
//! 1. The crate `plugins/logs-interface` declares the traits `Filter` and
//!    `Enrich`, which this program calls and the plugins implement.
//! 2. [`source`] appends lines to a file, as a service does.
//! 3. [`pipeline`] reads what was appended and passes each line through both
//!    plugins: a closure enters a version of each, and works off all lines that
//!    it has read, without a copy of any.
//! 4. Meanwhile [`main`] drops version 2 of one plugin, and then of the other,
//!    into the plugin directory; the host replaces version 1 between two calls.
//! 5. When both new versions have worked for a while, the file ends, and the
//!    [`books`] are checked: every line was judged once, by version 1 or 2, and
//!    every line that was kept was taken apart once.
//!
//! It ends with 0 only if the books are right. The library of each plugin is
//! looked for where cargo put this program; another folder can be named, and
//! behind it another number of lines for each pair of versions.

mod books;
mod pipeline;
mod source;

use books::Books;
use logs_interface::{Enrich, Filter};
use replug_host::Host;
use source::Source;
use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Lines that are to pass each pair of versions before the next is dropped, if
/// no other number is named.
const LINES_EACH: u64 = 100_000;
/// All of it takes a second or two.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let libraries = env::args_os().nth(1).map_or_else(beside_this_program, |folder| Ok(folder.into()))?;
    let each = env::args().nth(2).map_or(Ok(LINES_EACH), |number| number.parse())?;
    let home = tempfile::tempdir()?;
    let plugins = home.path().join("plugins");
    fs::create_dir(&plugins)?;

    let host = Host::builder(&plugins).interface::<dyn Filter>().interface::<dyn Enrich>().start()?;
    let drop_in = |name: &str, version: u32| deploy(&host, &libraries, &plugins, name, version);
    drop_in("filter", 1)?;
    drop_in("enrich", 1)?;
    let filter = host.plugin("filter")?.typed::<dyn Filter>()?;
    let enrich = host.plugin("enrich")?.typed::<dyn Enrich>()?;

    let log = home.path().join("service.log");
    let source = Source::start(&log)?;
    let books = Books::default();
    let begun = Instant::now();
    let checked = thread::scope(|scope| -> Result<(), Box<dyn Error + Send + Sync>> {
        let worker = scope.spawn(|| pipeline::run(&log, &source, &filter, &enrich, &books));
        // The file ends also when something fails here, and with it the pipeline.
        let swapped = (|| -> Result<(), Box<dyn Error + Send + Sync>> {
            books.wait_for([each, 0], [each, 0], PATIENCE)?;
            drop_in("filter", 2)?;
            books.wait_for([each, each], [each, 0], PATIENCE)?;
            drop_in("enrich", 2)?;
            books.wait_for([each, each], [each, each], PATIENCE)
        })();
        source.end();
        worker.join().map_err(|_| "the pipeline panicked")??;
        swapped
    });
    checked?;
    let lines = source.lines();
    let seconds = begun.elapsed().as_secs_f64();
    books.check(lines)?;
    println!("{books}");
    println!("{lines} lines in {seconds:.2} s: {:.0} lines per second, each once", lines as f64 / seconds);
    host.shutdown()?;
    Ok(())
}

/// Copies a plugin into the plugin directory and waits until it serves.
fn deploy(
    host: &Host,
    libraries: &Path,
    plugins: &Path,
    name: &str,
    version: u32,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let library = libraries.join(format!("liblogs_{name}_v{version}.so"));
    let mut events = host.events();
    // Beside it first: a file that is renamed is complete when it appears.
    let part = plugins.with_extension("part");
    fs::copy(&library, &part)
        .map_err(|error| format!("{}: {error}; run scripts/build-plugins first", library.display()))?;
    fs::rename(&part, plugins.join(format!("{name}-{version}.0.0.so")))?;
    let id = format!("{name}@{version}.0.0");
    let published = events.wait_for(PATIENCE, |event| {
        event.kind.name() == "published"
            && event.version.as_ref().is_some_and(|version| version.starts_with(&id))
    });
    published.ok_or_else(|| format!("{id} was not published in time"))?;
    println!("{id} serves");
    Ok(())
}

/// The folder of the profile that cargo built this program with.
fn beside_this_program() -> Result<PathBuf, Box<dyn Error + Send + Sync>> {
    let program = env::current_exe()?;
    let folder = program.ancestors().nth(2).ok_or("this program stands in no folder of cargo's")?;
    Ok(folder.to_owned())
}
