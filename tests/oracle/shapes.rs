//! Shapes at both ends: nothing, and more than a usize can count.

use hotlanes::attention::{Attention, Heads, HeadsMut, HeadsShape, Strides};
use hotlanes::cross_entropy::{CrossEntropy, Reduction};
use hotlanes::embedding::{EmbeddingIndices, EmbeddingPlan};
use hotlanes::matmul::{Epilogue, Mat, MatMut, Packed, matmul_with};
use hotlanes::muon::{Muon, MuonConfig, MuonTensor};
use hotlanes::norm::{LayerNorm, RmsNorm};
use hotlanes::softmax::softmax;
use hotlanes::sparse::Csr;

use crate::common::{for_each_tier, panic_message};

const MAX: usize = usize::MAX;

/// A size that no usize can say is refused, with the kernel's name and the larger number.
pub(crate) fn assert_does_not_wrap(
    kernel: &str,
    size: &dyn Fn(usize, usize) -> usize,
    sizes: &[(usize, usize)],
) {
    for &(a, b) in sizes {
        // 2^40 is no usize of 32 bits: then it is 0, which is no feature.
        if a == 0 {
            continue;
        }
        let message = panic_message(|| {
            size(a, b);
        });
        let told = if kernel == "linear cross entropy" { a } else { a.max(b) };
        assert!(
            message.starts_with(kernel) && message.contains(&told.to_string()),
            "{kernel} {a} {b}: {message}"
        );
        assert!(message.ends_with("a usize can say"), "{message}");
    }
}

#[test]
fn sizes_of_scratch_do_not_wrap() {
    let muon = Muon::new(MuonConfig::default()).unwrap();
    let layer = |features, rows| LayerNorm::new(features, 1e-5).unwrap().scratch_len(rows);
    let rms = |features, rows| RmsNorm::new(features, 1e-5).unwrap().scratch_len(rows);
    let linear = |classes, _| CrossEntropy::new(classes, 0.0, None).unwrap().linear_scratch_len();
    let packed = |rows, cols| Packed::new(rows, cols).rows();
    let half = 1 << (usize::BITS / 2);
    // What these gave before was 0, or less than is needed.
    let of_muon = |r, c| muon.scratch_len(r, c);
    assert_does_not_wrap("muon", &of_muon, &[(half * 2, half * 2), (half, half), (1, MAX), (MAX, MAX)]);
    let wide = [(1 << 40, 1 << 40), (MAX, 129), (half * 16, half * 8), (64, MAX)];
    assert_does_not_wrap("layernorm", &layer, &wide);
    assert_does_not_wrap("rmsnorm", &rms, &[(1 << 40, 1 << 40), (MAX, 129), (1 << 7, MAX)]);
    assert_does_not_wrap("linear cross entropy", &linear, &[(MAX, 0), (MAX / 128 + 1, 0)]);
    assert_does_not_wrap("packed", &packed, &[(MAX, MAX), (half, half), (MAX, 1), (MAX / 16 + 1, 1)]);
    assert_eq!((muon.scratch_len(0, MAX), muon.scratch_len(3, 2)), (0, 20));
    assert_eq!((layer(MAX, 128), layer(5, 129), rms(5, 129)), (0, 20, 10));
    assert_eq!(linear(MAX / 128, 0), MAX / 128 * 128);
    assert_eq!(Packed::new(0, MAX).cols(), MAX);
}

/// Without values there is nothing to do, however many rows of nothing there are.
#[test]
fn shapes_without_values() {
    for_each_tier(|_| {
        let muon = Muon::new(MuonConfig::default()).unwrap();
        for (rows, cols) in [(0, MAX), (MAX, 0), (0, 0)] {
            muon.update(MuonTensor { rows, cols, param: &mut [], grad: &[], buffer: &mut [] }, &mut []);
        }
        for (m, k, n) in [(0, 0, 0), (MAX, 0, 0), (0, MAX, 0), (0, 0, MAX), (MAX, 0, 0)] {
            let c = MatMut::new(&mut [], m, n);
            matmul_with(Mat::new(&[0f32; 0], m, k), Mat::new(&[], k, n), c, Epilogue::default());
        }
        let mut c = [1.0, 2.0];
        matmul_with(
            Mat::new(&[0f32; 0], 1, 0),
            Mat::new(&[], 0, 2),
            MatMut::new(&mut c, 1, 2),
            Epilogue::default(),
        );
        assert_eq!(c, [0.0; 2]);

        let empty = Csr::<u32>::new(0, 0, vec![0], vec![], vec![]).unwrap();
        let plan = empty.plan();
        empty.matmul(&[], MAX, &mut []);
        plan.matmul_backward(&empty, &[], &[], MAX, Some(&mut []), Some(&mut []));

        let none = EmbeddingIndices::new(&[], 0).unwrap();
        none.forward(&[], MAX, &mut []);
        EmbeddingPlan::new(&none).backward(&[], MAX, &mut []);
        assert!(EmbeddingIndices::new(&[0], 0).is_err());

        softmax(&[], MAX, &mut []);
        let norm = LayerNorm::new(1, 1e-5).unwrap();
        norm.forward(&[], &[1.0], &[1.0], &mut [], &mut [], &mut []);
        let ce = CrossEntropy::new(MAX, 0.1, None).unwrap();
        assert_eq!(ce.forward(&[], &[], Reduction::Sum, &mut []), Ok(0.0));
    });
}

/// Heads one after the other; there is one batch with values.
fn strides(shape: HeadsShape) -> Strides {
    Strides { batch: 0, head: 2 * shape.seq.min(3), seq: 2 }
}

fn writable(x: &mut [f32], shape: HeadsShape) -> HeadsMut<'_> {
    HeadsMut::with_strides(x, shape, strides(shape))
}

#[test]
fn heads_without_queries_or_keys() {
    let shape = |batch, heads, seq| HeadsShape { batch, heads, seq, dim: 2 };
    for_each_tier(|tier| {
        let attention = Attention::new(2, true).unwrap();
        // Queries of nothing, in any number of batches and heads; keys of nothing, and then keys of two heads.
        let many = 1 << (usize::BITS / 2);
        for (queries, keys) in [
            (shape(many, many, 0), shape(many, many, 0)),
            (shape(0, MAX, MAX), shape(0, MAX, 3)),
            (shape(MAX, 0, MAX), shape(MAX, 0, MAX)),
            (shape(1, MAX - 1, 0), shape(1, 2, 3)),
            (shape(1, 2, 3), shape(1, 1, 0)),
        ] {
            let len = |s: HeadsShape| {
                if s.seq.min(10).min(s.batch).min(s.heads) == 0 { 0 } else { s.batch * s.heads * s.seq * 2 }
            };
            let (q, k) = (vec![1.0; len(queries)], vec![1.0; len(keys)]);
            let read = |x, s| Heads::with_strides(x, s, strides(s));
            let (mut out, mut lse) = (vec![9.0; q.len()], vec![9.0; q.len() / 2]);
            let (mut dq, mut dk, mut dv) = (vec![9.0; q.len()], vec![9.0; k.len()], vec![9.0; k.len()]);
            attention.forward(
                read(&q, queries),
                read(&k, keys),
                read(&k, keys),
                writable(&mut out, queries),
                &mut lse,
            );
            attention.backward(
                read(&q, queries),
                read(&q, queries),
                read(&k, keys),
                read(&k, keys),
                read(&out, queries),
                &lse,
                writable(&mut dq, queries),
                writable(&mut dk, keys),
                writable(&mut dv, keys),
            );
            for x in [out, dq, dk, dv] {
                assert!(x.iter().all(|x| *x == 0.0), "{tier} {queries:?} {keys:?}: {x:?}");
            }
        }
        // Rows without values, a usize apart.
        let apart = Strides { batch: MAX, head: MAX, seq: MAX };
        let rows = HeadsMut::with_strides(&mut [], HeadsShape { batch: 2, heads: 2, seq: 2, dim: 0 }, apart);
        assert_eq!(rows.shape().dim, 0);
    });
}
