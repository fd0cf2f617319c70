//! What the attribute refuses, where, and in which words.

use super::{Arguments, expand};
use syn::{Error, ItemTrait, parse_str};

/// The error for a trait with these attribute arguments: the source that it
/// points at, and its words.
fn refusal(arguments: &str, item: &str) -> (String, String) {
    let arguments = parse_str::<Arguments>(arguments);
    let error: Error = arguments
        .and_then(|arguments| expand(arguments, parse_str::<ItemTrait>(item)?))
        .expect_err(&format!("must be refused: {item}"));
    (error.span().source_text().unwrap_or_default(), error.to_string())
}

fn refused(arguments: &str, item: &str, at: &str, words: &str) {
    let (place, message) = refusal(arguments, item);
    assert_eq!(place, at, "{item}: {message}");
    assert!(message.contains(words), "{item}: {message}");
}

const GOOD: &str = "id = \"example.clock\", version = \"1.2.0\"";

#[test]
fn an_id_or_version_that_no_host_could_use_is_refused() {
    let item = "trait Clock { fn now(&self) -> u64; }";
    for (id, version, at, words) in [
        ("clock", "1.0.0", "\"clock\"", "a dotted name"),
        ("Example.Clock", "1.0.0", "\"Example.Clock\"", "in lower case"),
        ("replug.clock", "1.0.0", "\"replug.clock\"", "the host's own"),
        ("example.clock", "1.0", "\"1.0\"", "no version of an interface"),
        ("example.clock", "1.0.0-rc.1", "\"1.0.0-rc.1\"", "three numbers and nothing else"),
    ] {
        refused(&format!("id = \"{id}\", version = \"{version}\""), item, at, words);
    }
    refused("id = \"a.b\", id = \"a.b\"", item, "id", "stands twice");
    refused("id = \"a.b\", name = \"c\"", item, "name", "there are: id, version");
}

#[test]
fn a_trait_that_is_no_interface_is_refused() {
    for (item, at, words) in [
        ("unsafe trait A { fn a(&self); }", "unsafe", "a safe trait"),
        ("trait A<T> { fn a(&self); }", "T", "one function for each method"),
        ("trait A: Send { fn a(&self); }", "Send", "stands alone"),
        ("trait A { const N: u32; fn a(&self); }", "const", "methods only"),
        ("trait A {}", "A", "at least one method"),
    ] {
        let (place, message) = refusal(GOOD, item);
        assert!(place.starts_with(at), "{item}: at {place:?}");
        assert!(message.contains(words), "{item}: {message}");
    }
}

#[test]
fn a_method_that_has_no_place_in_a_vtable_is_refused_with_what_to_write() {
    for (method, at, words) in [
        ("fn a();", "a", "begins with `&self`"),
        ("fn a(&mut self);", "&", "write `&self`"),
        ("fn a(self);", "self", "write `&self`"),
        ("async fn a(&self);", "async", "cannot be async"),
        ("unsafe fn a(&self);", "unsafe", "an ordinary one"),
        ("fn a<T>(&self, t: T);", "T", "one method for each type"),
        ("fn a<'a, 'b>(&'a self, b: &'b str);", "'b", "one lifetime at most"),
        ("fn a<'a>(&self, b: &'a str);", "&", "write `&'a self`"),
        ("fn a(&self) where Self: Sized;", "where", "no conditions"),
        ("fn a(&self, (b, c): Tuple2<u8, u8>);", "(", "give the argument a name"),
        ("fn a<'call>(&'call self, b: &'call str);", "'call", "call this one `'a`"),
        ("fn __a(&self);", "__a", "the attribute's own"),
        ("fn a(&self, __out: u8);", "__out", "the attribute's own"),
        ("#[cfg(unix)] fn a(&self);", "#", "the same in every build"),
        ("#[cfg_attr(unix, cfg(unix))] fn a(&self);", "#", "the same in every build"),
        ("fn a(&self, #[cfg(unix)] b: u8);", "#", "has no attributes"),
        ("fn a(#[cfg(unix)] &self);", "#", "has no attributes"),
        ("fn a(&self, #[allow(unused)] b: u8);", "#", "has no attributes"),
        ("fn has_b(&self); #[since = \"1.1\"] fn b(&self);", "has_b", "choose another name"),
        ("fn has_r(&self); #[since = \"1.1\"] fn r#r(&self);", "has_r", "choose another name"),
    ] {
        let (place, message) = refusal(GOOD, &format!("trait A {{ {method} }}"));
        assert!(place.starts_with(at), "{method}: at {place:?}");
        assert!(message.contains(words), "{method}: {message}");
    }
}

#[test]
fn a_type_that_cannot_cross_is_refused_with_what_to_write() {
    for (method, at, words) in [
        ("fn a(&self, b: String);", "String", "write `&str`"),
        ("fn a(&self, b: &String);", "&", "write `&str`"),
        ("fn a(&self, b: Vec<u8>);", "Vec", "write `&[T]`"),
        ("fn a(&self, b: &mut Vec<u8>);", "&", "`&mut [T]`"),
        ("fn a(&self, b: &mut str);", "&", "cannot change it"),
        ("fn a(&self, b: Option<u8>);", "Option", "`ROption<T>`"),
        ("fn a(&self) -> Option<&str>;", "Option", "`ROption<T>`"),
        ("fn a(&self) -> (u8, u8);", "(", "`Tuple2`"),
        ("fn a(&self, b: [u8; 4]);", "[", "lend the array"),
        ("fn a(&self, b: impl Fn());", "impl", "name it"),
        ("fn a(&self, b: &dyn Fn());", "dyn", "no stable layout"),
        ("fn a(&self, b: fn());", "fn", "outlive the plugin"),
        ("fn a(&self, b: *const u8);", "*", "borrow with `&`"),
        ("fn a(&self) -> Box<u8>;", "Box", "owns memory"),
        ("fn a(&self) -> RString;", "RString", "owns memory"),
        ("fn a(&self) -> &mut u8;", "mut", "borrowed shared"),
        ("fn a(&self) -> &'static str;", "'static", "nothing of a plugin lives for ever"),
        ("fn a(&self) -> Result<u8, E>;", "Result", "with one type"),
        ("fn a(&self) -> Result<Result<u8>>;", "Result", "around the whole result"),
        ("fn a(&self) -> Self;", "Self", "write the type"),
    ] {
        let (place, message) = refusal(GOOD, &format!("trait A {{ {method} }}"));
        assert!(place.starts_with(at), "{method}: at {place:?}");
        assert!(message.contains(words), "{method}: {message}");
    }
}

#[test]
fn methods_of_later_versions_come_last_and_within_the_version() {
    for (methods, at, words) in [
        ("#[since = \"1.1\"] fn a(&self);", "\"1.1\"", "it has no `since`"),
        ("fn a(&self); #[since = \"1.1\"] fn b(&self); fn c(&self);", "c", "says since when"),
        ("fn a(&self); #[since = \"1.3\"] fn b(&self);", "\"1.3\"", "the interface has version 1.2"),
        ("fn a(&self); #[since = \"2.1\"] fn b(&self);", "\"2.1\"", "the interface has version 1.2"),
        ("fn a(&self); #[since = \"1.0\"] fn b(&self);", "\"1.0\"", "needs no `since`"),
        (
            "fn a(&self); #[since = \"1.2\"] fn b(&self); #[since = \"1.1\"] fn c(&self);",
            "\"1.1\"",
            "put this one above them",
        ),
        ("fn a(&self); #[since(1)] fn b(&self);", "#", "expected `#[since = \"1.1\"]`"),
    ] {
        let (place, message) = refusal(GOOD, &format!("trait A {{ {methods} }}"));
        assert!(place.starts_with(at), "{methods}: at {place:?}");
        assert!(message.contains(words), "{methods}: {message}");
    }
}

#[test]
fn a_trait_stays_as_it_was_written_but_for_since() {
    let item = parse_str::<ItemTrait>(
        "/// Tells the time.\npub trait Clock { /// Now.\n fn now(&self) -> u64; #[since = \"1.1\"] fn zone(&self) -> &str { \"utc\" } }",
    )
    .expect("a trait");
    let output = expand(parse_str(GOOD).expect("arguments"), item.clone()).expect("an interface");
    let file = syn::parse2::<syn::File>(output).expect("items");
    let mut expected = item;
    for member in &mut expected.items {
        if let syn::TraitItem::Fn(function) = member {
            function.attrs.retain(|attribute| !attribute.path().is_ident("since"));
        }
    }
    let written = |item: &dyn quote::ToTokens| item.to_token_stream().to_string();
    assert_eq!(written(&file.items[0]), written(&expected));
    assert!(matches!(&file.items[1], syn::Item::Struct(proxy) if proxy.ident == "ClockProxy"));
}
