//! What is frozen of every vtable: the names, types and order of its fields, and
//! which of them was the last one in the first release.
//!
//! Host and plugins of one build agree on whatever stands there, so nothing else
//! fails when two functions change places. Where the list grows, it grows at a
//! vtable's end, with a new minor version of its interface.

use abi_stable::{
    StableAbi,
    type_layout::{TLData, TLFunction, TypeLayout},
};
use replug_abi::{
    HostVtableRef, InstanceVtableRef, InterfaceVersion, LedgerVtableRef, RootRef, RowsVtableRef,
    ServiceVtableRef, TablesVtableRef, interface,
};
use std::fmt::Write as _;

const GOLDEN: &str = include_str!("vtables.golden");

#[test]
fn the_functions_of_every_vtable_are_where_they_were() {
    let mut found = String::new();
    let root = InterfaceVersion::new(1, 0, 0);
    for (id, version, layout) in [
        ("root module", root, <RootRef as StableAbi>::LAYOUT),
        (interface::HOST, interface::HOST_VERSION, <HostVtableRef as StableAbi>::LAYOUT),
        (interface::INSTANCE, interface::INSTANCE_VERSION, <InstanceVtableRef as StableAbi>::LAYOUT),
        (interface::SERVICE, interface::SERVICE_VERSION, <ServiceVtableRef as StableAbi>::LAYOUT),
        (interface::LEDGER, interface::LEDGER_VERSION, <LedgerVtableRef as StableAbi>::LAYOUT),
        (interface::TABLES, interface::TABLES_VERSION, <TablesVtableRef as StableAbi>::LAYOUT),
        (interface::ROWS, interface::ROWS_VERSION, <RowsVtableRef as StableAbi>::LAYOUT),
    ] {
        let _ = writeln!(found, "{id} {version}");
        list(layout, &mut found);
    }
    assert!(found == GOLDEN, "the vtables are not those of tests/vtables.golden but\n{found}");
}

/// The fields of what a reference to a prefix refers to.
fn list(reference: &'static TypeLayout, out: &mut String) {
    let layout = referred(reference);
    let TLData::PrefixType(prefix) = layout.data() else {
        panic!("{} is no prefix type", layout.full_type());
    };
    for (at, field) in prefix.fields.iter().enumerate() {
        if at == usize::from(prefix.first_suffix_field) {
            out.push_str("  since the first release:\n");
        }
        let typed = match field.function_range().iter().next() {
            Some(function) => signature(&function),
            None => field.full_type().to_string(),
        };
        let _ = writeln!(out, "    {}: {typed}", field.name());
    }
}

/// Names and types on one line: abi_stable writes all names before the first type,
/// and lifetimes behind the last.
fn signature(function: &TLFunction) -> String {
    let text = function.to_string();
    let words: Vec<&str> = text.lines().next().unwrap_or_default().split_whitespace().collect();
    let mut line = words.join(" ").replace(" ,", ",").replace(" )", ")").replace(")->", ") -> ");
    let all = function.param_names.as_str();
    for (at, name) in all.split(',').filter(|name| !name.is_empty()).enumerate() {
        let written = if at == 0 { format!("({all}: ") } else { format!(" param_{at}: ") };
        line = line.replacen(&written, &format!("{}{name}: ", &written[..1]), 1);
    }
    line
}

/// What is behind the pointers.
fn referred(layout: &'static TypeLayout) -> &'static TypeLayout {
    if matches!(layout.data(), TLData::PrefixType(_)) {
        return layout;
    }
    let fields = layout.get_fields().into_iter().flat_map(|fields| fields.iter());
    let first = fields.chain(layout.phantom_fields().iter()).next();
    first.map_or(layout, |field| referred(field.layout()))
}
