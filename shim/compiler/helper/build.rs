//! Links the helper's programs. They name no loader and no library of a machine: the host starts
//! them through the loader of its bundle, and passes the folders of the libraries.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-Wl,--dynamic-linker,/started-by-the-host/ld.so");
    // The engine needs versions of the C library that the linking machine's does not have.
    println!("cargo::rustc-link-arg-bin=wasmedge-compile=-Wl,--allow-shlib-undefined");
}
