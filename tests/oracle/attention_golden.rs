//! Attention against vectors that PyTorch made (`tests/golden/attention.py`).

use crate::attention::Inputs;
use crate::common::for_each_tier;
use crate::golden::{parse, relative};

#[test]
fn attention_follows_pytorch() {
    let sections = parse(include_str!("../golden/attention.txt"));
    let cases = &sections[1..];
    assert_eq!(cases.len(), 5);
    for case in cases {
        let size = |name: &str| case.number(name) as usize;
        let i = Inputs {
            batch: size("batch"),
            heads: size("heads"),
            kv_heads: size("kv_heads"),
            queries: size("queries"),
            keys: size("keys"),
            dim: size("dim"),
            causal: size("causal") == 1,
            scale: case.number("scale") as f32,
            q: case.get("q").to_vec(),
            k: case.get("k").to_vec(),
            v: case.get("v").to_vec(),
            dout: case.get("dout").to_vec(),
        };
        for_each_tier(|tier| {
            let ours = i.run();
            for (name, got) in ours.named().into_iter().filter(|(name, _)| *name != "lse") {
                let (right, torch) = (case.get(&format!("{name}64")), case.get(name));
                let (error, torch_error) = (relative(got, right), relative(torch, right));
                let what = format!("{} {tier} {name}", case.settings["case"]);
                println!("{what}: error {error:.1e}, PyTorch's {torch_error:.1e}");
                assert!(error <= 2e-6, "{what}: error {error:e}");
                // As close to the truth as PyTorch is, or as a few roundings allow.
                assert!(
                    error <= (1.1 * torch_error).max(5e-7),
                    "{what}: error {error:e}, PyTorch's {torch_error:e}"
                );
                // And so no further from PyTorch than both are from the truth.
                let apart = relative(got, torch);
                assert!(apart <= 1.01 * (2e-6 + torch_error), "{what}: {apart:e} from PyTorch");
            }
        });
    }
}
