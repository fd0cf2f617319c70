//! Models: the core's own code, run in every order that the memory model
//! allows, by [loom](https://docs.rs/loom).
//!
//! Built with `--cfg loom` only, and run by `scripts/check`. `sync.rs` then
//! gives loom's primitives, and both halves of the barrier are SeqCst fences:
//! membarrier is the kernel's and cannot be modelled, so what the models show
//! is that fences suffice where the core has its barrier. That membarrier is
//! as good as a fence is the kernel's promise, and tried by the soaks.
//!
//! Each model names the *mutations* that it was seen to catch: changes of the
//! core after which it fails. Who changes an ordering tries them again. Where a
//! fence is, the models cannot tell that an Acquire beside it is needed too:
//! the one in `protect` is, on the hot path, where there is no fence.

mod calls;
mod gate;
mod leaving;

use super::record::end_thread;
use super::*;
use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::atomic::AtomicBool;
use loom::thread::{self, JoinHandle};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Runs `body` in every order; with `preemptions`, in those in which no more
/// threads than that are interrupted where they need not wait.
fn model(name: &str, preemptions: Option<usize>, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 10_000;
    let orders = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        make_statics();
        body();
        end_thread();
    });
    println!("{name}: {} orders", orders.load(Relaxed));
}

/// Statics are made when they are first used, and who comes second is ordered
/// after who came first; here all threads are.
fn make_statics() {
    let version = Plugin::new(0).version();
    drop(version.lease(Holder::new("model", 0)));
    let drained = version.retire().try_drained().expect("never called");
    drop(drained.finish().expect("never called"));
}

fn spawn<R: 'static>(body: impl FnOnce() -> R + 'static) -> JoinHandle<R> {
    thread::spawn(move || {
        let result = body();
        end_thread();
        result
    })
}

fn join<R>(thread: JoinHandle<R>) -> R {
    thread.join().expect("a model's threads return")
}

/// Between two threads, orders nothing. loom remembers only the last access to
/// an atomic, so a thread that reads one before it writes it hides the race
/// with an earlier reader; a hint after the write and before the read makes
/// loom try both orders all the same.
#[derive(Clone)]
struct Hint(Arc<AtomicBool>);

impl Hint {
    fn new() -> Self {
        Hint(Arc::new(AtomicBool::new(false)))
    }

    fn written(&self) {
        self.0.store(true, Relaxed);
    }

    fn about_to_read(&self) {
        self.0.load(Relaxed);
    }
}

/// Stands for memory of a library: loom reports a use that is not ordered
/// before `unload`, even if it happened to come first.
struct Memory(UnsafeCell<bool>);

impl Memory {
    fn new() -> Self {
        Memory(UnsafeCell::new(true))
    }

    fn run(&self) {
        // SAFETY: loom reports it if `unload` is at work.
        self.0.with(|loaded| assert!(unsafe { *loaded }, "code runs that is unloaded"));
    }

    fn unload(&self) {
        // SAFETY: loom reports it if anybody else is at work.
        self.0.with_mut(|loaded| unsafe { *loaded = false });
    }
}

/// What a version is made of, and what the model keeps of it.
#[derive(Clone)]
struct Plugin(Arc<Parts>);

struct Parts {
    /// What calls run: nobody does any more once the version has drained.
    code: Memory,
    /// What threads run when they detach: nobody does once it is finished.
    locals: Memory,
    /// What each call may add one to.
    state: UnsafeCell<u64>,
}

// SAFETY: every access goes through a cell, and loom reports those that are
// not ordered.
unsafe impl Sync for Parts {}
// SAFETY: numbers, bound to no thread.
unsafe impl Send for Parts {}

impl Plugin {
    fn new(state: u64) -> Self {
        let state = UnsafeCell::new(state);
        Plugin(Arc::new(Parts { code: Memory::new(), locals: Memory::new(), state }))
    }

    fn version(&self) -> Version<Plugin> {
        Version::new(self.clone()).expect("models use few versions")
    }

    /// A slot in which it is live.
    fn slot(&self) -> Arc<Slot<Plugin>> {
        let slot = Arc::new(Slot::new(Duration::ZERO));
        slot.publish(self.version()).expect("open");
        slot
    }

    fn run(&self) {
        self.0.code.run();
    }

    fn add(&self) {
        self.run();
        // SAFETY: loom reports it if anybody else is at work.
        self.0.state.with_mut(|state| unsafe { *state += 1 });
    }

    fn state(&self) -> u64 {
        // SAFETY: loom reports it if `add` is at work.
        self.0.state.with(|state| unsafe { *state })
    }

    /// Takes away what calls run if the version has drained, as the engine
    /// may.
    fn unload_if_drained(&self, retired: &Retired<Plugin>) {
        if retired.is_drained() {
            self.0.code.unload();
        }
    }
}

impl Payload for Plugin {
    fn detach_thread(&self, _: &Outside) -> u64 {
        self.0.locals.run();
        1
    }
}

fn run(slot: &Slot<Plugin>) -> Result<(), Refused> {
    slot.enter(|call| call.payload().run())
}

fn replace(slot: &Slot<Plugin>) -> Retired<Plugin> {
    slot.publish(Plugin::new(0).version()).expect("open").expect("one was live")
}
