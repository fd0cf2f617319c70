//! What a plugin lends ends with the closure.

use pairs::every::Every;
use replug_host::Typed;

fn name(every: &Typed<dyn Every>) -> &str {
    every.call(|every| every.name()).unwrap()
}

fn main() {}
