//! The door through which the host's threads run a plugin's wakers.
//!
//! A waker that a plugin lends when it polls a call of another plugin is a
//! pointer into its text. Clones of it go far: to another plugin's gate, to the
//! timer, into another plugin's runtime. No lease and no frame counts the
//! threads that wake them, and an author may forget the future whose end would
//! take them back. So every clone goes through the door of its version, which
//! is shut before the library is closed: what is woken or dropped afterwards
//! does nothing, and what it would have freed is among the version's leftovers.
//!
//! It never waits: who closes the library asks again until nobody is inside.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Open until it is [`shut`](Door::shut), which is for good.
#[derive(Debug, Default)]
pub(crate) struct Door(AtomicUsize);

/// The high bit; the others count the threads inside.
const SHUT: usize = 1 << (usize::BITS - 1);

impl Door {
    /// Lets this thread in, unless the door is shut. Threads may enter more
    /// than once at the same time: a waker may wake another.
    pub(crate) fn enter(&self) -> Option<Inside<'_>> {
        // Acquire: what follows stays behind it. That the count is seen, or
        // SHUT is, needs no more than that both are changes of one word.
        let before = self.0.fetch_add(1, Ordering::Acquire);
        let inside = Inside(self);
        (before & SHUT == 0).then_some(inside)
    }

    /// Lets nobody in from now on, and says whether nobody is inside: then
    /// nobody ever will be.
    pub(crate) fn shut(&self) -> bool {
        // Acquire: partner is the Release in `Inside::drop`.
        self.0.fetch_or(SHUT, Ordering::AcqRel) & !SHUT == 0
    }
}

/// The library stays mapped while this lives.
pub(crate) struct Inside<'a>(&'a Door);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // Release: partner is `shut`; who finds nobody inside finds all that
        // they did done.
        self.0.0.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{hint, sync::atomic::AtomicBool, thread};

    #[test]
    fn a_shut_door_is_never_entered_and_is_empty_when_the_last_has_left() {
        let door = Door::default();
        let (one, two) = (door.enter().expect("open"), door.enter().expect("open"));
        assert!(!door.shut());
        assert!(door.enter().is_none());
        drop(one);
        assert!(!door.shut());
        drop(two);
        assert!(door.shut() && door.shut());
        assert!(door.enter().is_none());
        assert!(door.shut(), "who was refused is not inside");
    }

    /// Once, it shut the door before the first visitor came, and nothing that it
    /// could have seen ever happened.
    #[test]
    fn nobody_is_inside_once_shutting_says_so() {
        for _ in 0..2_000 {
            let (door, mapped) = (Door::default(), AtomicBool::new(true));
            let has_come = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    while let Some(_inside) = door.enter() {
                        has_come.store(true, Ordering::Relaxed);
                        hint::spin_loop();
                        assert!(mapped.load(Ordering::Relaxed));
                    }
                });
                while !has_come.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
                while !door.shut() {
                    hint::spin_loop();
                }
                mapped.store(false, Ordering::Relaxed);
            });
        }
    }
}
