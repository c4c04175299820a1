//! Gives every binary and test of this crate a RUNPATH to libtorch, so that nobody needs LD_LIBRARY_PATH.
//!
//! First the folder torch-sys linked against (a checkout's build), then places relative to the binary, so
//! that an installed `bin/trainer` finds `lib/` or `libtorch/lib/` beside it.

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    println!("cargo:rustc-link-arg=-Wl,--enable-new-dtags");
    // Absent under `--features tch/doc-only`: such a build is only checked, never linked.
    if let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
    for relative in ["$ORIGIN", "$ORIGIN/libtorch/lib", "$ORIGIN/../lib", "$ORIGIN/../libtorch/lib"] {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{relative}");
    }
}
