//! Compiles `tls.cpp` into the plugin and into a shared library.
//!
//! Runs the compiler itself: two commands do not need a crate. `CXX` names
//! another compiler than `c++`.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/tls.cpp");
    println!("cargo::rerun-if-env-changed=CXX");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));

    compile("hostile_tls_linked", &out.join("linked.o"), ["-c"]);
    compile(
        "hostile_tls_shared",
        &out.join("libhostile_tls.so"),
        ["-shared", "-Wl,-soname,libhostile_tls.so"],
    );

    let out = out.display();
    println!("cargo::rustc-link-arg-cdylib={out}/linked.o");
    println!("cargo::rustc-link-search=native={out}");
    println!("cargo::rustc-link-lib=dylib=hostile_tls");
    // Beside the plugin, or else where it was built: a host loads a copy of the
    // plugin from elsewhere, and does not copy what it depends on.
    println!("cargo::rustc-link-arg-cdylib=-Wl,-rpath,$ORIGIN:{out}");
}

fn compile<const N: usize>(name: &str, to: &Path, kind: [&str; N]) {
    let compiler = env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let mut command = Command::new(&compiler);
    command
        .args(["-std=c++11", "-O1", "-fPIC", "-Wall", "-Wextra"])
        .args(kind)
        .arg(format!("-DHOSTILE_NAME={name}"))
        .args([OsStr::new("src/tls.cpp"), OsStr::new("-o"), to.as_os_str()]);
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{command:?} ended with {status}"),
        Err(error) => panic!(
            "the C++ compiler {compiler:?} cannot be run ({error}): install g++ or clang, \
             or name another in CXX"
        ),
    }
}
