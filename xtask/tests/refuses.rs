//! The gate refuses what it should: copies of this repository, each with a kernel made worse in its source, are built and
//! judged by the committed budgets. The results stay right in most of them, so that no other test would notice.
//!
//! Builds the kernels once for all: `cargo test -p xtask --test refuses -- --ignored --nocapture`.

use std::fs;
use std::path::{Path, PathBuf};

use xtask::gate::{Outcome, Scope, judge};

/// A kernel made worse.
struct Regression {
    name: &'static str,
    /// The case that must be refused.
    case: &'static str,
    /// The tier that must be refused.
    tier: &'static str,
    file: &'static str,
    /// What stands there once, and what it becomes.
    from: &'static str,
    to: &'static str,
    /// What one of the messages must say.
    says: &'static str,
}

const LOST_INLINING: Regression = Regression {
    name: "a helper that lost its inlining",
    case: "adamw",
    tier: "avx2",
    file: "src/adamw/kernel.rs",
    from: "#[inline(always)]\npub(super) fn moments<",
    to: "#[inline(never)]\npub(super) fn moments<",
    says: "loop: it calls hotlanes::adamw::kernel::moments",
};

const SCALAR_SUM: Regression = Regression {
    name: "a scalar sum",
    case: "layernorm_fwd",
    tier: "avx512",
    file: "src/norm/forward.rs",
    from: "v[r][k] = l.load(&x[k]);",
    to: "let mut sum = 0.0; for x in &x[k] { sum += *x; } v[r][k] = if sum == 0.125 { l.splat(0.0) } else { l.load(&x[k]) };",
    says: "scalar floating-point operations",
};

const SPILLS: Regression = Regression {
    name: "more accumulators than registers",
    case: "sparse_matmul",
    tier: "avx2",
    file: "src/sparse/batch.rs",
    from: "while L::WIDE && at + 4 * LANES",
    to: "while at + 4 * LANES",
    says: "stack accesses",
};

const LIBM: Regression = Regression {
    name: "a call of the C library's fma",
    case: "sparse_matmul",
    tier: "scalar",
    file: "src/lanes/scalar.rs",
    from: "else { emulated(&a, &b, &c) }",
    to: "else { each!(i => a.0[i].mul_add(b.0[i], c.0[i])) }",
    says: "it calls fma",
};

const LOST_FMA: Regression = Regression {
    name: "a lost FMA",
    case: "layernorm_bwd",
    tier: "avx512",
    file: "src/lanes/avx512.rs",
    from: "self.token.avx512f._mm512_fmadd_ps(a, b, c)",
    to: "self.add(self.mul(a, b), c)",
    says: "packed FMA",
};

const LOST_FMA_NEON: Regression = Regression {
    name: "a lost FMA on NEON",
    case: "sparse_matmul",
    tier: "neon",
    file: "src/lanes/neon.rs",
    from: "each!(self.vfmaq_f32(c, a, b))",
    to: "self.add(self.mul(a, b), c)",
    says: "packed FMA",
};

const ESTIMATE: Regression = Regression {
    name: "an estimate of a root",
    case: "limits_sqrt_chain",
    tier: "avx512",
    file: "src/lanes/avx512.rs",
    from: "self.token.avx512f._mm512_sqrt_ps(a)",
    // With a Newton step the result is nearly right, and not the same on every CPU.
    to: "let r = self.token.avx512f._mm512_rsqrt14_ps(a); let s = self.mul(a, r); \
         self.mul(s, self.sub(self.splat(1.5), self.mul(self.splat(0.5), self.mul(s, r))))",
    says: "estimates of a reciprocal or root",
};

const MASKED_STORE: Regression = Regression {
    name: "a choice that becomes a masked store",
    case: "sparse_online_sgd",
    tier: "avx2",
    file: "src/sparse/masked.rs",
    from: "l.store(&mut line.0, l.neg_mul_add(lr, gradient, w));",
    to: "let stepped = l.neg_mul_add(lr, gradient, w);\nl.store(&mut line.0, l.select(l.mask_of(mask), stepped, w));",
    says: "rule: `vmaskmovps",
};

const NEW_KERNEL: Regression = Regression {
    name: "a new kernel without a case",
    case: "limits_read",
    tier: "",
    file: "src/limits.rs",
    from: "impl Kernel for Read<'_> {",
    to: "struct Extra;\nimpl Kernel for Extra {\n    type Output = ();\n    fn run<L: Lanes>(self, _: L) {}\n}\nimpl Kernel for Read<'_> {",
    says: "hotlanes::limits::Extra has no case",
};

/// A copy of this repository.
///
/// It has a target directory of its own: cargo names what it builds by paths from the workspace's root, so the copy's kernels
/// would be taken for those of the original.
fn copy() -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let to = from.join("target/gate-regressed");
    fs::create_dir_all(&to).unwrap();
    for name in ["Cargo.toml", "Cargo.lock", "build.rs", "README.md", "rust-toolchain.toml"] {
        copy_file(&from.join(name), &to.join(name));
    }
    // All members, whatever they are.
    for entry in fs::read_dir(&from).unwrap() {
        let (path, name) = entry.map(|e| (e.path(), e.file_name())).unwrap();
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            copy_dir(&path, &to.join(name));
        }
    }
    to
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    // What an older copy has and the original has not.
    for entry in fs::read_dir(to).unwrap() {
        let path = entry.unwrap().path();
        let gone = !from.join(path.file_name().unwrap()).exists();
        if gone && path.is_dir() {
            fs::remove_dir_all(&path).unwrap();
        } else if gone {
            fs::remove_file(&path).unwrap();
        }
    }
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_dir(&path, &to);
        } else {
            copy_file(&path, &to);
        }
    }
}

/// Only where it differs, so that cargo builds only what changed.
fn copy_file(from: &Path, to: &Path) {
    let text = fs::read(from).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    if fs::read(to).ok().as_ref() != Some(&text) {
        fs::write(to, text).unwrap();
    }
}

fn judged(scope: &Scope, case: &str) -> Outcome {
    let scope = Scope { only: Some(case.into()), callgrind: false, ..scope.clone() };
    judge(&scope, false).unwrap_or_else(|e| panic!("{case}: {e:#}"))
}

/// Makes several kernels worse at once, each on a case and a tier that no other touches, and wants each refused.
fn refuses(regressions: &[Regression]) {
    let root = copy();
    for r in regressions {
        let file = root.join(r.file);
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(
            text.matches(r.from).count(),
            1,
            "{}: {} no longer says {:?} once",
            r.name,
            r.file,
            r.from
        );
        fs::write(&file, text.replace(r.from, r.to)).unwrap();
    }
    let mut missed = Vec::new();
    let scope = Scope { target_dir: root.join("target"), root, whole: false, ..Scope::all() };
    for r in regressions {
        let outcome = judged(&scope, r.case);
        let lines = outcome.lines.iter().filter(|l| l.tier.name() == r.tier);
        let mut said: Vec<String> = lines
            .flat_map(|l| l.problems.iter().map(|p| format!("{} on {}: {p}", l.kernel, l.tier)))
            .collect();
        if r.tier.is_empty() {
            said = outcome.problems.clone();
        }
        println!("\n{}, in {}:", r.name, r.file);
        said.iter().for_each(|s| println!("  REFUSED {s}"));
        if outcome.passed || !said.iter().any(|s| s.contains(r.says)) {
            missed.push(format!("{}: no message says {:?}", r.name, r.says));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
#[ignore = "builds the kernels again; .ci/run runs it"]
fn regressed_kernels_are_refused() {
    let regressions = [
        LOST_INLINING,
        SCALAR_SUM,
        SPILLS,
        LIBM,
        LOST_FMA,
        LOST_FMA_NEON,
        ESTIMATE,
        MASKED_STORE,
        NEW_KERNEL,
    ];
    refuses(&regressions);
}

/// Unchanged they pass, three times.
#[test]
#[ignore = "builds the kernels again; .ci/run runs it"]
fn good_kernels_pass_three_times() {
    for _ in 0..3 {
        for case in ["adamw", "layernorm_fwd", "layernorm_bwd", "sparse_matmul", "limits_read"] {
            let outcome = judged(&Scope::all(), case);
            assert!(outcome.passed, "{case}: {outcome:#?}");
        }
    }
}
