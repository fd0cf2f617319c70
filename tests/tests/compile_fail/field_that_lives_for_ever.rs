//! Text of a plugin does not live for ever.

use abi_stable::{StableAbi, std_types::RStr};
use replug_plugin_api::interface::Portable;

#[repr(C)]
#[derive(Clone, Copy, StableAbi, Portable)]
pub struct Field<'a> {
    pub key: RStr<'a>,
    pub value: RStr<'static>,
}

fn main() {}
