//! Where each parameter lies in one flat buffer, and what it is at first.

use std::ops::Range;

use super::config::Config;
use crate::rng::Rng;
use hotlanes::AlignedVec;

/// What random numbers are for: see [`Rng::new`].
const PURPOSE: u64 = 0x6770_745f_696e_6974;

/// A parameter: `[out][in]` of a linear layer, as PyTorch has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// nanoGPT's name.
    pub name: String,
    /// Rows and columns, or the length of a vector.
    pub shape: Vec<usize>,
    /// Its place in the buffer.
    pub range: Range<usize>,
}

/// All parameters of a model: matrices first, which decay, then vectors, which do not.
#[derive(Clone, Debug)]
pub struct Layout {
    tensors: Vec<Tensor>,
    matrices: usize,
    pub(super) places: Places,
}

/// A place in the buffer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) len: usize,
}

impl Span {
    pub(super) fn of(self, flat: &[f32]) -> &[f32] {
        &flat[self.start..][..self.len]
    }

    pub(super) fn of_mut(self, flat: &mut [f32]) -> &mut [f32] {
        &mut flat[self.start..][..self.len]
    }
}

/// A linear layer's weights, and its biases if it has them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LinearPlace {
    pub(super) weights: Span,
    pub(super) bias: Option<Span>,
    /// Features of its output and of its input.
    pub(super) out: usize,
    pub(super) input: usize,
}

/// A norm's weights, right behind which lies its bias if it has one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NormPlace {
    pub(super) weights: Span,
    pub(super) bias: bool,
    /// The block that it belongs to.
    pub(super) block: Option<usize>,
}

impl NormPlace {
    pub(super) fn bias(self) -> Option<Span> {
        let Span { start, len } = self.weights;
        self.bias.then_some(Span { start: start + len, len })
    }
}

/// What a block has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LayerPlaces {
    pub(super) norm1: NormPlace,
    pub(super) qkv: LinearPlace,
    pub(super) proj: LinearPlace,
    pub(super) norm2: NormPlace,
    pub(super) fc: LinearPlace,
    pub(super) fc_proj: LinearPlace,
}

impl LayerPlaces {
    /// The linear layers and their names.
    fn linears(&mut self) -> [(&mut LinearPlace, &'static str); 4] {
        [
            (&mut self.qkv, "attn.c_attn"),
            (&mut self.proj, "attn.c_proj"),
            (&mut self.fc, "mlp.c_fc"),
            (&mut self.fc_proj, "mlp.c_proj"),
        ]
    }
}

/// What a model has.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    pub(super) tokens: Span,
    pub(super) positions: Span,
    pub(super) layers: Vec<LayerPlaces>,
    pub(super) norm: NormPlace,
    pub(super) head: LinearPlace,
}

impl Layout {
    /// Of a model whose settings were checked.
    pub fn new(config: &Config) -> Self {
        let Config { layers, dim, block, vocab, .. } = *config;
        let mut build = Build::default();
        let mut places = Places {
            tokens: build.add("transformer.wte.weight", &[vocab, dim]),
            positions: build.add("transformer.wpe.weight", &[block, dim]),
            layers: vec![LayerPlaces::default(); layers],
            ..Places::default()
        };
        for (i, layer) in places.layers.iter_mut().enumerate() {
            let hidden = config.hidden();
            (layer.qkv.out, layer.qkv.input) = (3 * dim, dim);
            (layer.proj.out, layer.proj.input) = (dim, dim);
            (layer.fc.out, layer.fc.input) = (hidden, dim);
            (layer.fc_proj.out, layer.fc_proj.input) = (dim, hidden);
            for (linear, name) in layer.linears() {
                let name = format!("transformer.h.{i}.{name}.weight");
                linear.weights = build.add(&name, &[linear.out, linear.input]);
            }
        }
        places.head = LinearPlace { weights: places.tokens, bias: None, out: vocab, input: dim };
        if !config.tied {
            places.head.weights = build.add("lm_head.weight", &[vocab, dim]);
        }

        let matrices = build.len;
        let norm = |build: &mut Build, block: Option<usize>, name: &str| {
            let weights = build.add(&format!("transformer.{name}.weight"), &[dim]);
            if config.norm_bias() {
                build.add(&format!("transformer.{name}.bias"), &[dim]);
            }
            NormPlace { weights, bias: config.norm_bias(), block }
        };
        for (i, layer) in places.layers.iter_mut().enumerate() {
            layer.norm1 = norm(&mut build, Some(i), &format!("h.{i}.ln_1"));
            layer.norm2 = norm(&mut build, Some(i), &format!("h.{i}.ln_2"));
            if config.bias {
                for (linear, name) in layer.linears() {
                    linear.bias = Some(build.add(&format!("transformer.h.{i}.{name}.bias"), &[linear.out]));
                }
            }
        }
        places.norm = norm(&mut build, None, "ln_f");
        debug_assert_eq!(build.len, config.parameters());
        Layout { tensors: build.tensors, matrices, places }
    }

    /// All parameters, in the buffer's order.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The number of values.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.tensors.last().map_or(0, |t| t.range.end)
    }

    /// How many of them are elements of matrices: the first ones.
    pub fn matrices(&self) -> usize {
        self.matrices
    }

    /// The parameter of this name.
    pub fn find(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|t| t.name == name)
    }
}

/// Tensors, one behind the other.
#[derive(Default)]
struct Build {
    tensors: Vec<Tensor>,
    len: usize,
}

impl Build {
    fn add(&mut self, name: &str, shape: &[usize]) -> Span {
        let span = Span { start: self.len, len: shape.iter().product() };
        self.len += span.len;
        self.tensors.push(Tensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            range: span.start..self.len,
        });
        span
    }
}

/// The parameters before the first step, as GPT-2 has them: norms 1, biases 0, weights of mean 0 and deviation 0.02, of
/// the layers that add to the residual stream 0.02 / sqrt(2 layers). Each tensor has random numbers of its own.
pub fn init(config: &Config, seed: u64) -> AlignedVec {
    let layout = Layout::new(config);
    let mut params = AlignedVec::default();
    params.resize_for_overwrite(layout.len());
    let residual = (0.02 / (2.0 * config.layers as f64).sqrt()) as f32;
    for (i, tensor) in layout.tensors().iter().enumerate() {
        let values = &mut params[tensor.range.clone()];
        if tensor.shape.len() == 2 {
            let deviation = if tensor.name.ends_with("c_proj.weight") { residual } else { 0.02 };
            let mut rng = Rng::new(seed, PURPOSE, i as u64, 0);
            values.fill_with(|| deviation * rng.normal());
        } else {
            values.fill(if tensor.name.contains(".ln_") && tensor.name.ends_with("weight") {
                1.0
            } else {
                0.0
            });
        }
    }
    params
}
