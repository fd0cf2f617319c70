//! The process that is killed: a host on directories that outlive it, which
//! says what it finds there, and then is written to and changed until it ends.
//!
//! It ends by itself when nobody listens to it any more, so that none is left
//! behind.

use crate::{
    changes::{Changes, pause_now_and_then},
    names,
    victim::{Found, Role, Victim, drop_in, file_name, major_of},
    words::{Word, trouble},
    writers::Writers,
};
use replug_host::{
    Host, TableStatus,
    event::{EventKind, Next},
};
use replug_tests::{dice::Dice, harness::wait_until};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io, process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// Longer than any host lives here.
const LONG: Duration = Duration::from_secs(3_600);

/// The life of a victim.
pub(crate) fn live(role: &Role) {
    // A host before may have been killed while one was out.
    for major in 1..=3 {
        if !role.home.join("plugins").join(file_name(major)).exists() {
            drop_in(&role.home, major).expect("a library is dropped");
        }
    }
    let mut dice = Dice::new(1 << 8, role.seed);
    let probation = match dice.below(3) {
        // Rows are swept when their version is committed, and that is waited for.
        _ if role.only_sweeps => Duration::ZERO,
        0 => Duration::ZERO,
        1 => Duration::from_millis(15),
        _ => LONG,
    };
    let host = Host::builder(role.home.join("plugins"))
        .data_dir(role.home.join("data"))
        .config("sessions", json!({ "durability": role.durability }))
        .probation(probation)
        .start()
        .expect("the host starts");
    let sessions = host.plugin("sessions").expect("a name");
    let victim = Victim { host, sessions, home: role.home.clone(), is_ending: AtomicBool::new(false) };
    let victim = Arc::new(victim);
    listen(&victim);
    wait_for_choice(&victim);
    tell_troubles(&victim);
    if victim.call("count", "").is_ok_and(|count| count == "0") {
        let fill = json!({"from": 0, "count": names::FILLED}).to_string();
        victim.call("fill", &fill).expect("it is filled");
        Word::Decide { major: 1 }.say();
        let first = "1.0.0".parse().expect("a version");
        victim.host.activate(victim.sessions.name(), Some(first)).wait().expect("the first is chosen");
        Word::Decided { major: 1 }.say();
    }
    let found = tell(&victim);
    if role.only_sweeps {
        return sweep(&victim);
    }
    Word::Load.say();
    let writers = Writers { victim: Arc::clone(&victim), seed: role.seed, found };
    let threads = writers.start();
    let (paused, pauses) = (Arc::clone(&victim), Dice::new(1 << 10, role.seed));
    let pauses = thread::spawn(move || pause_now_and_then(&paused, pauses));
    Changes::new(victim, dice).make();
    pauses.join().expect("who pauses does not panic");
    threads.into_iter().for_each(|thread| thread.join().expect("a writer does not panic"));
    // Whoever listens ends this process.
    loop {
        thread::park();
    }
}

/// Ends when told to, and at once when nobody is there any more.
fn listen(victim: &Arc<Victim>) {
    let victim = Arc::clone(victim);
    thread::spawn(move || {
        let mut line = String::new();
        if io::stdin().read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            shut_down(&victim);
        }
        process::exit(0);
    });
}

fn shut_down(victim: &Victim) {
    victim.is_ending.store(true, Ordering::Release);
    if let Err(error) = victim.host.shutdown() {
        trouble(format_args!("shutdown: {error}"));
    }
    Word::End.say();
}

/// Waits until what serves is what was chosen, and says what that is.
fn wait_for_choice(victim: &Victim) {
    let mut major = 0;
    wait_until("the version that was chosen", || {
        let status = victim.status();
        let plugin = status.plugin("sessions");
        let Some(active) = plugin.and_then(|plugin| plugin.active.as_deref().map(major_of)) else {
            return false;
        };
        major = active;
        let pinned = plugin.and_then(|plugin| plugin.pinned.as_deref().map(major_of));
        pinned.is_none_or(|pinned| pinned == active)
    });
    let mut events = victim.host.events_since(1);
    let mut published = 0;
    while let Next::Event(event) = events.next_within(Duration::ZERO) {
        published += u64::from(matches!(event.kind, EventKind::Published { .. }));
    }
    Word::Active { major, published }.say();
}

/// Tells of every event that says that something is wrong.
fn tell_troubles(victim: &Victim) {
    let mut events = victim.host.events_since(1);
    thread::spawn(move || {
        loop {
            let event = match events.next_within(LONG) {
                Next::Event(event) => event,
                Next::Ended => return,
                Next::Nothing | Next::Lost(_) => continue,
            };
            match &event.kind {
                EventKind::DeployFailed { failure, .. } if failure.code == "route.shared_state" => {}
                EventKind::DeployFailed { .. }
                | EventKind::Refused { .. }
                | EventKind::Resident { .. }
                | EventKind::StateProblem { .. }
                | EventKind::TableLoss { .. }
                | EventKind::HostProblem { .. } => trouble(format_args!("event: {event:?}")),
                _ => {}
            }
        }
    });
}

/// Says all that is there, read row by row and by scans.
fn tell(victim: &Victim) -> Found {
    let major = victim.sessions.version().map_or(0, |id| id.version.major);
    let mut found = Found::default();
    for token in names::tokens() {
        let row = match victim.call("get", &token) {
            Ok(row) => row,
            Err(error) if error.to_string().contains("there is no session") => continue,
            Err(error) => {
                trouble(format_args!("get {token}: {error}"));
                continue;
            }
        };
        match parts(major, &row) {
            Some((user, hits)) => Word::Row { token: token.clone(), user, hits }.say(),
            None => trouble(format_args!("{token} is no row of {major}.0.0: {row}")),
        }
        found.there.insert(token);
    }
    let mut unnamed: BTreeMap<String, String> =
        found.there.iter().map(|token| (token.clone(), names::user_of(token))).collect();
    for user in names::users() {
        let of = victim.call("of", &user).unwrap_or_else(|error| {
            trouble(format_args!("of {user}: {error}"));
            "[]".to_owned()
        });
        let tokens: Vec<String> = serde_json::from_str(&of).expect("a list");
        for token in &tokens {
            if unnamed.remove(token).is_none_or(|owner| owner != user) {
                found.strays.insert(token.clone());
            }
        }
        Word::Named { user, tokens }.say();
    }
    found.strays.extend(unnamed.into_keys());
    match victim.call("audit", "").map(|audit| serde_json::from_str::<Value>(&audit)) {
        Ok(Ok(audit)) => {
            let number = |name: &str| audit[name].as_u64().unwrap_or(u64::MAX);
            let (sessions, hits, strays) = (number("sessions"), number("hits"), number("strays"));
            Word::Audit { sessions, hits, strays }.say();
        }
        other => trouble(format_args!("audit: {other:?}")),
    }
    Word::Told.say();
    found
}

/// User and hits of a row, if it has the shape of this version.
fn parts(major: u64, row: &str) -> Option<(String, u64)> {
    let row: Value = serde_json::from_str(row).ok()?;
    let row = row.as_object()?;
    let fields: &[&str] = match major {
        1 => &["user", "opened_ms", "hits"],
        2 => &["user", "opened_ms", "last_used_ms", "hits"],
        _ => &["user", "times", "visits"],
    };
    let has_all = fields.iter().all(|field| row.contains_key(*field)) && row.len() == fields.len();
    let hits = row.get("hits").or_else(|| row.get("visits"))?.as_u64()?;
    has_all.then(|| (row["user"].as_str().unwrap_or_default().to_owned(), hits))
}

/// Waits until all rows are what the version wants, and ends.
fn sweep(victim: &Victim) {
    let tables = || {
        let status = victim.status();
        let tables = &status.plugin("sessions")?.tables;
        let is_done = |table: &TableStatus| table.sweep.as_ref().is_some_and(|sweep| sweep.done);
        (tables.len() == 2 && tables.iter().all(is_done)).then(|| tables.clone())
    };
    let mut swept = Vec::new();
    wait_until("the sweeps", || tables().map(|tables| swept = tables).is_some());
    let schema = |name: &str| swept.iter().find(|table| table.name == name).map_or(0, |table| table.schema);
    let failed = swept.iter().filter_map(|table| table.sweep.as_ref()).map(|sweep| sweep.failed).sum();
    Word::Swept { sessions: schema("sessions"), by_user: schema("by_user"), failed }.say();
    shut_down(victim);
}
