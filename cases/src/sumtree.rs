//! Nodes of a tree of sums.

use hotlanes::naive::sumtree as naive;
use hotlanes::{LANES, sumtree};

use crate::memory::{Buf, Memory, mix};
use crate::run::{Output, Run, Work, instance, pick};
use crate::sizes::{dims, label, lengths, product};
use crate::{Bits, Case, Counted, Threads, Timed};

pub(crate) const CASES: &[Case] = &[
    SUMS,
    Case {
        id: "sumtree_search",
        covers: &["sumtree::search"],
        kernel: "hotlanes::sumtree::kernel::Search",
        build: search,
        counted: Counted::At { sizes: [&[256], &[512]], elements: product, element: "number" },
        ..SUMS
    },
];

const SUMS: Case = Case {
    id: "sumtree_sums",
    covers: &["sumtree::sums"],
    kernel: "hotlanes::sumtree::kernel::Sums",
    build: sums,
    label,
    bits: Bits::At { sizes: lengths, random: &[(0, 100)] },
    threads: Threads::Never("a batch of draws is some hundred"),
    same_as: None,
    counted: Counted::At { sizes: [&[256], &[512]], elements: product, element: "node" },
    timed: Timed::At { report: &[&[256]], full: &[&[4096]], bench: &[] },
    twin: true,
    gather: true,
    forced: true,
    scalar_stepped: true,
};

/// Nodes of the level, whatever the size.
const NODES: usize = 256;

/// Nodes in no order; number `i` does not depend on `n`.
fn some(n: usize) -> Vec<usize> {
    (0..n as u32).map(|i| mix(i) as usize % NODES).collect()
}

fn sums(size: &[usize], m: &Memory) -> Box<dyn Run> {
    let [n] = dims(size);
    instance(
        (m.positive(LANES * NODES, 1), m.copy(&some(n)), m.copy(&[0.0; NODES])),
        Work::sweep(4 * LANES * n, 4 * n, 15.0 * n as f64),
        |(nodes, which, parents): &mut (Buf, Buf<usize>, Buf)| {
            sumtree::sums(nodes.as_chunks().0, which, parents.as_chunks_mut().0);
        },
        |(nodes, which, parents), how| {
            pick!(how, naive::sumtree_sums, naive::sumtree_sums_auto)(nodes, which, parents);
        },
        |(_, _, parents)| vec![Output::new("parents", parents, 0.0)],
    )
}

/// The nodes at the places of their first children: a run that is repeated begins where the first did.
fn enter(from: &[usize], at: &mut [usize]) {
    for (at, from) in at.iter_mut().zip(from) {
        *at = from / LANES;
    }
}

fn search(size: &[usize], m: &Memory) -> Box<dyn Run> {
    let [n] = dims(size);
    let nodes = m.positive(LANES * NODES, 1);
    let at = some(n);
    // Random numbers below the sum of the node; of one that is not finite, some number.
    let from: Vec<usize> = at.iter().map(|&node| LANES * node).collect();
    let numbers: Vec<f64> = (0..n)
        .map(|i| {
            let sum: f64 = nodes[LANES * at[i]..][..LANES].iter().map(|&w| f64::from(w)).sum();
            let sum = if sum.is_finite() { sum } else { 1.0 };
            f64::from(mix(i as u32 ^ 0x5A5A_0000)) / 4_294_967_296.0 * sum
        })
        .collect();
    let high: Vec<f32> = numbers.iter().map(|&x| x as f32).collect();
    let low: Vec<f32> = numbers.iter().zip(&high).map(|(x, &high)| (x - f64::from(high)) as f32).collect();
    instance(
        (nodes, m.copy(&from), m.output(n), m.copy(&high), m.copy(&low)),
        Work::sweep((4 * LANES + 16) * n, 16 * n, 0.0),
        |(nodes, from, at, high, low): &mut (Buf, Buf<usize>, Buf<usize>, Buf, Buf)| {
            enter(from, at);
            sumtree::search(nodes.as_chunks().0, at, high, low);
        },
        |(nodes, from, at, high, low), how| {
            enter(from, at);
            pick!(how, naive::sumtree_search, naive::sumtree_search_auto)(nodes, at, high, low);
        },
        |(_, _, at, high, low)| {
            vec![
                Output::rows("at", at, 0.0),
                Output::rows("high", high, 1e-6),
                Output::rows("low", low, 1e-6),
            ]
        },
    )
}
