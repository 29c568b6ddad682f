//! Data, and the comparison of results.

use std::sync::LazyLock;

use crate::Prepared;

/// `n` values, uniform in [-1, 1), the same on every machine. They are copied from a table, of which each `seed` has
/// another part: a log of executed addresses holds what prepares a run too.
pub(crate) fn data(n: usize, seed: usize) -> Vec<f32> {
    static TABLE: LazyLock<Vec<f32>> = LazyLock::new(|| {
        let mut state = 0u64;
        let mut next = || {
            // splitmix64 (Steele, Lea and Flood, 2014)
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..1 << 13).map(|_| next()).collect()
    });
    let mut all = Vec::with_capacity(n);
    all.extend_from_slice(&TABLE[seed * 1000..][..n.min(1000)]);
    while all.len() < n {
        let left = n - all.len();
        all.extend_from_slice(&TABLE[..left.min(TABLE.len())]);
    }
    all
}

/// Panics where a result is further from the plain loop's than `tolerance`, relative to the largest value.
#[track_caller]
pub(crate) fn close(what: &str, got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(f32::MIN_POSITIVE, |a, x| a.max(x.abs()));
    assert!(scale.is_finite(), "{what}: the plain loop gives a value that is not finite");
    assert!(want.iter().any(|x| *x != 0.0), "{what}: a result of zeros proves nothing");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= tolerance * scale, "{what}: value {i} is {g}, the plain loop gives {w}");
    }
}

/// A run made of its data and two functions on it.
struct Parts<S, R, C> {
    state: S,
    run: R,
    check: C,
}

impl<S, R: Fn(&mut S), C: Fn(&S)> Prepared for Parts<S, R, C> {
    fn run(&mut self) {
        (self.run)(&mut self.state);
    }

    fn check(&self) {
        (self.check)(&self.state);
    }
}

/// The run that calls `run` on `state`, and afterwards `check`.
pub(crate) fn prepared<S: 'static>(
    state: S,
    run: impl Fn(&mut S) + 'static,
    check: impl Fn(&S) + 'static,
) -> Box<dyn Prepared> {
    Box::new(Parts { state, run, check })
}
