//! The child, from outside: started, followed, killed in time, and reaped.

use super::{
    Rehearsal, Report,
    error::RehearsalError,
    heard::{Ended, Heard, Over, verdict},
    scratch::Scratch,
    wire::{Bounds, FORMAT, Limits, Protection, Request, WantedInterface, rows_as_bytes},
};
use crate::{
    artifact::stage::PrivateCopy, id::Digest, service::KeptCall, state::envelope::Envelope, table::SampleRow,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal},
};
use std::{
    fs,
    io::{self, Read, Write},
    mem,
    net::Shutdown,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// How often it is looked whether the host ends.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A file that is copied when its turn comes.
pub(crate) enum Library {
    Named(PathBuf),
    /// It is there for as long as this is.
    Ours(PrivateCopy),
}

impl Library {
    fn path(&self) -> &Path {
        match self {
            Library::Named(path) => path,
            Library::Ours(copy) => copy.path(),
        }
    }
}

/// What is to be rehearsed.
pub(crate) struct Subject {
    /// The library, and the digest that it has.
    pub(crate) library: Library,
    pub(crate) digest: Digest,
    pub(crate) upgrade: Upgrade,
}

/// What it is upgraded from, and with what.
pub(crate) struct Upgrade {
    /// The library of the version before, where it converts the state, or gives it.
    pub(crate) before: Option<Library>,
    pub(crate) config: String,
    pub(crate) state: Option<Envelope>,
    /// Some rows of tables, by name.
    pub(crate) rows: Vec<(String, Vec<SampleRow>)>,
    /// Calls that came last.
    pub(crate) calls: Vec<KeptCall>,
    pub(crate) bounds: Bounds,
    pub(crate) interfaces: Vec<WantedInterface>,
    /// What belongs to it and could not be had.
    pub(crate) absent: Vec<Protection>,
}

/// Rehearses in a child that writes below `folder` only. Waits for its end, for as long
/// as the time limit allows at most, and not much longer than until `stop` is set.
pub(crate) fn run(
    rehearsal: &Rehearsal,
    mut subject: Subject,
    folder: &Path,
    stop: &AtomicBool,
) -> (Report, Result<(), RehearsalError>) {
    let begun = Instant::now();
    let absent = mem::take(&mut subject.upgrade.absent);
    let mut heard = Heard::default();
    let mut unfinished = None;
    let verdict = Scratch::new(folder).and_then(|scratch| {
        let verdict = follow(rehearsal, subject, &scratch, (&mut heard, stop));
        // The removal of the folder is no part of it.
        unfinished = heard.unfinished();
        verdict
    });
    let mut report = heard.report;
    report.unfinished = unfinished;
    report.protections.extend(absent);
    report.total_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    (report, verdict)
}

fn follow(
    rehearsal: &Rehearsal,
    Subject { library, digest, upgrade }: Subject,
    scratch: &Scratch,
    (heard, stop): (&mut Heard, &AtomicBool),
) -> Result<(), RehearsalError> {
    let until = Instant::now() + rehearsal.timeout;
    let Upgrade { before, config, state, rows, calls, bounds, interfaces, absent: _ } = upgrade;
    let state = state.map(|state| scratch.write("state", &state.seal().bytes)).transpose()?;
    let mut samples = Vec::new();
    for (index, (table, sample)) in rows.into_iter().enumerate() {
        samples.push((table, scratch.write(&format!("rows-{index}"), &rows_as_bytes(&sample))?));
    }
    let calls = Some(calls).filter(|calls| !calls.is_empty());
    let calls = calls.map(|calls| scratch.write("calls", &serde_json::to_vec(&calls).unwrap_or_default()));
    let calls = calls.transpose()?;
    let whole_s = rehearsal.timeout.as_secs().saturating_add(1);
    let request = Request {
        format: FORMAT,
        host: std::process::id(),
        library: library.path().to_owned(),
        digest,
        before: before.as_ref().map(|before| before.path().to_owned()),
        config,
        state,
        rows: samples,
        calls,
        bounds,
        interfaces,
        scratch: scratch.path().to_owned(),
        limits: Limits {
            // Of all its threads together.
            processor_s: whole_s.saturating_mul(16),
            // Both versions together take half of the time.
            replay_ms: u64::try_from(rehearsal.timeout.as_millis() / 4).unwrap_or(u64::MAX),
            ..rehearsal.limits
        },
    };
    let mut running = Running::start(rehearsal, &request, scratch.path())?;
    let ended = running.hear(heard, until, stop)?;
    verdict(rehearsal, heard, ended)
}

/// The child; killed with all that it started when this is dropped.
struct Running {
    child: Child,
    /// The child itself, whatever group it has gone to.
    end: OwnedFd,
    line: UnixStream,
    stderr: ChildStderr,
    limits: Limits,
    /// Its number is another's from then on.
    is_reaped: bool,
}

impl Running {
    fn start(rehearsal: &Rehearsal, request: &Request, folder: &Path) -> Result<Running, RehearsalError> {
        let host = |what| move |source| RehearsalError::Host { what, source };
        let (line, theirs) = UnixStream::pair().map_err(host("there is no line to the helper"))?;
        let mut command = Command::new(&rehearsal.helper);
        command.args(&rehearsal.args).process_group(0);
        // Temporary files where it may write.
        command.env("RUST_BACKTRACE", "0").env("TMPDIR", folder);
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::piped());
        let started = command.spawn();
        // With it goes the other end of the line.
        drop(command);
        let mut child =
            started.map_err(|source| RehearsalError::Helper { path: rehearsal.helper.clone(), source })?;
        let stderr = child.stderr.take().expect("it is piped");
        let end = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
        let end = match end {
            Ok(end) => end,
            Err(error) => {
                // It cannot be followed, so it must not run.
                let _ = child.kill().and_then(|()| child.wait());
                return Err(host("the helper cannot be followed")(error.into()));
            }
        };
        let limits = rehearsal.limits;
        let mut running = Running { child, end, line, stderr, limits, is_reaped: false };
        running.tell(request, rehearsal.timeout).map_err(host("the helper cannot be told what to do"))?;
        Ok(running)
    }

    fn tell(&mut self, request: &Request, within: Duration) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(request)?;
        bytes.push(b'\n');
        self.line.set_write_timeout(Some(within.max(Duration::from_millis(1))))?;
        match self.line.write_all(&bytes).and_then(|()| self.line.shutdown(Shutdown::Write)) {
            // It has ended, or hangs: what it says, or does not, is told instead.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected
                ) => {}
            told => told?,
        }
        self.line.set_nonblocking(true)?;
        rustix::io::ioctl_fionbio(&self.stderr, true).map_err(io::Error::from)
    }

    /// Listens until the child has ended, the time is over, or it is told to stop.
    fn hear(
        &mut self,
        heard: &mut Heard,
        until: Instant,
        stop: &AtomicBool,
    ) -> Result<Ended, RehearsalError> {
        let host = |source: io::Error| RehearsalError::Host { what: "the helper cannot be followed", source };
        let (mut line_open, mut stderr_open) = (true, true);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let ended = {
                let mut fds = vec![PollFd::new(&self.end, PollFlags::IN)];
                if line_open {
                    fds.push(PollFd::new(&self.line, PollFlags::IN));
                }
                if stderr_open {
                    fds.push(PollFd::new(&self.stderr, PollFlags::IN));
                }
                let timeout = Timespec::try_from(left.min(LOOK_EVERY)).unwrap_or_default();
                match poll(&mut fds, Some(&timeout)) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(host(error.into())),
                }
                !fds[0].revents().is_empty()
            };
            line_open = line_open && read_some(&mut self.line, |bytes| heard.say(bytes)).map_err(host)?;
            stderr_open =
                stderr_open && read_some(&mut self.stderr, |bytes| heard.shout(bytes)).map_err(host)?;
            if ended {
                let status = self.reap().map_err(host)?;
                self.hear_the_rest(heard).map_err(host)?;
                return Ok(Ended::Status(status));
            }
            let gone_on = left.is_zero() || heard.is_nonsense();
            // Relaxed: any time soon.
            let end = match (stop.load(Ordering::Relaxed), self.over(heard)) {
                (true, _) => Ended::Stopped,
                (false, Some(over)) => Ended::Over(over),
                (false, None) if gone_on => Ended::Killed,
                (false, None) => continue,
            };
            self.reap().map_err(host)?;
            return Ok(end);
        }
    }

    /// What it said before it ended. Nobody says more: the limit is for whoever holds the
    /// other end all the same.
    fn hear_the_rest(&mut self, heard: &mut Heard) -> io::Result<()> {
        for _ in 0..REST_BYTES_MAX / READ_BYTES {
            let begun = heard.bytes();
            read_some(&mut self.line, |bytes| heard.say(bytes))?;
            read_some(&mut self.stderr, |bytes| heard.shout(bytes))?;
            if heard.bytes() == begun || heard.is_nonsense() {
                break;
            }
        }
        Ok(())
    }

    /// What it holds too much of: what a step does is measured when it has ended, and the
    /// host may not live to see that.
    fn over(&self, heard: &Heard) -> Option<Over> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        // Not what a file can give again: the same limit is set on what it writes to.
        let kib = number("RssAnon:").saturating_add(number("RssShmem:"));
        let threads = number("Threads:");
        // The version before is just starting its own, or has told how many it has.
        let of_before = if heard.of_before { self.limits.threads } else { 0 };
        let besides = of_before.saturating_add(heard.besides).saturating_add(SPARE_THREADS);
        if threads > self.limits.threads.saturating_add(besides) {
            return Some(Over::Threads(threads));
        }
        (kib > self.limits.memory_bytes / 1024).then_some(Over::MemoryKib(kib))
    }

    /// Kills it and what it has started, as far as that runs yet, and waits for its end. The
    /// number of its group is its own until then.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        if !self.is_reaped {
            // Whatever has ended by itself cannot be killed.
            let _ = pidfd_send_signal(&self.end, Signal::KILL);
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
        let status = self.child.wait();
        self.is_reaped = status.is_ok();
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It was reaped before if all went well, which is told at once.
        let _ = self.reap();
    }
}

/// The child's own threads, with what its libraries start.
const SPARE_THREADS: u64 = 16;
/// What is read when it has ended, at most.
const REST_BYTES_MAX: usize = 1024 * 1024;
/// What is read at a time: far more than a child has to say.
const READ_BYTES: usize = 64 * 1024;

/// Reads some of what there is now; whether more may come. Not all of it: whoever says more
/// and more is cut off in time all the same.
fn read_some(from: &mut impl Read, mut take: impl FnMut(&[u8])) -> io::Result<bool> {
    let mut bytes = [0; 4096];
    for _ in 0..READ_BYTES / bytes.len() {
        match from.read(&mut bytes) {
            Ok(0) => return Ok(false),
            Ok(count) => take(&bytes[..count]),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => return Ok(true),
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::ConnectionReset => return Ok(false),
                _ => return Err(error),
            },
        }
    }
    Ok(true)
}
