//! Instruction counts under callgrind, which are the same in every run: `cargo bench --bench instructions`.
//!
//! The cases are those of `probe/`, and the region is its `measured`, so that `Ir` is what the trap-flag stepper counts
//! (`instructions` and `outside` together; the latter is the C library's, whose memset is another one under valgrind).
//! Each kernel is counted at two sizes: the difference is what an element costs, the rest what a call costs.
//!
//! Needs valgrind and `iai-callgrind-runner` (`cargo install iai-callgrind-runner --version 0.16.1`); without them it says
//! so and stops, with exit code 1 where `HOTLANES_STRICT` is set. Valgrind knows no AVX-512, so the tiers are scalar and
//! AVX2. `-- --save-summary=json` writes `target/iai/.../summary.json` for each: `function_name` is the case, `id` the
//! tier and the size's index, as in `avx2_1`.

use std::process::ExitCode;

use hotlanes::Tier;
use hotlanes_probe::{CASES, Case, Prepared, measured};

/// A case on a tier, with everything allocated and looked up.
struct Ready {
    case: &'static Case,
    tier: Tier,
    prepared: Box<dyn Prepared>,
}

fn ready(name: &str, tier: Tier, size: usize) -> Ready {
    let case = Case::named(name).unwrap_or_else(|| panic!("no case of the probe is named {name}"));
    let prepare = || (case.prepare)(case.sizes[size]);
    let mut first = prepare();
    case.on(tier, || first.run());
    Ready { case, tier, prepared: prepare() }
}

impl Ready {
    fn measure(mut self) -> Self {
        self.case.on(self.tier, || measured(&mut *self.prepared));
        self
    }
}

/// After the count: the kernel did its work, and did it right.
fn check(ready: Ready) {
    ready.prepared.check();
}

mod count {
    use super::*;
    use iai_callgrind::{
        Callgrind, EntryPoint, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
    };

    macro_rules! cases {
        // The second list is of those whose code multiversion chooses, by what valgrind says of the CPU.
        ($($case:ident)*; $($unforced:ident)*) => {
            $(
                #[library_benchmark(setup = ready, teardown = check)]
                #[bench::scalar_0(stringify!($case), Tier::Scalar, 0)]
                #[bench::scalar_1(stringify!($case), Tier::Scalar, 1)]
                #[bench::avx2_0(stringify!($case), Tier::Avx2, 0)]
                #[bench::avx2_1(stringify!($case), Tier::Avx2, 1)]
                fn $case(ready: Ready) -> Ready {
                    ready.measure()
                }
            )*
            $(
                #[library_benchmark(setup = ready, teardown = check)]
                #[bench::avx2_0(stringify!($unforced), Tier::Avx2, 0)]
                #[bench::avx2_1(stringify!($unforced), Tier::Avx2, 1)]
                fn $unforced(ready: Ready) -> Ready {
                    ready.measure()
                }
            )*
            library_benchmark_group!(name = kernels; benchmarks = $($case,)* $($unforced),*);

            /// All that are counted.
            pub const NAMES: &[&str] = &[$(stringify!($case),)* $(stringify!($unforced)),*];
        };
    }

    cases! {
        adamw adamw_l2 adamw_lerp adamw_amsgrad adamw_scaled
        relu_fwd relu_bwd squared_relu_fwd squared_relu_bwd silu_fwd silu_bwd gelu_tanh_fwd gelu_tanh_bwd
        gelu_erf_fwd gelu_erf_bwd sigmoid_fwd sigmoid_bwd tanh_fwd tanh_bwd exp log
        sgd sgd_momentum sgd_nesterov sgd_l2 sgd_momentum_l2 sgd_nesterov_l2 lion
        adafactor_grad_squares adafactor_factor adafactor_unit_squares adafactor_apply
        adafactor_squares adafactor_units adafactor_descend
        matmul matmul_thin matmul_few_columns matmul_left_packed matmul_both_packed matmul_right_packed matmul_bf16
        matmul_gelu matmul_pack matmul_pack_transposed matmul_pack_bf16
        attention_fwd attention_bwd
        layernorm_fwd layernorm_fwd_small layernorm_bwd layernorm_bwd_small layernorm_bwd_chunks layernorm_add_chunks
        rmsnorm_fwd rmsnorm_fwd_small rmsnorm_bwd rmsnorm_bwd_small rmsnorm_fwd_add rmsnorm_bwd_add
        layernorm_fwd_add layernorm_bwd_add
        reduce_sum reduce_norm reduce_dot reduce_mean_var reduce_max aggregate aggregate_tiles clip_scale
        softmax softmax_small softmax_in_place log_softmax softmax_bwd log_softmax_bwd
        cross_entropy cross_entropy_small cross_entropy_smooth cross_entropy_in_place cross_entropy_in_place_smooth
        cross_entropy_fwd cross_entropy_fwd_smooth cross_entropy_total
        sparse_matvec sparse_matvec_loads sparse_matvec_u16 sparse_matvec_u16_loads
        sparse_example_bwd sparse_example_bwd_loads sparse_example_bwd_sgd sparse_example_bwd_u16
        sparse_matmul sparse_matmul_u16
        sparse_bwd sparse_bwd_dx sparse_bwd_dvalues sparse_bwd_dvalues_u16 sparse_bwd_sgd_first sparse_bwd_sgd
        sparse_bwd_sgd_loads sparse_masked sparse_masked_sgd sparse_masked_sgd_dx sparse_masked_sgd_relu
        embedding_fwd embedding_fwd_pos embedding_bwd embedding_bwd_same dropout
        bf16_from_f32 bf16_to_f32 bf16_split bf16_join
        adamw_bf16_copy adamw_bf16_copy_f32 adamw_bf16_split adamw_bf16_split_f32
        limits_read limits_copy limits_update limits_fma_chain limits_sqrt_chain;
        convert_u8_to_f32 convert_scale
    }

    fn config() -> LibraryBenchmarkConfig {
        // Without the cache's simulation, which is no gate and makes valgrind 3.19 add some loads and stores to `Ir`.
        let mut callgrind = Callgrind::with_args(["--cache-sim=no"]);
        callgrind.entry_point(EntryPoint::Custom("*hotlanes_probe*measured*".to_owned()));
        let mut config = LibraryBenchmarkConfig::default();
        config.tool(callgrind);
        config
    }

    main!(config = config(); library_benchmark_groups = kernels);

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
    if let Some(case) = CASES.iter().find(|c| !count::NAMES.contains(&c.name)) {
        eprintln!("instructions: the probe's case {} is not counted: add it to the list", case.name);
        return ExitCode::FAILURE;
    }
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
