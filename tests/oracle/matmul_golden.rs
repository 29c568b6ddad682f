//! Matrix products against vectors that PyTorch made (`tests/golden/matmul.py`).

use hotlanes::matmul::{Epilogue, Mat, MatMut, matmul_with};

use crate::common::for_each_tier;
use crate::golden::parse;

/// Half the distance from 1 to the next f32.
const U: f64 = 1.0 / (1 << 24) as f64;

#[test]
fn products_follow_pytorch() {
    let sections = parse(include_str!("../golden/matmul.txt"));
    let cases = &sections[1..];
    assert_eq!(cases.len(), 6);
    for case in cases {
        let [m, n, k] = ["m", "n", "k"].map(|key| case.number(key) as usize);
        // As it is stored: `at` and `bt` are transposes.
        let operand = |name: &str, rows, cols| match case.find(name) {
            Some(data) => Mat::new(data, rows, cols),
            None => Mat::new(case.get(&format!("{name}t")), cols, rows).t(),
        };
        let (a, b) = (operand("a", m, k), operand("b", k, n));
        let (start, bias) = (case.find("start"), case.find("bias"));
        // What each result's terms amount to.
        let at = |name: &str, i: usize, j: usize, rows: usize, cols: usize| match case.find(name) {
            Some(data) => data[i * cols + j] as f64,
            None => case.get(&format!("{name}t"))[j * rows + i] as f64,
        };
        let size = |i: usize, j: usize| {
            let products = (0..k).map(|p| (at("a", i, p, m, k) * at("b", p, j, k, n)).abs()).sum::<f64>();
            let start = start.map_or(0.0, |c| c[i * n + j].abs() as f64);
            products + start + bias.map_or(0.0, |b| b[j].abs() as f64)
        };
        let (right, torch) = (case.get("c64"), case.get("c"));
        for_each_tier(|tier| {
            let mut c = start.map_or(vec![f32::NAN; m * n], <[f32]>::to_vec);
            let epilogue = Epilogue { accumulate: start.is_some(), bias, ..Epilogue::default() };
            matmul_with(a, b, MatMut::new(&mut c, m, n), epilogue);
            let (mut ours, mut theirs) = (0.0f64, 0.0f64);
            for at in 0..m * n {
                // What is right is rounded to f32 in the file.
                let bound = (k + 1) as f64 * U * size(at / n, at % n) + U * right[at].abs() as f64;
                ours = ours.max((c[at] as f64 - right[at] as f64).abs() / bound);
                theirs = theirs.max((c[at] as f64 - torch[at] as f64).abs() / bound);
            }
            let what = format!("{} {tier}", case.settings["case"]);
            println!("{what}: at most {ours:.3} of the bound off, {theirs:.3} from PyTorch");
            assert!(ours <= 1.0, "{what}: {ours} of the bound");
            assert!(theirs <= 2.0, "{what}: {theirs} of the bound from PyTorch");
        });
    }
}
