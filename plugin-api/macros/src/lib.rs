//! Derive macros of `replug-plugin-api`, which re-exports and documents them.
//!
//! Each macro has a module of its own that works on token streams; this file
//! only enters them, and turns an error into one that the compiler shows at its
//! place.

mod export;
mod interface;
mod portable;
mod state;

use proc_macro::TokenStream;
use syn::{DeriveInput, ItemTrait, parse_macro_input};

/// Derives `State`; see `replug_plugin_api::state`.
#[proc_macro_derive(State, attributes(state))]
pub fn derive_state(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    state::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

// Documented where it is re-exported: its examples need the SDK.
#[expect(missing_docs, reason = "see above")]
#[proc_macro]
pub fn export(input: TokenStream) -> TokenStream {
    let export = parse_macro_input!(input as export::Export);
    export::expand(&export).unwrap_or_else(syn::Error::into_compile_error).into()
}

// Documented where it is re-exported: its examples need the SDK.
#[expect(missing_docs, reason = "see above")]
#[proc_macro_attribute]
pub fn interface(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let arguments = parse_macro_input!(arguments as interface::Arguments);
    let item = parse_macro_input!(item as ItemTrait);
    interface::expand(arguments, item).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Derives `Portable`; see `replug_plugin_api::interface`.
#[proc_macro_derive(Portable)]
pub fn derive_portable(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    portable::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
