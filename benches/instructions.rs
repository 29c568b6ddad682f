//! Instruction counts under callgrind, which are the same in every run: `cargo bench --bench instructions`.
//!
//! The cases are those of `cases/`, and the region is the probe's `measured`, so that `Ir` is what the trap-flag stepper
//! counts (`instructions` and `outside` together; the latter is the C library's, whose memset is another one under valgrind).
//! Each kernel is counted at two sizes: the difference is what an element costs, the rest what a call costs.
//!
//! Needs valgrind and `iai-callgrind-runner` (`cargo install iai-callgrind-runner --version 0.16.1`); without them it says
//! so and stops, with exit code 1 where `HOTLANES_STRICT` is set. Valgrind knows no AVX-512, so the tiers are scalar and
//! AVX2. `-- --save-summary=json` writes `target/iai/.../summary.json` for each: `function_name` is the case, `id` the
//! tier and the size's index, as in `avx2_1`.

use std::process::ExitCode;

use hotlanes::Tier;
use hotlanes_cases::{Counted, named};
use hotlanes_probe::{Ready, measured};

fn ready(name: &str, tier: Tier, size: usize) -> Ready {
    let case = named(name).unwrap_or_else(|| panic!("no case is named {name}"));
    let Counted::At { sizes, .. } = case.counted else { panic!("{name} is not counted") };
    Ready::new(case, tier, false, sizes[size], true)
}

/// After the count: the kernel did its work, and did it right.
fn check(mut ready: Ready) {
    ready.check().unwrap_or_else(|e| panic!("{e}"));
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
                fn $case(mut ready: Ready) -> Ready {
                    ready.measure(measured);
                    ready
                }
            )*
            $(
                #[library_benchmark(setup = ready, teardown = check)]
                #[bench::avx2_0(stringify!($unforced), Tier::Avx2, 0)]
                #[bench::avx2_1(stringify!($unforced), Tier::Avx2, 1)]
                fn $unforced(mut ready: Ready) -> Ready {
                    ready.measure(measured);
                    ready
                }
            )*
            library_benchmark_group!(name = kernels; benchmarks = $($case,)* $($unforced),*);

        };
    }

    // The names of all counted cases, written by `HOTLANES_BLESS=1 cargo test --test table`.
    include!("instructions/cases.rs");

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
