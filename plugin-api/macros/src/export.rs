//! `export!(Type, option = value, …)`: reads the options and writes the module
//! that makes a cdylib a plugin.
//!
//! All that can be ordinary generic code stands in the SDK; this emits only
//! what must be in the final crate: constants of the author's choice, statics
//! that the linker must keep, and the hidden symbols.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Error, Expr, Ident, LitStr, Result, Token, Type, bracketed,
    parse::{Parse, ParseStream},
    punctuated::Punctuated,
};

const OPTIONS: &str = "name, version, state, allocator, interfaces, dependencies, routes, capabilities";

pub(crate) struct Export {
    plugin: Type,
    name: Option<LitStr>,
    version: Option<LitStr>,
    snapshot: bool,
    system_allocator: bool,
    interfaces: Vec<Expr>,
    dependencies: Vec<LitStr>,
    routes: Vec<LitStr>,
    capabilities: Vec<LitStr>,
}

impl Parse for Export {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut export = Export {
            plugin: input.parse()?,
            name: None,
            version: None,
            snapshot: false,
            system_allocator: false,
            interfaces: Vec::new(),
            dependencies: Vec::new(),
            routes: Vec::new(),
            capabilities: Vec::new(),
        };
        let mut seen = Vec::new();
        while !input.is_empty() {
            input.parse::<Token![,]>()?;
            if input.is_empty() {
                break;
            }
            let option: Ident = input.parse()?;
            input.parse::<Token![=]>()?;
            if seen.contains(&option) {
                return Err(Error::new(option.span(), "this option stands twice"));
            }
            export.option(&option, input)?;
            seen.push(option);
        }
        Ok(export)
    }
}

impl Export {
    fn option(&mut self, option: &Ident, input: ParseStream<'_>) -> Result<()> {
        match option.to_string().as_str() {
            "name" => self.name = Some(input.parse()?),
            "version" => self.version = Some(input.parse()?),
            "state" => self.snapshot = choice(input, ["stateless", "snapshot"])?,
            "allocator" => self.system_allocator = choice(input, ["ledger", "system"])?,
            "interfaces" => self.interfaces = list(input)?,
            "dependencies" => self.dependencies = list(input)?,
            "routes" => self.routes = list(input)?,
            "capabilities" => self.capabilities = list(input)?,
            _ => {
                return Err(Error::new(option.span(), format!("unknown option; there are: {OPTIONS}")));
            }
        }
        Ok(())
    }
}

/// Reads one of two words; whether it is the second.
fn choice(input: ParseStream<'_>, [first, second]: [&str; 2]) -> Result<bool> {
    let word: Ident = input.parse()?;
    if word == first {
        Ok(false)
    } else if word == second {
        Ok(true)
    } else {
        Err(Error::new(word.span(), format!("expected `{first}` or `{second}`")))
    }
}

fn list<T: Parse>(input: ParseStream<'_>) -> Result<Vec<T>> {
    let items;
    bracketed!(items in input);
    Ok(Punctuated::<T, Token![,]>::parse_terminated(&items)?.into_iter().collect())
}

pub(crate) fn expand(export: &Export) -> Result<TokenStream> {
    let plugin = &export.plugin;
    let name = export.name.as_ref().map_or_else(|| quote!(env!("CARGO_PKG_NAME")), |name| quote!(#name));
    let version =
        export.version.as_ref().map_or_else(|| quote!(env!("CARGO_PKG_VERSION")), |text| quote!(#text));
    let (model, state) = if export.snapshot {
        (quote!(sdk::SnapshotModel<#plugin>), quote!(SNAPSHOT))
    } else {
        (quote!(sdk::StatelessModel), quote!(STATELESS))
    };
    let (allocator, heap) = allocator(export.system_allocator);
    let interfaces = &export.interfaces;
    let records = records(export)?;
    let symbol = LitStr::new(ROOT_SYMBOL, proc_macro2::Span::call_site());

    Ok(quote! {
        #[cfg(not(test))]
        #[doc(hidden)]
        #[allow(unsafe_code, missing_docs, unreachable_pub)]
        mod __replug_export {
            use super::*;
            use ::replug_plugin_api::__export as sdk;
            use sdk::note::{self, Record};

            struct Exported;
            type StateModel = #model;
            #allocator
            type Heap = #heap;

            impl sdk::Exports for Exported {
                const NAME: &'static str = #name;
                const VERSION: &'static str = #version;
                const PROVIDES: &'static [sdk::Interface] = &[
                    sdk::service_row(sdk::ServiceTable::<#plugin>::VTABLE),
                    sdk::instance_row(sdk::InstanceTable::<#plugin, Exported, StateModel>::VTABLE),
                    sdk::ledger_row(sdk::LedgerTable::<Heap>::VTABLE),
                    #(#interfaces,)*
                ];
            }

            #[unsafe(export_name = #symbol)]
            pub static ROOT: sdk::LibHeader = sdk::header::<Exported>();

            const RECORDS: &[Record<'static>] = &[
                Record::Name(#name),
                Record::Version(#version),
                Record::State {
                    model: note::State::#state,
                    schema: <StateModel as sdk::Model<#plugin>>::SCHEMA_VERSION,
                },
                Record::Sdk(sdk::SDK_VERSION),
                Record::Abi(note::ABI_VERSION),
                Record::AbiStable(note::ABI_STABLE_VERSION),
                Record::Interface { id: "replug.service", version: "1.0.0" },
                Record::Interface { id: "replug.instance", version: "1.0.0" },
                Record::Interface { id: "replug.ledger", version: "1.0.0" },
                Record::Requires { id: "replug.host", version: "1.0.0" },
                Record::Rustc(sdk::RUSTC),
                Record::Target(sdk::TARGET),
                Record::Profile(note::Profile::of(cfg!(debug_assertions))),
                Record::Panic(note::Panic::of(cfg!(panic = "unwind"))),
                Record::Ledger(true),
                #(#records,)*
            ];
            const NOTE_LEN: usize = note::encoded_len(RECORDS);
            #[used]
            #[unsafe(link_section = ".note.replug")]
            static NOTE: note::Note<NOTE_LEN> = note::encode::<NOTE_LEN>(RECORDS);

            ::replug_plugin_api::__hidden_symbols!();
        }

        // The crate's own tests have no exports; without this they would be
        // told that the plugin and its interfaces are dead code.
        #[cfg(test)]
        const _: (fn(), &[::replug_plugin_api::__export::Interface]) = {
            fn is_plugin<P: ::replug_plugin_api::Plugin>() {}
            (is_plugin::<#plugin>, &[#(#interfaces,)*])
        };
    })
}

/// The symbol under which abi_stable 0.11 looks a root module up. A test of the
/// SDK compares it with `replug_abi::ROOT_SYMBOL`.
const ROOT_SYMBOL: &str = "_1as_0lib_1header_0root_bmodule_bloader";

fn allocator(system: bool) -> (TokenStream, TokenStream) {
    if system {
        return (quote!(), quote!(sdk::SystemHeap));
    }
    let allocator = quote! {
        #[global_allocator]
        static HEAP: sdk::LedgerAlloc = sdk::LedgerAlloc::new();

        impl sdk::LedgerHeap for Exported {
            fn heap() -> &'static sdk::LedgerAlloc {
                &HEAP
            }
        }
    };
    (allocator, quote!(Exported))
}

/// The records of the options that may be repeated.
fn records(export: &Export) -> Result<Vec<TokenStream>> {
    let mut records = Vec::new();
    for dependency in &export.dependencies {
        let text = dependency.value();
        let Some((name, range)) = text.split_once(char::is_whitespace) else {
            return Err(Error::new(
                dependency.span(),
                "expected a name and a range, as in \"templates ^2.1\"",
            ));
        };
        let range = range.trim();
        records.push(quote!(Record::Dependency { name: #name, range: #range }));
    }
    records.extend(export.routes.iter().map(|route| quote!(Record::Route(#route))));
    records.extend(export.capabilities.iter().map(|text| quote!(Record::Capability(#text))));
    Ok(records)
}
