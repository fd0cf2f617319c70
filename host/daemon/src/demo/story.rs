//! The steps of the demo, and its verdict.

use super::{DemoArgs, corpus, load::Load, plugins, table::Table};
use replug_host::{
    Host, Plugin,
    event::{Event, EventKind, Events, Next},
};
use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

/// How long a step may take before the demo gives up.
const STEP_MAX: Duration = Duration::from_secs(20);

/// Runs the whole story; whether everything held.
pub(super) fn tell(args: &DemoArgs) -> Result<bool, Box<dyn Error>> {
    let workspace = match &args.workspace {
        Some(path) => path.clone(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?,
    };
    let libraries = plugins::build(&workspace)?;
    let documents = Arc::new(corpus::read(&workspace));
    if documents.is_empty() {
        return Err("there is no Markdown to render".into());
    }
    println!("rendering {} Markdown files from {} threads", documents.len(), args.threads);
    let home = tempfile::tempdir()?;
    let plugin_dir = home.path().join("plugins");
    fs::create_dir(&plugin_dir)?;
    let unlimited = serde_json::json!({ "capacity": 1e15, "refill_per_s": 0.0 });
    let host =
        Host::builder(&plugin_dir).data_dir(home.path().join("data")).config("limiter", unlimited).start()?;
    let mut demo = Demo {
        events: host.events_since(1),
        markdown: host.plugin("markdown")?,
        limiter: host.plugin("limiter")?,
        table: Table::new(),
        pace: Duration::from_secs_f64(args.pace.clamp(0.1, 60.0)),
        load: None,
        published: 0,
        unloaded: 0,
        host,
        libraries,
        plugin_dir,
    };
    demo.play(args, &documents)?;
    demo.verdict()
}

struct Demo {
    host: Host,
    events: Events,
    markdown: Plugin,
    limiter: Plugin,
    table: Table,
    libraries: BTreeMap<String, PathBuf>,
    plugin_dir: PathBuf,
    pace: Duration,
    load: Option<Load>,
    published: u64,
    unloaded: u64,
}

impl Demo {
    fn play(
        &mut self,
        args: &DemoArgs,
        documents: &Arc<Vec<corpus::Document>>,
    ) -> Result<(), Box<dyn Error>> {
        self.drop_file("markdown-v1", "markdown-1.0.0.so")?;
        self.load = Some(Load::start(args.threads, documents, &self.markdown, &self.limiter));
        self.linger();
        self.drop_file("markdown-v2", "markdown-2.0.0.so")?;
        self.linger();
        self.table.say("deleting markdown-2.0.0.so: the version before takes over");
        fs::remove_file(self.plugin_dir.join("markdown-2.0.0.so"))?;
        self.wait_published("markdown@1.0.0")?;
        self.linger();
        self.drop_file("markdown-v2", "markdown-2.0.0.so")?;
        self.linger();
        self.drop_file("limiter-v1", "limiter-1.0.0.so")?;
        if let Some(load) = &self.load {
            load.limiter_is_there();
        }
        self.linger();
        self.drop_file("limiter-v2", "limiter-2.0.0.so")?;
        self.linger();
        self.drop_file("limiter-v3", "limiter-3.0.0.so")?;
        self.linger();
        self.table.say("activating limiter 2.0.0: its state steps down");
        let wanted = Some("2.0.0".parse()?);
        self.host.activate(self.limiter.name(), wanted).wait()?;
        self.wait_published("limiter@2.0.0")?;
        self.linger();
        Ok(())
    }

    /// Copies a library beside the directory and renames it in.
    fn drop_file(&mut self, package: &str, name: &str) -> Result<(), Box<dyn Error>> {
        self.table.say(&format!("dropping {name}"));
        let library = self.libraries.get(package).ok_or("a sample plugin was not built")?;
        let beside = self.plugin_dir.with_file_name(format!("{name}.part"));
        fs::copy(library, &beside)?;
        fs::rename(&beside, self.plugin_dir.join(name))?;
        let version = name.strip_suffix(".so").unwrap_or(name).replacen('-', "@", 1);
        self.wait_published(&version)
    }

    fn wait_published(&mut self, version: &str) -> Result<(), Box<dyn Error>> {
        let until = Instant::now() + STEP_MAX;
        while Instant::now() < until {
            for event in self.read_events() {
                let id = event.version.as_deref().unwrap_or_default();
                match &event.kind {
                    EventKind::Published { .. } if id.starts_with(version) => return Ok(()),
                    EventKind::DeployFailed { failure, .. } => {
                        return Err(format!("{id} was not deployed: {failure}; {}", failure.next).into());
                    }
                    _ => {}
                }
            }
        }
        Err(format!("{version} was not published within {} s", STEP_MAX.as_secs()).into())
    }

    /// Lets the load run for a while.
    fn linger(&mut self) {
        let until = Instant::now() + self.pace;
        while Instant::now() < until {
            self.read_events();
        }
    }

    /// Waits a moment for events, tells about them, and draws the table.
    fn read_events(&mut self) -> Vec<Arc<Event>> {
        let mut events = Vec::new();
        let mut wait = Duration::from_millis(20);
        while let Next::Event(event) = self.events.next_within(wait) {
            wait = Duration::ZERO;
            self.tell_event(&event);
            events.push(event);
        }
        if let Some(load) = &self.load {
            self.table.draw(&self.host, &load.totals);
        }
        events
    }

    fn tell_event(&mut self, event: &Event) {
        let id = event.version.as_deref().unwrap_or_default();
        match &event.kind {
            EventKind::Published { stages, .. } => {
                self.published += 1;
                self.table.say(&format!(
                    "  {id} serves {:.1} ms after it was noticed; callers paused {} us; pointer and barrier {:.1} us",
                    stages.total_us as f64 / 1e3,
                    stages.pause_us,
                    stages.publish_ns as f64 / 1e3
                ));
            }
            EventKind::StateHandedOver { from_schema, to_schema, bytes, loss } => {
                let loss = if loss.is_empty() { "nothing" } else { loss };
                self.table.say(&format!(
                    "  {id} took {bytes} bytes of state, schema {from_schema} to {to_schema}; lost: {loss}"
                ));
            }
            EventKind::Drained { micros } => self.table.say(&format!("  {id} drained in {micros} us")),
            EventKind::Unloaded { micros, calls, leftover_bytes, .. } => {
                self.unloaded += 1;
                self.table.say(&format!(
                    "  {id} unmapped after {calls} calls, proven {:.1} ms after the drain; {leftover_bytes} bytes it had left were freed",
                    *micros as f64 / 1e3
                ));
            }
            EventKind::Resident { pins } => {
                self.table.say(&format!("  {id} stays in memory: {}", pins.join("; ")))
            }
            _ => {}
        }
    }

    /// Stops the load, compares the books, ends the host, and says what held.
    fn verdict(mut self) -> Result<bool, Box<dyn Error>> {
        let load = self.load.take().ok_or("the load was not started")?;
        let totals = Arc::clone(&load.totals);
        let acknowledged = load.stop();
        let mut lost = 0;
        for (key, expected) in &acknowledged {
            let counted: u64 = self.limiter.call("count", key.as_bytes())?.text()?.trim().parse()?;
            lost += counted.abs_diff(*expected);
        }
        self.table.say("stopping the host");
        self.host.shutdown()?;
        while let Next::Event(event) = self.events.next_within(Duration::ZERO) {
            self.tell_event(&event);
        }
        let failed = totals.failed.load(Ordering::Relaxed);
        let wrong = totals.wrong.load(Ordering::Relaxed);
        for error in totals.errors.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            println!("  failed: {error}");
        }
        println!();
        println!("answers compared   {}", totals.answers() + wrong);
        println!("wrong answers      {wrong}");
        println!("failed calls       {failed}");
        println!("updates            {}", acknowledged.values().sum::<u64>());
        println!("lost updates       {lost}");
        println!("unloads proven     {} of {}", self.unloaded, self.published);
        let all_held = failed == 0 && wrong == 0 && lost == 0 && self.unloaded == self.published;
        println!("{}", if all_held { "everything held" } else { "SOMETHING DID NOT HOLD" });
        Ok(all_held)
    }
}
