//! `#[derive(State)]`: from `#[state(version = …, previous = …)]` to an
//! implementation of `replug_plugin_api::state::State`.
//!
//! What the attribute says is checked here, with an error at the word that is
//! wrong; whether the types and hooks fit each other is left to the compiler,
//! through the bounds of `Link`'s constructors. Nothing is generated that reads
//! or converts data.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, LitInt, Result, Type};

const EXAMPLE: &str =
    "`#[state(version = 2, previous = OlderType)]`, or `#[state(version = 1)]` for the first version";

/// The implementation of `State` for `input`.
pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    if let Data::Union(union) = &input.data {
        return Err(Error::new(union.union_token.span, "a union cannot be a state type"));
    }
    if !input.generics.params.is_empty() {
        let message = "a state type cannot be generic: one schema version is one shape";
        return Err(Error::new(input.generics.span(), message));
    }
    let name = &input.ident;
    let Attribute { version, link } = Attribute::of(input)?;
    let (previous, check) = match &link {
        None => (quote!(::core::option::Option::None), None),
        Some(link) => (link.constructor(), Some(link.version_check(version))),
    };
    Ok(quote! {
        #[automatically_derived]
        impl ::replug_plugin_api::state::State for #name {
            const VERSION: u32 = #version;
            const PREVIOUS: ::core::option::Option<::replug_plugin_api::state::Link> = #previous;
        }
        #check
    })
}

/// What `#[state(…)]` says.
struct Attribute {
    version: u32,
    link: Option<Link>,
}

/// The step to the version before.
struct Link {
    previous: Type,
    /// Where the kind was written, or the type if it was left out.
    span: Span,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Hook,
    OneWay,
    Auto,
}

impl Link {
    fn constructor(&self) -> TokenStream {
        let previous = &self.previous;
        let constructor = match self.kind {
            Kind::Hook => quote!(hook),
            Kind::OneWay => quote!(one_way),
            Kind::Auto => quote!(auto),
        };
        quote_spanned! {self.span=>
            ::core::option::Option::Some(
                ::replug_plugin_api::state::Link::#constructor::<Self, #previous>()
            )
        }
    }

    fn version_check(&self, version: u32) -> TokenStream {
        let previous = &self.previous;
        let expected = version - 1;
        let message = format!("`previous` of version {version} must be the type of version {expected}");
        quote_spanned! {previous.span()=>
            const _: () = ::core::assert!(
                <#previous as ::replug_plugin_api::state::State>::VERSION == #expected,
                #message
            );
        }
    }
}

impl Attribute {
    fn of(input: &DeriveInput) -> Result<Self> {
        let mut words = Words::default();
        let mut place = None;
        for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("state")) {
            place = Some(attribute.span());
            attribute.parse_nested_meta(|meta| words.read(&meta))?;
        }
        let Some(place) = place else {
            let message = format!("a state type needs its version: {EXAMPLE}");
            return Err(Error::new(input.ident.span(), message));
        };
        words.into_attribute(place)
    }
}

/// The words of the attribute, as they were found.
#[derive(Default)]
struct Words {
    version: Option<(u32, Span)>,
    previous: Option<Type>,
    kind: Option<(Kind, Span)>,
}

impl Words {
    fn read(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        let word = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
        let twice = || meta.error(format!("`{word}` stands twice"));
        match word.as_str() {
            "version" if self.version.is_some() => Err(twice()),
            "version" => {
                let literal: LitInt = meta.value()?.parse()?;
                let version = literal.base10_parse()?;
                if version == 0 {
                    return Err(Error::new(literal.span(), "schema versions begin at 1"));
                }
                self.version = Some((version, literal.span()));
                Ok(())
            }
            "previous" if self.previous.is_some() => Err(twice()),
            "previous" => {
                self.previous = Some(meta.value()?.parse()?);
                Ok(())
            }
            "auto" => self.set_kind(Kind::Auto, meta),
            "one_way" => self.set_kind(Kind::OneWay, meta),
            _ => Err(meta.error("expected `version`, `previous`, `auto` or `one_way`")),
        }
    }

    fn set_kind(&mut self, kind: Kind, meta: &ParseNestedMeta<'_>) -> Result<()> {
        if self.kind.is_some() {
            let message = "a step has one kind: `auto`, or `one_way`, or neither for both hooks";
            return Err(meta.error(message));
        }
        self.kind = Some((kind, meta.path.span()));
        Ok(())
    }

    fn into_attribute(self, place: Span) -> Result<Attribute> {
        let Some((version, version_span)) = self.version else {
            return Err(Error::new(place, format!("`version` is missing: {EXAMPLE}")));
        };
        let link = match (self.previous, self.kind) {
            (Some(_), _) if version == 1 => {
                let message = "version 1 is the first and has no `previous`";
                return Err(Error::new(version_span, message));
            }
            (Some(previous), kind) => {
                let (kind, span) = kind.unwrap_or((Kind::Hook, previous.span()));
                Some(Link { previous, span, kind })
            }
            (None, Some((_, span))) => {
                let message = "a step needs the type that it comes from: add `previous = OlderType`";
                return Err(Error::new(span, message));
            }
            (None, None) => None,
        };
        Ok(Attribute { version, link })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    fn refusal(input: &DeriveInput) -> String {
        expand(input).expect_err("must be refused").to_string()
    }

    #[test]
    fn each_kind_of_step_has_its_constructor() {
        for (input, constructor) in [
            (
                parse_quote!(
                    #[state(version = 2, previous = old::A)]
                    struct B {
                        x: u8,
                    }
                ),
                "hook",
            ),
            (
                parse_quote!(
                    #[state(version = 2, previous = old::A, auto)]
                    struct B {
                        x: u8,
                    }
                ),
                "auto",
            ),
            (
                parse_quote!(
                    #[state(one_way, previous = old::A, version = 2)]
                    enum B {
                        X,
                    }
                ),
                "one_way",
            ),
        ] {
            let code = expand(&input).expect("well-formed").to_string();
            assert!(code.contains(&format!("Link :: {constructor} :: < Self , old :: A >")), "{code}");
            assert!(code.contains("`previous` of version 2 must be the type of version 1"), "{code}");
        }
    }

    #[test]
    fn a_first_version_and_one_whose_older_types_are_gone_have_no_link() {
        for input in [
            parse_quote!(
                #[state(version = 1)]
                struct A;
            ),
            parse_quote!(
                #[state(version = 4)]
                struct A;
            ),
        ] {
            let code = expand(&input).expect("well-formed").to_string();
            assert!(code.contains("Option :: None") && !code.contains("assert"), "{code}");
        }
    }

    #[test]
    fn what_is_wrong_in_the_attribute_is_named() {
        for (input, expected) in [
            (
                parse_quote!(
                    struct A;
                ),
                "needs its version",
            ),
            (
                parse_quote!(
                    #[state(auto, previous = B)]
                    struct A;
                ),
                "`version` is missing",
            ),
            (
                parse_quote!(
                    #[state(version = 0)]
                    struct A;
                ),
                "begin at 1",
            ),
            (
                parse_quote!(
                    #[state(version = "2")]
                    struct A;
                ),
                "expected integer literal",
            ),
            (
                parse_quote!(
                    #[state(version = 1, previous = B)]
                    struct A;
                ),
                "is the first",
            ),
            (
                parse_quote!(
                    #[state(version = 2, version = 3)]
                    struct A;
                ),
                "`version` stands twice",
            ),
            (
                parse_quote!(
                    #[state(version = 2, previous = B, previous = C)]
                    struct A;
                ),
                "stands twice",
            ),
            (
                parse_quote!(
                    #[state(version = 2, previous = B, auto, one_way)]
                    struct A;
                ),
                "one kind",
            ),
            (
                parse_quote!(
                    #[state(version = 2, auto)]
                    struct A;
                ),
                "add `previous = OlderType`",
            ),
            (
                parse_quote!(
                    #[state(version = 2, prev = B)]
                    struct A;
                ),
                "expected `version`, `previous`",
            ),
            (
                parse_quote!(
                    #[state(version = 2)]
                    struct A<T> {
                        t: T,
                    }
                ),
                "cannot be generic",
            ),
            (parse_quote!(#[state(version = 2)] union A { a: u8 }), "a union cannot be"),
        ] {
            let message = refusal(&input);
            assert!(message.contains(expected), "{message}");
        }
    }
}
