//! The rule that `unsafe` stays in the few modules that exist for it.

use crate::tokens::tokens;
use crate::tree::{Fault, Tree, demand_none, places};

/// Where `unsafe` may stand, and what for. Everything else stays safe; a new
/// line here is a decision of the architecture.
const ALLOWED: &[(&str, &str)] = &[
    ("host/engine/src/load", "dlopen, dlsym, the handshake, the ledger's hooks"),
    ("host/engine/src/dispatch", "the live pointer and the per-thread records"),
    ("host/engine/src/service", "instances, wakers and pending calls across the ABI"),
    ("host/engine/src/pipeline/rehearsal", "ends its process, and the way of a version in it"),
    ("host/engine/src/pipeline/start.rs", "says which library an instance came from"),
    ("host/engine/src/pipeline/unload.rs", "says that nobody uses a library any more"),
    ("host/engine/src/table/block.rs", "counts the holders of a row, whose memory it has"),
    ("host/engine/src/sandbox", "the rehearsal's and the crash handler's system calls"),
    ("host/daemon/tests/daemon/process.rs", "takes a system call away from a host before it starts"),
    ("host/engine/src/clock.rs", "one system call"),
    ("host/engine/src/artifact/watch", "system calls on files: statfs, leases, limits"),
    ("host/engine/src/artifact/stage", "maps the copies that nobody else may change"),
    ("host/engine/src/artifact/trust/owner.rs", "asks whose process this is"),
    ("plugin-api/abi", "the frozen ABI is made of raw pointers"),
    ("plugin-api/macros", "the export line writes it, so that the author need not"),
    ("plugin-api/src/context.rs", "calls through the host's table"),
    ("plugin-api/src/glue", "the plugin's side of the ABI"),
    ("plugin-api/src/heap", "the allocator"),
    ("plugin-api/src/interface", "the caller's side of typed calls, and what may cross"),
    ("plugin-api/src/testing/abi.rs", "the host of plugins' own tests, as they call it"),
    ("plugins/bench-interface", "a typed interface, as an embedder writes it by hand"),
    ("plugins/bench-target", "the same"),
    ("plugins/hostile", "faults on purpose"),
    ("tests/tests/allocating.rs", "an allocator that counts"),
    ("tests/benches", "bare calls, to compare with"),
    ("tests/src/disk.rs", "puts a pipe in the place of an open file"),
    ("tests/src/symbol.rs", "what the bare calls are made through"),
    ("tests/src/vitals.rs", "figures of the process: heap trim, keys"),
];

fn strays(tree: &Tree) -> Vec<Fault> {
    let bound = tree.rust().filter(|file| !ALLOWED.iter().any(|(place, _)| file.is_in(place)));
    let mend = "use what an allowed module offers, or add this one to `ALLOWED` in \
                tests/tests/tidy/unsafety.rs with its reason";
    let mut faults = Vec::new();
    for file in bound {
        let tokens = tokens(file);
        let mut found = tokens.iter().filter(|token| token.text == "unsafe");
        if let Some(first) = found.next() {
            let times = 1 + found.count();
            let what = format!("`unsafe` (in all {times}) in a module without need of it");
            faults.push(Fault::new(file, first.line, what, mend));
        }
    }
    faults
}

#[test]
fn unsafe_stays_in_its_modules() {
    demand_none(&strays(&Tree::of_the_project()));
}

#[test]
fn unsafe_elsewhere_is_found() {
    let text = "//! Never unsafe.\n#![deny(unsafe_code)]\nfn a() {\n    unsafe { b() }\n}\n";
    let tree = Tree::sample(&[
        ("host/engine/src/registry.rs", text),
        ("host/engine/src/loader.rs", text),
        ("host/engine/src/load/library.rs", text),
        ("host/engine/src/sandbox.rs", text),
    ]);
    assert_eq!(places(&strays(&tree)), ["host/engine/src/registry.rs:4", "host/engine/src/loader.rs:4"]);
}
