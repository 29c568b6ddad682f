//! Muon: one hash for all tiers, offsets and numbers of threads, and nothing touched beyond a slice.

use hotlanes::muon::{Muon, MuonConfig, MuonScale, MuonTensor};

use crate::common::{Guarded, Hash, Rng, assert_same, for_each_tier};
use crate::pools::on_pools;

/// Parameter and buffer after two steps.
fn run(config: MuonConfig, [rows, cols]: [usize; 2], offset: usize) -> [Vec<f32>; 2] {
    let mut rng = Rng::new((rows * 1000 + cols) as u64);
    let muon = Muon::new(config).unwrap();
    let n = rows * cols;
    let held = if config.momentum > 0.0 { n } else { 0 };
    let guarded = |k: usize, values: &[f32]| Guarded::new((offset + 3 * k) % 17, values);
    let mut param = guarded(0, &rng.vec(n, |rng| rng.normal()));
    let mut buffer = guarded(1, &vec![0.0; held]);
    let mut scratch = guarded(2, &vec![f32::NAN; muon.scratch_len(rows, cols)]);
    for _ in 0..2 {
        let grad = guarded(3, &rng.vec(n, |rng| rng.normal()));
        let tensor =
            MuonTensor { rows, cols, param: param.get_mut(), grad: grad.get(), buffer: buffer.get_mut() };
        muon.update(tensor, scratch.get_mut());
    }
    for slice in [&param, &buffer, &scratch] {
        slice.assert_guards(format_args!("{rows} x {cols} at {offset}"));
    }
    [param.get().to_vec(), buffer.get().to_vec()]
}

fn configs() -> [MuonConfig; 3] {
    let base = MuonConfig { lr: 0.1, ..Default::default() };
    [
        base,
        MuonConfig { nesterov: false, scale: MuonScale::MatchRmsAdamw, ..base },
        MuonConfig { momentum: 0.0, weight_decay: 0.0, ..base },
    ]
}

#[track_caller]
fn assert_all_same(got: &[Vec<f32>; 2], want: &[Vec<f32>; 2], what: &str) {
    assert_same(&got[0], &want[0], format_args!("{what}: param"));
    assert_same(&got[1], &want[1], format_args!("{what}: buffer"));
}

const SHAPES: [[usize; 2]; 8] = [[1, 1], [3, 0], [2, 17], [17, 2], [16, 16], [5, 33], [33, 5], [26, 40]];

#[test]
fn tiers_and_offsets_change_nothing() {
    for shape in SHAPES.into_iter().take(if cfg!(miri) { 3 } else { 8 }) {
        for config in configs() {
            let mut first = None;
            for_each_tier(|tier| {
                for offset in [0, 1, 7, 16] {
                    let got = run(config, shape, offset);
                    let want = first.get_or_insert_with(|| got.clone());
                    assert_all_same(&got, want, &format!("{tier} {shape:?} at {offset}"));
                }
            });
        }
    }
}

#[test]
fn threads_change_nothing() {
    // Products above the threshold.
    let shape = if cfg!(miri) { [5, 3] } else { [90, 84] };
    let mut first = None;
    on_pools(|threads| {
        for_each_tier(|tier| {
            let got = run(configs()[0], shape, 0);
            let want = first.get_or_insert_with(|| got.clone());
            assert_all_same(&got, want, &format!("{tier}, {threads} threads"));
        });
    });
}

/// Changing it is a change of the format, to be written in CHANGELOG.md.
const GOLDEN: u64 = 0xD95F_DA9E_2FFE_34FB;

#[test]
fn the_hash_is_golden() {
    for_each_tier(|tier| {
        let mut hash = Hash::new();
        for config in configs() {
            for shape in [[5, 33], [33, 5], [20, 20]] {
                for output in run(config, shape, 0) {
                    hash.add(&output);
                }
            }
        }
        assert_eq!(hash.get(), GOLDEN, "{tier}: {:#018x}", hash.get());
    });
}
