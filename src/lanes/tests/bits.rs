//! Integers in the lanes, and the powers of two that are made of them.

use super::*;

#[derive(Clone, Copy, Debug)]
enum Op {
    Splat,
    Add,
    Sub,
    And,
    Or,
    Xor,
    Shl,
    Shr,
    Sar,
    Rotl,
    ToF32,
    Keep,
}

const OPS: [Op; 12] = [
    Op::Splat,
    Op::Add,
    Op::Sub,
    Op::And,
    Op::Or,
    Op::Xor,
    Op::Shl,
    Op::Shr,
    Op::Sar,
    Op::Rotl,
    Op::ToF32,
    Op::Keep,
];

fn obvious(op: Op, a: u32, b: u32, n: u32) -> u32 {
    match op {
        Op::Splat => a,
        Op::Add => a.wrapping_add(b),
        Op::Sub => a.wrapping_sub(b),
        Op::And => a & b,
        Op::Or => a | b,
        Op::Xor => a ^ b,
        Op::Shl => a << n,
        Op::Shr => a >> n,
        Op::Sar => (a as i32 >> n) as u32,
        Op::Rotl => a.rotate_left(n),
        Op::ToF32 => (a as i32 as f32).to_bits(),
        Op::Keep => {
            if a & b << 1 >> 1 != 0 {
                a
            } else {
                0
            }
        }
    }
}

struct Apply<'a>(Op, &'a [[u32; LANES]; 2], u32);

impl Kernel for Apply<'_> {
    type Output = [u32; LANES];
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> [u32; LANES] {
        let Apply(op, [a, b], n) = self;
        let (mut x, mut y) = ([0.0; LANES], [0.0; LANES]);
        for i in 0..LANES {
            (x[i], y[i]) = (f32::from_bits(a[i]), f32::from_bits(b[i]));
        }
        let (first, a, b) = (a[0], l.to_bits(l.load(&x)), l.to_bits(l.load(&y)));
        let v = match op {
            Op::Splat => l.splat_u32(first),
            Op::Add => l.add_u32(a, b),
            Op::Sub => l.sub_u32(a, b),
            Op::And => l.and(a, b),
            Op::Or => l.or(a, b),
            Op::Xor => l.xor(a, b),
            Op::Shl => l.shl(a, n),
            Op::Shr => l.shr(a, n),
            Op::Sar => l.sar(a, n),
            Op::Rotl => l.rotl(a, n),
            Op::ToF32 => l.to_bits(l.i32_to_f32(a)),
            Op::Keep => l.to_bits(l.keep(l.from_bits(a), l.shr(l.shl(b, 1), 1))),
        };
        l.store(&mut x, l.from_bits(v));
        let mut out = [0; LANES];
        for i in 0..LANES {
            out[i] = x[i].to_bits();
        }
        out
    }
}

#[test]
fn integers() {
    let mut rng = Rng::new(5);
    let edges =
        [0, 1, 2, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001, 0xFFFF_FFFF, 1 << 24, (1 << 24) + 1, 0xFF00_0001];
    for case in 0..cases(40_000) {
        let mut input = [[0; LANES]; 2];
        for x in input.as_flattened_mut() {
            *x = if case % 4 == 0 { edges[rng.below(edges.len())] } else { rng.any().to_bits() };
        }
        for op in OPS {
            let n = if matches!(op, Op::Rotl) { 1 + case as u32 % 31 } else { case as u32 % 32 };
            on_each_tier(
                || Apply(op, &input, n),
                |tier, out| {
                    for i in 0..LANES {
                        let a = input[0][if matches!(op, Op::Splat) { 0 } else { i }];
                        let want = obvious(op, a, input[1][i], n);
                        assert_eq!(out[i], want, "{tier}, {op:?} of {a:#x}, {:#x}, {n}", input[1][i]);
                    }
                },
            );
        }
    }
}

struct Scale<'a>(&'a Chunk, &'a Chunk);

impl Kernel for Scale<'_> {
    type Output = [Chunk; 3];
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> [Chunk; 3] {
        let (v, n) = (l.load(self.0), l.load(self.1));
        let mut out = [[0.0; LANES]; 3];
        l.store(&mut out[0], l.scale(v, n));
        l.store(&mut out[1], l.scale_near(v, n, 64));
        l.store(&mut out[2], l.scale_near(v, n, -36));
        out
    }
}

#[test]
fn scaling_by_powers_of_two_rounds_once() {
    let mut rng = Rng::new(6);
    for case in 0..cases(40_000) {
        let (mut v, mut n) = ([0.0; LANES], [0.0; LANES]);
        for i in 0..LANES {
            // Whole powers around the ends of the range more often; all mantissas, both signs.
            let mantissa = f32::from_bits(0x3F00_0000 + (rng.any().to_bits() & 0x00FF_FFFF));
            v[i] = if rng.below(2) == 0 { mantissa } else { -mantissa };
            n[i] = match case % 3 {
                0 => rng.below(481) as f32 - 240.0,
                1 => -100.0 - rng.below(60) as f32,
                _ => 110.0 + rng.below(30) as f32,
            };
        }
        (v[case % LANES], n[case % LANES]) =
            ([0.0, -0.0, f32::INFINITY, f32::NAN][case % 4], case as f32 % 200.0);
        on_each_tier(
            || Scale(&v, &n),
            |tier, [all, small, large]| {
                for i in 0..LANES {
                    // Exact in f64; the conversion rounds once, denormals included.
                    let want = (v[i] as f64 * power_of_two(n[i] as i32)) as f32;
                    assert_same(all[i], want, (tier, "scale", v[i], n[i]));
                    if (-189.0..=63.0).contains(&n[i]) {
                        assert_same(small[i], want, (tier, "scale near 64", v[i], n[i]));
                    }
                    if (-89.0..=163.0).contains(&n[i]) {
                        assert_same(large[i], want, (tier, "scale near -36", v[i], n[i]));
                    }
                }
            },
        );
    }
}

/// Lanes chosen by bits, and the bits of that choice again.
struct Masks(u16);

impl Kernel for Masks {
    type Output = (Chunk, u16);
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> (Chunk, u16) {
        let (mask, mut out) = (l.mask_of(self.0), [0.0; LANES]);
        l.store(&mut out, l.select(mask, l.splat(1.0), l.splat(2.0)));
        (out, l.bits_of(mask))
    }
}

#[test]
fn masks_and_bits() {
    let step = if cfg!(miri) { 997 } else { 1 };
    for bits in (0..=u16::MAX).step_by(step) {
        on_each_tier(
            || Masks(bits),
            |tier, (lanes, back)| {
                assert_eq!(back, bits, "{tier}");
                for (i, lane) in lanes.into_iter().enumerate() {
                    assert_eq!(
                        lane,
                        if bits >> i & 1 == 1 { 1.0 } else { 2.0 },
                        "{tier}, {bits:#x}, lane {i}"
                    );
                }
            },
        );
    }
}
