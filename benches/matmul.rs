//! Matrix products, by rows, columns and steps of the result: `matmul/<tier>/<m>x<n>x<k>`; `matmul_packed/...`, with a
//! right operand packed before; `linear/...`, a layer with bias, whose weights are the transpose of the right operand;
//! `weight_grad/...`, its gradient, whose left operand is a transpose. Beside them the naive loop (`naive`), its
//! auto-vectorised twin (`auto`) and the crate `gemm` (`gemm`).
//!
//! `gemm` runs on one thread: pin the benchmark to a core (`taskset -c 0`) to compare with it.

mod common;

use criterion::{BenchmarkId, Criterion, Throughput};
use hotlanes::matmul::{Epilogue, Mat, MatMut, Packed, matmul, matmul_with};
use hotlanes::naive::matmul as plain;
use hotlanes::{Tier, with_tier};

/// Rows, columns and steps.
type Size = [usize; 3];

const MATMUL: [Size; 9] = [
    [128; 3],
    [256; 3],
    [512; 3],
    [1024; 3],
    [1, 512, 512],
    [4, 512, 512],
    [512, 1, 512],
    [2048, 64, 5],
    [16; 3],
];
const PACKED: [Size; 4] = [[128; 3], [512; 3], [1, 512, 512], [4, 512, 512]];
const LINEAR: [Size; 2] = [[2048, 512, 128], [2048, 384, 128]];
const WEIGHT_GRAD: [Size; 1] = [[128, 512, 2048]];

/// What is timed.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Matmul,
    Packed,
    Linear,
    WeightGrad,
}

impl Kind {
    fn name(self) -> &'static str {
        ["matmul", "matmul_packed", "linear", "weight_grad"][self as usize]
    }
}

/// Operands as the kind has them, and room for the result.
#[derive(Clone)]
struct State {
    kind: Kind,
    size: Size,
    a: Vec<f32>,
    b: Vec<f32>,
    bias: Vec<f32>,
    packed: Packed,
    c: Vec<f32>,
}

/// One of the loops.
type Run = fn(&mut State);

impl State {
    fn new(kind: Kind, size: Size) -> Self {
        let [m, n, k] = size;
        let (a, b, bias) = (common::data(m * k, 1), common::data(k * n, 2), common::data(n, 3));
        let mut packed = Packed::new(k, n);
        packed.pack(Mat::new(&b, k, n));
        State { kind, size, a, b, bias, packed, c: vec![f32::NAN; m * n] }
    }

    fn kernel(&mut self) {
        let [m, n, k] = self.size;
        let (a, b, c) = (&self.a, &self.b, MatMut::new(&mut self.c, m, n));
        match self.kind {
            Kind::Matmul => matmul(Mat::new(a, m, k), Mat::new(b, k, n), c),
            Kind::Packed => matmul(Mat::new(a, m, k), &self.packed, c),
            Kind::Linear => {
                let epilogue = Epilogue { bias: Some(&self.bias), ..Epilogue::default() };
                matmul_with(Mat::new(a, m, k), Mat::new(b, n, k).t(), c, epilogue);
            }
            Kind::WeightGrad => matmul(Mat::new(a, k, m).t(), Mat::new(b, k, n), c),
        }
    }

    fn naive(&mut self) {
        let [m, n, k] = self.size;
        let State { a, b, bias, c, .. } = self;
        match self.kind {
            Kind::Matmul | Kind::Packed => plain::matmul(a, b, k, n, c),
            Kind::Linear => plain::linear(a, b, bias, k, c),
            Kind::WeightGrad => plain::weight_grad(a, b, m, n, c),
        }
    }

    fn auto(&mut self) {
        let [m, n, k] = self.size;
        let State { a, b, bias, c, .. } = self;
        match self.kind {
            Kind::Matmul | Kind::Packed => plain::matmul_auto(a, b, k, n, c),
            Kind::Linear => plain::linear_auto(a, b, bias, k, c),
            Kind::WeightGrad => plain::weight_grad_auto(a, b, m, n, c),
        }
    }

    fn gemm(&mut self) {
        let [m, n, k] = self.size;
        let State { a, b, bias, c, kind, .. } = self;
        assert!(a.len() == m * k && b.len() == k * n && c.len() == m * n);
        // From one column, and from one row, to the next.
        let (a_strides, b_strides) = match kind {
            Kind::Matmul | Kind::Packed => ((1, k), (1, n)),
            Kind::Linear => ((1, k), (k, 1)),
            Kind::WeightGrad => ((m, 1), (1, n)),
        };
        let add = *kind == Kind::Linear;
        if add {
            for row in c.chunks_exact_mut(n) {
                row.copy_from_slice(bias);
            }
        }
        // SAFETY: the strides lay m by k, k by n and m by n values out in slices of these lengths, as was checked, and `c` is
        // borrowed exclusively.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                c.as_mut_ptr(),
                1,
                n as isize,
                add,
                a.as_ptr(),
                a_strides.0 as isize,
                a_strides.1 as isize,
                b.as_ptr(),
                b_strides.0 as isize,
                b_strides.1 as isize,
                if add { 1.0f32 } else { 0.0 },
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    }
}

/// Multiplications up to which everything is timed. Beyond, the naive loop and the tier that emulates its multiply-adds
/// take seconds for a run: only if all is wanted.
const QUICK: usize = 1 << 25;

fn bench(c: &mut Criterion, kind: Kind, sizes: &[Size]) {
    let name = kind.name();
    let mut group = c.benchmark_group(name);
    for &size in sizes {
        let [m, n, k] = size;
        let id = format!("{m}x{n}x{k}");
        let slow = m * n * k > QUICK && !common::full();
        // Multiplications and additions, so that elements per second are flops.
        group.throughput(Throughput::Elements((2 * m * n * k) as u64));
        let start = State::new(kind, size);
        let mut expected = start.clone();
        expected.auto();
        let runs = [("naive", State::naive as Run), ("auto", State::auto), ("gemm", State::gemm)];
        for (loop_name, run) in runs {
            if slow && loop_name == "naive" {
                continue;
            }
            let mut s = start.clone();
            run(&mut s);
            common::check(name, loop_name, &s.c, &expected.c, 1e-4);
            group.bench_function(BenchmarkId::new(loop_name, &id), |b| b.iter(|| run(&mut s)));
        }
        let mut same = common::SameBits::new();
        for tier in Tier::available() {
            if slow && tier == Tier::Scalar {
                continue;
            }
            with_tier(tier, || {
                let mut s = start.clone();
                s.kernel();
                common::check(name, tier.name(), &s.c, &expected.c, 1e-4);
                same.check(name, tier, &[&s.c]);
                group.bench_function(BenchmarkId::new(tier.name(), &id), |b| b.iter(|| s.kernel()));
            })
            .expect("the tier is one of the available");
        }
    }
    group.finish();
}

fn main() {
    let mut c = common::criterion();
    bench(&mut c, Kind::Matmul, &MATMUL);
    bench(&mut c, Kind::Packed, &PACKED);
    bench(&mut c, Kind::Linear, &LINEAR);
    bench(&mut c, Kind::WeightGrad, &WEIGHT_GRAD);
    c.final_summary();
}
