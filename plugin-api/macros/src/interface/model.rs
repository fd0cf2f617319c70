//! What an `#[interface(…)]` trait says, read and refused with an error at the
//! word that is wrong.

use super::types::{Argument, Outcome};
use proc_macro2::Span;
use quote::format_ident;
use semver::Version;
use syn::{
    Attribute, Error, Expr, ExprLit, FnArg, GenericParam, Ident, ItemTrait, Lifetime, Lit, LitStr, Meta, Pat,
    PatType, Receiver, Result, Signature, Token, TraitItem, TraitItemFn, Type,
    ext::IdentExt,
    parse::{Parse, ParseStream},
    spanned::Spanned,
};

/// `id = "…", version = "…"`.
pub(crate) struct Arguments {
    id: LitStr,
    version: LitStr,
}

/// A trait that can be an interface.
pub(super) struct Interface {
    name: Ident,
    pub(super) id: LitStr,
    pub(super) version: [u32; 3],
    /// Those of the prefix first.
    pub(super) methods: Vec<Method>,
}

/// A method of an interface.
pub(super) struct Method {
    pub(super) docs: Vec<Attribute>,
    pub(super) name: Ident,
    /// `'a` of `&'a self`, where the method names it.
    pub(super) lifetime: Option<Lifetime>,
    pub(super) parameters: Vec<Parameter>,
    pub(super) outcome: Outcome,
    /// Whether it answers with a `Result`.
    pub(super) fallible: bool,
    /// The version that brought it, if that is not the first one.
    pub(super) since: Option<Since>,
}

/// An argument of a method, beside `self`.
pub(super) struct Parameter {
    pub(super) name: Ident,
    /// As it was written.
    pub(super) ty: Type,
    pub(super) kind: Argument,
}

/// `#[since = "1.2"]`.
pub(super) struct Since {
    pub(super) major: u32,
    pub(super) minor: u32,
    span: Span,
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let (mut id, mut version) = (None, None);
        while !input.is_empty() {
            let key: Ident = input.parse()?;
            input.parse::<Token![=]>()?;
            let value: LitStr = input.parse()?;
            let place = match key.to_string().as_str() {
                "id" => &mut id,
                "version" => &mut version,
                _ => return Err(Error::new(key.span(), "unknown option; there are: id, version")),
            };
            if place.replace(value).is_some() {
                return Err(Error::new(key.span(), "this option stands twice"));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        match (id, version) {
            (Some(id), Some(version)) => Ok(Arguments { id, version }),
            _ => Err(input.error("expected `id = \"example.clock\", version = \"1.0.0\"`")),
        }
    }
}

impl Interface {
    /// Reads the trait, and takes out of it what only this macro understands.
    pub(super) fn read(Arguments { id, version }: Arguments, item: &mut ItemTrait) -> Result<Interface> {
        check_id(&id)?;
        let numbers = numbers(&version)?;
        check_trait(item)?;
        let mut methods: Vec<Method> = Vec::new();
        for item in &mut item.items {
            let TraitItem::Fn(function) = item else {
                return Err(Error::new(
                    item.span(),
                    "an interface has methods only: only they can be called",
                ));
            };
            let method = Method::read(function)?;
            check_since(&method, methods.last(), numbers)?;
            methods.push(method);
        }
        check_questions(&methods)?;
        if methods.is_empty() {
            return Err(Error::new(item.ident.span(), "an interface has at least one method"));
        }
        Ok(Interface { name: item.ident.clone(), id, version: numbers, methods })
    }

    /// The layout check compares it, so that it never changes.
    pub(super) fn name_of_vtable(&self) -> Ident {
        format_ident!("{}Vtable", self.name)
    }
}

impl Method {
    fn read(function: &mut TraitItemFn) -> Result<Method> {
        let since = take_since(&mut function.attrs)?;
        let attributes = function.attrs.iter();
        let docs = attributes.filter(|attribute| attribute.path().is_ident("doc")).cloned().collect();
        for attribute in &function.attrs {
            check_attribute(attribute)?;
        }
        let signature = &function.sig;
        let lifetime = check_signature(signature)?;
        for input in &signature.inputs {
            let (FnArg::Typed(PatType { attrs, .. }) | FnArg::Receiver(Receiver { attrs, .. })) = input;
            if let Some(attribute) = attrs.first() {
                return Err(Error::new(attribute.span(), "an argument of an interface has no attributes"));
            }
        }
        let mut parameters = Vec::new();
        for (number, input) in signature.inputs.iter().skip(1).enumerate() {
            let FnArg::Typed(typed) = input else { continue };
            let kind = Argument::of(&typed.ty, lifetime.as_ref())?;
            let name = name_of(&typed.pat, number)?;
            parameters.push(Parameter { name, ty: (*typed.ty).clone(), kind });
        }
        let (outcome, fallible) = Outcome::of(&signature.output, lifetime.as_ref())?;
        let name = own_name(&signature.ident)?;
        Ok(Method { docs, name, lifetime, parameters, outcome, fallible, since })
    }

    /// The name of the question whether the method is there.
    pub(super) fn question(&self) -> String {
        format!("has_{}", self.name.unraw())
    }
}

/// A host finds interfaces by id; ids that begin with `replug.` are its own.
fn check_id(id: &LitStr) -> Result<()> {
    let text = id.value();
    let word = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase())
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
    };
    if !text.contains('.') || !text.split('.').all(word) {
        let message = "expected a dotted name in lower case, as in \"example.clock\"";
        return Err(Error::new(id.span(), message));
    }
    if text.starts_with("replug.") {
        return Err(Error::new(id.span(), "names that begin with `replug.` are the host's own"));
    }
    Ok(())
}

fn numbers(literal: &LitStr) -> Result<[u32; 3]> {
    let refused = |reason: &dyn std::fmt::Display| {
        Error::new(literal.span(), format!("{:?} is no version of an interface: {reason}", literal.value()))
    };
    let version = literal.value().parse::<Version>().map_err(|error| refused(&error))?;
    if !version.pre.is_empty() || !version.build.is_empty() {
        return Err(refused(&"it has three numbers and nothing else"));
    }
    let mut numbers = [0; 3];
    for (number, part) in numbers.iter_mut().zip([version.major, version.minor, version.patch]) {
        *number = u32::try_from(part).map_err(|error| refused(&error))?;
    }
    Ok(numbers)
}

fn check_trait(item: &ItemTrait) -> Result<()> {
    for attribute in &item.attrs {
        check_attribute(attribute)?;
    }
    if let Some(word) = &item.unsafety {
        return Err(Error::new(word.span(), "an interface is a safe trait: implementations write no unsafe"));
    }
    if let Some(parameter) = item.generics.params.first() {
        let message = "an interface has no type parameters: a vtable has one function for each method";
        return Err(Error::new(parameter.span(), message));
    }
    if let Some(clause) = &item.generics.where_clause {
        return Err(Error::new(clause.span(), "an interface has no conditions"));
    }
    if let Some(bound) = item.supertraits.first() {
        let message = "an interface stands alone: plugins are `Send + Sync` already, and methods of another \
                       trait would not be in the vtable";
        return Err(Error::new(bound.span(), message));
    }
    Ok(())
}

/// An interface is the same in every build. `cfg_attr` is refused whatever it
/// adds, since that is known only later.
fn check_attribute(attribute: &Attribute) -> Result<()> {
    if attribute.path().is_ident("cfg") || attribute.path().is_ident("cfg_attr") {
        let message = "an interface is the same in every build: no `cfg` and no `cfg_attr` here";
        return Err(Error::new(attribute.span(), message));
    }
    Ok(())
}

/// A proxy answers `has_x` for each later method `x`.
fn check_questions(methods: &[Method]) -> Result<()> {
    let questions: Vec<String> =
        methods.iter().filter(|method| method.since.is_some()).map(Method::question).collect();
    match methods.iter().find(|method| questions.contains(&method.name.unraw().to_string())) {
        None => Ok(()),
        Some(method) => {
            let message = format!(
                "`{}` is what the proxy has for the method that it asks for: choose another name",
                method.name
            );
            Err(Error::new(method.name.span(), message))
        }
    }
}

/// Later methods stand behind earlier ones, as their functions in the vtable.
fn check_since(method: &Method, before: Option<&Method>, [major, minor, _]: [u32; 3]) -> Result<()> {
    let later = before.and_then(|before| before.since.as_ref());
    let Some(since) = &method.since else {
        if later.is_none() {
            return Ok(());
        }
        let message =
            "a method behind one with `since` says since when it is there: older plugins lack it too";
        return Err(Error::new(method.name.span(), message));
    };
    let message = if before.is_none() {
        "the first method is there from the first version on: it has no `since`".to_owned()
    } else if since.major != major || since.minor > minor {
        format!("the interface has version {major}.{minor}: raise that, or correct this")
    } else if since.minor == 0 {
        format!("what is there since {major}.0 needs no `since`")
    } else if later.is_some_and(|later| later.minor > since.minor) {
        "methods of later versions come last: put this one above them".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::new(since.span, message))
}

/// The lifetime that the method names, if its signature can be one of a vtable.
fn check_signature(signature: &Signature) -> Result<Option<Lifetime>> {
    if let Some(word) = &signature.asyncness {
        let message = "a method cannot be async: use an async method of the built-in service, or answer \
                       with a number that is asked for later";
        return Err(Error::new(word.span(), message));
    }
    let qualifier = signature.unsafety.as_ref().map(Spanned::span);
    let qualifier = qualifier.or_else(|| signature.constness.as_ref().map(Spanned::span));
    let qualifier = qualifier.or_else(|| signature.abi.as_ref().map(Spanned::span));
    if let Some(span) = qualifier {
        let message = "a method is an ordinary one; how it crosses is the attribute's business";
        return Err(Error::new(span, message));
    }
    let receiver = match signature.inputs.first() {
        Some(FnArg::Receiver(receiver)) => receiver,
        other => {
            let span = other.map_or_else(|| signature.ident.span(), Spanned::span);
            return Err(Error::new(span, "a method begins with `&self`: it is called on an instance"));
        }
    };
    if receiver.reference.is_none() || receiver.mutability.is_some() || receiver.colon_token.is_some() {
        let message = "write `&self`: calls come from many threads at a time, so what changes stands behind \
                       a lock or an atomic";
        return Err(Error::new(receiver.span(), message));
    }
    if let Some(clause) = &signature.generics.where_clause {
        return Err(Error::new(clause.span(), "a method has no conditions"));
    }
    let mut parameters = signature.generics.params.iter();
    let lifetime = match parameters.next() {
        None => None,
        Some(GenericParam::Lifetime(parameter)) if parameter.lifetime.ident == "call" => {
            let message = "`'call` is the lifetime of the proxy: call this one `'a`";
            return Err(Error::new(parameter.span(), message));
        }
        Some(GenericParam::Lifetime(parameter)) if parameter.bounds.is_empty() => {
            Some(parameter.lifetime.clone())
        }
        Some(parameter) => return Err(generic(parameter)),
    };
    if let Some(parameter) = parameters.next() {
        return Err(generic(parameter));
    }
    let lent = receiver.reference.as_ref().and_then(|(_, lifetime)| lifetime.as_ref());
    if lent != lifetime.as_ref() {
        let message = "the lifetime of a method is that of `self` too: write `&'a self`, or leave it out; \
                       what a plugin lends ends with the call";
        return Err(Error::new(receiver.span(), message));
    }
    Ok(lifetime)
}

fn generic(parameter: &GenericParam) -> Error {
    let message = match parameter {
        GenericParam::Lifetime(_) => "a method names one lifetime at most, without bounds",
        _ => "a method has no type parameters: write one method for each type that is needed",
    };
    Error::new(parameter.span(), message)
}

/// A name that is none of those that are made here.
fn own_name(name: &Ident) -> Result<Ident> {
    if name.unraw().to_string().starts_with("__") {
        return Err(Error::new(name.span(), "names that begin with `__` are the attribute's own"));
    }
    Ok(name.clone())
}

fn name_of(pattern: &Pat, number: usize) -> Result<Ident> {
    match pattern {
        Pat::Ident(pattern) if pattern.by_ref.is_none() && pattern.subpat.is_none() => {
            own_name(&pattern.ident)
        }
        Pat::Wild(_) => Ok(Ident::new(&format!("argument{number}"), pattern.span())),
        _ => Err(Error::new(pattern.span(), "give the argument a name")),
    }
}

/// Reads and removes `#[since = "1.2"]`.
fn take_since(attributes: &mut Vec<Attribute>) -> Result<Option<Since>> {
    let Some(at) = attributes.iter().position(|attribute| attribute.path().is_ident("since")) else {
        return Ok(None);
    };
    let attribute = attributes.remove(at);
    let refused =
        || Error::new(attribute.span(), "expected `#[since = \"1.1\"]`: a major and a minor version");
    let Meta::NameValue(pair) = &attribute.meta else {
        return Err(refused());
    };
    let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &pair.value else {
        return Err(refused());
    };
    let value = text.value();
    let (major, minor) = value.split_once('.').ok_or_else(refused)?;
    match (major.parse(), minor.parse()) {
        (Ok(major), Ok(minor)) => Ok(Some(Since { major, minor, span: text.span() })),
        _ => Err(refused()),
    }
}
