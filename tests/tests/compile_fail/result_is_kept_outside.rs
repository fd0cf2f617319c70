//! Nor is it left in a variable that lives longer.

use pairs::every::Every;
use replug_host::Typed;

fn keep(every: &Typed<dyn Every>) {
    let mut kept = None;
    let _ = every.call(|every| {
        kept = Some(every.fields()?[0]);
        Ok(())
    });
    println!("{kept:?}");
}

fn main() {}
