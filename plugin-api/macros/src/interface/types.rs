//! The types of a typed interface: how each argument and result crosses, and
//! in which words one is refused that cannot.
//!
//! Only the shape is judged here. Whether a type is `StableAbi` and `Portable`
//! is left to the compiler.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{
    Error, GenericArgument, Ident, Lifetime, Path, PathArguments, Result, ReturnType, Type, TypeReference,
    spanned::Spanned,
    visit_mut::{VisitMut, visit_type_mut, visit_type_reference_mut},
};

/// How an argument crosses.
/// What is lent has the lifetime that it is lent for: the method's own, or `'_`.
pub(super) enum Argument {
    Text(Lifetime),
    Slice(Lifetime, Type),
    SliceMut(Lifetime, Type),
    Reference(Lifetime, Type),
    ReferenceMut(Lifetime, Type),
    Value(Type),
}

/// How a result crosses.
pub(super) enum Outcome {
    Unit,
    Text,
    Slice(Type),
    Reference(Type),
    OwnedText,
    OwnedList(Type),
    Value(Type),
}

impl Argument {
    /// `lifetime` is the one that the method may name.
    pub(super) fn of(ty: &Type, lifetime: Option<&Lifetime>) -> Result<Argument> {
        check(ty, lifetime)?;
        let Type::Reference(reference) = ty else {
            return owned_argument(ty).map(Argument::Value);
        };
        let lent = reference.lifetime.clone().unwrap_or_else(elided);
        let target = &*reference.elem;
        let writable = reference.mutability.is_some();
        match target {
            Type::Slice(slice) if writable => Ok(Argument::SliceMut(lent, plain(&slice.elem)?)),
            Type::Slice(slice) => Ok(Argument::Slice(lent, plain(&slice.elem)?)),
            Type::Path(path) if path.path.is_ident("str") => {
                if writable {
                    return Err(Error::new(ty.span(), "text goes in as `&str`; a method cannot change it"));
                }
                Ok(Argument::Text(lent))
            }
            Type::Path(path) if last(&path.path) == "String" => {
                Err(Error::new(ty.span(), "write `&str`: text goes in borrowed"))
            }
            Type::Path(path) if last(&path.path) == "Vec" => {
                Err(Error::new(ty.span(), "write `&[T]` or `&mut [T]`: lists go in borrowed"))
            }
            _ if writable => Ok(Argument::ReferenceMut(lent, plain(target)?)),
            _ => Ok(Argument::Reference(lent, plain(target)?)),
        }
    }

    /// The type in the vtable. A lifetime that the method names is named there
    /// too: what a result may borrow from is a part of the contract, and so of
    /// the layouts that are compared.
    pub(super) fn wire(&self) -> TokenStream {
        match self {
            Argument::Text(lent) => quote!(__support::RStr<#lent>),
            Argument::Slice(lent, item) => {
                let item = as_named(item);
                quote!(__support::RSlice<#lent, #item>)
            }
            Argument::SliceMut(lent, item) => quote!(__support::RSliceMut<#lent, #item>),
            Argument::Reference(lent, target) => {
                let target = as_named(target);
                quote!(&#lent #target)
            }
            Argument::ReferenceMut(lent, target) => quote!(&#lent mut #target),
            Argument::Value(ty) => as_named(ty),
        }
    }

    /// From what the caller gives to what crosses.
    pub(super) fn outward(&self, name: &Ident) -> TokenStream {
        match self {
            Argument::Text(_) => quote!(__support::RStr::from_str(#name)),
            Argument::Slice(..) => quote!(__support::RSlice::from_slice(#name)),
            Argument::SliceMut(..) => quote!(__support::RSliceMut::from_mut_slice(#name)),
            Argument::Reference(..) | Argument::ReferenceMut(..) | Argument::Value(_) => quote!(#name),
        }
    }

    /// From what crosses to what the implementation takes.
    pub(super) fn inward(&self, name: &Ident) -> TokenStream {
        match self {
            Argument::Text(_) => quote!(#name.as_str()),
            Argument::Slice(..) => quote!(#name.as_slice()),
            Argument::SliceMut(..) => quote!(#name.into_mut_slice()),
            Argument::Reference(..) | Argument::ReferenceMut(..) | Argument::Value(_) => quote!(#name),
        }
    }

    /// What stops the build when the type does not fit.
    pub(super) fn demand(&self) -> Option<TokenStream> {
        match self {
            Argument::Text(_) => None,
            Argument::Slice(_, ty) | Argument::Reference(_, ty) | Argument::Value(ty) => Some(portable(ty)),
            Argument::SliceMut(_, ty) | Argument::ReferenceMut(_, ty) => {
                let lent = with_lifetime(ty, &call());
                Some(quote_spanned!(ty.span()=> __support::writable::<#lent>();))
            }
        }
    }
}

impl Outcome {
    /// How a method answers, and whether it can be refused by the author.
    pub(super) fn of(output: &ReturnType, lifetime: Option<&Lifetime>) -> Result<(Outcome, bool)> {
        let ReturnType::Type(_, ty) = output else {
            return Ok((Outcome::Unit, false));
        };
        let Some(path) = path_of(ty).filter(|path| last(path) == "Result") else {
            return Ok((outcome(ty, lifetime)?, false));
        };
        match arguments(path).as_slice() {
            [ty] => Ok((outcome(ty, lifetime)?, true)),
            _ => Err(Error::new(
                path.span(),
                "write `Result<T>` with one type: the error is `replug_plugin_api::Error`, and \
                 `replug_plugin_api::Result` has it",
            )),
        }
    }

    /// The out argument's type in the vtable of a method that may name a
    /// lifetime.
    pub(super) fn wire(&self, lifetime: Option<&Lifetime>) -> Option<TokenStream> {
        let value = self.value(&lifetime.cloned().unwrap_or_else(elided));
        Some(match self {
            Outcome::Unit => return None,
            Outcome::OwnedText => quote!(&__support::TextSink),
            Outcome::OwnedList(_) => quote!(&__support::SliceSink<#value>),
            _ => quote!(*mut #value),
        })
    }

    /// What is written to the out argument, for results that are written so.
    pub(super) fn value(&self, lifetime: &Lifetime) -> TokenStream {
        match self {
            Outcome::Text => quote!(__support::RStr<#lifetime>),
            Outcome::Slice(item) => {
                let item = with_lifetime(item, lifetime);
                quote!(__support::RSlice<#lifetime, #item>)
            }
            Outcome::Reference(target) => {
                let target = with_lifetime(target, lifetime);
                quote!(&#lifetime #target)
            }
            Outcome::Value(ty) | Outcome::OwnedList(ty) => with_lifetime(ty, lifetime),
            Outcome::Unit | Outcome::OwnedText => quote!(()),
        }
    }

    /// What the caller gets.
    pub(super) fn given(&self, lifetime: &Lifetime) -> TokenStream {
        match self {
            Outcome::Text => quote!(&#lifetime str),
            Outcome::Slice(item) => {
                let item = with_lifetime(item, lifetime);
                quote!(&#lifetime [#item])
            }
            Outcome::OwnedText => quote!(::std::string::String),
            Outcome::OwnedList(item) => {
                let item = with_lifetime(item, lifetime);
                quote!(::std::vec::Vec<#item>)
            }
            Outcome::Unit | Outcome::Reference(_) | Outcome::Value(_) => self.value(lifetime),
        }
    }

    /// From what crosses to what the caller gets, and the way back: functions
    /// to map a result with, where the two differ.
    pub(super) fn conversions(&self) -> Option<(TokenStream, TokenStream)> {
        match self {
            Outcome::Text => {
                Some((quote!(|__text| __text.as_str()), quote!(|__text| __support::RStr::from_str(__text))))
            }
            Outcome::Slice(_) => Some((
                quote!(|__slice| __slice.as_slice()),
                quote!(|__slice| __support::RSlice::from_slice(__slice)),
            )),
            _ => None,
        }
    }

    /// What stops the build when the type does not fit.
    pub(super) fn demand(&self) -> Option<TokenStream> {
        match self {
            Outcome::Unit | Outcome::Text | Outcome::OwnedText => None,
            Outcome::Slice(ty) | Outcome::Reference(ty) | Outcome::OwnedList(ty) | Outcome::Value(ty) => {
                Some(portable(ty))
            }
        }
    }
}

/// The lifetime of a call in what is emitted.
pub(super) fn call() -> Lifetime {
    Lifetime::new("'call", Span::call_site())
}

pub(super) fn elided() -> Lifetime {
    Lifetime::new("'_", Span::call_site())
}

fn outcome(ty: &Type, lifetime: Option<&Lifetime>) -> Result<Outcome> {
    check(ty, lifetime)?;
    match ty {
        Type::Tuple(tuple) if tuple.elems.is_empty() => Ok(Outcome::Unit),
        Type::Reference(TypeReference { mutability: Some(word), .. }) => Err(Error::new(
            word.span(),
            "a result is borrowed shared: other calls read the plugin at the same time",
        )),
        Type::Reference(reference) => match &*reference.elem {
            Type::Slice(slice) => plain(&slice.elem).map(Outcome::Slice),
            Type::Path(path) if path.path.is_ident("str") => Ok(Outcome::Text),
            target => plain(target).map(Outcome::Reference),
        },
        _ => match path_of(ty) {
            Some(path) if last(path) == "String" => Ok(Outcome::OwnedText),
            Some(path) if last(path) == "Vec" => match arguments(path).as_slice() {
                [item] => plain(item).map(Outcome::OwnedList),
                _ => Err(Error::new(path.span(), "write `Vec<T>`")),
            },
            _ => plain(ty).map(Outcome::Value),
        },
    }
}

/// An argument that is no reference.
fn owned_argument(ty: &Type) -> Result<Type> {
    let instead = match path_of(ty).map(last).as_deref() {
        Some("String") => "write `&str`: text goes in borrowed",
        Some("Vec") => "write `&[T]`: lists go in borrowed",
        _ if matches!(ty, Type::Array(_)) => "lend the array, with `&`: C passes none by value",
        _ => return plain(ty),
    };
    Err(Error::new(ty.span(), instead))
}

/// A type that crosses as it is, as far as its shape tells.
fn plain(ty: &Type) -> Result<Type> {
    let instead = match ty {
        Type::Path(path) => match last(&path.path).as_str() {
            "Option" => "write `ROption<T>` of `abi_stable::std_types`: `Option` has no stable layout",
            "Result" => "a `Result` stands only around the whole result of a method",
            "String" | "Vec" | "Box" | "Rc" | "Arc" | "Cow" | "RString" | "RVec" | "RBox" | "RArc" => {
                "this owns memory, which would outlive the plugin that allocated it; lend it, or answer \
                 with `String` or `Vec<T>`, which are copied out"
            }
            "char" => "write `u32`: `char` is none of the types that abi_stable knows",
            "str" => "write `&str`",
            "Self" => "an interface knows no `Self`: write the type",
            _ => return Ok(ty.clone()),
        },
        Type::Reference(_) | Type::Array(_) => return Ok(ty.clone()),
        Type::Paren(inner) => return plain(&inner.elem),
        Type::Group(inner) => return plain(&inner.elem),
        Type::Tuple(tuple) if tuple.elems.is_empty() => return Ok(ty.clone()),
        Type::Tuple(_) => {
            "write a `repr(C)` struct, or `Tuple2` of `abi_stable::std_types`: tuples have no \
                           stable layout"
        }
        Type::ImplTrait(_) => "a method has one type of each argument and result: name it",
        Type::TraitObject(_) => "a trait object cannot cross: its vtable has no stable layout",
        Type::BareFn(_) => "a function cannot cross: it would outlive the plugin that it is in",
        Type::Ptr(_) => "a pointer cannot cross: borrow with `&`, so that its lifetime is known",
        Type::Slice(_) => "write `&[T]`",
        _ => "this type cannot cross between a host and a plugin",
    };
    Err(Error::new(ty.span(), instead))
}

/// Refuses lifetimes that a method cannot name.
fn check(ty: &Type, lifetime: Option<&Lifetime>) -> Result<()> {
    struct Strange<'a>(Option<&'a Lifetime>, Option<Error>);
    impl VisitMut for Strange<'_> {
        fn visit_lifetime_mut(&mut self, found: &mut Lifetime) {
            if found.ident != "_" && Some(&*found) != self.0 && self.1.is_none() {
                let message = if found.ident == "static" {
                    "nothing of a plugin lives for ever: write `'_`, the time of the call"
                } else {
                    "write `'_`, or name the one lifetime that the method declares"
                };
                self.1 = Some(Error::new(found.span(), message));
            }
        }
    }
    let mut strange = Strange(lifetime, None);
    visit_type_mut(&mut strange, &mut ty.clone());
    strange.1.map_or(Ok(()), Err)
}

/// `ty` with the lifetimes that it names, and `'_` where a reference has none.
fn as_named(ty: &Type) -> TokenStream {
    struct Elide;
    impl VisitMut for Elide {
        fn visit_type_reference_mut(&mut self, reference: &mut TypeReference) {
            reference.lifetime.get_or_insert_with(elided);
            visit_type_reference_mut(self, reference);
        }
    }
    let mut ty = ty.clone();
    Elide.visit_type_mut(&mut ty);
    quote!(#ty)
}

/// `ty` with every lifetime in it made the given one, also where none is written.
fn with_lifetime(ty: &Type, lifetime: &Lifetime) -> TokenStream {
    struct Rename<'a>(&'a Lifetime);
    impl VisitMut for Rename<'_> {
        fn visit_lifetime_mut(&mut self, found: &mut Lifetime) {
            *found = self.0.clone();
        }
        fn visit_type_reference_mut(&mut self, reference: &mut TypeReference) {
            reference.lifetime = Some(self.0.clone());
            visit_type_reference_mut(self, reference);
        }
    }
    let mut ty = ty.clone();
    Rename(lifetime).visit_type_mut(&mut ty);
    quote!(#ty)
}

fn portable(ty: &Type) -> TokenStream {
    let lent = with_lifetime(ty, &call());
    quote_spanned!(ty.span()=> __support::portable::<'call, #lent>();)
}

fn path_of(ty: &Type) -> Option<&Path> {
    match ty {
        Type::Path(path) if path.qself.is_none() => Some(&path.path),
        _ => None,
    }
}

fn last(path: &Path) -> String {
    path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default()
}

/// The types in the brackets of a path's last segment.
fn arguments(path: &Path) -> Vec<&Type> {
    let Some(PathArguments::AngleBracketed(list)) = path.segments.last().map(|segment| &segment.arguments)
    else {
        return Vec::new();
    };
    let types = list.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    types.collect()
}
