//! Not even the module of the trait can make a proxy that lives for ever.

use replug_plugin_api::interface::interface;

#[interface(id = "bad.proxy", version = "1.0.0")]
pub trait Kept {
    fn get(&self) -> u8;
}

pub fn for_ever(proxy: KeptProxy<'_>) -> KeptProxy<'static> {
    let KeptProxy { callee } = proxy;
    KeptProxy { callee }
}

fn main() {}
