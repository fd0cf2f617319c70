//! Nobody can see from a layout that a function writes its result, or of which
//! plugin its instance is: whoever makes a row says so.

use pairs::every::Every;
use replug_plugin_api::interface::{Interface, InterfaceVersion, TypedInterface};

fn row(vtable: <dyn Every as TypedInterface>::Vtable) -> Interface {
    Interface::new("pairs.every", InterfaceVersion::new(1, 0, 0), vtable)
}

fn main() {}
