//! The search in a tree of sums, against a walk in `f64`, draw by draw.

use hotlanes::{LANES, sumtree};

use crate::common::{Rng, for_each_tier, panic_message};

type Node = [f32; LANES];

/// By halving, as a sum over lanes goes.
fn sum(node: &Node) -> f32 {
    let mut v = *node;
    for half in [8, 4, 2, 1] {
        for j in 0..half {
            v[j] += v[j + half];
        }
    }
    v[0]
}

/// The sum of the children `first`, `first + step` and so on, by halving.
fn part(node: &Node, first: usize, step: usize) -> f32 {
    if step == LANES { node[first] } else { part(node, first, 2 * step) + part(node, first + step, 2 * step) }
}

/// The child in which `rest` lies, and what is left of it.
fn search(node: &Node, mut rest: f64) -> (usize, f64) {
    let (mut first, mut step) = (0, 1);
    while step < LANES {
        let (whole, left) = (part(node, first, step), part(node, first, 2 * step));
        if rest >= f64::from(left) && whole > left {
            rest -= f64::from(left);
            first += step;
        }
        step *= 2;
    }
    (first, rest)
}

/// Weights of all magnitudes, with zeros.
fn nodes(rng: &mut Rng, n: usize) -> Vec<Node> {
    let mut all = vec![[0.0; LANES]; n];
    for node in &mut all {
        let (zeros, spread) = (rng.below(4), [1, 8, 40, 80][rng.below(4)]);
        for w in node.iter_mut() {
            if rng.below(4) >= zeros {
                *w = rng.unit() * 2f32.powi(-(rng.below(spread) as i32));
            }
        }
        if sum(node) == 0.0 {
            node[rng.below(16)] = 1.0;
        }
    }
    all
}

/// As two `f32`, of which the first is the nearest.
fn two(x: f64) -> (f32, f32) {
    (x as f32, (x - f64::from(x as f32)) as f32)
}

#[test]
fn a_part_is_summed_as_the_whole() {
    let mut rng = Rng::new(1);
    for node in nodes(&mut rng, 100) {
        assert_eq!(part(&node, 0, 1).to_bits(), sum(&node).to_bits());
    }
}

#[test]
fn each_sum_is_the_lanes_sum_and_goes_to_its_place() {
    let mut rng = Rng::new(2);
    let nodes = nodes(&mut rng, 100);
    for n in (0..=50).chain([200]) {
        let which: Vec<usize> = (0..n).map(|_| rng.below(100)).collect();
        let mut want = vec![[-1.0; LANES]; 7];
        which.iter().for_each(|&i| want[i / LANES][i % LANES] = sum(&nodes[i]));
        for_each_tier(|tier| {
            let mut parents = vec![[-1.0; LANES]; 7];
            sumtree::sums(&nodes, &which, &mut parents);
            assert_eq!(parents, want, "{tier}: {n}");
        });
    }
}

#[test]
fn a_number_leads_to_the_child_in_which_it_lies() {
    let mut rng = Rng::new(3);
    let nodes = nodes(&mut rng, 100);
    for n in (0..=50).chain([256, 1000]) {
        let at: Vec<usize> = (0..n).map(|_| rng.below(100)).collect();
        let mut numbers: Vec<f64> = Vec::new();
        for &i in &at {
            let whole = f64::from(sum(&nodes[i]));
            let edge = f64::from(part(&nodes[i], 0, 2));
            numbers.push(match rng.below(8) {
                // Ends and edges, and beyond the last child.
                0 => 0.0,
                1 => whole,
                2 => edge,
                3 => edge * (1.0 - 2f64.powi(-40)),
                4 => whole * (1.0 + 2f64.powi(-20)),
                _ => (rng.below(1 << 24) as f64) / 16_777_216.0 * whole,
            });
        }
        let halves: Vec<(f32, f32)> = numbers.iter().map(|&x| two(x)).collect();
        for_each_tier(|tier| {
            let (mut found, mut high, mut low) = (at.clone(), vec![0.0; n], vec![0.0; n]);
            for i in 0..n {
                (high[i], low[i]) = halves[i];
            }
            sumtree::search(&nodes, &mut found, &mut high, &mut low);
            for i in 0..n {
                let number = f64::from(halves[i].0) + f64::from(halves[i].1);
                let (child, rest) = search(&nodes[at[i]], number);
                assert_eq!(found[i], LANES * at[i] + child, "{tier}: {number} in {:?}", nodes[at[i]]);
                assert!(nodes[at[i]][child] > 0.0, "{tier}: {number} in {:?}", nodes[at[i]]);
                let got = f64::from(high[i]) + f64::from(low[i]);
                assert!(
                    (got - rest).abs() <= number * 2f64.powi(-46),
                    "{tier}: {got}, and not {rest}, of {number}"
                );
                assert!(got >= 0.0 && two(got).0.to_bits() == high[i].to_bits(), "{tier}: {got}");
            }
        });
    }
}

/// Evenly spaced numbers: the share of each child is its weight, to within the rounding of the sums.
#[test]
fn shares_are_weights_to_within_the_rounding_of_sums() {
    let mut rng = Rng::new(4);
    for node in nodes(&mut rng, 60) {
        let n = 1 << 12;
        let whole = f64::from(sum(&node));
        for_each_tier(|tier| {
            let (mut at, mut high, mut low) = (vec![0; n], vec![0.0; n], vec![0.0; n]);
            for i in 0..n {
                (high[i], low[i]) = two((i as f64 + 0.5) / n as f64 * whole);
            }
            sumtree::search(&[node], &mut at, &mut high, &mut low);
            let mut counts = [0.0; LANES];
            at.iter().for_each(|&child| counts[child] += 1.0);
            for child in 0..LANES {
                let want = f64::from(node[child]) / whole * n as f64;
                assert!((counts[child] - want).abs() <= 1.001, "{tier}: {child} of {node:?}: {want}");
            }
        });
    }
}

/// Where a child's weight is lost in a sum, numbers go to the others.
#[test]
fn what_is_beyond_goes_to_a_child_with_weight() {
    let mut node = [0.0; LANES];
    (node[0], node[8], node[9]) = (1.0, 1e-30, f32::from_bits(1));
    for number in [0.0, 0.5, 1.0, 1.5, 1e30] {
        for_each_tier(|tier| {
            let (mut at, mut high, mut low) = ([0], [number as f32], [0.0]);
            sumtree::search(&[node], &mut at, &mut high, &mut low);
            assert!(node[at[0]] > 0.0, "{tier}: {number} leads to {at:?}");
            assert!(high[0].is_finite() && low[0].is_finite(), "{tier}");
        });
    }
}

#[test]
fn a_wrong_length_and_a_node_that_is_not_there_panic() {
    let nodes = [[1.0; LANES]; 2];
    let message = panic_message(|| sumtree::search(&nodes, &mut [0; 3], &mut [0.0; 2], &mut [0.0; 3]));
    assert_eq!(message, "sumtree search: high has 2 values, at asks for 3");
    let message = panic_message(|| sumtree::search(&nodes, &mut [0; 3], &mut [0.0; 3], &mut [0.0; 4]));
    assert_eq!(message, "sumtree search: low has 4 values, at asks for 3");
    let message = panic_message(|| sumtree::search(&nodes, &mut [2], &mut [0.0], &mut [0.0]));
    assert!(message.contains("out of bounds"), "{message}");
    let message = panic_message(|| sumtree::sums(&nodes, &[2], &mut [[0.0; LANES]]));
    assert!(message.contains("out of bounds"), "{message}");
}
