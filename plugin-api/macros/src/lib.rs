//! Derive macros of `replug-plugin-api`, which re-exports and documents them.
//!
//! Each macro has a module of its own that works on token streams; this file
//! only enters them, and turns an error into one that the compiler shows at its
//! place.

mod export;
mod state;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Derives `State`; see `replug_plugin_api::state`.
#[proc_macro_derive(State, attributes(state))]
pub fn derive_state(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    state::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a type that implements `Plugin` the plugin of this cdylib.
///
/// One line at the end of the crate: `export!(Type);` or with options:
///
/// | option | default | says |
/// |---|---|---|
/// | `name = "markdown"` | the package's name | name of the plugin |
/// | `version = "1.2.0"` | the package's version | version of the plugin |
/// | `state = snapshot` | `stateless` | the type implements `Snapshot` |
/// | `allocator = system` | `ledger` | heap blocks are not counted, and not freed after unloading |
/// | `dependencies = ["templates ^2.1"]` | none | plugins that this one calls |
/// | `routes = ["/render"]` | none | routes that it asks to be served under |
/// | `capabilities = ["preview/1"]` | none | optional abilities |
/// | `interfaces = [ROW]` | none | further rows of the root module |
///
/// It adds nothing to the crate's own tests (`cfg(test)`).
#[proc_macro]
pub fn export(input: TokenStream) -> TokenStream {
    let export = parse_macro_input!(input as export::Export);
    export::expand(&export).unwrap_or_else(syn::Error::into_compile_error).into()
}
