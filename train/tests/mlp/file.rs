//! The best model's file is what `torch.nn.Sequential` loads: names, shapes, types, and nothing else.

use std::fs;

use hotlanes_train::models::mlp::settings::{Act, Settings};
use hotlanes_train::shell::ranks::Alone;
use hotlanes_train::shell::session;
use hotlanes_train::shell::trainer::BEST;
use hotlanes_train::store::checkpoint;
use serde_json::{Value, json};

use crate::common::{options, recipe, settings};

/// The header of the file that a run leaves, and its values by the header's places.
fn stored(settings: Settings) -> (Value, Vec<f32>) {
    let directory = tempfile::tempdir().unwrap();
    session::start(recipe(settings), &options(directory.path(), 2), &Alone).unwrap();
    let step = checkpoint::index(directory.path(), BEST).unwrap().saved[0].step;
    let bytes = fs::read(checkpoint::tensors_path(directory.path(), BEST, step)).unwrap();
    let (length, rest) = bytes.split_at(8);
    let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
    let (header, values) = rest.split_at(length);
    let values = values.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    (serde_json::from_slice(header).unwrap(), values)
}

/// What `Sequential(Linear, activation[, Dropout], ..., Linear).state_dict()` has.
fn torch(widths: &[usize], stride: usize) -> Vec<(String, Vec<usize>)> {
    let layer = |(i, pair): (usize, &[usize])| {
        let name = i * stride;
        [(format!("{name}.weight"), vec![pair[1], pair[0]]), (format!("{name}.bias"), vec![pair[1]])]
    };
    widths.windows(2).enumerate().flat_map(layer).collect()
}

#[test]
fn the_best_model_has_the_tensors_of_torch() {
    for (hidden, dropout) in [(vec![], 0.0), (vec![6, 3], 0.0), (vec![6, 3], 0.25), (vec![], 0.25)] {
        let widths = [&[5], &hidden[..], &[1]].concat();
        let settings = Settings { hidden, dropout, activation: Act::Gelu, ..settings() };
        let (header, values) = stored(settings);
        let want = torch(&widths, if dropout > 0.0 { 3 } else { 2 });
        let tensors = header.as_object().unwrap();
        assert_eq!(tensors.keys().filter(|name| *name != "__metadata__").count(), want.len(), "{header}");
        let mut bytes = 0;
        for (name, shape) in &want {
            assert_eq!((&tensors[name]["dtype"], &tensors[name]["shape"]), (&json!("F32"), &json!(shape)));
            let [start, end] = [0, 1].map(|i| tensors[name]["data_offsets"][i].as_u64().unwrap() as usize);
            assert_eq!(end - start, 4 * shape.iter().product::<usize>());
            assert!(
                values[start / 4..end / 4].iter().all(|value| value.is_finite() && *value != 0.0),
                "{name}"
            );
            bytes += end - start;
        }
        assert_eq!(bytes, 4 * values.len(), "there is nothing between tensors");
    }
}
