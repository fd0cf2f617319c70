//! `#[interface(id = …, version = …)]`: from a trait to a vtable, what calls
//! through it, and what fills it.
//!
//! Emitted are the trait as it was written, a prefix vtable of `extern "C"`
//! functions, a proxy with the trait's methods for the caller, and an adapter
//! that is generic over the plugin's type. All that can be ordinary code stands
//! in the SDK, under the name `__support`; so do the proofs of what is emitted
//! here as `unsafe`.

mod model;
mod types;

pub(crate) use model::Arguments;

use model::{Interface, Method};
use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote};
use syn::{Ident, ItemTrait, Lifetime, Result};

/// The output of the attribute.
pub(crate) fn expand(arguments: Arguments, mut item: ItemTrait) -> Result<TokenStream> {
    let interface = Interface::read(arguments, &mut item)?;
    let name = &item.ident;
    let proxy = format_ident!("{name}Proxy");
    let declared = declare_proxy(&item, &proxy);
    let vtable = vtable(&interface);
    let identity = identity(name, &proxy, &interface);
    let methods = interface.methods.iter().map(|method| proxy_method(method, &interface));
    let adapter = adapter(name, &interface);
    let demands = interface.methods.iter().map(demand);
    Ok(quote! {
        #item
        #declared
        // Names that are made here take the place of none of the author's.
        #[allow(unsafe_code, non_camel_case_types, non_snake_case, missing_docs, clippy::undocumented_unsafe_blocks)]
        const _: () = {
            use ::replug_plugin_api::interface::__support;
            #vtable
            #identity
            impl<'call> #proxy<'call> {
                #(#methods)*
            }
            #adapter
            #(#demands)*
        };
    })
}

/// What a caller gets: the only name beside the trait's own.
fn declare_proxy(item: &ItemTrait, proxy: &Ident) -> TokenStream {
    let (visibility, name) = (&item.vis, &item.ident);
    let docs = format!(
        "The methods of [`{name}`] in a plugin, for the time of one call.\n\nIt stays on its thread, and \
         what a plugin lends through it ends with the closure that it was handed to."
    );
    quote! {
        #[doc = #docs]
        #[derive(Clone, Copy)]
        #visibility struct #proxy<'call> {
            // Of the SDK, so that not even the code around the trait can take it
            // apart and put it together for longer than the call.
            callee: ::replug_plugin_api::interface::__support::calls::Callee<
                'call,
                <dyn #name as ::replug_plugin_api::interface::TypedInterface>::Vtable,
            >,
        }
    }
}

fn vtable(interface: &Interface) -> TokenStream {
    // abi_stable marks the last function that is always there.
    let last = interface.methods.iter().rposition(|method| method.since.is_none());
    let functions = interface.methods.iter().enumerate().map(|(at, method)| {
        let name = &method.name;
        let mark = (Some(at) == last).then(|| quote!(#[sabi(last_prefix_field)]));
        let arguments = method.parameters.iter().map(|parameter| parameter.kind.wire());
        let lifetime = method.lifetime.iter();
        let out = method.outcome.wire(method.lifetime.as_ref()).into_iter();
        // Without names of arguments, which may then be changed.
        quote! {
            #mark
            pub #name: #(for<#lifetime>)* unsafe extern "C" fn(
                __support::Instance, #(#arguments,)* #(#out,)*
            ) -> __support::Status
        }
    });
    let name = interface.name_of_vtable();
    let (vtable_ref, prefix) = (format_ident!("{name}Ref"), format_ident!("{name}Prefix"));
    quote! {
        #[repr(C)]
        #[derive(::abi_stable::StableAbi)]
        #[sabi(kind(Prefix(prefix_ref = #vtable_ref, prefix_fields = #prefix)))]
        pub struct #name {
            #(#functions,)*
        }
    }
}

/// Which interface the trait is.
fn identity(name: &Ident, proxy: &Ident, interface: &Interface) -> TokenStream {
    let id = &interface.id;
    let [major, minor, patch] = interface.version;
    let vtable_ref = format_ident!("{}Ref", interface.name_of_vtable());
    quote! {
        // SAFETY: vtable, proxy and adapters are written here, of the same methods;
        // what a method lends has the lifetime of the proxy's call.
        unsafe impl __support::TypedInterface for dyn #name {
            const ID: &'static str = #id;
            const VERSION: __support::InterfaceVersion =
                __support::InterfaceVersion::new(#major, #minor, #patch);
            type Vtable = #vtable_ref;
            type Proxy<'call> = #proxy<'call>;

            #[inline(always)]
            unsafe fn proxy<'call>(
                instance: __support::Instance,
                vtable: #vtable_ref,
                answer_bytes_max: usize,
            ) -> #proxy<'call> {
                // SAFETY: the caller's promise, which is the same.
                #proxy { callee: unsafe { __support::calls::Callee::new(instance, vtable, answer_bytes_max) } }
            }
        }
    }
}

/// A method as the caller sees it.
fn proxy_method(method: &Method, interface: &Interface) -> TokenStream {
    let Method { docs, name, lifetime, outcome, .. } = method;
    let text = name.to_string();
    let parameters = lifetime.iter();
    let parameters = quote!(<#(#parameters),*>);
    let call = types::call();
    let lent = lifetime.as_ref().unwrap_or(&call);
    let arguments = method.parameters.iter().map(|parameter| {
        let (name, ty) = (&parameter.name, &parameter.ty);
        quote!(#name: #ty)
    });
    let given = outcome.given(lent);
    let function = match &method.since {
        None => quote!(let __function = self.callee.vtable().#name();),
        Some(since) => {
            let (major, minor) = (since.major, since.minor);
            quote! {
                let ::core::option::Option::Some(__function) = self.callee.vtable().#name() else {
                    let __since = __support::InterfaceVersion::new(#major, #minor, 0);
                    return ::core::result::Result::Err(__support::calls::missing(#text, __since));
                };
            }
        }
    };
    let called = call_through(method, &text, lent);
    let has = has_method(method, interface);
    quote! {
        #(#docs)*
        #[inline]
        pub fn #name #parameters (
            &#lifetime self, #(#arguments),*
        ) -> ::core::result::Result<#given, __support::Fault> {
            #function
            #called
        }
        #has
    }
}

/// The call of `__function`, as an expression.
fn call_through(method: &Method, text: &str, lent: &Lifetime) -> TokenStream {
    use types::Outcome;
    let crossing = method.parameters.iter().map(|parameter| parameter.kind.outward(&parameter.name));
    let crossing = quote!(self.callee.instance(), #(#crossing,)*);
    let value = method.outcome.value(lent);
    // SAFETY: of all four: the callee keeps instance and vtable together and alive,
    // and an adapter that answers `OK` has written what the method returns.
    let called = match &method.outcome {
        Outcome::OwnedText => quote! {
            __support::calls::text(#text, self.callee.answer_bytes_max(), |__out| unsafe {
                __function(#crossing __out)
            })
        },
        Outcome::OwnedList(_) => quote! {
            __support::calls::items::<#value>(#text, self.callee.answer_bytes_max(), |__out| unsafe {
                __function(#crossing __out)
            })
        },
        Outcome::Unit => quote! {
            unsafe { __support::calls::value::<()>(#text, |_| __function(#crossing)) }
        },
        _ => quote! {
            unsafe {
                __support::calls::value::<#value>(#text, |__out| {
                    __function(#crossing __out)
                })
            }
        },
    };
    match method.outcome.conversions() {
        Some((given, _)) => quote!(#called.map(#given)),
        None => called,
    }
}

/// The question whether an optional method is there.
fn has_method(method: &Method, interface: &Interface) -> Option<TokenStream> {
    let since = method.since.as_ref()?;
    let (name, has) = (&method.name, format_ident!("{}", method.question()));
    let docs = format!(
        "Whether the plugin has [`{name}`](Self::{name}), which is there since version {}.{} of `{}`.",
        since.major,
        since.minor,
        interface.id.value()
    );
    Some(quote! {
        #[doc = #docs]
        #[inline]
        pub fn #has(&self) -> bool {
            self.callee.vtable().#name().is_some()
        }
    })
}

/// What a plugin's type puts into the vtable.
fn adapter(name: &Ident, interface: &Interface) -> TokenStream {
    let names: Vec<&Ident> = interface.methods.iter().map(|method| &method.name).collect();
    let functions = interface.methods.iter().map(|method| adapter_function(name, method));
    let vtable = interface.name_of_vtable();
    let vtable_ref = format_ident!("{vtable}Ref");
    quote! {
        struct __Adapter<__P>(::core::marker::PhantomData<__P>);

        impl<__P: __support::Plugin + #name> __Adapter<__P> {
            const __VALUE: __support::WithMetadata<#vtable> =
                __support::WithMetadata::new(#vtable { #(#names: Self::#names),* });
            const __TABLE: &'static __support::WithMetadata<#vtable> = &Self::__VALUE;

            #(#functions)*
        }

        unsafe impl<__P: __support::Plugin + #name> __support::Provides<__P> for dyn #name {
            // SAFETY: the adapters take instances of `__P`, and are made of
            // `__support::adapter`, which keeps the rules behind its fence.
            const ROW: __support::Interface = unsafe {
                __support::Interface::new(
                    <dyn #name as __support::TypedInterface>::ID,
                    <dyn #name as __support::TypedInterface>::VERSION,
                    #vtable_ref(__Adapter::<__P>::__TABLE.static_as_prefix()),
                )
            };
        }
    }
}

fn adapter_function(interface: &Ident, method: &Method) -> TokenStream {
    use types::Outcome;
    let name = &method.name;
    let parameters = method.parameters.iter().map(|parameter| {
        let (name, wire) = (&parameter.name, parameter.kind.wire());
        quote!(#name: #wire)
    });
    let inward = method.parameters.iter().map(|parameter| parameter.kind.inward(&parameter.name));
    let answer = quote!(<__P as #interface>::#name(__plugin, #(#inward),*));
    let answer = if method.fallible { answer } else { quote!(__support::Result::Ok(#answer)) };
    let answer = match method.outcome.conversions() {
        Some((_, crossing)) => quote!(#answer.map(#crossing)),
        None => answer,
    };
    let lifetime = method.lifetime.as_ref();
    let out = method.outcome.wire(lifetime).map(|wire| quote!(__out: #wire,));
    // The out argument differs from what is written in lifetimes only: the type
    // is named, so that a name that hides another type does not compile.
    let value = method.outcome.value(&types::elided());
    let (side, place) = match &method.outcome {
        Outcome::Unit => (quote!(value::<__P, ()>), quote!(::core::ptr::NonNull::<()>::dangling().as_ptr())),
        Outcome::OwnedText => (quote!(text::<__P>), quote!(__out)),
        Outcome::OwnedList(_) => (quote!(items::<__P, #value>), quote!(::core::ptr::from_ref(__out).cast())),
        _ => (quote!(value::<__P, #value>), quote!(__out.cast())),
    };
    let parameter = lifetime.iter();
    quote! {
        unsafe extern "C" fn #name #(<#parameter>)* (
            __instance: __support::Instance, #(#parameters,)* #out
        ) -> __support::Status {
            unsafe {
                __support::adapter::#side(&__instance, #place, |__plugin: &__P| #answer)
            }
        }
    }
}

/// Stops the build where a type must not cross.
fn demand(method: &Method) -> TokenStream {
    let name = &method.name;
    let arguments = method.parameters.iter().filter_map(|parameter| parameter.kind.demand());
    let outcome = method.outcome.demand().into_iter();
    let demands = arguments.chain(outcome).map(ToTokens::into_token_stream);
    quote! {
        const _: () = {
            fn #name<'call>() {
                #(#demands)*
            }
            _ = #name;
        };
    }
}

#[cfg(test)]
mod tests;
