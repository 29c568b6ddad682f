//! The sparse layer for one example at a time: one hash for all tiers and offsets.

use hotlanes::sparse::{Csr, Masked};

use crate::common::{Guarded, Hash, Rng, SPECIALS, assert_same, for_each_tier, offsets};
use crate::structure::with_density;

const LR: f64 = 0.1;

/// y; dx and values of the three steps.
fn run(csr: &Csr<u32>, x: &[f32], dy: &[f32], offsets: [usize; 4]) -> Vec<Vec<f32>> {
    let (x, dy) = (Guarded::new(offsets[0], x), Guarded::new(offsets[1], dy));
    let mut y = Guarded::new(offsets[2], &vec![f32::NAN; csr.rows()]);
    let mut dx = Guarded::new(offsets[3], &vec![f32::NAN; csr.cols()]);
    Masked::new(csr).matvec(x.get(), y.get_mut());
    let mut all = vec![y.get().to_vec()];
    for form in 0..3 {
        let mut masked = Masked::new(csr);
        let (x, dy) = (x.get(), dy.get());
        match form {
            0 => masked.matvec_backward_sgd(x, dy, LR, None).unwrap(),
            1 => masked.matvec_backward_sgd(x, dy, LR, Some(dx.get_mut())).unwrap(),
            _ => masked.matvec_backward_sgd_relu(x, dy, LR, dx.get_mut()).unwrap(),
        }
        let mut after = csr.clone();
        masked.write_values(&mut after);
        if form > 0 {
            all.push(dx.get().to_vec());
        }
        all.push(after.values().to_vec());
    }
    for slice in [&x, &dy, &y, &dx] {
        slice.assert_guards(format_args!("{} x {}, {offsets:?}", csr.rows(), csr.cols()));
    }
    all
}

/// On all tiers, which must agree.
fn on_tiers(csr: &Csr<u32>, x: &[f32], dy: &[f32], offsets: [usize; 4]) -> Vec<Vec<f32>> {
    let mut first: Option<Vec<Vec<f32>>> = None;
    for_each_tier(|tier| {
        let got = run(csr, x, dy, offsets);
        let want = first.get_or_insert_with(|| got.clone());
        for (i, (got, want)) in got.iter().zip(want.iter()).enumerate() {
            assert_same(got, want, format_args!("{tier}, {} x {}, output {i}", csr.rows(), csr.cols()));
        }
    });
    first.expect("there is a tier")
}

fn case(rng: &mut Rng, rows: usize, cols: usize, special: bool) -> (Csr<u32>, Vec<f32>, Vec<f32>) {
    let mut csr = with_density(rng, rows, cols, 0.4);
    let mut x = rng.vec(cols, |rng| if rng.below(2) == 0 { 0.0 } else { rng.spread(-8, 4) });
    let mut dy = rng.vec(rows, |rng| rng.spread(-8, 4));
    if special {
        for values in [&mut x[..], &mut dy, csr.values_mut()] {
            if !values.is_empty() {
                let i = rng.below(values.len());
                values[i] = SPECIALS[rng.below(SPECIALS.len())];
            }
        }
    }
    (csr, x, dy)
}

/// The hash that every machine must find. A change that moves it is a decision for CHANGELOG.md.
const GOLDEN: u64 = 0x31C8_D600_2893_B001;

#[test]
fn the_hash_is_golden() {
    let (mut rng, mut hash) = (Rng::new(1), Hash::new());
    for rows in [0, 1, 15, 16, 17, 31, 33, 64, 65, 127, 128, 129, 200] {
        for cols in [0, 1, 15, 16, 17, 33] {
            for special in [false, true] {
                let (csr, x, dy) = case(&mut rng, rows, cols, special);
                for output in on_tiers(&csr, &x, &dy, [0; 4]) {
                    hash.add(&output);
                }
            }
        }
    }
    for cols in [255, 256, 257, 520] {
        let (csr, x, dy) = case(&mut rng, 20, cols, false);
        for output in on_tiers(&csr, &x, &dy, [0; 4]) {
            hash.add(&output);
        }
    }
    assert_eq!(format!("{:#018x}", hash.get()), format!("{GOLDEN:#018x}"));
}

#[test]
fn offsets_and_guards_change_nothing() {
    let mut rng = Rng::new(2);
    for (rows, cols) in [(9, 21), (70, 40)] {
        let (csr, x, dy) = case(&mut rng, rows, cols, false);
        let want = on_tiers(&csr, &x, &dy, [0; 4]);
        for offset in offsets() {
            let offsets = std::array::from_fn(|i| (offset + i * 3) % 17);
            for (got, want) in on_tiers(&csr, &x, &dy, offsets).iter().zip(&want) {
                assert_same(got, want, format_args!("{offsets:?}"));
            }
        }
    }
}
