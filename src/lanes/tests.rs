//! Every operation on every available tier against the obvious scalar one, bit for bit.

mod bits;
mod block;
// Miri runs no assembly, which sets the mode; in Miri there is no other.
#[cfg(all(not(miri), any(target_arch = "x86_64", target_arch = "aarch64")))]
mod environment;
mod fused;
mod half;
mod indexed;
mod memory;
mod reciprocal;
mod stack;
mod sums;
mod transpose;

// The nets' generator, so that there is one.
#[path = "../../tests/common/rng.rs"]
mod rng;

use std::any::type_name;
use std::fmt::Debug;

use fused::exact_mul_add;
use rng::Rng;

use super::{Chunk, Kernel, LANES, Lanes, dispatch};
use crate::tier::{Tier, active, with_tier};

/// Runs the kernel on each available tier and hands its result to `check`.
fn on_each_tier<K: Kernel>(mut make: impl FnMut() -> K, mut check: impl FnMut(Tier, K::Output)) {
    for tier in Tier::available() {
        let output = with_tier(tier, || dispatch(active(), make())).expect("an available tier");
        check(tier, output);
    }
}

/// Bits, with every NaN as one: payloads are not promised.
fn canonical(x: f32) -> u32 {
    if x.is_nan() { 0x7FC0_0000 } else { x.to_bits() }
}

#[track_caller]
fn assert_same(got: f32, want: f32, what: impl Debug) {
    assert!(
        canonical(got) == canonical(want),
        "{what:?}: {got:e} ({:#010x}), not {want:e} ({:#010x})",
        got.to_bits(),
        want.to_bits()
    );
}

/// 2^n, exactly: `powi` may be off in the last bit, which Miri makes it on purpose.
fn power_of_two(n: i32) -> f64 {
    assert!((-1022..=1023).contains(&n), "2^{n} is not a normal f64");
    f64::from_bits(((1023 + n) as u64) << 52)
}

/// More cases where the code is optimised; Miri and unoptimised builds take a sample.
const fn cases(release: usize) -> usize {
    if cfg!(miri) {
        release / 10_000 + 1
    } else if cfg!(debug_assertions) {
        release / 20 + 1
    } else {
        release
    }
}

/// Of all triples of special values, Miri takes a sample, in which each value stands in each place.
const STRIDE: usize = if cfg!(miri) { 97 } else { 1 };

#[test]
fn each_tier_runs_its_own_lanes() {
    struct Name;
    impl Kernel for Name {
        type Output = &'static str;
        #[inline(always)]
        fn run<L: Lanes>(self, _: L) -> &'static str {
            type_name::<L>()
        }
    }
    let mut seen = 0;
    on_each_tier(
        || Name,
        |tier, name| {
            assert!(name.contains(&format!("lanes::{tier}::")), "{tier} ran {name}");
            seen += 1;
        },
    );
    assert_eq!(seen, Tier::available().count());
}

const ZEROS: [f32; 2] = [0.0, -0.0];

/// Both signs of what can go wrong.
fn specials() -> Vec<f32> {
    let magnitudes = [
        f32::from_bits(1),
        f32::from_bits(0x0040_0001),
        f32::from_bits(0x007F_FFFF),
        f32::MIN_POSITIVE,
        f32::from_bits(0x0080_0001),
        1e-23,
        0.5,
        1.0f32.next_down(),
        1.0,
        1.0f32.next_up(),
        3.0,
        16_777_217.0,
        1e19,
        f32::MAX / 2.0,
        f32::MAX,
        f32::INFINITY,
    ];
    let signed = magnitudes.into_iter().flat_map(|x| [x, -x]);
    ZEROS.into_iter().chain(signed).chain([f32::NAN, -f32::NAN]).collect()
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Splat,
    Add,
    Sub,
    Mul,
    Div,
    Sqrt,
    MulAdd,
    NegMulAdd,
    Max,
    Min,
    Abs,
    Select,
    Equal,
}

const OPS: [Op; 13] = [
    Op::Splat,
    Op::Add,
    Op::Sub,
    Op::Mul,
    Op::Div,
    Op::Sqrt,
    Op::MulAdd,
    Op::NegMulAdd,
    Op::Max,
    Op::Min,
    Op::Abs,
    Op::Select,
    Op::Equal,
];

/// What each lane should be; `Splat` takes the first lane's `a`.
fn obvious(op: Op, a: f32, b: f32, c: f32) -> f32 {
    match op {
        Op::Splat => a,
        Op::Add => a + b,
        Op::Sub => a - b,
        Op::Mul => a * b,
        Op::Div => a / b,
        Op::Sqrt => a.sqrt(),
        Op::MulAdd => exact_mul_add(a, b, c),
        Op::NegMulAdd => exact_mul_add(-a, b, c),
        Op::Max if a > b => a,
        Op::Max => b,
        Op::Min if a < b => a,
        Op::Min => b,
        Op::Abs => a.abs(),
        Op::Select if a > b => b,
        Op::Select => c,
        Op::Equal if a == b => b,
        Op::Equal => c,
    }
}

/// One operation on three vectors.
struct Apply<'a>(Op, &'a [Chunk; 3]);

impl Kernel for Apply<'_> {
    type Output = Chunk;
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> Chunk {
        let Apply(op, [a, b, c]) = self;
        let (first, a, b, c) = (a[0], l.load(a), l.load(b), l.load(c));
        let v = match op {
            Op::Splat => l.splat(first),
            Op::Add => l.add(a, b),
            Op::Sub => l.sub(a, b),
            Op::Mul => l.mul(a, b),
            Op::Div => l.div(a, b),
            Op::Sqrt => l.sqrt(a),
            Op::MulAdd => l.mul_add(a, b, c),
            Op::NegMulAdd => l.neg_mul_add(a, b, c),
            Op::Max => l.max(a, b),
            Op::Min => l.min(a, b),
            Op::Abs => l.abs(a),
            Op::Select => l.select(l.gt(a, b), b, c),
            Op::Equal => l.select(l.eq(a, b), b, c),
        };
        let mut out = [0.0; LANES];
        l.store(&mut out, v);
        out
    }
}

fn check_ops(input: &[Chunk; 3]) {
    for op in OPS {
        on_each_tier(
            || Apply(op, input),
            |tier, out| {
                for i in 0..LANES {
                    let a = input[0][if matches!(op, Op::Splat) { 0 } else { i }];
                    let (b, c) = (input[1][i], input[2][i]);
                    assert_same(out[i], obvious(op, a, b, c), (tier, op, i, a, b, c));
                }
            },
        );
    }
}

#[test]
fn arithmetic_of_special_values() {
    // Every triple, sixteen to a call; what is left of the last call is zero.
    let s = specials();
    let mut input = [[0.0; LANES]; 3];
    let mut lane = 0;
    for i in (0..s.len().pow(3)).step_by(STRIDE) {
        for (j, x) in [i, i / s.len(), i / s.len().pow(2)].into_iter().enumerate() {
            input[j][lane] = s[x % s.len()];
        }
        lane = (lane + 1) % LANES;
        if lane == 0 {
            check_ops(&input);
        }
    }
    check_ops(&input);
}

#[test]
fn arithmetic_of_random_values() {
    let mut rng = Rng::new(1);
    for i in 0..cases(200_000) {
        let mut input = [[0.0; LANES]; 3];
        for x in input.as_flattened_mut() {
            // Near 1 the operands of a sum overlap; any bits at all reach the ends of the range.
            *x = if i % 2 == 0 { rng.spread(-12, 12) } else { rng.any() };
        }
        check_ops(&input);
    }
}
