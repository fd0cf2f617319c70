//! Memory of one side is not freed by the other.

use abi_stable::{StableAbi, std_types::RString};
use replug_plugin_api::interface::{Portable, interface};

#[repr(C)]
#[derive(Clone, StableAbi)]
pub struct Line {
    pub text: RString,
}

#[interface(id = "bad.owned", version = "1.0.0")]
pub trait Owned {
    fn line(&self) -> Line;
}

#[interface(id = "bad.argument", version = "1.0.0")]
pub trait Argument {
    fn line(&self, line: String);
}

#[repr(C)]
#[derive(Clone, StableAbi, Portable)]
pub struct Copied {
    pub text: RString,
}

fn main() {}
