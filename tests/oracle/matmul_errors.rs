//! What matrix products do with shapes that do not fit: they say so, with all numbers.

use hotlanes::matmul::{Epilogue, Mat, MatMut, Packed, matmul, matmul_with};

use crate::common::{for_each_tier, panic_message};

/// The message holds each of these as a number, and each word.
#[track_caller]
fn assert_says(f: impl FnOnce(), numbers: &[usize], words: &[&str]) {
    let message = panic_message(f);
    for n in numbers {
        let found = message.split(|c: char| !c.is_ascii_digit()).any(|word| word == n.to_string());
        assert!(found, "no {n} in {message:?}");
    }
    for word in words {
        assert!(message.contains(word), "no {word:?} in {message:?}");
    }
}

#[test]
fn matrices_that_do_not_fit_their_data() {
    let data = [0.0f32; 12];
    assert_says(
        || {
            let _ = Mat::new(&data, 3, 5);
        },
        &[12, 3, 5, 15],
        &["matrix"],
    );
    assert_says(
        || {
            let _ = Mat::new(&data[..0], 3, 5);
        },
        &[0, 3, 5, 15],
        &["matrix"],
    );
    assert_says(
        || {
            let _ = Mat::new(&data, 2, 5);
        },
        &[12, 2, 5, 10],
        &["matrix"],
    );
    assert_says(
        || {
            let _ = Mat::new(&data, usize::MAX, 12);
        },
        &[12, usize::MAX],
        &["matrix"],
    );
    // The product of these wraps around to 12.
    assert_says(
        || {
            let _ = Mat::new(&data, usize::MAX / 4 + 4, 4);
        },
        &[12, 4, usize::MAX / 4 + 4],
        &["matrix"],
    );
    assert_says(
        || {
            let _ = Mat::with_stride(&data, 3, 4, 5);
        },
        &[12, 3, 4, 5],
        &["matrix"],
    );
    assert_says(
        || {
            let _ = Mat::with_stride(&data, 3, 1, usize::MAX / 2 + 1);
        },
        &[12, 3, 1],
        &["matrix"],
    );

    let mut data = [0.0f32; 12];
    assert_says(
        || {
            let _ = MatMut::new(&mut data, 3, 5);
        },
        &[12, 3, 5, 15],
        &["matrix"],
    );
    assert_says(
        || {
            let _ = MatMut::new(&mut data, 2, 5);
        },
        &[12, 2, 5, 10],
        &["matrix"],
    );
    assert_says(
        || {
            let _ = MatMut::with_stride(&mut data, 3, 4, 5);
        },
        &[12, 3, 4, 5],
        &["matrix"],
    );
    // Rows that overlap may be read, but not written.
    Mat::with_stride(&data, 3, 4, 2);
    assert_says(
        || {
            let _ = MatMut::with_stride(&mut data, 3, 4, 2);
        },
        &[12, 3, 4, 2],
        &["matrix"],
    );
    assert_says(
        || {
            let _ = MatMut::with_stride(&mut data, 3, 1, usize::MAX / 2 + 1);
        },
        &[12, 3, 1],
        &["matrix"],
    );
}

#[test]
fn operands_that_do_not_fit_each_other() {
    let (x, mut y) = (vec![0.0f32; 1000], vec![0.0f32; 1000]);
    let mat = |rows, cols| Mat::new(&x[..rows * cols], rows, cols);
    for (a, b, c) in [
        (mat(7, 11), mat(12, 5), (7, 5)),
        (mat(7, 11), mat(11, 5), (8, 5)),
        (mat(7, 11), mat(11, 5), (7, 6)),
        (mat(11, 7), mat(11, 5), (7, 5)),
        (mat(7, 11).t(), mat(11, 5), (7, 5)),
        (mat(7, 11), mat(11, 5).t(), (7, 5)),
        (mat(7, 11), mat(11, 5), (5, 7)),
        (mat(0, 11), mat(12, 0), (0, 0)),
    ] {
        let numbers = [a.rows(), a.cols(), b.rows(), b.cols(), c.0, c.1];
        let words = ["matmul"];
        assert_says(|| matmul(a, b, MatMut::new(&mut y[..c.0 * c.1], c.0, c.1)), &numbers, &words);
        let mut packed = Packed::new(b.rows(), b.cols());
        packed.pack(b);
        assert_says(|| matmul(a, &packed, MatMut::new(&mut y[..c.0 * c.1], c.0, c.1)), &numbers, &words);
    }
    let (a, b) = (mat(7, 11), mat(11, 5));
    for len in [0, 4, 6, 7] {
        let epilogue = Epilogue { bias: Some(&x[..len]), ..Epilogue::default() };
        let c = MatMut::new(&mut y[..35], 7, 5);
        assert_says(|| matmul_with(a, b, c, epilogue), &[len, 5], &["matmul", "bias"]);
    }
    for (rows, cols) in [(7, 4), (6, 5), (8, 5), (7, 6), (5, 7)] {
        let mut pre = vec![0.0; rows * cols];
        let pre_activation = Some(MatMut::new(&mut pre, rows, cols));
        let epilogue = Epilogue { pre_activation, ..Epilogue::default() };
        let c = MatMut::new(&mut y[..35], 7, 5);
        assert_says(|| matmul_with(a, b, c, epilogue), &[rows, cols, 7, 5], &["matmul", "pre_activation"]);
    }
}

#[test]
fn operands_that_do_not_fit_what_packs_them() {
    let x = [0.0f32; 77];
    let b = Mat::new(&x, 7, 11);
    assert_says(|| Packed::new(7, 12).pack(b), &[7, 12, 11], &["pack"]);
    assert_says(|| Packed::new(8, 11).pack(b), &[7, 8, 11], &["pack"]);
    assert_says(|| Packed::new(7, 11).pack(b.t()), &[7, 11], &["pack"]);
    // The room for it wraps around to 16.
    assert_says(
        || {
            let _ = Packed::new(usize::MAX / 16 + 2, 256);
        },
        &[],
        &[],
    );
    let mut packed = Packed::new(11, 7);
    packed.pack(b.t());
}

/// Of rows or columns that are not there any distance apart is right, and no memory.
#[test]
fn strides_of_nothing() {
    let x: [f32; 12] = std::array::from_fn(|i| i as f32);
    for_each_tier(|tier| {
        for stride in [0, 8, usize::MAX] {
            // Five rows of no steps, as they are and as the transpose of columns.
            let none = Mat::with_stride(&x[..0], 5, 0, stride);
            let right = Mat::with_stride(&x[..0], 3, 0, stride).t();
            for wide in [false, true] {
                let mut c = [f32::NAN; 15];
                let right = if wide { Mat::with_stride(&x[..0], 0, 3, stride) } else { right };
                matmul(none, right, MatMut::new(&mut c, 5, 3));
                assert_eq!(c, [0.0; 15], "{tier}, {stride} apart");
            }
            // No rows or no columns of results.
            matmul(
                Mat::with_stride(&x[..0], 0, 4, stride),
                Mat::new(&x, 4, 3),
                MatMut::with_stride(&mut [], 0, 3, stride),
            );
            matmul(
                Mat::new(&x, 3, 4),
                Mat::with_stride(&x[..0], 4, 0, stride),
                MatMut::with_stride(&mut [], 3, 0, stride),
            );
            // One row has no other to be apart from.
            let mut c = [f32::NAN; 2];
            let one = MatMut::with_stride(&mut c, 1, 2, stride);
            matmul(Mat::with_stride(&x[1..4], 1, 3, stride), Mat::new(&x[..6], 3, 2), one);
            assert_eq!(c, [16.0, 22.0], "{tier}, {stride} apart");
        }
    });
}

/// The caller's line, not the kernel's.
#[test]
fn panics_point_at_the_caller() {
    use std::sync::{Arc, Mutex};
    let line = Arc::new(Mutex::new(None));
    let (seen, this) = (line.clone(), std::thread::current().id());
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().id() == this {
            *seen.lock().unwrap() = info.location().map(|l| (l.file().to_owned(), l.line()));
        } else {
            before(info);
        }
    }));
    let x = [0.0f32; 4];
    let mut c = [0.0f32; 4];
    panic_message(|| matmul(Mat::new(&x, 2, 2), Mat::new(&x, 1, 4), MatMut::new(&mut c, 2, 2)));
    let here = (file!().to_owned(), line!() - 1);
    drop(std::panic::take_hook());
    assert_eq!(*line.lock().unwrap(), Some(here));
}
