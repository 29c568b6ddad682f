//! What holds of every network and every generation, whatever the random numbers.

use std::collections::{HashMap, HashSet};

use hotlanes::activation::Activation;
use hotlanes_train::models::population::evolve::{Evolution, Mutation, Selection, crossover, mutate};
use hotlanes_train::models::population::network::{
    ACTIVATIONS, ConnectionId, Layers, Network, NetworkError, Node, NodeId, Parts,
};
use hotlanes_train::rng::Rng;
use proptest::prelude::*;

fn small(rng: &mut Rng) -> Network {
    Network::layered(
        &Layers { inputs: 30, hidden: &[8, 5], outputs: 3, input_density: 0.2, density: 0.5 },
        rng,
    )
}

/// What `check` states, and that levels are right: every source of a row lies in a lower level.
fn assert_settled(network: &Network) {
    network.check().unwrap();
    let levels = network.levels();
    assert_eq!((levels.first(), levels.last()), (Some(&0), Some(&network.rows())));
    assert!(levels.windows(2).all(|p| p[0] < p[1]), "{levels:?}");
    for bounds in levels.windows(2) {
        let below = network.first_row() + bounds[0];
        let slots = network.indptr()[bounds[0]]..network.indptr()[bounds[1]];
        assert!(network.sources()[slots].iter().all(|&s| usize::from(s) < below));
    }
    assert_eq!(ids(network).len(), network.connections(), "every connection has a name of its own");
}

fn ids(network: &Network) -> HashMap<ConnectionId, f32> {
    (0..network.connections()).map(|slot| (network.connection_id(slot), network.values()[slot])).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn edits_keep_a_topological_order(seed in any::<u64>(), edits in 1_usize..60) {
        let mut rng = Rng::new(seed, 0, 0, 0);
        let mut network = small(&mut rng);
        for _ in 0..edits {
            let before = ids(&network);
            match rng.below(6) {
                0 | 1 => {
                    let (from, row) = (rng.below(network.positions()), rng.below(network.rows()));
                    let added = network.add_connection(from, row, 0.5);
                    prop_assert_eq!(network.connections(), before.len() + usize::from(added));
                }
                2 if network.connections() > 0 => {
                    let slot = rng.below(network.connections());
                    let id = network.connection_id(slot);
                    network.remove_connection(slot);
                    let mut expected = before;
                    expected.remove(&id);
                    prop_assert_eq!(ids(&network), expected);
                }
                3 if network.connections() > 0 => {
                    let slot = rng.below(network.connections());
                    let (id, rows) = (network.connection_id(slot), network.rows());
                    network.split_connection(slot, ACTIVATIONS[rng.below(4)]);
                    prop_assert_eq!((network.rows(), network.connections()), (rows + 1, before.len() + 1));
                    let after = ids(&network);
                    prop_assert!(!after.contains_key(&id));
                    let lost = before.keys().filter(|id| !after.contains_key(id)).count();
                    prop_assert_eq!(lost, 1, "all others keep their names");
                }
                4 if network.rows() > network.outputs() => {
                    let row = rng.below(network.rows() - network.outputs());
                    let id = network.nodes()[row].id;
                    network.remove_node(row);
                    let mut expected = before;
                    expected.retain(|c, _| c.from != id && c.to != id);
                    prop_assert_eq!(ids(&network), expected);
                }
                _ => {
                    let before = ids(&network);
                    network.settle();
                    prop_assert_eq!(ids(&network), before, "settling moves, and changes nothing");
                    assert_settled(&network);
                }
            }
            prop_assert_eq!(network.check(), Ok(()));
        }
        network.settle();
        assert_settled(&network);
        let settled = network.clone();
        network.settle();
        prop_assert_eq!(network, settled, "what is settled stays");
    }

    #[test]
    fn a_child_has_the_fitters_structure_and_weights_of_either(seed in any::<u64>(), rounds in 0_usize..8) {
        let mut rng = Rng::new(seed, 0, 0, 0);
        let ancestor = small(&mut rng);
        let rates = Mutation { add_connections: 4, remove_connections: 4, split: 0.7, perturb: 0.5, ..Evolution::default().mutation };
        let mut line = |rounds| {
            let mut network = ancestor.clone();
            (0..rounds).for_each(|_| mutate(&mut network, &rates, &mut rng));
            network
        };
        let (fitter, other) = (line(rounds), line(rounds + 1));
        let child = crossover(&fitter, &other, &mut rng);
        assert_settled(&child);
        prop_assert_eq!(child.nodes(), fitter.nodes());
        prop_assert_eq!(child.sources(), fitter.sources());
        prop_assert_eq!(child.indptr(), fitter.indptr());
        let (a, b) = (ids(&fitter), ids(&other));
        for (id, value) in ids(&child) {
            let theirs = b.get(&id).map(|v| v.to_bits());
            prop_assert!(value.to_bits() == a[&id].to_bits() || Some(value.to_bits()) == theirs);
        }
    }

    #[test]
    fn mutations_are_repeatable_and_settled(seed in any::<u64>()) {
        let network = small(&mut Rng::new(seed, 0, 0, 0));
        let mutant = |stream| {
            let mut mutant = network.clone();
            mutate(&mut mutant, &Evolution::default().mutation, &mut Rng::new(seed, 1, 0, stream));
            assert_settled(&mutant);
            mutant
        };
        prop_assert_eq!(mutant(1), mutant(1));
        prop_assert_ne!(mutant(1), mutant(2));
    }

    #[test]
    fn the_worst_go_the_elite_stays(seed in any::<u64>(), n in 1_usize..60, cull in 0.0..0.99_f64, elites in 1_usize..70) {
        let mut ranking: Vec<usize> = (0..n).collect();
        let mut rng = Rng::new(seed, 0, 0, 0);
        rng.shuffle(&mut ranking);
        for selection in [Selection::Tournament(3), Selection::Truncation(0.3)] {
            let evolution = Evolution { selection, cull, elites, crossover: 0.5, ..Evolution::default() };
            evolution.check().unwrap();
            let births = evolution.births(&ranking, &mut rng);
            let culled = ((n as f64 * cull) as usize).min(n - elites.min(n));
            let gone: HashSet<usize> = ranking[n - culled..].iter().copied().collect();
            prop_assert_eq!(births.iter().map(|b| b.place).collect::<HashSet<_>>(), gone.clone());
            let rank = |i: usize| ranking.iter().position(|&r| r == i).unwrap();
            for birth in births {
                prop_assert!(!gone.contains(&birth.fitter));
                if let Some(other) = birth.other {
                    prop_assert!(!gone.contains(&other) && rank(other) > rank(birth.fitter));
                }
            }
        }
    }
}

#[test]
fn selection_prefers_the_better() {
    let ranking: Vec<usize> = (0..100).collect();
    let mean = |selection| {
        let evolution = Evolution { selection, cull: 0.5, crossover: 0.0, ..Evolution::default() };
        let births = evolution.births(&ranking, &mut Rng::new(1, 0, 0, 0));
        births.iter().map(|b| b.fitter as f64).sum::<f64>() / births.len() as f64
    };
    let (drift, tournament) = (mean(Selection::Tournament(1)), mean(Selection::Tournament(4)));
    assert!(tournament < 0.7 * drift, "{tournament} against {drift}");
    assert!(mean(Selection::Truncation(0.1)) < 10.0);
}

#[test]
fn the_same_split_has_the_same_name_everywhere_and_never_twice_in_one() {
    let first = small(&mut Rng::new(1, 0, 0, 0));
    let mut second = first.clone();
    second.remove_connection(second.connections() - 1);
    second.split_connection(40, Activation::Relu);
    let slot = 5;
    let id = first.connection_id(slot);
    let new_node = |network: &Network| {
        let mut after = network.clone();
        let slot = (0..network.connections()).find(|&s| network.connection_id(s) == id).unwrap();
        after.split_connection(slot, Activation::Relu);
        let name = after.nodes().iter().find(|n| network.nodes().iter().all(|m| m.id != n.id)).unwrap().id;
        (name, after)
    };
    let ((name, mut after), (other_name, _)) = (new_node(&first), new_node(&second));
    assert_eq!(name, other_name);
    // The same connection again, split again: another node.
    let row = after.nodes().iter().position(|n| n.id == id.to).unwrap();
    let from = (0..after.positions()).find(|&p| after.id(p) == id.from).unwrap();
    assert!(after.add_connection(from, row, 1.0));
    let (again, after) = new_node(&after);
    assert_ne!(again, name);
    after.check().unwrap();
}

#[test]
fn parts_that_make_no_network_are_refused_with_the_rule() {
    let node = |id, activation| Node { id: NodeId(id), activation };
    let parts = || Parts {
        inputs: 2,
        outputs: 1,
        nodes: vec![node(3, Activation::Relu), node(4, Activation::Identity)],
        indptr: vec![0, 2, 4],
        sources: vec![0, 2, 1, 3],
        values: vec![0.5; 4],
        m: vec![0.0; 4],
        v: vec![0.0; 4],
    };
    assert_eq!(Network::from_parts(parts()).unwrap().connections(), 4);
    let refused = |change: &dyn Fn(&mut Parts)| {
        let mut p = parts();
        change(&mut p);
        Network::from_parts(p).unwrap_err()
    };
    assert_eq!(refused(&|p| p.sources[1] = 3), NetworkError::Source { row: 0, source_position: 3, bound: 3 });
    assert_eq!(refused(&|p| p.sources[3] = 4), NetworkError::Source { row: 1, source_position: 4, bound: 4 });
    assert_eq!(refused(&|p| p.sources[1] = 0), NetworkError::Order { row: 0, source_position: 0, before: 0 });
    assert_eq!(refused(&|p| p.nodes[1].id = NodeId(3)), NetworkError::Name { row: 1, id: 3 });
    assert_eq!(refused(&|p| p.nodes[0].id = NodeId(1)), NetworkError::Name { row: 0, id: 1 });
    assert_eq!(
        refused(&|p| p.nodes[1].activation = Activation::Relu),
        NetworkError::Activation { row: 1, name: "relu" }
    );
    assert_eq!(
        refused(&|p| p.nodes[0].activation = Activation::Silu),
        NetworkError::Activation { row: 0, name: "silu" }
    );
    assert_eq!(refused(&|p| p.outputs = 3), NetworkError::Size { inputs: 2, outputs: 3, rows: 2 });
    assert_eq!(refused(&|p| p.indptr[1] = 9), NetworkError::Indptr { entries: 3, rows: 2, connections: 4 });
    let length = NetworkError::Length { what: "m", len: 3, connections: 4 };
    assert_eq!(refused(&|p| p.m.truncate(3)), length);
    assert_eq!(length.to_string(), "m has 3 values: 4 connections ask for as many");
}

#[test]
fn settings_out_of_range_are_named() {
    let told = |change: &dyn Fn(&mut Evolution)| {
        let mut evolution = Evolution::default();
        change(&mut evolution);
        evolution.check().unwrap_err().to_string()
    };
    assert!(told(&|e| e.cull = 1.0).starts_with("cull = 1: must be at least 0 and below 1"));
    assert!(told(&|e| e.elites = 0).starts_with("elites = 0: "));
    assert!(told(&|e| e.crossover = f64::NAN).starts_with("crossover = NaN: "));
    assert!(told(&|e| e.mutation.perturb_by = -1.0).starts_with("perturb-by = -1: "));
    assert!(told(&|e| e.selection = Selection::Truncation(1.5)).starts_with("truncation = 1.5: "));
    assert_eq!("tournament:4".parse(), Ok(Selection::Tournament(4)));
    assert_eq!("truncation:0.25".parse(), Ok(Selection::Truncation(0.25)));
    for wrong in ["tournament:0", "truncation:0", "truncation:2", "roulette", "tournament", ""] {
        assert!(wrong.parse::<Selection>().unwrap_err().contains(&format!("{wrong:?}")));
    }
}
