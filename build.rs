//! Decides which tiers are compiled in.
//!
//! A plain build holds every tier of its architecture and picks one at run time. When the compiler was told of
//! a better CPU (`-C target-cpu=native`, `x86-64-v3`, `x86-64-v4`), every machine that can run the binary has
//! that tier, so the ones below it are left out; with one tier left (`hotlanes_static`) nothing is dispatched.

use std::env;

/// What pulp's `V3` token asks of the CPU: the AVX2 tier.
const AVX2: &[&str] = &[
    "sse", "sse2", "fxsr", "sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "avx", "avx2", "bmi1", "bmi2",
    "fma", "lzcnt",
];
/// What pulp's `V4` token asks on top: the AVX-512 tier.
const AVX512: &[&str] = &["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let endian = env::var("CARGO_CFG_TARGET_ENDIAN").unwrap_or_default();
    let enabled = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let has = |wanted: &[&str]| wanted.iter().all(|f| enabled.split(',').any(|e| e == *f));

    let tiers: &[&str] = match (arch.as_str(), endian.as_str()) {
        ("x86_64", _) if has(AVX2) && has(AVX512) => &["avx512"],
        ("x86_64", _) if has(AVX2) => &["avx2", "avx512"],
        ("x86_64", _) => &["scalar", "avx2", "avx512"],
        // NEON is the architecture's own baseline, so its presence says nothing about what the user asked for:
        // the scalar tier stays, to compare with.
        ("aarch64", "little") if has(&["neon"]) => &["scalar", "neon"],
        _ => &["scalar"],
    };
    for tier in tiers {
        println!("cargo::rustc-cfg=hotlanes_{tier}");
    }
    if tiers.len() == 1 {
        println!("cargo::rustc-cfg=hotlanes_static");
    }
}
