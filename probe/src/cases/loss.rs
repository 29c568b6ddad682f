//! Softmax and cross-entropy: four rows together, and sixteen short ones.

use std::hint::black_box;

use hotlanes::cross_entropy::{CrossEntropy, Reduction};
use hotlanes::naive::loss as naive;
use hotlanes::softmax::{log_softmax, log_softmax_backward, softmax, softmax_backward, softmax_in_place};

use crate::check::{close, data, prepared};
use crate::{Case, Prepared};

/// Rows that are beyond `tuning::SOFTMAX_SMALL`, four at a time.
const LONG: usize = 256;
/// Rows of less, sixteen at a time.
const SHORT: usize = 16;

/// The forward, by rows.
pub(super) const SOFTMAX: Case = Case {
    name: "softmax",
    kernel: "hotlanes::softmax::forward::Forward<0>",
    sizes: [4, 8],
    elements_per_size: LONG,
    element: "value",
    gather: true,
    forced: true,
    prepare: |rows| case(rows, LONG, |s| softmax(&s.x, s.n, &mut s.out), plain_softmax),
    twin: Some(|rows| case(rows, LONG, |s| naive::softmax_auto(&s.x, s.n, &mut s.out), plain_softmax)),
};

/// The forward over short rows.
pub(super) const SOFTMAX_SMALL: Case = Case {
    name: "softmax_small",
    sizes: [16, 32],
    elements_per_size: SHORT,
    prepare: |rows| case(rows, SHORT, |s| softmax(&s.x, s.n, &mut s.out), plain_softmax),
    twin: Some(|rows| case(rows, SHORT, |s| naive::softmax_auto(&s.x, s.n, &mut s.out), plain_softmax)),
    ..SOFTMAX
};

/// The forward over its input.
pub(super) const SOFTMAX_IN_PLACE: Case = Case {
    name: "softmax_in_place",
    kernel: "hotlanes::softmax::forward::Forward<1>",
    prepare: |rows| case(rows, LONG, |s| softmax_in_place(&mut s.over, s.n), plain_over),
    twin: None,
    ..SOFTMAX
};

/// The logarithm.
pub(super) const LOG_SOFTMAX: Case = Case {
    name: "log_softmax",
    kernel: "hotlanes::softmax::forward::Forward<2>",
    prepare: |rows| case(rows, LONG, |s| log_softmax(&s.x, s.n, &mut s.out), plain_log),
    twin: Some(|rows| case(rows, LONG, |s| naive::log_softmax_auto(&s.x, s.n, &mut s.out), plain_log)),
    ..SOFTMAX
};

/// The backward.
pub(super) const SOFTMAX_BWD: Case = Case {
    name: "softmax_bwd",
    kernel: "hotlanes::softmax::backward::Backward<false>",
    prepare: |rows| case(rows, LONG, |s| softmax_backward(&s.dy, &s.y, s.n, &mut s.out), plain_backward),
    twin: Some(|rows| {
        case(rows, LONG, |s| naive::softmax_backward_auto(&s.dy, &s.y, s.n, &mut s.out), plain_backward)
    }),
    ..SOFTMAX
};

/// The logarithm's.
pub(super) const LOG_SOFTMAX_BWD: Case = Case {
    name: "log_softmax_bwd",
    kernel: "hotlanes::softmax::backward::Backward<true>",
    prepare: |rows| {
        case(rows, LONG, |s| log_softmax_backward(&s.dy, &s.x, s.n, &mut s.out), plain_log_backward)
    },
    twin: Some(|rows| {
        case(
            rows,
            LONG,
            |s| naive::log_softmax_backward_auto(&s.dy, &s.x, s.n, &mut s.out),
            plain_log_backward,
        )
    }),
    ..SOFTMAX
};

/// Loss and gradient.
pub(super) const CROSS_ENTROPY: Case = Case {
    name: "cross_entropy",
    kernel: "hotlanes::cross_entropy::kernel::Rows<1, false>",
    prepare: |rows| case(rows, LONG, |s| s.cross_entropy(0.0), |s| s.check_entropy(0.0)),
    twin: Some(|rows| case(rows, LONG, |s| s.cross_entropy_twin(0.0), |s| s.check_entropy(0.0))),
    ..SOFTMAX
};

/// Over short rows.
pub(super) const CROSS_ENTROPY_SMALL: Case = Case {
    name: "cross_entropy_small",
    sizes: [16, 32],
    elements_per_size: SHORT,
    prepare: |rows| case(rows, SHORT, |s| s.cross_entropy(0.0), |s| s.check_entropy(0.0)),
    twin: Some(|rows| case(rows, SHORT, |s| s.cross_entropy_twin(0.0), |s| s.check_entropy(0.0))),
    ..CROSS_ENTROPY
};

/// With label smoothing.
pub(super) const CROSS_ENTROPY_SMOOTH: Case = Case {
    name: "cross_entropy_smooth",
    kernel: "hotlanes::cross_entropy::kernel::Rows<1, true>",
    prepare: |rows| case(rows, LONG, |s| s.cross_entropy(0.1), |s| s.check_entropy(0.1)),
    twin: Some(|rows| case(rows, LONG, |s| s.cross_entropy_twin(0.1), |s| s.check_entropy(0.1))),
    ..CROSS_ENTROPY
};

/// The gradient over the logits.
pub(super) const CROSS_ENTROPY_IN_PLACE: Case = Case {
    name: "cross_entropy_in_place",
    kernel: "hotlanes::cross_entropy::kernel::Rows<2, false>",
    prepare: |rows| case(rows, LONG, |s| s.cross_entropy_over(0.0), |s| s.check_entropy_over(0.0)),
    twin: None,
    ..CROSS_ENTROPY
};

/// Both.
pub(super) const CROSS_ENTROPY_IN_PLACE_SMOOTH: Case = Case {
    name: "cross_entropy_in_place_smooth",
    kernel: "hotlanes::cross_entropy::kernel::Rows<2, true>",
    prepare: |rows| case(rows, LONG, |s| s.cross_entropy_over(0.1), |s| s.check_entropy_over(0.1)),
    ..CROSS_ENTROPY_IN_PLACE
};

/// The loss alone.
pub(super) const CROSS_ENTROPY_FWD: Case = Case {
    name: "cross_entropy_fwd",
    kernel: "hotlanes::cross_entropy::kernel::Rows<0, false>",
    prepare: |rows| case(rows, LONG, |s| s.loss(0.0), |s| s.check_loss(0.0)),
    twin: None,
    ..CROSS_ENTROPY
};

/// With label smoothing.
pub(super) const CROSS_ENTROPY_FWD_SMOOTH: Case = Case {
    name: "cross_entropy_fwd_smooth",
    kernel: "hotlanes::cross_entropy::kernel::Rows<0, true>",
    prepare: |rows| case(rows, LONG, |s| s.loss(0.1), |s| s.check_loss(0.1)),
    ..CROSS_ENTROPY_FWD
};

/// The sum of many rows' losses, one class each.
pub(super) const CROSS_ENTROPY_TOTAL: Case = Case {
    name: "cross_entropy_total",
    kernel: "hotlanes::cross_entropy::kernel::Total",
    sizes: [256, 512],
    elements_per_size: 2,
    prepare: |rows| case(rows, 2, |s| s.loss(0.0), |s| s.check_loss(0.0)),
    twin: None,
    ..CROSS_ENTROPY
};

/// Rows, what the backward needs of them, and room for all results.
struct Rows {
    n: usize,
    x: Vec<f32>,
    /// The softmax of `x`.
    y: Vec<f32>,
    dy: Vec<f32>,
    /// `x`, which the forms in place overwrite.
    over: Vec<f32>,
    out: Vec<f32>,
    labels: Vec<u32>,
    losses: Vec<f32>,
    loss: f32,
}

impl Rows {
    fn new(rows: usize, n: usize) -> Self {
        let x = data(rows * n, 1);
        let mut y = x.clone();
        naive::softmax(&x, n, &mut y);
        Rows {
            n,
            over: x.clone(),
            x,
            y,
            dy: data(rows * n, 2),
            out: vec![f32::NAN; rows * n],
            labels: (0..rows).map(|r| (r * 7 % n) as u32).collect(),
            losses: vec![f32::NAN; rows],
            loss: f32::NAN,
        }
    }

    fn cross_entropy(&mut self, smoothing: f64) {
        let ce = CrossEntropy::new(self.n, smoothing, None).expect("valid");
        let Rows { x, labels, out, losses, .. } = self;
        self.loss = ce.forward_backward(x, labels, Reduction::Mean, out, losses).expect("in range");
    }

    fn cross_entropy_over(&mut self, smoothing: f64) {
        let ce = CrossEntropy::new(self.n, smoothing, None).expect("valid");
        let Rows { over, labels, losses, .. } = self;
        self.loss = ce.forward_backward_in_place(over, labels, Reduction::Mean, losses).expect("in range");
    }

    fn loss(&mut self, smoothing: f64) {
        let ce = CrossEntropy::new(self.n, smoothing, None).expect("valid");
        let Rows { x, labels, losses, .. } = self;
        self.loss = ce.forward(x, labels, Reduction::Mean, losses).expect("in range");
    }

    fn cross_entropy_twin(&mut self, smoothing: f32) {
        naive::cross_entropy_auto(&self.x, &self.labels, self.n, smoothing, &mut self.out, &mut self.losses);
        self.loss = self.losses.iter().sum::<f32>() / self.losses.len() as f32;
    }

    /// The gradient and the losses by the plain loop; the loss is checked against their mean.
    fn check_loss(&self, smoothing: f32) -> Vec<f32> {
        let (mut d, mut losses) = (self.out.clone(), self.losses.clone());
        naive::cross_entropy(&self.x, &self.labels, self.n, smoothing, &mut d, &mut losses);
        close("losses", &self.losses, &losses, 1e-5);
        close("loss", &[self.loss], &[losses.iter().sum::<f32>() / losses.len() as f32], 1e-5);
        d
    }

    fn check_entropy(&self, smoothing: f32) {
        close("dlogits", &self.out, &self.check_loss(smoothing), 1e-5);
    }

    fn check_entropy_over(&self, smoothing: f32) {
        close("dlogits", &self.over, &self.check_loss(smoothing), 1e-5);
    }
}

fn plain(s: &Rows, f: impl Fn(&mut [f32])) -> Vec<f32> {
    let mut want = s.x.clone();
    f(&mut want);
    want
}

fn plain_softmax(s: &Rows) {
    close("y", &s.out, &plain(s, |y| naive::softmax(&s.x, s.n, y)), 1e-5);
}

fn plain_over(s: &Rows) {
    close("y", &s.over, &plain(s, |y| naive::softmax(&s.x, s.n, y)), 1e-5);
}

fn plain_log(s: &Rows) {
    close("y", &s.out, &plain(s, |y| naive::log_softmax(&s.x, s.n, y)), 1e-5);
}

fn plain_backward(s: &Rows) {
    close("dx", &s.out, &plain(s, |dx| naive::softmax_backward(&s.dy, &s.y, s.n, dx)), 1e-5);
}

fn plain_log_backward(s: &Rows) {
    close("dx", &s.out, &plain(s, |dx| naive::log_softmax_backward(&s.dy, &s.x, s.n, dx)), 1e-5);
}

fn case<T>(
    rows: usize,
    n: usize,
    run: impl Fn(&mut Rows) + 'static,
    check: impl Fn(&Rows) -> T + 'static,
) -> Box<dyn Prepared> {
    prepared(Rows::new(rows, n), move |s| run(black_box(s)), move |s| drop(check(s)))
}
