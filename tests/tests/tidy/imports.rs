//! The rule that imports in the engine point one way.
//!
//! The `mod` lines of each file give an order: a module may name what stands
//! above it, its own parts, and the modules that it is a part of. Names must be
//! taken from the module that defines them, or the direction would be hidden.
//! Test code is free: it may look at anything.

use std::collections::HashMap;

use crate::tokens::{Token, closing, reads, tokens};
use crate::tree::{Fault, Tree, demand_none, places};

const ENGINE: &str = "host/engine/src";

/// The bottom of the engine, in the order that the architecture gives it.
const FOUNDATION: &[&str] = &["id", "clock", "failure", "event", "artifact", "load", "state", "dispatch"];

/// Folders whose parts may name each other freely, and why.
const ONE_PIECE: &[(&str, &str)] =
    &[("dispatch", "records, versions, slots and gates are one algorithm over the same atomics")];

/// `["dispatch", "gate"]` for `crate::dispatch::gate`; empty for the root.
type Module = Vec<String>;

/// What [`walk`] calls: the module, the tokens, the index of the current one.
type Visit<'a> = dyn FnMut(&[String], &[Token], usize) + 'a;

/// The parts of each module, in the order of its `mod` lines.
type Order = HashMap<Module, Vec<String>>;

fn backward(tree: &Tree) -> Vec<Fault> {
    let modules: Vec<_> = tree
        .rust()
        .filter(|file| file.is_in(ENGINE) && !file.is_test())
        .map(|file| (module_of(&file.path), file, tokens(file)))
        .collect();
    let mut order = Order::new();
    for (module, _, tokens) in &modules {
        walk(tokens, module, &mut |scope, tokens, index| {
            if tokens[index].text == "mod" {
                order.entry(scope.to_vec()).or_default().push(tokens[index + 1].text.clone());
            }
        });
    }

    let mut faults: Vec<Fault> = Vec::new();
    for (module, file, tokens) in modules.iter().filter(|(module, ..)| !module.is_empty()) {
        walk(tokens, module, &mut |scope, tokens, index| {
            let Some(base) = base(scope, tokens, index) else {
                return;
            };
            let mut paths = Vec::new();
            read_paths(tokens, index + 2, base, &mut paths);
            for (path, line) in paths {
                let Err((what, mend)) = judge(scope, &path, &order) else {
                    continue;
                };
                // One import of many names is one fault.
                let told = faults.last().is_some_and(|last| (last.line, &last.what) == (line, &what));
                if !told {
                    faults.push(Fault::new(file, line, what, mend));
                }
            }
        });
    }
    faults
}

fn foundation(tree: &Tree) -> Vec<Fault> {
    let Some(root) = tree.file(&format!("{ENGINE}/lib.rs")) else {
        return Vec::new();
    };
    let (mut faults, mut reached) = (Vec::new(), 0);
    walk(&tokens(root), &[], &mut |scope, tokens, index| {
        if !scope.is_empty() || tokens[index].text != "mod" {
            return;
        }
        let name = &tokens[index + 1].text;
        if let Some(place) = FOUNDATION.iter().position(|known| known == name) {
            if place < reached {
                let mend = format!("keep the order: {}", FOUNDATION.join(", "));
                let what = format!("`{name}` stands too low");
                faults.push(Fault::new(root, tokens[index].line, what, mend));
            }
            reached = reached.max(place);
        }
    });
    faults
}

fn module_of(path: &str) -> Module {
    let inner = path.trim_start_matches(ENGINE).trim_start_matches('/');
    let inner = inner.trim_end_matches(".rs").trim_end_matches("/mod");
    match inner {
        "lib" | "main" => Vec::new(),
        _ => inner.split('/').map(str::to_owned).collect(),
    }
}

/// Shows each token outside test code together with the module it stands in.
fn walk(tokens: &[Token], module: &[String], visit: &mut Visit<'_>) {
    let mut index = 0;
    while index < tokens.len() {
        if tokens[index].in_test {
            index += 1;
            continue;
        }
        let declares = tokens[index].text == "mod" && index + 2 < tokens.len();
        if tokens[index].text != "mod" || declares {
            visit(module, tokens, index);
        }
        if declares && tokens[index + 2].text == "{" {
            let end = closing(tokens, index + 2);
            let mut inner = module.to_vec();
            inner.push(tokens[index + 1].text.clone());
            walk(&tokens[index + 3..end], &inner, visit);
            index = end;
        }
        index += 1;
    }
}

/// The module that a path beginning at `index` starts from.
fn base(scope: &[String], tokens: &[Token], index: usize) -> Option<Module> {
    let inside = index > 0 && tokens[index - 1].text == "::";
    if inside || !reads(tokens, index + 1, &["::"]) {
        return None;
    }
    match tokens[index].text.as_str() {
        "crate" => Some(Vec::new()),
        "self" => Some(scope.to_vec()),
        "super" => Some(scope[..scope.len().saturating_sub(1)].to_vec()),
        _ => None,
    }
}

/// Reads the path, or all paths of a group, that go on from `path` at `index`.
fn read_paths(tokens: &[Token], mut index: usize, mut path: Module, paths: &mut Vec<(Module, usize)>) {
    while let Some(token) = tokens.get(index) {
        match token.text.as_str() {
            "super" => _ = path.pop(),
            "{" => {
                let end = closing(tokens, index);
                let mut begin = index + 1;
                while begin < end {
                    let mut stop = begin;
                    while stop < end && tokens[stop].text != "," {
                        stop = if tokens[stop].text == "{" { closing(tokens, stop) } else { stop };
                        stop += 1;
                    }
                    read_paths(&tokens[begin..stop], 0, path.clone(), paths);
                    begin = stop + 1;
                }
                return;
            }
            name if name != "self" && name.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                // A macro has no module, wherever it was defined.
                if path.is_empty() && reads(tokens, index + 1, &["!"]) {
                    return;
                }
                path.push(name.to_owned());
            }
            _ => {}
        }
        if !reads(tokens, index + 1, &["::"]) {
            paths.push((path, token.line));
            return;
        }
        index += 2;
    }
}

/// Whether code in `scope` may name `path`.
fn judge(scope: &[String], path: &[String], order: &Order) -> Result<(), (String, String)> {
    let shared = scope.iter().zip(path).take_while(|(a, b)| a == b).count();
    let (Some(own), Some(other)) = (scope.get(shared), path.get(shared)) else {
        // A part names its whole, or a whole its parts.
        return Ok(());
    };
    let (whole, named) = (scope[..shared].join("::"), path.join("::"));
    if ONE_PIECE.iter().any(|(folder, _)| *folder == whole) {
        return Ok(());
    }
    let parts = order.get(&scope[..shared]).map_or(&[][..], Vec::as_slice);
    let place = |name: &String| parts.iter().position(|known| known == name);
    match (place(own), place(other)) {
        (Some(own_place), Some(other_place)) if other_place > own_place => Err((
            format!("`{own}` names `{other}`, which stands below it"),
            format!(
                "put the line `mod {other}` above `mod {own}`, or, should that turn another \
                 import round, what both need into a module above both"
            ),
        )),
        (Some(_), None) if shared == 0 => Err((
            format!("`crate::{named}` hides the module it comes from"),
            format!("name the module that defines `{other}`"),
        )),
        _ => Ok(()),
    }
}

#[test]
fn imports_in_the_engine_point_one_way() {
    let tree = Tree::of_the_project();
    demand_none(&backward(&tree));
    assert!(tree.file(&format!("{ENGINE}/lib.rs")).is_some(), "the engine has moved");
}

#[test]
fn the_engine_stands_on_its_foundation() {
    demand_none(&foundation(&Tree::of_the_project()));
}

#[test]
fn imports_from_below_are_found() {
    let tree = Tree::sample(&[
        (
            "host/engine/src/lib.rs",
            "pub mod id;\npub mod load;\npub mod dispatch;\npub mod host;\npub use host::Host;\n",
        ),
        ("host/engine/src/id.rs", "use crate::load::Library;\n"),
        (
            "host/engine/src/load/mod.rs",
            "mod library;\nmod handshake;\nuse crate::{id, host::{Host, start}};\nuse self::handshake::A;\n",
        ),
        (
            "host/engine/src/load/library.rs",
            "use super::handshake::Checked;\nuse super::Error;\nfn a() { crate::Host::new(); }\n\
             #[cfg(test)]\nmod tests {\n    use crate::host::Host;\n}\n",
        ),
        (
            "host/engine/src/load/handshake.rs",
            "use super::{Error, library::Library};\nuse crate::id::Name;\n",
        ),
        ("host/engine/src/dispatch/mod.rs", "mod slot;\nmod gate;\n"),
        ("host/engine/src/dispatch/slot.rs", "use super::gate::Gate;\nuse crate::host::Host;\n"),
        (
            "host/engine/src/host.rs",
            "use crate::load::library::Library;\nmod a { use super::b::C; }\nmod b {}\n",
        ),
    ]);
    assert_eq!(
        places(&backward(&tree)),
        [
            "host/engine/src/id.rs:1",
            "host/engine/src/load/mod.rs:3",
            "host/engine/src/load/library.rs:1",
            "host/engine/src/load/library.rs:3",
            "host/engine/src/dispatch/slot.rs:2",
            "host/engine/src/host.rs:2",
        ]
    );
}

#[test]
fn a_foundation_out_of_order_is_found() {
    let root = "pub mod failure;\n\npub mod registry;\npub mod id;\n";
    let tree = Tree::sample(&[("host/engine/src/lib.rs", root)]);
    assert_eq!(places(&foundation(&tree)), ["host/engine/src/lib.rs:4"]);
}
