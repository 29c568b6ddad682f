//! The gradient of a batch and the exact online step against the oracle, the oracle against finite differences.

use hotlanes::activation::Activation;
use hotlanes_train::data::idx::{Data, Split};
use hotlanes_train::models::population::evolve::{Mutation, mutate};
use hotlanes_train::models::population::network::{ACTIVATIONS, Layers, Network};
use hotlanes_train::models::population::online;
use hotlanes_train::models::population::plan::Plans;
use hotlanes_train::models::population::stream::Block;
use hotlanes_train::models::population::train::{Individual, batch_gradient};
use hotlanes_train::rng::Rng;

use crate::oracle;

/// Many structural changes at once.
pub(crate) const WILD: Mutation = Mutation {
    add_connections: 30,
    remove_connections: 10,
    split: 1.0,
    remove_node: 0.3,
    activation: 1.0,
    perturb: 0.2,
    perturb_by: 0.3,
};

/// A small network that evolution has been at: skips, several levels, all activations.
pub(crate) fn evolved(seed: u64, rounds: usize) -> Network {
    let mut rng = Rng::new(seed, 0, 0, 0);
    let layers = Layers { inputs: 784, hidden: &[20, 10], outputs: 10, input_density: 0.05, density: 0.5 };
    let mut network = Network::layered(&layers, &mut rng);
    for _ in 0..rounds {
        mutate(&mut network, &WILD, &mut rng);
    }
    network
}

pub(crate) fn digits() -> Data {
    Split::procedural(60, 5, 3).unwrap().train
}

/// Within this of the largest modulus that is compared: sums in f32 over at most a few hundred terms.
const TOLERANCE: f64 = 2e-5;

fn assert_close(what: &str, ours: &[f32], exact: &[f64]) {
    let scale = exact.iter().fold(1e-3_f64, |a, x| a.max(x.abs()));
    assert_eq!(ours.len(), exact.len());
    for (i, (&a, &b)) in ours.iter().zip(exact).enumerate() {
        assert!((f64::from(a) - b).abs() <= TOLERANCE * scale, "{what}: connection {i} has {a}, exact {b}");
    }
}

#[test]
fn the_oracle_agrees_with_finite_differences() {
    let (network, data) = (evolved(1, 12), digits());
    assert!(network.levels().len() > 4, "skips made more levels: {:?}", network.levels());
    let values = oracle::values(&network);
    let (x, label) = (oracle::image(data.image(7)), data.labels[7].into());
    let gradient = oracle::gradient(&network, &values, &x, label);
    let loss = |values: &[f64]| oracle::loss(&network, &oracle::forward(&network, values, &x), label);
    let h = 1e-6;
    for k in (0..values.len()).step_by(3) {
        let mut moved = values.clone();
        moved[k] += h;
        let up = loss(&moved);
        moved[k] -= 2.0 * h;
        let slope = (up - loss(&moved)) / (2.0 * h);
        assert!((slope - gradient[k]).abs() < 1e-5, "connection {k}: {slope} against {}", gradient[k]);
    }
}

#[test]
fn a_batch_has_the_mean_of_the_oracles_gradients() {
    let data = digits();
    for (seed, rounds, batch) in [(1, 0, 32), (2, 8, 32), (3, 12, 16), (4, 5, 21), (5, 9, 1)] {
        let network = evolved(seed, rounds);
        let examples: Vec<usize> = (0..batch).collect();
        let block = Block::new(&data, &examples, batch);
        let (loss, gradient) = batch_gradient(&mut Individual::new(network.clone()), &block);
        let values = oracle::values(&network);
        let (mut exact, mut exact_loss) = (vec![0.0; values.len()], 0.0);
        for &e in &examples {
            let (x, label) = (oracle::image(data.image(e)), data.labels[e].into());
            exact_loss += oracle::loss(&network, &oracle::forward(&network, &values, &x), label);
            for (sum, g) in exact.iter_mut().zip(oracle::gradient(&network, &values, &x, label)) {
                *sum += g / batch as f64;
            }
        }
        assert_close(&format!("seed {seed}, batch {batch}"), &gradient, &exact);
        assert!((loss - exact_loss).abs() < 1e-4 * exact_loss, "{loss} against {exact_loss}");
    }
}

#[test]
fn online_learning_is_the_oracles_sgd() {
    let data = digits();
    for (seed, rounds) in [(1, 0), (2, 8), (3, 15)] {
        let network = evolved(seed, rounds);
        let (count, lr) = (20, 0.05);
        let mut individual = Individual::new(network.clone());
        online::train(&mut individual, &Block::new(&data, &(0..count).collect::<Vec<_>>(), 1), lr).unwrap();
        let mut values = oracle::values(&network);
        for e in 0..count {
            let gradient =
                oracle::gradient(&network, &values, &oracle::image(data.image(e)), data.labels[e].into());
            for (value, g) in values.iter_mut().zip(gradient) {
                *value -= lr * g;
            }
        }
        assert_close(&format!("seed {seed}"), individual.network.values(), &values);
        assert_eq!((individual.steps, individual.network.sources()), (count as u64, network.sources()));
    }
}

#[test]
fn a_split_leaves_the_function_as_it_was() {
    let data = digits();
    let x = oracle::image(data.image(0));
    let before = evolved(1, 0);
    let outputs = |n: &Network| {
        let acts = oracle::forward(n, &oracle::values(n), &x);
        acts[acts.len() - 10..].to_vec()
    };
    // Inputs, the constant and ReLU nodes are never negative.
    for slot in (0..before.connections()).step_by(17) {
        let mut after = before.clone();
        assert!(after.split_connection(slot, Activation::Relu));
        after.settle();
        after.check().unwrap();
        for (a, b) in outputs(&before).iter().zip(outputs(&after)) {
            assert!((a - b).abs() < 1e-12, "slot {slot}: {a} became {b}");
        }
    }
}

#[test]
fn plans_follow_the_network_and_keep_what_did_not_change() {
    let data = digits();
    let block = Block::new(&data, &(0..16).collect::<Vec<_>>(), 16);
    let mut network = evolved(6, 6);
    let mut plans = Plans::new(&network);
    let levels = network.levels().len() - 1;
    assert_eq!(plans.built(), levels as u64);
    network.values_mut()[3] = 7.0;
    plans.update(&network);
    assert_eq!(plans.built(), levels as u64, "new weights need no new plans");

    // A connection to an output touches the last level only.
    let output = network.rows() - 1;
    let free = (0..784).find(|&p| network.find(p, output).is_err()).unwrap();
    assert!(network.add_connection(free, output, 0.1));
    network.settle();
    plans.update(&network);
    assert_eq!(plans.built(), levels as u64 + 1);

    let mut rng = Rng::new(9, 0, 0, 0);
    for round in 0..20 {
        mutate(&mut network, &WILD, &mut rng);
        if round % 5 == 0 {
            network.set_activation(round % 3, ACTIVATIONS[round / 5]);
            network.settle();
        }
        plans.update(&network);
        let mut kept = Individual { plans: plans.clone(), ..Individual::new(network.clone()) };
        assert_eq!(
            batch_gradient(&mut kept, &block),
            batch_gradient(&mut Individual::new(network.clone()), &block)
        );
    }
}
