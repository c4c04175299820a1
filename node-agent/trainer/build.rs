//! Compiles `shim/` (the fused operations) against libtorch's headers, and gives every binary and test of this
//! crate a RUNPATH to libtorch, so that nobody needs LD_LIBRARY_PATH.
//!
//! RUNPATH: first the folder torch-sys linked against (a checkout's build), then places relative to the binary,
//! so that an installed `bin/trainer` finds `lib/` or `libtorch/lib/` beside it.

use std::path::{Path, PathBuf};

const OPERATIONS: [&str; 7] = ["device", "dispatch", "gat_layer", "heads", "misc", "norm_act", "parallel"];

fn main() {
    for variable in ["LIBTORCH", "LIBTORCH_INCLUDE", "DEP_TCH_LIBTORCH_LIB"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    println!("cargo:rerun-if-changed=shim");
    println!("cargo:rustc-link-arg=-Wl,--enable-new-dtags");
    // Absent under `--features tch/doc-only`: such a build is only checked, never linked.
    if let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
        compile_shim(&headers(Path::new(&folder)));
    }
    for relative in ["$ORIGIN", "$ORIGIN/libtorch/lib", "$ORIGIN/../lib", "$ORIGIN/../libtorch/lib"] {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{relative}");
    }
}

/// The include folder torch-sys uses: LIBTORCH_INCLUDE where that is set, else beside the libraries.
fn headers(libraries: &Path) -> PathBuf {
    let home = std::env::var_os("LIBTORCH_INCLUDE").map(PathBuf::from);
    home.unwrap_or_else(|| libraries.join("..")).join("include")
}

fn compile_shim(include: &Path) {
    let x86 = std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");
    let base = || {
        let mut build = cc::Build::new();
        // Symbols of libtorch's templates would be a hundred megabytes.
        build.cpp(true).std("c++17").debug(false).warnings(false).flag("-Wall").flag("-Wno-psabi");
        build
    };
    let mut operations = base();
    operations.opt_level(2).flag("-isystem").flag(include);
    operations.flag("-isystem").flag(include.join("torch/csrc/api/include"));
    operations.files(OPERATIONS.map(|name| format!("shim/{name}.cpp")));
    if x86 {
        operations.define("SHIM_HAS_AVX2", None);
    }
    operations.compile("trainer_operations");

    // Strict about NaN and the order of additions, free only of errno and traps that nobody reads.
    let kernels = |name: &str, flags: &[&str]| {
        let mut build = base();
        build.opt_level(3).define("SHIM_KERNELS", name).file("shim/kernels.cpp");
        for flag in ["-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"].iter().chain(flags) {
            build.flag(flag);
        }
        build.compile(&format!("trainer_{name}"));
    };
    kernels("kernels_baseline", &[]);
    if x86 {
        kernels("kernels_avx2", &["-mavx2", "-mfma"]);
    }
    // The OpenMP runtime whose entry points parallel.cpp calls; at run time libtorch's own copy is found first.
    println!("cargo:rustc-link-lib=dylib=gomp");
}
