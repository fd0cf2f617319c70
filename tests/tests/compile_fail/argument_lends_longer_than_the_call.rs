//! A result that borrows from an argument may come from the plugin all the same.

use pairs::every::{Every, Field};
use replug_host::Typed;

fn split<'a>(every: &Typed<dyn Every>, line: &'a str) -> Field<'a> {
    every.call(|every| every.split(line)).unwrap()
}

fn main() {}
