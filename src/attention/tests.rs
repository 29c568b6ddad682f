//! How the work is measured and cut: what a wrong cut costs is time, which no test of results sees.

use std::ops::Range;

use super::backward::{Backward, Inputs};
use super::forward::Forward;
use super::heads::{Heads, HeadsMut, HeadsShape};
use super::tiles::{KEYS, QUERIES};
use super::{Block, Settings};
use crate::lanes::LANES;
use crate::parallel::Work;
use crate::tier::active;

/// Batches, heads of queries, heads of keys, queries, keys, values of a row.
const SHAPES: [[usize; 6]; 10] = [
    [5, 1, 1, 7, 9, 3],
    [1, 7, 7, 20, 33, 5],
    [2, 6, 2, 65, 65, 4],
    [3, 8, 4, 130, 70, 2],
    [1, 1, 1, 300, 300, 8],
    [1, 1, 1, 511, 129, 1],
    [1, 2, 1, 129, 640, 2],
    [1, 1, 1, 4, 1000, 2],
    [1, 1, 1, 100, 100, 3],
    [4, 3, 3, 16, 16, 6],
];

/// Quads that vectors of queries see of keys: each of a vector what its last one does.
fn pairs(causal: bool, queries: Range<usize>, keys: Range<usize>) -> usize {
    let first = queries.start;
    let last = |q: usize| (first + (q - first) / LANES * LANES + LANES).min(queries.end);
    queries.clone().map(|q| keys.clone().filter(|&k| !causal || k < last(q)).count()).sum()
}

struct Arrays {
    q: Vec<f32>,
    kv: Vec<f32>,
    outputs: [Vec<f32>; 3],
    lse: Vec<f32>,
}

impl Arrays {
    fn new([batch, heads, kv_heads, queries, keys, dim]: [usize; 6]) -> Self {
        let (q, kv) = (vec![0.0; batch * heads * queries * dim], vec![0.0; batch * kv_heads * keys * dim]);
        let lse = vec![0.0; batch * heads * queries];
        Arrays { outputs: [q.clone(), kv.clone(), kv.clone()], q, kv, lse }
    }
}

fn shapes([batch, heads, kv_heads, queries, keys, dim]: [usize; 6]) -> (HeadsShape, HeadsShape) {
    (HeadsShape { batch, heads, seq: queries, dim }, HeadsShape { batch, heads: kv_heads, seq: keys, dim })
}

fn settings(shape: [usize; 6], causal: bool) -> Settings {
    Settings { causal, scale: 1.0, group: shape[1] / shape[2] }
}

fn forward(arrays: &mut Arrays, shape: [usize; 6], causal: bool) -> Forward<'_> {
    let (q, kv) = shapes(shape);
    let Arrays { q: queries, kv: keys, outputs: [out, ..], lse } = arrays;
    Forward {
        active: active(),
        settings: settings(shape, causal),
        q: Heads::new(queries, q),
        k: Heads::new(keys, kv),
        v: Heads::new(keys, kv),
        first: [0; 3],
        out: HeadsMut::new(out, q).0,
        lse: Block::new(lse, q.batch * q.heads, q.seq, q.seq),
    }
}

fn backward(arrays: &mut Arrays, shape: [usize; 6], causal: bool, few_heads: bool) -> Backward<'_> {
    let (q, kv) = shapes(shape);
    let Arrays { q: queries, kv: keys, outputs: [dq, dk, dv], lse } = arrays;
    let (queries, keys) = (Heads::new(queries, q), Heads::new(keys, kv));
    Backward {
        active: active(),
        settings: settings(shape, causal),
        inputs: Inputs { dout: queries, q: queries, k: keys, v: keys, out: queries, lse },
        few_heads,
        batch: 0..q.batch,
        heads: 0..q.heads,
        queries: 0..q.seq,
        keys: 0..kv.seq,
        dq: Some(HeadsMut::new(dq, q).0),
        dkv: Some([HeadsMut::new(dk, kv).0, HeadsMut::new(dv, kv).0]),
    }
}

/// Cuts as far as it goes. `cut` sees each work and its halves by what `about` says of them, `leaf` what is cut no more.
fn leaves<W: Work, A>(
    work: W,
    about: &impl Fn(&W) -> A,
    cut: &mut impl FnMut(&A, [&A; 2]),
    leaf: &mut impl FnMut(W),
) {
    let whole = about(&work);
    match work.split() {
        Ok((a, b)) => {
            cut(&whole, [&about(&a), &about(&b)]);
            leaves(a, about, cut, leaf);
            leaves(b, about, cut, leaf);
        }
        Err(work) => leaf(work),
    }
}

/// Halves of a length that is cut at multiples of `unit`.
fn halves([a, b]: [usize; 2], unit: usize) -> bool {
    a > 0 && b > 0 && a.abs_diff(b) <= 2 * unit && (a.is_multiple_of(unit) || unit == 1)
}

#[test]
fn the_forward_is_cut_near_the_middle_to_single_heads_and_their_queries() {
    for (shape, causal) in SHAPES.into_iter().flat_map(|s| [(s, false), (s, true)]) {
        let [batch, heads, _, queries, keys, dim] = shape;
        let mut arrays = Arrays::new(shape);
        let mut seen = vec![0; batch * heads * queries];
        let work = forward(&mut arrays, shape, causal);
        assert_eq!(work.size(), 2 * batch * heads * dim * pairs(causal, 0..queries, 0..keys), "{shape:?}");
        let mut cut = |whole: &[usize; 3], parts: [&[usize; 3]; 2]| {
            let axis = (0..3).find(|&a| parts[0][a] != whole[a]).unwrap();
            assert_eq!(axis, (0..2).find(|&a| whole[a] > 1).unwrap_or(2), "{whole:?}");
            assert!(axis < 2 || whole[2] >= 2 * QUERIES, "{whole:?}: too short to be cut");
            assert!(
                halves(parts.map(|p| p[axis]), if axis < 2 { 1 } else { QUERIES }),
                "{whole:?}: {parts:?}"
            );
        };
        let mut leaf = |mut work: Forward<'_>| {
            let part = work.out.shape();
            assert!(part[0] == 1 && part[1] == 1 && part[2] < 2 * QUERIES, "{shape:?}: {part:?}");
            let [b, h, first] = work.first;
            let these = first..first + part[2];
            assert_eq!(work.size(), 2 * dim * pairs(causal, these.clone(), 0..keys), "{shape:?}");
            assert_eq!((work.lse.rows(), work.lse.cols()), (1, part[2]));
            these.for_each(|q| seen[(b * heads + h) * queries + q] += 1);
            // The outputs are those of its place.
            work.lse.row(0).fill(1.0);
            work.out.head(0, 0).row(0)[0] = 1.0;
        };
        leaves(work, &|w| w.out.shape(), &mut cut, &mut leaf);
        assert!(seen.iter().all(|&n| n == 1), "{shape:?}: each query once");
        assert!(arrays.lse.iter().all(|&x| x == 1.0));
    }
}

#[test]
fn the_backward_is_cut_near_the_middle_and_heads_only_where_they_are_few() {
    let cases = SHAPES.into_iter().flat_map(|s| [false, true].map(|c| (s, c)));
    for ((shape, causal), few_heads) in cases.flat_map(|c| [(c, false), (c, true)]) {
        let [batch, heads, kv_heads, queries, keys, dim] = shape;
        let group = heads / kv_heads;
        let mut arrays = Arrays::new(shape);
        let (mut of_queries, mut of_keys) =
            (vec![0; batch * heads * queries], vec![0; batch * kv_heads * keys]);
        let work = backward(&mut arrays, shape, causal, few_heads);
        let size = |w: &Backward<'_>| {
            // The scores and the weights' gradients; dq; dk and dv.
            let products = 2 + usize::from(w.dq.is_some()) + 2 * usize::from(w.dkv.is_some());
            w.batch.len() * w.heads.len() * dim * products * pairs(causal, w.queries.clone(), w.keys.clone())
        };
        assert_eq!(work.size(), 5 * batch * heads * dim * pairs(causal, 0..queries, 0..keys));
        let about = |w: &Backward<'_>| {
            assert_eq!(w.size(), size(w), "{shape:?}");
            let lens = [w.batch.len(), w.heads.len(), w.queries.len(), w.keys.len()];
            // What it writes is what it is told to.
            if let Some(dq) = &w.dq {
                assert_eq!(dq.shape(), [lens[0], lens[1], lens[2]], "{shape:?}");
            }
            for block in w.dkv.iter().flatten() {
                assert_eq!(block.shape(), [lens[0], lens[1] / group, lens[3]], "{shape:?}");
            }
            (lens, w.dq.is_some(), w.dkv.is_some())
        };
        let mut cut = |whole: &([usize; 4], bool, bool), parts: [&([usize; 4], bool, bool); 2]| {
            let (lens, dq, dkv) = *whole;
            let unit = if dkv { group } else { 1 };
            let lens_of = parts.map(|p| p.0);
            match (0..4).find(|&a| lens_of[0][a] != lens[a]) {
                Some(axis) => {
                    let first = if lens[0] > 1 {
                        0
                    } else if lens[1] > unit {
                        1
                    } else {
                        axis.max(2)
                    };
                    assert_eq!(axis, first, "{shape:?}: {lens:?}");
                    assert!(axis < 2 || few_heads, "{shape:?}: {lens:?}");
                    let unit = [1, unit, QUERIES, KEYS][axis];
                    assert!(lens[axis] >= 2 * unit, "{shape:?}: {lens:?}: too short to be cut");
                    assert!(halves(lens_of.map(|l| l[axis]), unit), "{shape:?}: {lens_of:?}");
                }
                // One gradient each.
                None => {
                    assert!(dq && dkv && few_heads && lens[0] == 1 && lens[1] == unit, "{shape:?}: {lens:?}");
                    assert_eq!(parts.map(|p| (p.1, p.2)), [(true, false), (false, true)]);
                }
            }
        };
        let mut leaf = |w: Backward<'_>| {
            let unit = if w.dkv.is_some() { group } else { 1 };
            assert!(w.batch.len() == 1 && w.heads.len() == unit, "{shape:?}");
            let long = w.dkv.is_none() && w.queries.len() >= 2 * QUERIES
                || w.dq.is_none() && w.keys.len() >= 2 * KEYS
                || few_heads && w.dq.is_some() && w.dkv.is_some();
            assert!(!long, "{shape:?}: {:?} {:?}", w.queries, w.keys);
            let (b, h) = (w.batch.start, w.heads.clone());
            if w.dq.is_some() {
                let places =
                    h.clone().flat_map(|h| w.queries.clone().map(move |q| (b * heads + h) * queries + q));
                places.for_each(|at| of_queries[at] += 1);
            }
            if w.dkv.is_some() {
                w.keys.clone().for_each(|k| of_keys[(b * kv_heads + h.start / group) * keys + k] += 1);
            }
            // The keys of a part of the queries are all of them, and the other way round.
            assert!(w.dq.is_none() || w.keys == (0..keys), "{shape:?}");
            assert!(w.dkv.is_none() || w.queries == (0..queries), "{shape:?}");
        };
        leaves(work, &about, &mut cut, &mut leaf);
        assert!(of_queries.iter().chain(&of_keys).all(|&n| n == 1), "{shape:?}: each row once");
    }
}
