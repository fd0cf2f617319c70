//! `export!(Type, option = value, …)`: reads the options and writes the module
//! that makes a cdylib a plugin.
//!
//! All that can be ordinary generic code stands in the SDK; this emits only
//! what must be in the final crate: constants of the author's choice, statics
//! that the linker must keep, and the hidden symbols.

use proc_macro2::TokenStream;
use quote::quote;
use semver::{Version, VersionReq};
use std::{mem::replace, str::FromStr};
use syn::{
    Error, Expr, Ident, LitStr, Result, Token, Type, TypeTraitObject, bracketed,
    parse::{Parse, ParseStream},
    punctuated::Punctuated,
};

const OPTIONS: &str = "name, version, state, allocator, interfaces, dependencies, routes, capabilities";

pub(crate) struct Export {
    plugin: Type,
    name: Option<LitStr>,
    version: Option<LitStr>,
    state: Keeps,
    system_allocator: bool,
    interfaces: Vec<Row>,
    dependencies: Vec<LitStr>,
    routes: Vec<LitStr>,
    capabilities: Vec<LitStr>,
}

/// What `state` says: neither, one, or both.
#[derive(Default)]
struct Keeps {
    snapshot: bool,
    tables: bool,
}

impl Parse for Keeps {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut keeps = Keeps::default();
        let words = Punctuated::<Ident, Token![+]>::parse_separated_nonempty(input)?;
        for word in &words {
            let twice = match word.to_string().as_str() {
                "snapshot" => replace(&mut keeps.snapshot, true),
                "tables" => replace(&mut keeps.tables, true),
                "stateless" => words.len() > 1,
                _ => true,
            };
            if twice {
                let expected = "expected `stateless`, `snapshot`, `tables` or `snapshot + tables`";
                return Err(Error::new(word.span(), expected));
            }
        }
        Ok(keeps)
    }
}

/// One of the `interfaces`.
enum Row {
    /// `dyn Trait`, a typed interface that the plugin implements.
    Typed(TypeTraitObject),
    /// A row that the author made.
    Made(Expr),
}

impl Parse for Row {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if input.peek(Token![dyn]) { input.parse().map(Row::Typed) } else { input.parse().map(Row::Made) }
    }
}

impl Row {
    fn of(&self, plugin: &Type) -> TokenStream {
        match self {
            Row::Typed(interface) => {
                quote!(<#interface as ::replug_plugin_api::__export::Provides<#plugin>>::ROW)
            }
            Row::Made(row) => quote!(#row),
        }
    }
}

impl Parse for Export {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut export = Export {
            plugin: input.parse()?,
            name: None,
            version: None,
            state: Keeps::default(),
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
            "version" => {
                let literal: LitStr = input.parse()?;
                checked::<Version>(&literal.value(), &literal, "a version")?;
                self.version = Some(literal);
            }
            "state" => self.state = input.parse()?,
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
    let sdk = quote!(::replug_plugin_api::__export);
    let Keeps { snapshot, tables } = export.state;
    let model = if snapshot { quote!(#sdk::SnapshotModel<#plugin>) } else { quote!(#sdk::StatelessModel) };
    let state = match (snapshot, tables) {
        (false, false) => quote!(STATELESS),
        (true, false) => quote!(SNAPSHOT),
        (false, true) => quote!(TABLES),
        (true, true) => quote!(SNAPSHOT.and(#sdk::note::State::TABLES)),
    };
    // SAFETY: the SDK's table, for the plugin of this line.
    let rows = tables.then(|| quote!(unsafe { #sdk::rows_row(#sdk::RowsTable::<#plugin>::VTABLE) },));
    let (allocator, heap) = allocator(export.system_allocator);
    let interfaces: Vec<_> = export.interfaces.iter().map(|row| row.of(plugin)).collect();
    let options = records(export)?;
    let symbol = LitStr::new(ROOT_SYMBOL, proc_macro2::Span::call_site());

    // `use super::*` brings the author's names in; every name made here has a
    // prefix, so that it takes the place of none of them.
    Ok(quote! {
        #[cfg(not(test))]
        #[doc(hidden)]
        #[allow(unsafe_code, missing_docs, unreachable_pub, clippy::undocumented_unsafe_blocks)]
        mod __replug_export {
            use super::*;

            struct __ReplugExported;
            type __ReplugModel = #model;
            #allocator

            impl #sdk::Exports for __ReplugExported {
                const NAME: &'static str = #name;
                const VERSION: &'static str = #version;
                const TABLES: bool = #tables;
                const PROVIDES: &'static [#sdk::Interface] = &[
                    // SAFETY: the tables of the SDK, for the plugin of this line.
                    unsafe { #sdk::service_row(#sdk::ServiceTable::<#plugin>::VTABLE) },
                    // SAFETY: as above.
                    unsafe {
                        #sdk::instance_row(
                            #sdk::InstanceTable::<#plugin, __ReplugExported, __ReplugModel>::VTABLE
                        )
                    },
                    // SAFETY: the ledger of this very library.
                    unsafe { #sdk::ledger_row(#sdk::LedgerTable::<#heap>::VTABLE) },
                    #rows
                    // Outside of these blocks: an author's row says `unsafe` itself.
                    #(#interfaces,)*
                ];
            }

            const _: () = #sdk::check_root_symbol(#symbol);
            #[unsafe(export_name = #symbol)]
            pub static __REPLUG_ROOT: #sdk::LibHeader = #sdk::header::<__ReplugExported>();

            const __REPLUG_ROWS: &[#sdk::Interface] = <__ReplugExported as #sdk::Exports>::PROVIDES;
            const __REPLUG_NEEDS: &[#sdk::Requirement] = #sdk::requirements(#tables);
            const __REPLUG_RECORDS: &[&[#sdk::note::Record<'static>]] = &[
                &[
                    #sdk::note::Record::Name(#name),
                    #sdk::note::Record::Version(#version),
                    #sdk::note::Record::State {
                        model: #sdk::note::State::#state,
                        schema: <__ReplugModel as #sdk::Model<#plugin>>::SCHEMA_VERSION,
                    },
                    #sdk::note::Record::Sdk(#sdk::SDK_VERSION),
                    #sdk::note::Record::Abi(#sdk::note::ABI_VERSION),
                    #sdk::note::Record::AbiStable(#sdk::note::ABI_STABLE_VERSION),
                ],
                &#sdk::interface_records::<{ __REPLUG_ROWS.len() }>(__REPLUG_ROWS),
                &#sdk::requirement_records::<{ __REPLUG_NEEDS.len() }>(__REPLUG_NEEDS),
                &[
                    #sdk::note::Record::Rustc(#sdk::RUSTC),
                    #sdk::note::Record::Target(#sdk::TARGET),
                    #sdk::note::Record::Profile(#sdk::note::Profile::of(cfg!(debug_assertions))),
                    #sdk::note::Record::Panic(#sdk::note::Panic::of(cfg!(panic = "unwind"))),
                    #sdk::note::Record::Ledger(true),
                    #(#sdk::note::Record::#options,)*
                ],
            ];
            const __REPLUG_NOTE_LEN: usize = #sdk::note::encoded_len(__REPLUG_RECORDS);
            #[used]
            #[unsafe(link_section = ".note.replug")]
            static __REPLUG_NOTE: #sdk::note::Note<__REPLUG_NOTE_LEN> =
                #sdk::note::encode::<__REPLUG_NOTE_LEN>(__REPLUG_RECORDS);

            ::replug_plugin_api::__hidden_symbols!();
        }

        // The crate's own tests have no exports; without this they would be
        // told that the plugin and its interfaces are dead code.
        #[cfg(test)]
        const _: (fn(), &[#sdk::Interface]) = {
            fn is_plugin<P: ::replug_plugin_api::Plugin>() {}
            (is_plugin::<#plugin>, &[#(#interfaces,)*])
        };
    })
}

/// The symbol under which abi_stable 0.11 looks a root module up, as attributes
/// need it: a literal. What is emitted compares it with `replug_abi::ROOT_SYMBOL`.
const ROOT_SYMBOL: &str = "_1as_0lib_1header_0root_bmodule_bloader";

/// The global allocator, and the type of the heap books that the ledger asks.
fn allocator(system: bool) -> (TokenStream, TokenStream) {
    let sdk = quote!(::replug_plugin_api::__export);
    if system {
        return (quote!(), quote!(#sdk::SystemHeap));
    }
    let allocator = quote! {
        #[global_allocator]
        static __REPLUG_HEAP: #sdk::LedgerAlloc = #sdk::LedgerAlloc::new();

        impl #sdk::LedgerHeap for __ReplugExported {
            fn heap() -> &'static #sdk::LedgerAlloc {
                &__REPLUG_HEAP
            }
        }
    };
    (allocator, quote!(__ReplugExported))
}

/// The records of the options that may be repeated, as variants of `Record`.
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
        checked::<VersionReq>(range, dependency, "a range")?;
        records.push(quote!(Dependency { name: #name, range: #range }));
    }
    records.extend(export.routes.iter().map(|route| quote!(Route(#route))));
    for capability in &export.capabilities {
        let text = capability.value();
        let revision = text.rsplit_once('/').and_then(|(_, revision)| revision.parse::<u32>().ok());
        if revision.is_none() {
            return Err(Error::new(capability.span(), "expected a name and a revision, as in \"preview/1\""));
        }
        records.push(quote!(Capability(#capability)));
    }
    Ok(records)
}

/// Refuses at its place a text that a host would refuse in the note.
fn checked<T: FromStr<Err = semver::Error>>(text: &str, literal: &LitStr, what: &str) -> Result<()> {
    match text.parse::<T>() {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(Error::new(literal.span(), format!("{text:?} is not {what} as semver has it: {error}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(options: &str) -> String {
        let export = syn::parse_str::<Export>(&format!("Plugin, {options}"));
        export.and_then(|export| expand(&export)).expect_err("must be refused").to_string()
    }

    #[test]
    fn what_a_host_would_refuse_in_the_note_stops_the_build() {
        for (options, expected) in [
            ("version = \"1.2\"", "\"1.2\" is not a version as semver has it"),
            ("dependencies = [\"templates\"]", "expected a name and a range"),
            ("dependencies = [\"templates two\"]", "\"two\" is not a range"),
            ("capabilities = [\"preview\"]", "expected a name and a revision"),
            ("capabilities = [\"preview/x\"]", "expected a name and a revision"),
            ("name = \"a\", name = \"b\"", "stands twice"),
            ("colour = \"red\"", "unknown option"),
            ("state = rows", "expected `stateless`"),
            ("state = stateless + tables", "expected `stateless`"),
            ("state = tables + tables", "expected `stateless`"),
        ] {
            let message = refusal(options);
            assert!(message.contains(expected), "{options}: {message}");
        }
    }

    #[test]
    fn only_a_plugin_with_tables_converts_rows_and_needs_tables() {
        for (state, model, tables) in [
            ("stateless", "State :: STATELESS", false),
            ("snapshot", "State :: SNAPSHOT ,", false),
            ("tables", "State :: TABLES ,", true),
            ("snapshot + tables", "State :: SNAPSHOT . and (", true),
        ] {
            let export = syn::parse_str::<Export>(&format!("Plugin, state = {state}")).expect("well-formed");
            let code = expand(&export).expect("well-formed").to_string();
            assert!(code.contains(model), "{state}: {code}");
            assert_eq!(code.contains("rows_row"), tables, "{state}");
            assert!(code.contains(&format!("requirements ({tables})")), "{state}");
        }
    }

    #[test]
    fn every_item_that_is_made_has_a_name_of_its_own() {
        let export = syn::parse_str::<Export>("Plugin").expect("well-formed");
        let file = syn::parse2::<syn::File>(expand(&export).expect("well-formed")).expect("items");
        let Some(syn::Item::Mod(module)) = file.items.first() else {
            panic!("expected the module first");
        };
        let (_, items) = module.content.as_ref().expect("a body");
        for item in items {
            let name = match item {
                syn::Item::Struct(item) => item.ident.to_string(),
                syn::Item::Type(item) => item.ident.to_string(),
                syn::Item::Static(item) => item.ident.to_string(),
                syn::Item::Const(item) if item.ident != "_" => item.ident.to_string(),
                _ => continue,
            };
            assert!(name.to_lowercase().starts_with("__replug"), "{name} could be the author's");
        }
    }
}
