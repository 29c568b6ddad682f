//! Golden vectors: a line with `key=value` words opens a case, others are a name and values of eight hex digits each.

use std::collections::HashMap;
use std::fmt::Debug;
use std::str::FromStr;

#[derive(Default)]
pub struct Case {
    pub settings: HashMap<&'static str, &'static str>,
    pub words: HashMap<&'static str, Vec<u32>>,
}

impl Case {
    pub fn number<T: FromStr<Err: Debug>>(&self, key: &str) -> T {
        self.settings[key].parse().unwrap()
    }

    pub fn values(&self, name: &str) -> Vec<f32> {
        self.words[name].iter().map(|&w| f32::from_bits(w)).collect()
    }
}

pub fn cases(text: &'static str) -> Vec<Case> {
    let mut cases = vec![];
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        if line.contains('=') {
            let settings = line.split(' ').map(|s| s.split_once('=').unwrap()).collect();
            cases.push(Case { settings, ..Case::default() });
        } else {
            let (name, hex) = line.split_once(' ').unwrap();
            let word = |i| u32::from_str_radix(&hex[8 * i..8 * i + 8], 16).unwrap();
            cases.last_mut().unwrap().words.insert(name, (0..hex.len() / 8).map(word).collect());
        }
    }
    cases
}

/// The largest difference, in units of `scale`.
pub fn apart(ours: &[f32], theirs: &[f32], scale: f64) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let differences = ours.iter().zip(theirs).map(|(&a, &b)| f64::from(a - b).abs());
    differences.fold(0.0, f64::max) / scale
}

pub fn largest(values: &[f32]) -> f64 {
    values.iter().fold(0.0, |a: f64, &b| a.max(b.abs().into()))
}
