//! Instruction counts under callgrind, which are the same in every run: `cargo bench --bench instructions`.
//!
//! Needs valgrind and `iai-callgrind-runner` (`cargo install iai-callgrind-runner --version 0.16.1`); without them it says
//! so and stops, with exit code 1 where `HOTLANES_STRICT` is set. Valgrind knows no AVX-512, so the tiers are scalar and
//! AVX2. Each kernel is counted at two sizes: the difference is what an element costs, the rest what a call costs.

use std::hint::black_box;
use std::process::ExitCode;

use hotlanes::adamw::{AdamW, AdamWConfig, AdamWStep, AdamWTensor};
use hotlanes::norm::LayerNorm;
use hotlanes::sparse::{Csr, Plan};
use hotlanes::{Tier, with_tier};

fn on<R>(tier: Tier, f: impl FnOnce() -> R) -> R {
    with_tier(tier, f).unwrap_or_else(|e| panic!("cannot count: {e}"))
}

fn ramp(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect()
}

/// One tensor and a step, on a tier.
struct AdamWCase(Tier, AdamWStep, [Vec<f32>; 4]);

fn adamw_case(tier: Tier, n: usize) -> AdamWCase {
    let step = AdamW::new(AdamWConfig::default()).and_then(|o| o.at(10)).expect("the defaults are valid");
    AdamWCase(tier, step, [ramp(n), ramp(n), vec![0.5; n], vec![0.25; n]])
}

/// Rows of a LayerNorm, on a tier.
struct NormCase(Tier, LayerNorm, usize, Vec<f32>);

fn norm_case(tier: Tier, rows: usize) -> NormCase {
    NormCase(tier, LayerNorm::new(512, 1e-5).expect("valid"), rows, ramp(rows * 512))
}

/// A layer of 256 to 64 with every eighth connection, and a batch, on a tier.
struct SparseCase(Tier, Csr<u32>, Plan, usize);

fn sparse_case(tier: Tier, batch: usize) -> SparseCase {
    let (rows, cols, each) = (64, 256, 32);
    let indices = (0..rows * each).map(|k| (k % each * 8 + k / each % 8) as u32).collect();
    let indptr = (0..=rows).map(|r| r * each).collect();
    let csr = Csr::new(rows, cols, indptr, indices, ramp(rows * each)).expect("made in order");
    let plan = csr.plan();
    SparseCase(tier, csr, plan, batch)
}

/// After the count: the kernel did its work. That it is right is for the tests, which run on every tier.
fn check(outputs: impl AsOutputs) {
    for output in outputs.outputs() {
        assert!(output.iter().all(|x| x.is_finite()), "a result is not finite");
        assert!(output.iter().any(|x| *x != 0.0), "a result is all zeros");
    }
}

/// One output, or several.
trait AsOutputs {
    fn outputs(&self) -> &[Vec<f32>];
}

impl AsOutputs for Vec<f32> {
    fn outputs(&self) -> &[Vec<f32>] {
        std::slice::from_ref(self)
    }
}

impl<const N: usize> AsOutputs for [Vec<f32>; N] {
    fn outputs(&self) -> &[Vec<f32>] {
        self
    }
}

mod count {
    use super::*;
    use iai_callgrind::{LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};

    #[library_benchmark(setup = adamw_case, teardown = check)]
    #[bench::scalar_1024(Tier::Scalar, 1024)]
    #[bench::scalar_2048(Tier::Scalar, 2048)]
    #[bench::avx2_1024(Tier::Avx2, 1024)]
    #[bench::avx2_2048(Tier::Avx2, 2048)]
    fn adamw(case: AdamWCase) -> [Vec<f32>; 4] {
        let AdamWCase(tier, step, mut s) = case;
        let [param, grad, m, v] = &mut s;
        on(tier, || step.update(black_box(AdamWTensor { param, grad, m, v, v_max: None })));
        s
    }

    #[library_benchmark(setup = norm_case, teardown = check)]
    #[bench::scalar_4(Tier::Scalar, 4)]
    #[bench::scalar_8(Tier::Scalar, 8)]
    #[bench::avx2_4(Tier::Avx2, 4)]
    #[bench::avx2_8(Tier::Avx2, 8)]
    fn layernorm_fwd(case: NormCase) -> Vec<f32> {
        let NormCase(tier, norm, rows, x) = case;
        let (gamma, beta) = (vec![1.5; 512], vec![0.5; 512]);
        let (mut y, mut mean, mut rstd) = (vec![0.0; x.len()], vec![0.0; rows], vec![0.0; rows]);
        on(tier, || norm.forward(black_box(&x), &gamma, &beta, &mut y, &mut mean, &mut rstd));
        y
    }

    #[library_benchmark(setup = norm_case, teardown = check)]
    #[bench::scalar_4(Tier::Scalar, 4)]
    #[bench::scalar_8(Tier::Scalar, 8)]
    #[bench::avx2_4(Tier::Avx2, 4)]
    #[bench::avx2_8(Tier::Avx2, 8)]
    fn layernorm_bwd(case: NormCase) -> [Vec<f32>; 3] {
        let NormCase(tier, norm, rows, x) = case;
        let (gamma, mean, rstd) = (vec![1.5; 512], vec![0.1; rows], vec![1.1; rows]);
        let (mut dx, mut dgamma, mut dbeta) = (vec![0.0; x.len()], vec![0.0; 512], vec![0.0; 512]);
        let dy = x.clone();
        on(tier, || {
            let dy = black_box(&dy);
            norm.backward(dy, &x, &gamma, &mean, &rstd, &mut dx, &mut dgamma, &mut dbeta, &mut []);
        });
        [dx, dgamma, dbeta]
    }

    #[library_benchmark(setup = sparse_case, teardown = check)]
    #[bench::scalar_32(Tier::Scalar, 32)]
    #[bench::scalar_64(Tier::Scalar, 64)]
    #[bench::avx2_32(Tier::Avx2, 32)]
    #[bench::avx2_64(Tier::Avx2, 64)]
    fn sparse_fwd(case: SparseCase) -> Vec<f32> {
        let SparseCase(tier, csr, _, batch) = case;
        let (x, mut y) = (ramp(256 * batch), vec![0.0; 64 * batch]);
        on(tier, || csr.matmul(black_box(&x), batch, &mut y));
        y
    }

    #[library_benchmark(setup = sparse_case, teardown = check)]
    #[bench::scalar_32(Tier::Scalar, 32)]
    #[bench::scalar_64(Tier::Scalar, 64)]
    #[bench::avx2_32(Tier::Avx2, 32)]
    #[bench::avx2_64(Tier::Avx2, 64)]
    fn sparse_bwd(case: SparseCase) -> [Vec<f32>; 2] {
        let SparseCase(tier, csr, plan, batch) = case;
        let (x, dy) = (ramp(256 * batch), ramp(64 * batch));
        let (mut dx, mut dvalues) = (vec![0.0; x.len()], vec![0.0; csr.nnz()]);
        on(tier, || plan.matmul_backward(&csr, black_box(&x), &dy, batch, Some(&mut dx), Some(&mut dvalues)));
        [dx, dvalues]
    }

    library_benchmark_group!(
        name = kernels;
        benchmarks = adamw, layernorm_fwd, layernorm_bwd, sparse_fwd, sparse_bwd
    );
    main!(config = LibraryBenchmarkConfig::default(); library_benchmark_groups = kernels);

    pub fn run() {
        main();
    }
}

/// Whether a program is on the PATH.
fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn main() -> ExitCode {
    // The runner starts this program again under valgrind, with this argument and an empty environment.
    let counting = std::env::args().any(|a| a == "--iai-run");
    let missing: Vec<_> =
        ["valgrind", "iai-callgrind-runner"].into_iter().filter(|p| !counting && !has(p)).collect();
    if !missing.is_empty() {
        eprintln!("instructions: SKIPPED, not on the PATH: {}", missing.join(", "));
        return if std::env::var_os("HOTLANES_STRICT").is_some() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        };
    }
    count::run();
    ExitCode::SUCCESS
}
