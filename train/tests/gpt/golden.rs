//! Vectors that PyTorch made in f64 (`train/tests/golden/gpt.py`): logits, loss, gradients, ten AdamW steps.

use clap::ValueEnum;
use hotlanes::AlignedVec;
use hotlanes_train::models::gpt::config::{Act, Config, Norm};
use hotlanes_train::models::gpt::engine::{Engine, Optim};
use hotlanes_train::models::gpt::params::Layout;

#[path = "../golden/case.rs"]
mod case;

use case::{Case, apart, largest};

fn config(case: &Case) -> Config {
    Config {
        layers: case.number("layers"),
        heads: case.number("heads"),
        dim: case.number("dim"),
        block: case.number("block"),
        vocab: case.number("vocab"),
        norm: Norm::from_str(case.settings["norm"], false).unwrap(),
        act: Act::from_str(case.settings["act"], false).unwrap(),
        tied: case.settings["tied"] == "1",
        bias: case.settings["bias"] == "1",
        bf16: false,
        dropout: 0.0,
    }
}

fn optim(case: &Case) -> Optim {
    Optim {
        beta1: case.number("beta1"),
        beta2: case.number("beta2"),
        eps: case.number("eps"),
        weight_decay: case.number("weight_decay"),
        clip: case.number("clip"),
    }
}

#[test]
fn ten_steps_follow_pytorch() {
    let cases = case::cases(include_str!("../golden/gpt.txt"));
    assert_eq!(cases.len(), 2);
    for case in cases {
        let (config, name) = (config(&case), case.settings["case"]);
        let layout = Layout::new(&config);
        let mut params = AlignedVec::default();
        params.resize_for_overwrite(layout.len());
        for tensor in layout.tensors() {
            params[tensor.range.clone()].copy_from_slice(&case.values(&tensor.name));
        }
        let [batch, time]: [usize; 2] = ["batch", "time"].map(|key| case.number(key));
        let rows = batch * time;
        let mut engine = Engine::new(config.clone(), optim(&case), batch, time, params).unwrap();
        let (tokens, targets) = (&case.words["tokens"], &case.words["targets"]);
        let (losses, norms) = (case.values("losses"), case.values("norms"));

        let mut logits = vec![0.0; rows * config.vocab];
        engine.logits(&tokens[..rows], &mut logits).unwrap();
        let want = case.values("logits");
        let off = apart(&logits, &want, largest(&want));
        assert!(off < 2e-6, "{name}: logits are off by {off:e} of the largest");

        let mut clipped = 0;
        for step in 0..case.number("steps") {
            let at = step * rows..(step + 1) * rows;
            let loss = engine.gradients(&tokens[at.clone()], &targets[at], 0, 1).unwrap();
            if step == 0 {
                let gradient = engine.local_gradient().to_vec();
                for tensor in layout.tensors() {
                    let want = case.values(&format!("gradient.{}", tensor.name));
                    let off = apart(&gradient[tensor.range.clone()], &want, largest(&want));
                    assert!(off < 5e-6, "{name}: {} is off by {off:e} of its largest", tensor.name);
                }
            }
            let outcome = engine.step(case.number("lr"));
            let (want, norm) = (f64::from(losses[step]), f64::from(norms[step]));
            assert!((loss - want).abs() < 1e-5 * want, "{name}, step {step}: loss {loss}, PyTorch's {want}");
            assert!((outcome.norm - norm).abs() < 2e-4 * norm, "{name}, step {step}: {outcome:?}, {norm}");
            assert!(!outcome.skipped);
            clipped += u32::from(outcome.clip_factor < 1.0);
        }
        assert!(clipped > 0, "no step was clipped");
        for tensor in layout.tensors() {
            let (ours, want) =
                (&engine.params()[tensor.range.clone()], case.values(&format!("after.{}", tensor.name)));
            // The softmax does not see biases of keys: their gradient is nothing but rounding, which Adam makes steps
            // of.
            let dim = config.dim;
            let skip = if tensor.name.ends_with("c_attn.bias") { dim..2 * dim } else { 0..0 };
            for (i, (&ours, &want)) in ours.iter().zip(&want).enumerate().filter(|(i, _)| !skip.contains(i)) {
                // In learning rates: ten steps go up to ten of them.
                let off = f64::from(ours - want).abs() / case.number::<f64>("lr");
                assert!(off < 5e-3, "{name}: {} [{i}] is {ours}, PyTorch's {want}: {off}", tensor.name);
            }
        }
    }
}
