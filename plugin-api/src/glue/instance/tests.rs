//! Who owns an instance that async handlers hold shares of, and who drops it.

use super::*;
use crate::{
    OwnedCall, Snapshot,
    glue::{ServiceTable, SnapshotModel, answer::Answer},
    state::{Link, State, encode},
    testing, tokio,
};
use replug_abi::{Interface, Pending, Request};
use serde::{Deserialize, Serialize};
use std::{
    future::pending,
    sync::{Mutex, mpsc},
    time::Duration,
};

const LONG: Duration = Duration::from_secs(60);

/// Says when it is dropped, by which its sender ends too.
struct Held {
    entered: mpsc::Sender<()>,
    dropped: mpsc::Sender<()>,
    /// What a closure on a thread of the runtime waits for.
    release: Mutex<mpsc::Receiver<()>>,
    /// Read by that closure.
    name: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.dropped.send(()).expect("the test listens");
    }
}

impl Plugin for Held {
    type Config = ();

    fn prepare((): (), _: &Context) -> Result<Self> {
        Err(Error::new("test", "tests make it"))
    }

    fn methods(methods: &mut Methods<Self>) {
        methods.async_method("wait", "Never answers", |held, _: OwnedCall| async move {
            held.entered.send(()).expect("the test listens");
            pending::<()>().await;
            drop(held);
            Ok(())
        });
        methods.async_method("block", "Answers when it is let", |held, _: OwnedCall| async move {
            let blocked = tokio::task::spawn_blocking(move || {
                held.entered.send(()).expect("the test listens");
                let release = held.release.lock().expect("one closure only");
                release.recv().expect("the test lets it go");
                assert_eq!(held.name, "held");
            });
            blocked.await.map_err(|error| Error::new("test", error.to_string()))?;
            Ok(())
        });
    }
}

#[derive(Serialize, Deserialize)]
struct Name(String);

impl State for Name {
    const VERSION: u32 = 1;
    const PREVIOUS: Option<Link> = None;
}

impl Snapshot for Held {
    type State = Name;

    fn export(&self) -> Result<Name> {
        Ok(Name(self.name.clone()))
    }

    fn restore(&mut self, Name(name): Name) -> Result<()> {
        self.name = name;
        Ok(())
    }
}

struct Named;

impl Exports for Named {
    const NAME: &'static str = "held";
    const VERSION: &'static str = "1.0.0";
    const TABLES: bool = false;
    const PROVIDES: &'static [Interface] = &[];
}

type Table = InstanceTable<Held, Named, SnapshotModel<Held>>;

/// An instance, called as a host does.
struct Hosted {
    instance: Instance,
    entered: mpsc::Receiver<()>,
    dropped: mpsc::Receiver<()>,
    release: mpsc::Sender<()>,
}

impl Hosted {
    fn new() -> Hosted {
        let (entered, is_entered) = mpsc::channel();
        let (dropped, is_dropped) = mpsc::channel();
        let (release, is_released) = mpsc::channel();
        let plugin = Held { entered, dropped, release: Mutex::new(is_released), name: "new".to_owned() };
        let cell = Cell { plugin, methods: Methods::of_plugin(), context: testing::context() };
        Hosted { instance: cell.into_instance(), entered: is_entered, dropped: is_dropped, release }
    }

    /// Gives it the state that its methods look for.
    fn restore(&self) -> (Status, String) {
        let state = encode(&Name("held".to_owned())).expect("has bytes");
        told(|sink| {
            // SAFETY: the instance is alive, and hooks run one at a time.
            unsafe { Table::VTABLE.restore()(self.instance, 1, RSlice::from_slice(&state), sink) }
        })
    }

    /// Starts a method, and waits until it runs.
    fn start(&self, method: &str) -> Pending {
        let mut started = Pending::NULL;
        let (status, _) = told(|sink| {
            let request = Request::new(method, b"");
            // SAFETY: the instance is alive.
            unsafe { ServiceTable::<Held>::VTABLE.start()(self.instance, &request, &mut started, sink) }
        });
        assert_eq!(status, Status::PENDING);
        self.entered.recv_timeout(LONG).expect("runs");
        started
    }

    fn stop(&self) {
        let deadline_ns = clock::monotonic_ns() + LONG.as_nanos() as u64;
        // SAFETY: as in `restore`.
        let stopped = told(|sink| unsafe { Table::VTABLE.stop()(self.instance, deadline_ns, sink) });
        assert_eq!(stopped, (Status::OK, String::new()));
    }

    fn destroy(&self) {
        // SAFETY: every test does it once, and uses the instance no more.
        let destroyed = told(|sink| unsafe { Table::VTABLE.destroy()(self.instance, sink) });
        assert_eq!(destroyed, (Status::OK, String::new()));
    }

    fn is_alive(&self) -> bool {
        self.dropped.try_recv() == Err(mpsc::TryRecvError::Empty)
    }

    /// It is dropped now, or by and by, and was not before.
    fn is_dropped_once(&self) {
        self.dropped.recv_timeout(LONG).expect("is dropped");
        let next = self.dropped.recv_timeout(LONG);
        assert_eq!(next, Err(mpsc::RecvTimeoutError::Disconnected), "it has ended, and says no more");
    }
}

fn cancel(started: Pending) {
    // SAFETY: `start` gave it, and it is used no more.
    let status = unsafe { ServiceTable::<Held>::VTABLE.cancel()(started) };
    assert_eq!(status, Status::OK);
}

/// The status of a function, and the code of its error.
fn told(call: impl FnOnce(&Sink) -> Status) -> (Status, String) {
    let (status, answer) = Answer::collect(call);
    (status, answer.into_result(status, "").err().map_or_else(String::new, |error| error.code().to_owned()))
}

#[test]
fn an_instance_that_a_handler_shares_takes_no_state_and_is_dropped_once() {
    let hosted = Hosted::new();
    assert_eq!(hosted.restore(), (Status::OK, String::new()));
    let started = hosted.start("wait");
    assert_eq!(hosted.restore(), (Status::ERROR, "restore.shared".to_owned()));
    hosted.stop();
    assert!(hosted.is_alive(), "the host still has it");
    hosted.destroy();
    hosted.is_dropped_once();
    cancel(started);
}

#[test]
fn an_instance_that_is_not_stopped_is_dropped_when_the_last_closure_that_shares_it_returns() {
    let hosted = Hosted::new();
    assert_eq!(hosted.restore(), (Status::OK, String::new()));
    let started = hosted.start("block");
    hosted.destroy();
    assert!(hosted.is_alive(), "a closure still reads it");
    hosted.release.send(()).expect("the closure waits");
    hosted.is_dropped_once();
    cancel(started);
}
