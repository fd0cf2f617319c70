//! `#[derive(Portable)]`: every field has to be portable for the lifetime of
//! what the type borrows.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{
    Attribute, Data, DeriveInput, Error, GenericParam, Ident, Lifetime, Result, Type, punctuated::Punctuated,
    spanned::Spanned,
};

/// The implementation of `Portable` for `input`.
pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    check_repr(&input.attrs, input)?;
    let lifetime = lifetime(input)?;
    let name = &input.ident;
    let lent = lifetime.clone().unwrap_or_else(|| Lifetime::new("'call", Span::call_site()));
    let arguments = lifetime.iter();
    let demands = fields(input)?.into_iter().map(
        |ty| quote_spanned!(ty.span()=> ::replug_plugin_api::interface::__support::portable::<#lent, #ty>();),
    );
    Ok(quote! {
        #[automatically_derived]
        #[allow(unsafe_code, clippy::undocumented_unsafe_blocks)]
        unsafe impl<#lent> ::replug_plugin_api::interface::Portable<#lent> for #name<#(#arguments),*> {}

        const _: () = {
            fn fields<#lent>() {
                #(#demands)*
            }
            _ = fields;
        };
    })
}

fn check_repr(attributes: &[Attribute], input: &DeriveInput) -> Result<()> {
    let mut fixed = false;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("repr")) {
        let words = attribute.parse_args_with(Punctuated::<Ident, syn::Token![,]>::parse_terminated)?;
        fixed |= words.iter().any(|word| word == "C" || word == "u8" || word == "transparent");
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

fn fields(input: &DeriveInput) -> Result<Vec<&Type>> {
    match &input.data {
        Data::Struct(data) => Ok(data.fields.iter().map(|field| &field.ty).collect()),
        Data::Enum(data) => {
            Ok(data.variants.iter().flat_map(|variant| &variant.fields).map(|field| &field.ty).collect())
        }
        Data::Union(data) => {
            Err(Error::new(data.union_token.span, "a union is not portable: nobody knows what it points to"))
        }
    }
}
