//! `#[derive(Portable)]`: every field has to be portable for the lifetime of
//! what the type borrows.
//!
//! That these are the fields is said to the compiler, in a pattern that names
//! each: an attribute macro may change the type after it was read here, and a
//! field that it adds, or gives another type, has to stop the build.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{
    Attribute, Data, DeriveInput, Error, Field, Fields, GenericParam, Ident, Lifetime, Meta, Result, Token,
    punctuated::Punctuated, spanned::Spanned,
};

/// The implementation of `Portable` for `input`.
pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    check_repr(&input.attrs, input)?;
    let lifetime = lifetime(input)?;
    let name = &input.ident;
    let lent = lifetime.clone().unwrap_or_else(|| Lifetime::new("'call", Span::call_site()));
    let (arguments, used) = (lifetime.iter(), lifetime.iter());
    let demands = demands(input, &lent)?;
    Ok(quote! {
        #[automatically_derived]
        #[allow(unsafe_code, clippy::undocumented_unsafe_blocks)]
        unsafe impl<#lent> ::replug_plugin_api::interface::Portable<#lent> for #name<#(#arguments),*> {}

        const _: () = {
            // Exclusive, so that no lifetime in a field is taken for a shorter one.
            fn fields<#lent>(value: &mut #name<#(#used),*>) {
                #demands
            }
            _ = fields;
        };
    })
}

fn check_repr(attributes: &[Attribute], input: &DeriveInput) -> Result<()> {
    let mut fixed = false;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("repr")) {
        for word in attribute.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)? {
            if word.path().is_ident("packed") {
                let message = "a packed struct cannot cross: nobody may borrow its fields";
                return Err(Error::new(word.span(), message));
            }
            fixed |= ["C", "u8", "transparent"].iter().any(|name| word.path().is_ident(name));
        }
    }
    if fixed {
        return Ok(());
    }
    let message =
        "write `#[repr(C)]`, or `#[repr(u8)]` for an enum: without it the layout is the compiler's choice";
    Err(Error::new(input.ident.span(), message))
}

fn lifetime(input: &DeriveInput) -> Result<Option<Lifetime>> {
    let mut parameters = input.generics.params.iter();
    let lifetime = match parameters.next() {
        None => None,
        Some(GenericParam::Lifetime(parameter)) => Some(parameter.lifetime.clone()),
        Some(other) => {
            let message = "a portable type has no type parameters: write one type for each that is needed";
            return Err(Error::new(other.span(), message));
        }
    };
    match parameters.next() {
        None => Ok(lifetime),
        Some(other) => {
            let message = "a portable type has one lifetime, that of the call that it is borrowed for";
            Err(Error::new(other.span(), message))
        }
    }
}

/// What stops the build where a field of `value` is not portable.
fn demands(input: &DeriveInput, lent: &Lifetime) -> Result<TokenStream> {
    let name = &input.ident;
    match &input.data {
        Data::Struct(data) => {
            let (fields, demands) = taken_apart(&data.fields, lent);
            Ok(quote!(let #name { #fields } = value; #demands))
        }
        Data::Enum(data) if data.variants.is_empty() => Ok(quote!(match *value {})),
        Data::Enum(data) => {
            let arms = data.variants.iter().map(|variant| {
                let (variant, (fields, demands)) = (&variant.ident, taken_apart(&variant.fields, lent));
                quote!(#name::#variant { #fields } => { #demands })
            });
            Ok(quote!(match value { #(#arms)* }))
        }
        Data::Union(data) => {
            Err(Error::new(data.union_token.span, "a union is not portable: nobody knows what it points to"))
        }
    }
}

/// A pattern that names each field, and what is demanded of them.
fn taken_apart(fields: &Fields, lent: &Lifetime) -> (TokenStream, TokenStream) {
    let members = fields.members();
    let names: Vec<Ident> = (0..fields.len()).map(|number| format_ident!("__field{number}")).collect();
    let demands = fields.iter().zip(&names).map(|(Field { ty, .. }, name)| {
        quote_spanned! {ty.span()=>
            ::replug_plugin_api::interface::__support::portable::<#lent, #ty>();
            ::replug_plugin_api::interface::__support::is::<#ty>(#name);
        }
    });
    (quote!(#(#members: #names),*), quote!(#(#demands)*))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_without_one_layout_for_all_is_refused() {
        for (item, words) in [
            ("struct A { b: u8 }", "write `#[repr(C)]`"),
            ("#[repr(align(8))] struct A { b: u8 }", "write `#[repr(C)]`"),
            ("#[repr(C, packed)] struct A { b: u8 }", "a packed struct"),
            ("#[repr(C, packed(2))] struct A { b: u8 }", "a packed struct"),
            ("#[repr(C)] struct A<T> { b: T }", "no type parameters"),
            ("#[repr(C)] struct A<'a, 'b> { b: &'a &'b u8 }", "one lifetime"),
            ("#[repr(C)] union A { b: u8 }", "a union is not portable"),
        ] {
            let input = syn::parse_str(item).expect("an item");
            let message = expand(&input).expect_err("must be refused").to_string();
            assert!(message.contains(words), "{item}: {message}");
        }
        let input = syn::parse_str("#[repr(C, align(8))] struct A(u8);").expect("an item");
        assert!(expand(&input).is_ok());
    }

    #[test]
    fn every_field_that_was_read_is_named_and_no_other_is_let_through() {
        for (item, expected) in [
            ("#[repr(C)] struct A<'a> { b: &'a u8, c: u8 }", "A { b : __field0 , c : __field1 } = value"),
            ("#[repr(C)] struct A(u8, u8);", "A { 0 : __field0 , 1 : __field1 } = value"),
            ("#[repr(u8)] enum A { B, C(u8) }", "A :: B { } => { } A :: C { 0 : __field0 } =>"),
        ] {
            let input = syn::parse_str(item).expect("an item");
            let output = expand(&input).expect("portable").to_string();
            assert!(output.contains(expected), "{output}");
        }
    }
}
