//! The sparse kernels: one hash for all tiers, offsets and numbers of threads, and the hashes that they had.

use hotlanes::Index;
use hotlanes::sparse::{Csr, Plan};
use hotlanes::tuning::{SPARSE_PARALLEL, SPARSE_PIECE, with_gather, with_one_sparse_sweep};
use proptest::prelude::*;

use crate::common::{Guarded, Hash, Rng, SPECIALS, assert_same, for_each_tier, offsets};
use crate::pools::on_pools;
use crate::structure::{with_density, with_nnz, with_rows};

const LR: f64 = 0.1;

/// All kernels on one matrix and batch.
struct Case<I: Index> {
    csr: Csr<I>,
    plan: Plan,
    batch: usize,
    x: Vec<f32>,
    dy: Vec<f32>,
}

/// y, dx, dvalues, dx and values of the SGD form; all again for the first example alone.
type Outputs = Vec<Vec<f32>>;

const NAMES: [&str; 10] = [
    "matmul",
    "dx",
    "dvalues",
    "dx of sgd",
    "sgd",
    "matvec",
    "dx of one",
    "dvalues of one",
    "dx of sgd of one",
    "sgd of one",
];

impl<I: Index> Case<I> {
    /// `special` puts infinities, NaN and denormals into a few values of each kind.
    fn random(rng: &mut Rng, mut csr: Csr<I>, batch: usize, special: bool) -> Self {
        let mut x = rng.vec(csr.cols() * batch, |rng| rng.spread(-8, 4));
        let mut dy = rng.vec(csr.rows() * batch, |rng| rng.spread(-8, 4));
        if special {
            for values in [&mut x[..], &mut dy, csr.values_mut()] {
                for _ in 0..values.len().div_ceil(64) {
                    let i = rng.below(values.len());
                    values[i] = SPECIALS[rng.below(SPECIALS.len())];
                }
            }
        }
        Case { plan: csr.plan(), csr, batch, x, dy }
    }

    fn run(&self) -> Outputs {
        self.run_at([0; 5])
    }

    /// With x, dy, y, dx and dvalues at these offsets from a cache line, between guards of NaN.
    fn run_at(&self, offsets: [usize; 5]) -> Outputs {
        let (csr, plan, batch) = (&self.csr, &self.plan, self.batch);
        let mut all = vec![];
        for one in [false, true] {
            // The first example of a batch-minor matrix.
            let first = |m: &[f32]| m.iter().copied().step_by(batch.max(1)).collect::<Vec<_>>();
            if one && batch == 0 {
                continue;
            }
            let (x, dy) =
                if one { (first(&self.x), first(&self.dy)) } else { (self.x.clone(), self.dy.clone()) };
            let lengths = [dy.len(), x.len(), csr.nnz()];
            let inputs = [Guarded::new(offsets[0], &x), Guarded::new(offsets[1], &dy)];
            let [mut y, mut dx, mut dv]: [Guarded; 3] =
                std::array::from_fn(|i| Guarded::new(offsets[2 + i], &vec![f32::NAN; lengths[i]]));
            let mut dx_sgd = Guarded::new(offsets[3], &vec![f32::NAN; x.len()]);
            let (x, dy) = (inputs[0].get(), inputs[1].get());
            let mut stepped = csr.clone();
            if one {
                csr.matvec(x, y.get_mut());
                csr.matvec_backward(x, dy, Some(dx.get_mut()), dv.get_mut());
                stepped.matvec_backward_sgd(x, dy, LR, Some(dx_sgd.get_mut())).unwrap();
            } else {
                csr.matmul(x, batch, y.get_mut());
                plan.matmul_backward(csr, x, dy, batch, Some(dx.get_mut()), Some(dv.get_mut()));
                plan.matmul_backward_sgd(&mut stepped, x, dy, batch, LR, Some(dx_sgd.get_mut())).unwrap();
            }
            for slice in [&y, &dx, &dv, &dx_sgd, &inputs[0], &inputs[1]] {
                slice.assert_guards(format_args!("batch {batch}, {offsets:?}"));
            }
            all.extend([y, dx, dv, dx_sgd].map(|o| o.get().to_vec()));
            all.push(stepped.values().to_vec());
        }
        all
    }

    fn name(&self) -> String {
        let csr = &self.csr;
        format!("{} x {}, nnz {}, batch {} {}", csr.rows(), csr.cols(), csr.nnz(), self.batch, I::NAME)
    }
}

#[track_caller]
fn assert_all_same(got: &Outputs, want: &Outputs, what: &str) {
    assert_eq!(got.len(), want.len());
    for ((got, want), name) in got.iter().zip(want).zip(NAMES) {
        assert_same(got, want, format_args!("{what}: {name}"));
    }
}

/// Runs on all tiers, gathering by instruction and by loads, with both gradients in one sweep and in two, which must agree,
/// and gives what they gave.
#[track_caller]
fn on_tiers<I: Index>(case: &Case<I>) -> Outputs {
    let mut first: Option<Outputs> = None;
    for_each_tier(|tier| {
        for (gather, one_sweep) in [(true, true), (false, true), (true, false)] {
            let got = with_gather(gather, || with_one_sparse_sweep(one_sweep, || case.run()));
            let want = first.get_or_insert_with(|| got.clone());
            let what = format!("{tier}, gather {gather}, one sweep {one_sweep}, {}", case.name());
            assert_all_same(&got, want, &what);
        }
    });
    first.expect("there is a tier")
}

/// The hash of a structure with each batch, ordinary and special, with either type of index.
fn hash(rng: &mut Rng, batches: &[usize], make: impl Fn(&mut Rng) -> Csr<u16>) -> u64 {
    let mut hash = Hash::new();
    for &batch in batches {
        for special in [false, true] {
            let csr = make(rng);
            let indices = csr.indices().iter().map(|&i| i as u32).collect();
            let parts = (csr.indptr().to_vec(), indices, csr.values().to_vec());
            let wide = Csr::<u32>::new(csr.rows(), csr.cols(), parts.0, parts.1, parts.2).unwrap();
            let case = Case::random(rng, csr, batch, special);
            let outputs = on_tiers(&case);
            let mut wide = Case { csr: wide, plan: case.plan, batch, x: case.x, dy: case.dy };
            wide.csr.values_mut().copy_from_slice(case.csr.values());
            assert_all_same(&on_tiers(&wide), &outputs, &wide.name());
            for output in outputs {
                hash.add(&output);
            }
        }
    }
    hash.get()
}

const BATCHES: [usize; 17] = [0, 1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96, 100];

/// The hashes that every machine must find. A change that moves one is a decision for CHANGELOG.md.
const GOLDEN: [(&str, u64); 9] = [
    ("nothing", 0x2A29_ED00_6878_3C8D),
    ("one row", 0x225A_7180_23E0_7233),
    ("one column", 0x41C1_38DE_78CE_1EA9),
    ("density 0.01", 0xD460_D6F7_9C10_174B),
    ("density 0.3", 0x66D3_BE62_4ACC_60BE),
    ("density 1", 0xDDD4_EA23_5FE8_1A9F),
    ("rows of 0 to 49", 0x80ED_93D9_403B_627B),
    ("columns of many", 0xD15E_E33E_FD4D_D2F5),
    ("three panels", 0xD0C1_2FD1_D2C6_7348),
];

#[test]
fn the_hashes_are_golden() {
    let mut rng = Rng::new(1);
    let rng = &mut rng;
    let counts: Vec<usize> = (0..50).collect();
    let found = [
        hash(rng, &[0, 1, 17, 33], |rng| with_density(rng, 5, 9, 0.0)),
        hash(rng, &BATCHES, |rng| with_density(rng, 1, 43, 0.7)),
        hash(rng, &BATCHES, |rng| with_density(rng, 43, 1, 0.7)),
        hash(rng, &BATCHES, |rng| with_density(rng, 17, 40, 0.01)),
        hash(rng, &BATCHES, |rng| with_density(rng, 18, 21, 0.3)),
        hash(rng, &[1, 16, 33, 64, 65], |rng| with_density(rng, 16, 19, 1.0)),
        hash(rng, &[1, 17, 32], |rng| with_rows(rng, 60, &counts)),
        hash(rng, &[1, 17, 32], |rng| with_nnz(rng, 90, 11, 700)),
        hash(rng, &[33, 64], |rng| with_density(rng, 5, 450, 0.5)),
    ];
    let text =
        |h: [u64; 9]| h.iter().zip(GOLDEN).map(|(h, (n, _))| format!("{n}: {h:#018x}")).collect::<Vec<_>>();
    assert_eq!(text(found), text(GOLDEN.map(|(_, h)| h)));
}

#[test]
fn offsets_and_guards_change_nothing() {
    let mut rng = Rng::new(2);
    let (batches, rows, cols) =
        if cfg!(miri) { (&[1, 17, 33][..], 4, 5) } else { (&[1, 5, 16, 23, 33, 64][..], 9, 21) };
    for &batch in batches {
        let csr = with_density::<u32>(&mut rng, rows, cols, 0.5);
        let case = Case::random(&mut rng, csr, batch, false);
        for_each_tier(|tier| {
            let want = case.run();
            for offset in offsets() {
                // All together, and each where the others are not: 3 and 17 have no common divisor.
                for step in [0, 3] {
                    let offsets = std::array::from_fn(|i| (offset + i * step) % 17);
                    assert_all_same(&case.run_at(offsets), &want, &format!("{tier} {offsets:?}"));
                }
            }
        });
    }
}

/// Connections times examples around the size from which there are threads.
#[test]
fn threads_change_nothing() {
    let at = SPARSE_PARALLEL / 32;
    // The last two have few rows, which cannot be cut into pieces of that size, and fewer sources than a plan's block.
    let cases = [(300, 200, at - 1, 32), (300, 200, at, 32), (5, 700, 3000, 180), (400, 60, 8000, 70)];
    const { assert!(5 * SPARSE_PIECE > 3000 * 180 && 3000 * 180 > SPARSE_PARALLEL) }
    const { assert!(8000 * 70 > SPARSE_PARALLEL) }
    let mut rng = Rng::new(3);
    for (i, (rows, cols, nnz, batch)) in cases.into_iter().enumerate() {
        let csr = with_nnz::<u32>(&mut rng, rows, cols, nnz);
        let case = Case::random(&mut rng, csr, batch, i % 2 == 1);
        let mut first: Option<Outputs> = None;
        on_pools(|threads| {
            for_each_tier(|tier| {
                let got = with_one_sparse_sweep(threads % 2 == 0, || case.run());
                let want = first.get_or_insert_with(|| got.clone());
                assert_all_same(&got, want, &format!("{tier}, {threads} threads, {}", case.name()));
            });
        });
    }
}

/// One example has threads only from as many connections on.
#[test]
fn threads_change_nothing_for_one_example() {
    let mut rng = Rng::new(4);
    for nnz in [SPARSE_PARALLEL - 1, SPARSE_PARALLEL, SPARSE_PARALLEL + 1] {
        let csr = with_nnz::<u16>(&mut rng, 700, 900, nnz);
        let x = rng.vec(900, |rng| rng.spread(-8, 4));
        let mut first: Option<Vec<f32>> = None;
        on_pools(|threads| {
            for_each_tier(|tier| {
                let mut y = vec![f32::NAN; 700];
                csr.matvec(&x, &mut y);
                let want = first.get_or_insert_with(|| y.clone());
                assert_same(&y, want, format_args!("{tier}, {threads} threads, nnz {nnz}"));
            });
        });
    }
}

#[test]
fn each_gradient_is_the_same_without_the_other() {
    let mut rng = Rng::new(5);
    for batch in BATCHES {
        let csr = with_density::<u32>(&mut rng, 19, 23, 0.4);
        let case = Case::random(&mut rng, csr, batch, batch % 2 == 1);
        let Case { csr, plan, x, dy, .. } = &case;
        for_each_tier(|tier| {
            let what = format!("{tier}, {}", case.name());
            let both = case.run();
            let (mut dx, mut dv) = (vec![f32::NAN; x.len()], vec![f32::NAN; csr.nnz()]);
            plan.matmul_backward(csr, x, dy, batch, Some(&mut dx), None);
            plan.matmul_backward(csr, x, dy, batch, None, Some(&mut dv));
            assert_same(&dx, &both[1], &what);
            assert_same(&dv, &both[2], &what);
            let mut stepped = csr.clone();
            plan.matmul_backward_sgd(&mut stepped, x, dy, batch, LR, None).unwrap();
            assert_same(stepped.values(), &both[4], &what);
            if batch == 1 {
                csr.matvec_backward(x, dy, None, &mut dv);
                assert_same(&dv, &both[7], &what);
                let mut stepped = csr.clone();
                stepped.matvec_backward_sgd(x, dy, LR, None).unwrap();
                assert_same(stepped.values(), &both[9], &what);
            }
        });
    }
}

/// The SGD forms are the gradient forms and one fused multiply-add, to the bit.
#[test]
fn a_step_is_one_fused_multiply_add() {
    let mut rng = Rng::new(6);
    for batch in BATCHES {
        let csr = with_density::<u32>(&mut rng, 19, 23, 0.4);
        let case = Case::random(&mut rng, csr, batch, batch % 3 == 1);
        for_each_tier(|tier| {
            let what = format!("{tier}, {}", case.name());
            for out in case.run().chunks(5) {
                let [_, dx, dvalues, dx_sgd, values] = out else { unreachable!("five outputs of each kind") };
                assert_same(dx_sgd, dx, &what);
                let step = |(&w, &g): (&f32, &f32)| (-(LR as f32)).mul_add(g, w);
                let want: Vec<f32> = case.csr.values().iter().zip(dvalues).map(step).collect();
                assert_same(values, &want, &what);
            }
        });
    }
}

proptest! {
    // Tiers are slow in a debug build; other nets have the shapes that are known to matter.
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_has_one_result(
        rows in 0..40usize, cols in 0..60usize, density in 0.0..1.0f32, batch in 0..70usize,
        special: bool, seed: u64, offset in 0..=16usize,
    ) {
        let mut rng = Rng::new(seed);
        let csr = with_density::<u16>(&mut rng, rows, cols, density);
        let case = Case::random(&mut rng, csr, batch, special);
        let want = on_tiers(&case);
        let offsets = std::array::from_fn(|i| (offset + 5 * i) % 17);
        assert_all_same(&case.run_at(offsets), &want, &format!("{offsets:?}"));
    }
}
