//! A plugin could leave text of its own in what it may write to, also behind
//! another name.

use abi_stable::std_types::RStr;
use replug_plugin_api::interface::interface;

type Name = RStr<'static>;

#[interface(id = "bad.place", version = "1.0.0")]
pub trait Place {
    fn put(&self, place: &mut Name);
}

#[interface(id = "bad.places", version = "1.0.0")]
pub trait Places {
    fn put_all(&self, places: &mut [Name]);
}

fn main() {}
