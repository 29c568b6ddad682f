//! A network in f64, one example at a time: short and obviously right.

use hotlanes::activation::Activation;
use hotlanes_train::models::population::network::Network;

/// What the nodes give on, by position.
pub(crate) fn forward(network: &Network, values: &[f64], x: &[f64]) -> Vec<f64> {
    let mut acts = x.to_vec();
    acts.push(1.0);
    for row in 0..network.rows() {
        let slots = network.indptr()[row]..network.indptr()[row + 1];
        let sum: f64 = slots.map(|k| values[k] * acts[usize::from(network.sources()[k])]).sum();
        acts.push(match network.nodes()[row].activation {
            Activation::Relu => sum.max(0.0),
            Activation::Sigmoid => 1.0 / (1.0 + (-sum).exp()),
            Activation::Tanh => sum.tanh(),
            Activation::Identity => sum,
            other => panic!("no node has {other:?}"),
        });
    }
    acts
}

/// Softmax cross-entropy.
pub(crate) fn loss(network: &Network, acts: &[f64], label: usize) -> f64 {
    let logits = &acts[acts.len() - network.outputs()..];
    let max = logits.iter().copied().fold(f64::MIN, f64::max);
    logits.iter().map(|l| (l - max).exp()).sum::<f64>().ln() + max - logits[label]
}

/// The gradient of the loss for every connection.
pub(crate) fn gradient(network: &Network, values: &[f64], x: &[f64], label: usize) -> Vec<f64> {
    let acts = forward(network, values, x);
    let first = acts.len() - network.outputs();
    let max = acts[first..].iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = acts[first..].iter().map(|l| (l - max).exp()).sum();
    let mut grads = vec![0.0; acts.len()];
    for (c, grad) in grads[first..].iter_mut().enumerate() {
        *grad = (acts[first + c] - max).exp() / sum - f64::from(u8::from(c == label));
    }
    let mut dvalues = vec![0.0; values.len()];
    for row in (0..network.rows()).rev() {
        let position = network.first_row() + row;
        let y = acts[position];
        let slope = match network.nodes()[row].activation {
            Activation::Relu => f64::from(u8::from(y > 0.0)),
            Activation::Sigmoid => y * (1.0 - y),
            Activation::Tanh => 1.0 - y * y,
            _ => 1.0,
        };
        let delta = grads[position] * slope;
        for k in network.indptr()[row]..network.indptr()[row + 1] {
            let source = usize::from(network.sources()[k]);
            dvalues[k] = delta * acts[source];
            grads[source] += delta * values[k];
        }
    }
    dvalues
}

/// An image as the trainer reads it.
pub(crate) fn image(pixels: &[u8]) -> Vec<f64> {
    pixels.iter().map(|&p| f64::from(p) / 255.0).collect()
}

/// The weights in f64.
pub(crate) fn values(network: &Network) -> Vec<f64> {
    network.values().iter().map(|&v| v.into()).collect()
}
