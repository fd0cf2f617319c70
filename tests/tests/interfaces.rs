//! Typed interfaces between a host and plugins of other versions: what is
//! called, what is missing, what is refused and in which words; and every way in
//! which arguments and results cross.

use abi_stable::std_types::{ROption, RSome};
use pairs::{
    changed,
    every::{Every, Level, Span},
    report, report_exchanged, report_louder, report_renamed, v1_0, v1_1, v1_2, v2_0, words, words_lent,
};
use replug_host::{CallError, Fault, FaultKind, HostBuilder, TypedInterface, failure::Failure};
use replug_tests::{
    artifacts,
    harness::{Harness, How},
};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A host that knows `I`, and serves a plugin of `pairs`.
fn serving<I: TypedInterface + ?Sized>(example: &str, version: &str) -> Harness {
    serving_with(example, version, |host| host.interface::<I>())
}

fn serving_with(example: &str, version: &str, adjust: impl FnOnce(HostBuilder) -> HostBuilder) -> Harness {
    let library = artifacts::example("pairs", example);
    let mut harness = Harness::with(adjust);
    harness.deploy(&library, "plugin.so", version);
    harness
}

/// Code and message with which a host that knows `I` refuses a plugin.
fn refused<I: TypedInterface + ?Sized>(example: &str, version: &str) -> (String, String) {
    let library = artifacts::example("pairs", example);
    let mut harness = Harness::with(|host| host.interface::<I>());
    harness.drop_file(How::Rename, &library, "plugin.so");
    let failure = harness.not_deployed(version);
    (failure.code.to_string(), failure.message.clone())
}

/// Host 1.2, plugin 1.0: later methods are missing, and the host is told so
/// before and when it calls one.
#[test]
fn an_older_plugin_serves_without_the_later_methods() {
    let harness = serving::<dyn v1_2::Store>("store-v1-0", "store@1.0.0");
    let store = harness.plugin("store").typed::<dyn v1_2::Store>().expect("is registered");
    let seen = store.call(|store| Ok((store.get(4)?, store.has_count(), store.has_name())));
    assert_eq!(seen, Ok((40, false, false)));
    let missing = store.call(|store| store.name().map(str::to_owned)).expect_err("is missing");
    assert_eq!(missing.code().as_str(), "call.unknown_method");
    let message = missing.to_string();
    assert!(message.starts_with("plugin store: version store@1.0.0+"), "{message}");
    assert!(
        message.ends_with(" lacks pairs.store.name, which is there since pairs.store 1.2.0"),
        "{message}"
    );
    // What the closure deals with is no failure.
    let count = store.call(|store| match store.count().map_err(Fault::into_kind) {
        Err(FaultKind::Missing { method: "count", since }) => Ok(since.minor),
        other => panic!("{other:?}"),
    });
    assert_eq!(count, Ok(1));
    assert_eq!(harness.plugin("store").counters().errors, 1);
}

/// Host 1.2, plugin 1.1.
#[test]
fn a_plugin_one_minor_older_has_all_but_the_latest_method() {
    let harness = serving::<dyn v1_2::Store>("store-v1-1", "store@1.1.0");
    let store = harness.plugin("store").typed::<dyn v1_2::Store>().expect("is registered");
    assert_eq!(
        store.call(|store| Ok((store.count()?, store.has_count(), store.has_name()))),
        Ok((7, true, false))
    );
}

/// Host 1.2, plugin 1.2, which calls an argument otherwise than 1.1 does.
#[test]
fn a_plugin_of_the_same_minor_has_every_method() {
    let harness = serving::<dyn v1_2::Store>("store-v1-2", "store@1.2.0");
    let store = harness.plugin("store").typed::<dyn v1_2::Store>().expect("is registered");
    let seen = store.call(|store| Ok((store.get(1)?, store.count()?, store.name()?.to_owned())));
    assert_eq!(seen, Ok((10, 7, "tens".to_owned())));
}

/// Host 1.2, plugin 1.3.
#[test]
fn a_newer_plugin_serves_with_what_the_host_knows() {
    let harness = serving::<dyn v1_2::Store>("store-v1-3", "store@1.3.0");
    let store = harness.plugin("store").typed::<dyn v1_2::Store>().expect("is registered");
    assert_eq!(store.call(|store| Ok((store.get(2)?, store.name()?.len()))), Ok((20, 4)));
}

/// Host 1.0, plugin 1.3; and host 1.1.
#[test]
fn an_older_host_runs_a_plugin_of_a_later_minor() {
    let library = "store-v1-3";
    let harness = serving_with(library, "store@1.3.0", |host| {
        host.interface::<dyn v1_0::Store>().interface::<dyn v1_1::Store>()
    });
    let plugin = harness.plugin("store");
    let first = plugin.typed::<dyn v1_0::Store>().expect("is registered");
    assert_eq!(first.call(|store| store.get(3)), Ok(30));
    let second = plugin.typed::<dyn v1_1::Store>().expect("is registered");
    assert_eq!(second.call(|store| Ok((store.has_count(), store.count()?))), Ok((true, 7)));
}

/// Host 1.2, plugin 2.0.
#[test]
fn a_plugin_of_a_later_major_is_refused_with_both_versions() {
    let (code, message) = refused::<dyn v1_2::Store>("store-v2-0", "store@2.0.0");
    assert_eq!(code, "abi.interface_major");
    assert_eq!(message, "interface pairs.store: expected version 1.2.0, found 2.0.0");
}

/// Host 2.0, plugin 1.2.
#[test]
fn a_plugin_of_an_earlier_major_is_refused_with_both_versions() {
    let (code, message) = refused::<dyn v2_0::Store>("store-v1-2", "store@1.2.0");
    assert_eq!(code, "abi.interface_major");
    assert_eq!(message, "interface pairs.store: expected version 2.0.0, found 1.2.0");
}

/// Host 1.1, plugin 1.1 with another argument.
#[test]
fn a_changed_layout_is_refused_with_the_place_on_one_line() {
    let (code, message) = refused::<dyn v1_1::Store>("store-changed", "store@1.1.1");
    assert_eq!(code, "abi.layout_mismatch");
    // Parameter 0 is the instance.
    let expected = "the layout of pairs.store differs at get.param_1: expected type u32, found u64";
    assert_eq!(message, expected);
}

/// Once, the two vtables were the same, and a host that gave the line up while it
/// held the word read freed memory.
#[test]
fn a_result_that_borrows_from_something_else_is_another_layout() {
    let (code, message) = refused::<dyn words::Words>("words-lent", "words@1.0.0");
    assert_eq!(code, "abi.layout_mismatch");
    assert!(message.starts_with("the layout of pairs.words differs at first"), "{message}");
    let harness = serving::<dyn words_lent::Words>("words-lent", "words@1.0.0");
    let words = harness.plugin("words").typed::<dyn words_lent::Words>().expect("is registered");
    assert_eq!(words.call(|words| Ok(words.first("one two")?.len())), Ok(3));
}

/// Once, a plugin that served two majors was refused by a host that knew one.
#[test]
fn a_plugin_with_two_majors_serves_a_host_that_knows_either() {
    let harness = serving::<dyn v1_2::Store>("two", "store@3.0.0");
    let store = harness.plugin("store").typed::<dyn v1_2::Store>().expect("is registered");
    assert_eq!(store.call(|store| store.get(3)), Ok(30));
    let harness = serving::<dyn v2_0::Store>("two", "store@3.0.0");
    let store = harness.plugin("store").typed::<dyn v2_0::Store>().expect("is registered");
    assert_eq!(store.call(|store| store.get("four")), Ok(4));
}

/// Host 1.2, plugin 1.2 that lost a method of 1.2.
#[test]
fn a_later_method_that_was_taken_away_again_is_missing_or_refused() {
    let (code, message) = refused::<dyn v1_2::Store>("store-without-name", "store@1.2.1");
    assert_eq!(code, "abi.layout_mismatch");
    assert!(message.starts_with("the layout of pairs.store differs at"), "{message}");
    // Who never knew the method misses nothing.
    let harness = serving::<dyn v1_1::Store>("store-without-name", "store@1.2.1");
    let store = harness.plugin("store").typed::<dyn v1_1::Store>().expect("is registered");
    assert_eq!(store.call(|store| store.count()), Ok(7));
}

/// Methods, variants and types by the same version, but not the same.
#[test]
fn what_changed_by_order_by_number_or_by_name_is_refused_at_its_place() {
    let harness = serving::<dyn report::Report>("report", "report@1.0.0");
    let report = harness.plugin("report").typed::<dyn report::Report>().expect("is registered");
    let told = report.call(|report| Ok((report.size("one two!")?.bytes, report.volume("!")?)));
    assert_eq!(told, Ok((8, report::Volume::High)));
    assert_eq!(report.call(|report| Ok((report.words("a b")?, report.letters("a b")?))), Ok((2, 3)));
    let refusals = [
        refused::<dyn report_exchanged::Report>("report", "report@1.0.0"),
        refused::<dyn report_louder::Report>("report", "report@1.0.0"),
        refused::<dyn report_renamed::Report>("report", "report@1.0.0"),
    ];
    let places = [
        "0: expected field letters: AFunctionPointer, found words: AFunctionPointer (and 1 more differences)",
        "volume.param_2.0: TooManyVariants(ExpectedFound { expected: 3, found: 2 })",
        "size.param_2.0: expected type Length, found Size",
    ];
    for ((code, message), place) in refusals.iter().zip(places) {
        assert_eq!(code, "abi.layout_mismatch");
        assert_eq!(message, &format!("the layout of pairs.report differs at {place}"));
    }
}

/// Once, the first of the two rows was taken without a word.
#[test]
fn two_rows_of_one_interface_and_major_are_refused() {
    let (code, message) = refused::<dyn v1_1::Store>("twice", "store@1.1.2");
    assert_eq!(code, "abi.interface_major");
    let expected = "it offers interface pairs.store twice, as 1.0.0 and as 1.1.0: \
                    one row of each major version is enough";
    assert_eq!(message, expected);
}

/// A handle is of the plugin, not of a version of it.
#[test]
fn a_typed_handle_goes_over_a_swap_and_says_when_the_host_has_ended() {
    let mut harness = serving::<dyn v1_2::Store>("store-v1-0", "store@1.0.0");
    let store = harness.plugin("store").typed::<dyn v1_2::Store>().expect("is registered");
    assert_eq!(store.call(|store| Ok((store.get(1)?, store.has_name()))), Ok((10, false)));
    harness.deploy(&artifacts::example("pairs", "store-v1-2"), "later.so", "store@1.2.0");
    let named = store.call(|store| Ok((store.get(2)?, store.name()?.to_owned())));
    assert_eq!(named, Ok((20, "tens".to_owned())));
    harness.unloaded("store@1.0.0");
    let (_, home) = harness.shutdown();
    let mut ran = false;
    let ended = store.call(|_| {
        ran = true;
        Ok(())
    });
    let ended = ended.expect_err("the host has ended");
    assert!(!ran && matches!(*ended, CallError::Stopped), "{ended}");
    drop(home);
}

/// Host 1.2, plugin 1.1 with another argument: also where one side has more.
#[test]
fn a_changed_layout_is_found_between_two_minors() {
    let (code, message) = refused::<dyn v1_2::Store>("store-changed", "store@1.1.1");
    assert_eq!(code, "abi.layout_mismatch");
    assert!(message.contains("u32") && message.contains("u64"), "{message}");
    // Nothing is wrong with it where the host knows the same mistake.
    let harness = serving::<dyn changed::Store>("store-changed", "store@1.1.1");
    let store = harness.plugin("store").typed::<dyn changed::Store>().expect("is registered");
    assert_eq!(store.call(|store| store.get(1 << 40)), Ok(10 << 40));
}

/// Host with `every`, plugin without it.
#[test]
fn a_plugin_without_the_interface_serves_what_it_has() {
    let harness = serving_with("store-v1-0", "store@1.0.0", |host| {
        host.interface::<dyn v1_0::Store>().interface::<dyn Every>()
    });
    let plugin = harness.plugin("store");
    let every = plugin.typed::<dyn Every>().expect("is registered");
    let mut ran = false;
    let missing = every.call(|_| {
        ran = true;
        Ok(())
    });
    let missing = missing.expect_err("is not offered");
    assert!(!ran && matches!(&*missing, CallError::UnknownInterface { .. }));
    assert_eq!(missing.code().as_str(), "call.unknown_interface");
    assert_eq!(missing.code().next_step(), "ask for an interface that the plugin exports");
    let message = missing.to_string();
    assert!(message.starts_with("plugin store: version store@1.0.0+"), "{message}");
    assert!(message.ends_with(" does not offer interface pairs.every 1.0.0"), "{message}");
    let store = plugin.typed::<dyn v1_0::Store>().expect("is registered");
    assert_eq!(store.call(|store| store.get(1)), Ok(10));
}

/// Host with two majors of an interface, plugin with both.
#[test]
fn two_interfaces_of_one_plugin_are_called_beside_its_service() {
    let harness = serving_with("two", "store@3.0.0", |host| {
        host.interface::<dyn v1_2::Store>().interface::<dyn v2_0::Store>()
    });
    let plugin = harness.plugin("store");
    let by_place = plugin.typed::<dyn v1_2::Store>().expect("is registered");
    let by_name = plugin.typed::<dyn v2_0::Store>().expect("is registered");
    // One inside of the other: both are in the same version.
    let sum = by_place.call(|place| {
        let named = by_name.call(|name| name.get("four"));
        Ok(place.get(1)? + named.expect("is offered"))
    });
    assert_eq!(sum, Ok(14));
    assert_eq!(plugin.call("ping", b"").expect("answers").body(), b"pong");
}

/// Host without the interface, plugin with it.
#[test]
fn an_interface_that_was_not_registered_is_an_error_that_says_how() {
    let harness = serving_with("store-v1-2", "store@1.2.0", |host| host);
    let Err(error) = harness.plugin("store").typed::<dyn v1_2::Store>() else {
        panic!("the host was not told of it");
    };
    assert_eq!(error.code().as_str(), "host.options");
    let expected =
        "interface pairs.store 1.2.0 is not registered: start the host with `HostBuilder::interface`";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn values_text_and_lists_cross_both_ways() {
    let harness = serving::<dyn Every>("every", "every@1.0.0");
    let every = harness.plugin("every").typed::<dyn Every>().expect("is registered");
    let called = every.call(|every| {
        every.touch()?;
        every.touch()?;
        assert_eq!(every.touched()?, 2);
        assert_eq!(every.sum(&[1, 2, 3], 4)?, 10);
        let (mut list, mut count) = ([1, 2], 5);
        every.double(&mut list, &mut count)?;
        assert_eq!((list, count), ([2, 4], 7));
        let mut span = Span { begin: 1, end: 2 };
        every.widen(&mut span)?;
        assert_eq!(span.end, 3);
        assert_eq!(every.name()?, "every");
        let fields = every.fields()?;
        assert_eq!(fields[0].key.as_str(), "a");
        assert_eq!(every.level()?, &Level::High);
        let line = "key=value".to_owned();
        let field = every.split(&line)?;
        assert_eq!(field.value.as_str().as_ptr(), line[4..].as_ptr(), "it borrows from the line");
        assert_eq!(every.find(&[field], "key")?, RSome("value".into()));
        assert_eq!(every.find(&[], "key")?, ROption::RNone);
        assert_eq!(every.upper("grün")?, "GRÜN");
        assert_eq!(every.quote("a")?, "\"a\"");
        assert_eq!(every.spans("ab c")?, [Span { begin: 0, end: 2 }, Span { begin: 3, end: 4 }]);
        assert_eq!(every.words("ab c")?.iter().map(|word| word.as_str()).collect::<Vec<_>>(), ["ab", "c"]);
        assert_eq!(every.half(8)?, 4);
        assert_eq!(every.nickname(Level::High)?, "every");
        Ok(())
    });
    assert_eq!(called, Ok(()));
}

#[test]
fn an_error_and_a_panic_of_the_plugin_are_error_values_and_count_as_failures() {
    let harness = serving::<dyn Every>("every", "every@1.0.0");
    let plugin = harness.plugin("every");
    let every = plugin.typed::<dyn Every>().expect("is registered");
    let refused = every.call(|every| every.quote("\"").map(drop)).expect_err("is refused");
    assert_eq!(refused.to_string(), "plugin every: every.quoted: \"");
    assert!(refused.is_retryable());
    let odd = every.call(|every| every.half(3)).expect_err("is odd");
    assert_eq!((odd.code().as_str(), odd.is_retryable()), ("call.plugin", false));
    assert!(every.call(|every| every.nickname(Level::Low).map(drop)).is_err());
    let panicked = every.call(|every| every.panic("too much")).expect_err("panics");
    assert_eq!(panicked.code().as_str(), "call.panicked");
    assert_eq!(panicked.to_string(), "plugin every panicked in pairs.every.panic: too much");
    // The texts of one error are not those of the next.
    let again = every.call(|every| every.panic("")).expect_err("panics");
    assert_eq!(again.to_string(), "plugin every panicked in pairs.every.panic: ");
    assert_eq!(plugin.counters().errors, 5);
    assert_eq!(every.call(|every| every.half(2)), Ok(1));
}

#[test]
fn errors_of_calls_inside_of_each_other_keep_their_words() {
    let harness = serving::<dyn Every>("every", "every@1.0.0");
    let every = harness.plugin("every").typed::<dyn Every>().expect("is registered");
    let outer = every.call(|outer| {
        let inner = every.call(|inner| inner.panic("inner")).expect_err("panics");
        assert_eq!(inner.to_string(), "plugin every panicked in pairs.every.panic: inner");
        outer.quote("\"").map(drop)
    });
    assert_eq!(outer.expect_err("is refused").to_string(), "plugin every: every.quoted: \"");
}

#[test]
fn a_closure_that_panics_keeps_no_version() {
    let mut harness = serving::<dyn v1_2::Store>("store-v1-0", "store@1.0.0");
    let store = harness.plugin("store").typed::<dyn v1_2::Store>().expect("is registered");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        store.call(|store| -> Result<(), Fault> { panic!("at {}", store.get(1)?) })
    }));
    assert!(panicked.is_err());
    harness.deploy(&artifacts::example("pairs", "store-v1-2"), "later.so", "store@1.2.0");
    harness.unloaded("store@1.0.0");
}

#[test]
fn owned_results_have_the_hosts_limit() {
    let harness =
        serving_with("every", "every@1.0.0", |host| host.interface::<dyn Every>().answer_bytes_max(16));
    let every = harness.plugin("every").typed::<dyn Every>().expect("is registered");
    assert_eq!(every.call(|every| every.upper("sixteen bytes ok")), Ok("SIXTEEN BYTES OK".to_owned()));
    let large = every.call(|every| every.upper("seventeen bytes !")).expect_err("is too large");
    assert_eq!(large.code().as_str(), "call.payload_too_large");
    assert_eq!(every.call(|every| every.spans("a b").map(|spans| spans.len())), Ok(2));
    assert!(every.call(|every| every.spans("a b c")).is_err());
}

#[test]
fn a_limit_of_calls_in_flight_holds_for_typed_calls() {
    let harness = serving_with("every", "every@1.0.0", |host| host.interface::<dyn Every>().in_flight_max(1));
    let every = harness.plugin("every").typed::<dyn Every>().expect("is registered");
    let inner = every.call(|_| Ok(every.call(|every| every.touched()).expect_err("is one too many")));
    assert_eq!(inner.expect("is the only one").code().as_str(), "call.overloaded");
    assert_eq!(every.call(|every| every.touched()), Ok(0));
}
