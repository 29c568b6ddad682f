//! Adafactor gives the same bits on every tier, for every thread count and offset.

use hotlanes::adafactor::{
    Adafactor, AdafactorConfig, AdafactorStep, AdafactorTensor, SecondMoment, scratch_len_matrix,
    scratch_len_vector,
};
use hotlanes::{LANES, Tier, tuning, with_tier};

use crate::common::{Guarded, Hash, Rng, SPECIALS, assert_same, for_each_tier, offsets};

fn step(number: u64) -> AdafactorStep {
    let config = AdafactorConfig { weight_decay: 0.1, ..Default::default() };
    Adafactor::new(config).unwrap().at(number).unwrap()
}

/// Parameter, gradient, moments of rows (or of the vector) and of columns.
type Tensor = [Vec<f32>; 4];

/// A matrix, or a vector of `rows` if there are no columns.
fn random(rng: &mut Rng, rows: usize, cols: usize) -> Tensor {
    let n = if cols == 0 { rows } else { rows * cols };
    let square = |rng: &mut Rng| {
        let x = 0.01 * rng.normal();
        x * x
    };
    let mut t = [
        rng.vec(n, |rng| 0.1 * rng.normal()),
        rng.vec(n, |rng| rng.spread(-12, -3)),
        rng.vec(rows, square),
        rng.vec(cols, square),
    ];
    for g in t[1].iter_mut().step_by(11) {
        *g = 0.0;
    }
    t
}

fn scratch_len(rows: usize, cols: usize) -> usize {
    if cols > 0 { scratch_len_matrix(rows, cols) } else { scratch_len_vector(rows) }
}

fn view<'a>(
    param: &'a mut [f32],
    grad: &'a [f32],
    row: &'a mut [f32],
    col: &'a mut [f32],
) -> AdafactorTensor<'a> {
    let moment = if col.is_empty() {
        SecondMoment::Unfactored { v: row }
    } else {
        SecondMoment::Factored { row, col }
    };
    AdafactorTensor { param, grad, moment }
}

fn run(step: &AdafactorStep, [p, g, row, col]: &mut Tensor) {
    let mut scratch = vec![f32::NAN; scratch_len(row.len(), col.len())];
    step.update(view(p, g, row, col), &mut scratch);
}

/// What all others must give: the first tier, on this thread.
fn reference(step: &AdafactorStep, before: &Tensor) -> Tensor {
    let first = Tier::available().next().unwrap();
    let mut t = before.clone();
    with_tier(first, || run(step, &mut t)).unwrap();
    t
}

#[test]
fn every_shape_at_every_offset() {
    let mut shapes: Vec<(usize, usize)> = vec![(65, 17), (129, 3), (3, 130), (2, 1030), (1000, 0), (1030, 0)];
    shapes.extend((0..=2 * LANES + 1).flat_map(|n| [(n, 0), (n % 7 + 1, n)]));
    if cfg!(miri) {
        shapes = vec![(5, 17), (17, 0)];
    }
    let mut rng = Rng::new(1);
    for (i, &(rows, cols)) in shapes.iter().enumerate() {
        // The first step takes the averages from what is new, the hundredth from what is old.
        let step = step([1, 100][i % 2]);
        let before = random(&mut rng, rows, cols);
        let want = reference(&step, &before);
        for_each_tier(|tier| {
            for offset in offsets().step_by(3) {
                let mut k = offset;
                let [mut p, g, mut row, mut col] = before.each_ref().map(|values| {
                    k = (k + 3) % 17;
                    Guarded::new(k, values)
                });
                let mut scratch = Guarded::new(offset, &vec![f32::NAN; scratch_len(rows, cols)]);
                step.update(view(p.get_mut(), g.get(), row.get_mut(), col.get_mut()), scratch.get_mut());
                let what = format!("{rows}x{cols} on {tier} at offset {offset}");
                scratch.assert_guards(format!("{what}: scratch"));
                for ((slice, want), part) in [p, g, row, col].iter().zip(&want).zip(["p", "g", "row", "col"])
                {
                    assert_same(slice.get(), want, format!("{what}: {part}"));
                    slice.assert_guards(format!("{what}: {part}"));
                }
            }
        });
    }
}

#[test]
fn special_values_are_the_same_everywhere() {
    let mut rng = Rng::new(2);
    for (rows, cols) in [(7, 37), (80, 0)] {
        for special in SPECIALS {
            for at in 0..4 {
                let mut before = random(&mut rng, rows, cols);
                if before[at].is_empty() {
                    continue;
                }
                let i = rng.below(before[at].len());
                // Moments are not negative.
                before[at][i] = if at < 2 { special } else { special.abs() };
                let want = reference(&step(3), &before);
                for_each_tier(|tier| {
                    let mut t = before.clone();
                    run(&step(3), &mut t);
                    for (got, want) in t.iter().zip(&want) {
                        assert_same(got, want, format!("{rows}x{cols} on {tier}, {special:e} in {at}"));
                    }
                });
            }
        }
    }
}

#[cfg(feature = "rayon")]
#[test]
fn threads_change_nothing() {
    let parallel = tuning::ADAFACTOR_PARALLEL;
    let mut rng = Rng::new(3);
    let shapes = [(parallel / 256, 256), (parallel / 100 + 1, 101), (3, parallel / 2), (parallel + 5, 0)];
    for (rows, cols) in shapes {
        let before = random(&mut rng, rows, cols);
        assert!(before[0].len() >= parallel, "the call goes parallel");
        let want = reference(&step(2), &before);
        let last = Tier::available().next_back().unwrap();
        crate::pools::on_pools(|threads| {
            let mut t = before.clone();
            with_tier(last, || run(&step(2), &mut t)).unwrap();
            for (got, want) in t.iter().zip(&want) {
                assert_same(got, want, format!("{rows}x{cols} on {last}, {threads} threads"));
            }
        });
    }
}

#[test]
fn many_tensors_are_each_alone() {
    let mut rng = Rng::new(4);
    let shapes = [(7, 37), (0, 0), (90, 0), (1, 1), (0, 3), (66, 16)];
    let before = shapes.map(|(rows, cols)| random(&mut rng, rows, cols));
    let want = before.each_ref().map(|t| if t[0].is_empty() { t.clone() } else { reference(&step(2), t) });
    for_each_tier(|tier| {
        let mut after = before.clone();
        let mut views: Vec<_> = after.iter_mut().map(|[p, g, row, col]| view(p, g, row, col)).collect();
        let mut scratch = vec![f32::NAN; views.iter().map(|t| t.scratch_len()).max().unwrap()];
        step(2).update_many(&mut views, &mut scratch);
        for (i, (got, want)) in after.iter().zip(&want).enumerate() {
            for (got, want) in got.iter().zip(want) {
                assert_same(got, want, format!("{tier}, tensor {i}"));
            }
        }
    });
}

/// Changing one of these is a change of the format, to be written in CHANGELOG.md.
const GOLDEN: [&str; 2] = ["0x39aa9ae219531487", "0x11819f5e8bfc2193"];

#[test]
fn the_bits_are_those_of_the_format() {
    let mut rng = Rng::new(6);
    let before = [random(&mut rng, 67, 53), random(&mut rng, 2085, 0)];
    for_each_tier(|tier| {
        let hashes = before.clone().map(|mut t| {
            for number in 1..=3 {
                run(&step(number), &mut t);
            }
            let mut hash = Hash::new();
            for x in &t {
                hash.add(x);
            }
            format!("{:#018x}", hash.get())
        });
        assert_eq!(hashes, GOLDEN, "{tier}");
    });
}
