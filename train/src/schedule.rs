//! The learning rate of a step: a straight line up, half a cosine down, then level.

use serde::{Deserialize, Serialize};

/// Warm-up and cosine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The highest rate.
    pub lr: f64,
    /// The rate from the cosine's end on.
    pub min_lr: f64,
    /// Steps on the way up: step `t` of them has `lr (t + 1) / (warmup + 1)`.
    pub warmup: u64,
    /// The step at which the cosine ends.
    pub decay: u64,
}

impl Schedule {
    /// The rate of step `t`, counted from 0: that of nanoGPT. A function of `+ - * /` alone, so that it has the same
    /// bits everywhere; `cos` of a C library has not.
    pub fn at(&self, t: u64) -> f64 {
        let Schedule { lr, min_lr, warmup, decay } = *self;
        if t < warmup {
            // In f64, as `warmup + 1` may not fit in a u64.
            return lr * (t as f64 + 1.0) / (warmup as f64 + 1.0);
        }
        if t >= decay {
            return min_lr;
        }
        let way = (t - warmup) as f64 / (decay - warmup) as f64;
        min_lr + 0.5 * (1.0 + cos_pi(way)) * (lr - min_lr)
    }
}

/// `cos(pi x)` for `x` in [0, 1], to within 4e-16: `sin(pi (1/2 - x))` by its series, whose first term left out is
/// below 1e-20.
fn cos_pi(x: f64) -> f64 {
    let y = std::f64::consts::PI * (0.5 - x);
    let square = y * y;
    // 1 - y^2 / (2 3) (1 - y^2 / (4 5) (1 - ...)), the innermost first.
    let mut series = 1.0;
    for k in (1..=11).rev() {
        series = 1.0 - square / f64::from(2 * k * (2 * k + 1)) * series;
    }
    y * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosine_is_right() {
        let n = 100_000;
        for i in 0..=n {
            let x = f64::from(i) / f64::from(n);
            let (have, want) = (cos_pi(x), (std::f64::consts::PI * x).cos());
            assert!((have - want).abs() < 4e-16, "{x}: {have} {want}");
        }
        assert_eq!((cos_pi(0.5), cos_pi(0.25)), (0.0, -cos_pi(0.75)));
    }

    #[test]
    fn the_rate_goes_up_down_and_stays() {
        let schedule = Schedule { lr: 1e-3, min_lr: 1e-4, warmup: 100, decay: 2000 };
        assert_eq!(schedule.at(0), 1e-3 / 101.0);
        assert!((schedule.at(99) - 1e-3 * 100.0 / 101.0).abs() < 1e-18);
        assert!((schedule.at(100) - 1e-3).abs() < 1e-18);
        assert!((schedule.at(1050) - 5.5e-4).abs() < 1e-15);
        assert!((schedule.at(1999) - 1e-4) < 1e-9 && schedule.at(1999) > 1e-4);
        assert_eq!((schedule.at(2000), schedule.at(u64::MAX)), (1e-4, 1e-4));
        assert!((100..2000).all(|t| schedule.at(t + 1) < schedule.at(t)));
        // No warm-up; no room for a cosine.
        assert!((Schedule { warmup: 0, ..schedule }.at(0) - 1e-3).abs() < 1e-18);
        assert_eq!(Schedule { warmup: 10, decay: 10, ..schedule }.at(10), 1e-4);
        assert_eq!(Schedule { warmup: 0, decay: 0, ..schedule }.at(0), 1e-4);
        let endless = Schedule { warmup: u64::MAX, decay: u64::MAX, ..schedule };
        assert!(endless.at(0) > 0.0 && endless.at(u64::MAX - 1) <= 1e-3 && endless.at(u64::MAX) == 1e-4);
    }

    /// The bits themselves, which every run depends on.
    #[test]
    fn the_bits_are_those() {
        let schedule = Schedule { lr: 1e-3, min_lr: 1e-4, warmup: 100, decay: 2000 };
        let hash = (0..2100).fold(0_u64, |hash, t| hash.rotate_left(5) ^ schedule.at(t).to_bits());
        assert_eq!(format!("{hash:016x}"), "e1ff25c17bb8b091");
    }
}
