//! Evolution: who is culled, who breeds, crossover by connection name, and mutations.
//!
//! Nothing here depends on threads: who replaces whom is drawn once for the population, and each child has a stream of
//! random numbers of its own, named after the generation and the place that it takes.

use hotlanes::activation::Activation;
use serde::{Deserialize, Serialize};

use super::network::{ACTIVATIONS, Network};
use crate::rng::Rng;
use crate::shell::settings::{self, SettingError, number};

/// How parents are chosen among those that are not culled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Selection {
    /// The best of this many, drawn at random.
    Tournament(usize),
    /// One of this share of the population, the best, each as likely as the next.
    Truncation(f64),
}

impl std::str::FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?}: must be tournament:N with N at least 1, or truncation:SHARE with a share above 0, at most 1"
            )
        };
        match text.split_once(':') {
            Some(("tournament", n)) => {
                n.parse().ok().filter(|&n| n > 0).map(Selection::Tournament).ok_or_else(wrong)
            }
            Some(("truncation", share)) => {
                let share = share.parse().ok().filter(|&s| s > 0.0 && s <= 1.0);
                share.map(Selection::Truncation).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}

impl std::fmt::Display for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Selection::Tournament(n) => write!(f, "tournament:{n}"),
            Selection::Truncation(share) => write!(f, "truncation:{share}"),
        }
    }
}

/// How a population changes between generations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evolution {
    /// How parents are chosen.
    pub selection: Selection,
    /// The share of the population, the worst, that children replace.
    pub cull: f64,
    /// At least this many of the best are never replaced.
    pub elites: usize,
    /// The probability that a child has two parents.
    pub crossover: f64,
    /// What happens to a child.
    pub mutation: Mutation,
}

/// The mutations of one child.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mutation {
    /// Connections to add.
    pub add_connections: usize,
    /// Connections to remove.
    pub remove_connections: usize,
    /// The probability that a connection is split by a new node.
    pub split: f64,
    /// The probability that a hidden node is removed.
    pub remove_node: f64,
    /// The probability that a hidden node changes its activation.
    pub activation: f64,
    /// The share of the weights that is perturbed.
    pub perturb: f64,
    /// The standard deviation of a perturbation.
    pub perturb_by: f32,
}

impl Default for Evolution {
    fn default() -> Self {
        let mutation = Mutation {
            add_connections: 20,
            remove_connections: 20,
            split: 0.5,
            remove_node: 0.1,
            activation: 0.2,
            perturb: 0.01,
            perturb_by: 0.05,
        };
        Evolution { selection: Selection::Tournament(3), cull: 0.2, elites: 10, crossover: 0.2, mutation }
    }
}

/// Individuals of a tournament, and a child's new or lost connections: each costs time.
const MOST_DRAWN: u64 = 1 << 16;
const MOST_CHANGES: u64 = 1 << 20;

impl Evolution {
    /// Checks the values.
    ///
    /// # Errors
    /// Names the first one that is out of range.
    pub fn check(&self) -> Result<(), SettingError> {
        let Evolution { selection, cull, elites, crossover, mutation } = *self;
        match selection {
            Selection::Tournament(n) => settings::count("tournament", n as u64, MOST_DRAWN)?,
            Selection::Truncation(best) => {
                let rule = "must be above 0 and at most 1";
                settings::check(best > 0.0 && best <= 1.0, "truncation", number(best), rule)?;
            }
        }
        let shares = [
            ("crossover", crossover),
            ("split", mutation.split),
            ("remove-node", mutation.remove_node),
            ("change-activation", mutation.activation),
            ("perturb", mutation.perturb),
        ];
        shares.into_iter().try_for_each(|(name, value)| settings::share(name, value))?;
        let rule = "must be at least 0 and below 1: somebody breeds";
        settings::check((0.0..1.0).contains(&cull), "cull", number(cull), rule)?;
        settings::count("elites", elites as u64, u64::MAX)?;
        settings::at_most("add-connections", mutation.add_connections as u64, MOST_CHANGES)?;
        settings::at_most("remove-connections", mutation.remove_connections as u64, MOST_CHANGES)?;
        let by = mutation.perturb_by;
        let rule = "must be finite and at least 0";
        settings::check((0.0..=f32::MAX).contains(&by), "perturb-by", number(by), rule)
    }

    /// Who is replaced by a child of whom. `ranking` has the individuals, best first; parents are among those that
    /// stay.
    pub fn births(&self, ranking: &[usize], rng: &mut Rng) -> Vec<Birth> {
        let culled = (ranking.len() as f64 * self.cull) as usize;
        let culled = culled.min(ranking.len() - self.elites.clamp(1, ranking.len()));
        let (stay, go) = ranking.split_at(ranking.len() - culled);
        let mut parent = || match self.selection {
            // The best of several draws is the least of several ranks.
            Selection::Tournament(n) => {
                (0..n.max(1)).map(|_| rng.below(stay.len())).min().expect("one at least")
            }
            Selection::Truncation(best) => {
                rng.below(((ranking.len() as f64 * best) as usize).clamp(1, stay.len()))
            }
        };
        let pairs: Vec<(usize, usize)> = go.iter().map(|_| (parent(), parent())).collect();
        let births = go.iter().zip(pairs).map(|(&place, (a, b))| {
            let other = rng.chance(self.crossover).then_some(stay[a.max(b)]);
            Birth { place, fitter: stay[a.min(b)], other: other.filter(|_| a != b) }
        });
        births.collect()
    }
}

/// One child to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth {
    /// Whose place it takes.
    pub place: usize,
    /// Its parent, of two the fitter one.
    pub fitter: usize,
    /// Its other parent.
    pub other: Option<usize>,
}

/// The child of two: structure from the fitter parent, and of each connection that both have, weight and moments from
/// either, as likely from one as from the other (NEAT's rule).
pub fn crossover(fitter: &Network, other: &Network, rng: &mut Rng) -> Network {
    let mut child = fitter.clone();
    // Positions of the other parent by name; the inputs' are the same.
    let mut rows: Vec<(u64, usize)> =
        other.nodes().iter().enumerate().map(|(row, n)| (n.id.0, row)).collect();
    rows.sort_unstable();
    let row_in_other = |id: u64| rows.binary_search_by_key(&id, |&(id, _)| id).ok().map(|at| rows[at].1);
    let first = fitter.first_row();
    let mut position_in_other: Vec<Option<usize>> = (0..first).map(Some).collect();
    position_in_other
        .extend(fitter.nodes().iter().map(|n| row_in_other(n.id.0).map(|row| other.first_row() + row)));

    let [values, m, v] = child.slots_mut();
    for (row, node) in fitter.nodes().iter().enumerate() {
        let Some(theirs) = row_in_other(node.id.0) else { continue };
        for slot in fitter.indptr()[row]..fitter.indptr()[row + 1] {
            let from = position_in_other[usize::from(fitter.sources()[slot])];
            let Some(Ok(at)) = from.map(|from| other.find(from, theirs)) else { continue };
            if rng.chance(0.5) {
                values[slot] = other.values()[at];
                m[slot] = other.moments()[0][at];
                v[slot] = other.moments()[1][at];
            }
        }
    }
    child
}

/// Changes a network as `mutation` says, and settles it.
pub fn mutate(network: &mut Network, mutation: &Mutation, rng: &mut Rng) {
    for _ in 0..mutation.remove_connections {
        if network.connections() > 1 {
            network.remove_connection(rng.below(network.connections()));
        }
    }
    if rng.chance(mutation.remove_node) && network.rows() > network.outputs() {
        network.remove_node(rng.below(network.rows() - network.outputs()));
    }
    for _ in 0..mutation.add_connections {
        add_connection(network, rng);
    }
    if rng.chance(mutation.split) && network.connections() > 0 {
        network.split_connection(rng.below(network.connections()), Activation::Relu);
    }
    if rng.chance(mutation.activation) && network.rows() > network.outputs() {
        let row = rng.below(network.rows() - network.outputs());
        network.set_activation(row, ACTIVATIONS[rng.below(ACTIVATIONS.len())]);
    }
    let count = (network.connections() as f64 * mutation.perturb) as usize;
    for _ in 0..count {
        let slot = rng.below(network.connections());
        network.values_mut()[slot] += mutation.perturb_by * rng.normal();
    }
    network.settle();
}

/// Tries before an addition gives up: in a network that is nearly full most places are taken.
const TRIES: usize = 16;

/// A connection at a random free place, each row as likely by the number of connections that it has: so a layer's share
/// of all connections stays about what it was.
fn add_connection(network: &mut Network, rng: &mut Rng) {
    for _ in 0..TRIES {
        if network.connections() == 0 {
            return;
        }
        let row = network.row_of(rng.below(network.connections()));
        let readable = (network.first_row() + row).min(network.positions() - network.outputs());
        let reads = network.indptr()[row + 1] - network.indptr()[row];
        // Smaller than a first weight: the node goes on as it was, and the new connection learns.
        let value = 0.5 * (6.0 / (reads + 1) as f32).sqrt() * rng.symmetric();
        if network.add_connection(rng.below(readable), row, value) {
            return;
        }
    }
}
