//! What is frozen of the ABI: the names, types and order of every vtable's fields,
//! and which of them was the last one in the first release; size, alignment and
//! fields of all types that stand in them; and the constants that cross.
//!
//! Host and plugins of one build agree on whatever stands there, so nothing else
//! fails when two functions change places. Where the list grows, it grows at a
//! vtable's end, with a new minor version of its interface, or by a constant. Sizes
//! are in bytes, where a pointer has eight.
#![cfg(target_pointer_width = "64")]

use abi_stable::{
    StableAbi,
    type_layout::{TLData, TLField, TLFunction, TLPrimitive, TypeLayout},
};
use replug_abi::{
    Extension, HostVtableRef, InstanceVtableRef, InterfaceVersion, LedgerVtableRef, RootRef, RowsVtableRef,
    ServiceVtableRef, TablesVtableRef, TextSink, interface,
};
use std::{collections::BTreeMap, fmt::Write as _};

const GOLDEN: &str = include_str!("vtables.golden");

/// Read from the sources, so that none can be forgotten here.
const SOURCES: [(&str, &str); 4] = [
    ("status", include_str!("../src/status.rs")),
    ("sink", include_str!("../src/sink.rs")),
    ("instance", include_str!("../src/instance.rs")),
    ("tables", include_str!("../src/tables.rs")),
];

#[test]
fn functions_types_and_constants_of_the_abi_are_what_they_were() {
    let (mut found, mut types) = (String::new(), Types::default());
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
        list(layout, &mut types, &mut found);
    }
    // In no vtable of this package: behind a request, and in those of typed interfaces.
    types.add(<Extension as StableAbi>::LAYOUT);
    types.add(<TextSink as StableAbi>::LAYOUT);
    found.extend(types.0.into_values());
    for (source, text) in SOURCES {
        let _ = writeln!(found, "constants of {source}");
        constants(text).for_each(|constant| {
            let _ = writeln!(found, "    {constant}");
        });
    }
    assert!(found == GOLDEN, "the ABI is not that of tests/vtables.golden but\n{found}");
}

/// The fields of what a reference to a prefix refers to.
fn list(reference: &'static TypeLayout, types: &mut Types, out: &mut String) {
    let layout = referred(reference);
    let TLData::PrefixType(prefix) = layout.data() else {
        panic!("{} is no prefix type", layout.full_type());
    };
    for (at, field) in prefix.fields.iter().enumerate() {
        if at == usize::from(prefix.first_suffix_field) {
            out.push_str("  since the first release:\n");
        }
        let _ = writeln!(out, "    {}", types.declared(&field));
    }
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

/// Every type that was come across, by name, and how it is listed.
#[derive(Default)]
struct Types(BTreeMap<String, String>);

impl Types {
    /// A field's name and type, and all that this type is made of.
    fn declared(&mut self, field: &TLField) -> String {
        let typed = match field.function_range().iter().next() {
            Some(function) => self.signature(&function),
            None => self.add(field.layout()),
        };
        format!("{}: {typed}", field.name())
    }

    /// What `TLFunction` says of itself lacks arguments of generic types.
    fn signature(&mut self, function: &TLFunction) -> String {
        let mut names = function.param_names.as_str().split(',');
        let parameters: Vec<_> = function
            .param_type_layouts
            .iter()
            .map(|layout| match names.next().unwrap_or_default() {
                "" => self.add(layout()),
                name => format!("{name}: {}", self.add(layout())),
            })
            .collect();
        let safety = if function.fn_qualifs.is_unsafe() { "unsafe " } else { "" };
        let result = function.return_type_layout().map(|layout| format!(" -> {}", self.add(layout())));
        format!("{safety}fn({}){}", parameters.join(", "), result.unwrap_or_default())
    }

    /// Adds a type and what it is made of; how it is written.
    fn add(&mut self, layout: &'static TypeLayout) -> String {
        let name = written(layout);
        if let Some(target) = target(layout) {
            self.add(target);
        }
        // `TypeLayout` is abi_stable's own, and of one version of it.
        let fields = layout.get_fields().filter(|fields| !fields.is_empty() && name != "TypeLayout");
        if let Some(fields) = fields
            && !self.0.contains_key(&name)
        {
            // Known from here on: a type may lead back to itself.
            self.0.insert(name.clone(), String::new());
            let mut listed = format!("{name}: size {}, alignment {}\n", layout.size(), layout.alignment());
            for field in fields.iter() {
                let _ = writeln!(listed, "    {}", self.declared(&field));
            }
            self.0.insert(name.clone(), listed);
        }
        name
    }
}

/// A type as in its declaration, without lifetimes.
fn written(layout: &'static TypeLayout) -> String {
    let to = |target: Option<&'static TypeLayout>| target.map(written).unwrap_or_default();
    match layout.data() {
        TLData::Primitive(TLPrimitive::SharedRef) => format!("&{}", to(target(layout))),
        TLData::Primitive(TLPrimitive::MutRef) => format!("&mut {}", to(target(layout))),
        TLData::Primitive(TLPrimitive::ConstPtr) => format!("*const {}", to(target(layout))),
        TLData::Primitive(TLPrimitive::MutPtr) => format!("*mut {}", to(target(layout))),
        TLData::Enum(_) | TLData::Union { .. } => panic!("{} is of no kind that is listed", layout.name()),
        // Its layout does not tell the argument, but where its items are.
        TLData::Struct { fields } if layout.name().starts_with("RSlice") => {
            let items = fields.iter().find_map(|field| target(field.layout()));
            format!("{}<{}>", layout.name(), to(items))
        }
        _ => layout.name().to_owned(),
    }
}

/// What a reference or a pointer points to.
fn target(layout: &'static TypeLayout) -> Option<&'static TypeLayout> {
    use TLPrimitive::{ConstPtr, MutPtr, MutRef, SharedRef};
    match layout.data() {
        TLData::Primitive(SharedRef | MutRef | ConstPtr | MutPtr) => {
            layout.phantom_fields().iter().next().map(|field| field.layout())
        }
        _ => None,
    }
}

/// Names, types and values of public constants.
fn constants(source: &str) -> impl Iterator<Item = &str> {
    source.lines().filter_map(|line| line.trim_start().strip_prefix("pub const ")?.strip_suffix(';'))
}
