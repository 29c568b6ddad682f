//! Norms of few features have the bits of an aligned buffer wherever a plain `Vec` lies.

use hotlanes::norm::{LayerNorm, RmsNorm};

use crate::common::{Guarded, Rng, assert_same, for_each_tier};

/// Blocks of sixteen rows, and some that are left.
const ROWS: usize = 35;

/// Outputs of the forward and of the backward.
type Outputs = Vec<Vec<f32>>;

fn results(x: &[f32], dy: &[f32], features: usize, mean: bool, offset: usize) -> Outputs {
    let mut rng = Rng::new(5);
    let [gamma, beta] = [(); 2].map(|()| Guarded::new(offset, &rng.vec(features, |rng| rng.normal())));
    let (x, dy) = (Guarded::new(offset, x), Guarded::new(offset, dy));
    let new = |n: usize| Guarded::new(offset, &vec![f32::NAN; n]);
    let (mut y, mut dx) = (new(ROWS * features), new(ROWS * features));
    let (mut means, mut rstds) = (vec![0.0; ROWS], vec![0.0; ROWS]);
    let (mut dgamma, mut dbeta) = (new(features), new(features));
    let (x, dy) = (x.get(), dy.get());
    let (gamma, beta) = (gamma.get(), beta.get());
    if mean {
        let norm = LayerNorm::new(features, 1e-5).unwrap();
        norm.forward(x, gamma, beta, y.get_mut(), &mut means, &mut rstds);
        let (dx, to, scratch) = (dx.get_mut(), dgamma.get_mut(), &mut vec![0.0; norm.scratch_len(ROWS)]);
        norm.backward(dy, x, gamma, &means, &rstds, dx, to, dbeta.get_mut(), scratch);
    } else {
        let norm = RmsNorm::new(features, 1e-5).unwrap();
        norm.forward(x, gamma, y.get_mut(), &mut rstds);
        let (dx, to, scratch) = (dx.get_mut(), dgamma.get_mut(), &mut vec![0.0; norm.scratch_len(ROWS)]);
        norm.backward(dy, x, gamma, &rstds, dx, to, scratch);
    }
    let all = [y, dx, dgamma, dbeta];
    all.iter().for_each(|out| out.assert_guards(format_args!("{features} features at {offset}")));
    all.map(|out| out.get().to_vec()).into()
}

#[test]
fn norms_of_heads() {
    let mut rng = Rng::new(4);
    for features in [64, 128] {
        let [x, dy] = [(); 2].map(|()| rng.vec(ROWS * features, |rng| rng.normal()));
        // First and last rows of a block: of equal values so large that zeros beside them would have an x-hat of infinity,
        // and of NaN and infinity, none of which may reach another row.
        let plain = x.clone();
        let [mut large, mut bad] = [x.clone(), x];
        for row in [0, 15, 16, 31] {
            large[row * features..][..features].fill(2e36);
            bad[row * features + row] = if row % 2 == 0 { f32::NAN } else { f32::INFINITY };
        }
        for_each_tier(|tier| {
            for mean in [true, false] {
                for (name, x) in [("plain", &plain), ("large", &large), ("bad", &bad)] {
                    let want = results(x, &dy, features, mean, 0);
                    if name == "large" && mean {
                        assert!(want.iter().flatten().all(|v| v.is_finite()), "{tier}");
                    }
                    for offset in 1..=16 {
                        for (got, want) in results(x, &dy, features, mean, offset).iter().zip(&want) {
                            let what = format_args!("{name}, {features} features on {tier}, at {offset}");
                            assert_same(got, want, what);
                        }
                    }
                }
            }
        });
    }
}
