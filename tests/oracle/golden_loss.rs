//! Softmax and cross-entropy against vectors that PyTorch made (`tests/golden/loss.py`).

use hotlanes::cross_entropy::{CrossEntropy, Reduction};
use hotlanes::softmax::{log_softmax, log_softmax_backward, softmax, softmax_backward};

use crate::common::for_each_tier;
use crate::golden::{parse, relative};

#[test]
fn softmax_and_cross_entropy_follow_pytorch() {
    let sections = parse(include_str!("../golden/loss.txt"));
    let cases = &sections[1..];
    assert_eq!(cases.len(), 5);
    for case in cases {
        let (rows, n) = (case.number("rows") as usize, case.number("classes") as usize);
        let ignore = Some(case.number("ignore") as u32);
        let ce = CrossEntropy::new(n, case.number("smoothing"), ignore).unwrap();
        let reduction = if case.number("mean") == 1.0 { Reduction::Mean } else { Reduction::Sum };
        let labels: Vec<u32> = case.get("labels").iter().map(|&t| t as u32).collect();
        for_each_tier(|tier| {
            let [mut y, mut dy, mut log, mut dlog, mut dlogits] = [(); 5].map(|()| vec![0.0; rows * n]);
            let mut losses = vec![0.0; rows];
            let (x, gradient) = (case.get("x"), case.get("dy"));
            softmax(x, n, &mut y);
            softmax_backward(gradient, &y, n, &mut dy);
            log_softmax(x, n, &mut log);
            log_softmax_backward(gradient, &log, n, &mut dlog);
            let loss = ce.forward_backward(x, &labels, reduction, &mut dlogits, &mut losses).unwrap();

            let ours = [
                ("y", &y, 3e-7),
                ("dy", &dy, 3e-7),
                ("log", &log, 2e-7),
                ("dlog", &dlog, 5e-7),
                ("loss", &vec![loss], 2e-7),
                ("losses", &losses, 2e-7),
                ("dlogits", &dlogits, 3e-7),
            ];
            for (name, got, bound) in ours {
                // The name of the first is also that of the gradient that goes in.
                let key = if name == "dy" { "dy_" } else { name };
                let right = case.get(&format!("{key}64"));
                let (error, torch) = (relative(got, right), relative(case.get(key), right));
                let what = format!("{} {tier} {name}", case.settings["case"]);
                println!("{what}: error {error:.1e}, PyTorch's {torch:.1e}");
                assert!(error <= bound, "{what}: error {error:e}");
            }
        });
    }
}
