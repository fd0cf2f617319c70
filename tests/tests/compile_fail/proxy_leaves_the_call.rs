//! The proxy ends with the closure too.

use pairs::every::Every;
use replug_host::Typed;

fn keep(every: &Typed<dyn Every>) {
    let mut kept = None;
    let _ = every.call(|every| {
        kept = Some(every);
        Ok(())
    });
    let _ = kept.map(|every| every.touch());
}

fn main() {}
