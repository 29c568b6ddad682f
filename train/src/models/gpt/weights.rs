//! The weights as products read them: packed once after each step, in both orientations, unless a micro-batch has too few
//! tokens.

use hotlanes::bf16;
use hotlanes::matmul::{Epilogue, Mat, MatMut, Packed, Right, matmul_with};
use hotlanes::reduce::column_sums;
use rayon::prelude::*;

use super::config::Config;
use super::engine::LARGE;
use super::params::{LayerPlaces, Layout, LinearPlace};
use super::work::product;
use crate::shell::profile::{Work, bytes, open};

/// What a linear layer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Makes queries, keys and values.
    Qkv,
    /// Takes attention's output back to the residual stream.
    Proj,
    /// The perceptron's first layer.
    Fc,
    /// The perceptron's second layer.
    FcProj,
    /// Makes the logits.
    Head,
}

/// A linear layer's weights.
pub(super) struct Linear {
    role: Role,
    /// The block that it belongs to.
    block: Option<usize>,
    place: LinearPlace,
    /// `[in][out]`, for the output; if packed.
    forward: Option<Packed>,
    /// `[out][in]`, for the input's gradient; if packed.
    backward: Option<Packed>,
    /// Rounded, if they are to be bf16; else nothing.
    rounded: Vec<u16>,
}

/// All linear layers.
pub(super) struct Weights {
    /// Of each block: queries, keys and values; attention's output; the perceptron's two. Then the head.
    linears: Vec<Linear>,
}

/// Tokens of a micro-batch, of all ranks together, below which a large model's weights are not packed. To pack one costs 24
/// bytes on their way through memory; of a batch of 256 tokens that takes twice as long as packing on the way, which each 512
/// tokens do once more.
const PACKING_TOKENS: usize = 1536;

/// Whether weights are packed once a step for batches of so many tokens.
pub(super) fn packs(config: &Config, tokens: usize) -> bool {
    // bf16 is widened as it is packed.
    config.bf16 || config.parameters() < LARGE || tokens >= PACKING_TOKENS
}

impl Weights {
    /// Packed, if [`packs`] says so; always, if they are to be bf16.
    pub(super) fn new(config: &Config, layout: &Layout, is_packed: bool) -> Self {
        let is_packed = is_packed || config.bf16;
        let packed = |rows, cols| is_packed.then(|| Packed::new(rows, cols));
        let places = &layout.places;
        let of_block = |(i, l): (usize, &LayerPlaces)| {
            let places =
                [(Role::Qkv, l.qkv), (Role::Proj, l.proj), (Role::Fc, l.fc), (Role::FcProj, l.fc_proj)];
            places.map(|(role, place)| (role, Some(i), place))
        };
        let of_blocks = places.layers.iter().enumerate().flat_map(of_block);
        let linear = |(role, block, place): (Role, Option<usize>, LinearPlace)| Linear {
            role,
            block,
            place,
            forward: packed(place.input, place.out),
            backward: packed(place.out, place.input),
            rounded: vec![0; if config.bf16 { place.weights.len } else { 0 }],
        };
        Weights { linears: of_blocks.chain([(Role::Head, None, places.head)]).map(linear).collect() }
    }

    /// The linear layers of a block.
    pub(super) fn layer(&self, layer: usize) -> [&Linear; 4] {
        let all = &self.linears[4 * layer..][..4];
        [&all[0], &all[1], &all[2], &all[3]]
    }

    /// Bytes of all of them in the products' form, about: without what fills up their last tiles.
    pub(super) fn bytes(&self) -> f64 {
        let packed = |packed: &Option<Packed>| {
            packed.as_ref().map_or(0.0, |p| (p.rows() * p.cols() * size_of::<f32>()) as f64)
        };
        let linear = |l: &Linear| packed(&l.forward) + packed(&l.backward) + bytes(&l.rounded);
        self.linears.iter().map(linear).sum()
    }

    pub(super) fn head(&self) -> &Linear {
        self.linears.last().expect("there is a head")
    }

    /// Whether a step packs them.
    pub(super) fn is_packed(&self) -> bool {
        self.head().forward.is_some()
    }

    /// Takes over the parameters.
    pub(super) fn pack(&mut self, params: &[f32]) {
        let tier = hotlanes::tier();
        self.linears.par_iter_mut().with_max_len(1).for_each(|linear| {
            hotlanes::with_tier(tier, || linear.pack(params)).expect("it is in use");
        });
    }
}

/// The span of one of a linear layer's products.
macro_rules! product_span {
    ($linear:expr, $what:literal, $shape:expr) => {{
        let (block, shape): (_, [usize; 3]) = ($linear.block, $shape);
        match $linear.role {
            Role::Qkv => open!(concat!("qkv: ", $what), block, shape, product(shape)),
            Role::Proj => open!(concat!("proj: ", $what), block, shape, product(shape)),
            Role::Fc => open!(concat!("fc: ", $what), block, shape, product(shape)),
            Role::FcProj => open!(concat!("fc proj: ", $what), block, shape, product(shape)),
            Role::Head => open!(concat!("head: ", $what), block, shape, product(shape)),
        }
    }};
}

impl Linear {
    fn pack(&mut self, params: &[f32]) {
        let Linear { place, forward, backward, rounded, .. } = self;
        let (Some(forward), Some(backward)) = (forward, backward) else { return };
        let weights = place.weights.of(params);
        if rounded.is_empty() {
            let w = Mat::new(weights, place.out, place.input);
            forward.pack(w.t());
            backward.pack(w);
        } else {
            bf16::from_f32(weights, rounded);
            let w = Mat::new(rounded, place.out, place.input);
            forward.pack(w.t());
            backward.pack(w);
        }
    }

    /// Rows of the layer's outputs.
    fn rows(&self, y: &[f32]) -> usize {
        y.len() / self.place.out
    }

    /// `y = x W^T + bias`, as the epilogue has it.
    pub(super) fn forward<'a>(
        &self,
        params: &'a [f32],
        x: &[f32],
        y: &mut [f32],
        mut epilogue: Epilogue<'a>,
    ) {
        let LinearPlace { out, input, bias, .. } = self.place;
        let rows = x.len() / input;
        let _span = product_span!(self, "forward", [rows, out, input]);
        epilogue.bias = bias.map(|b| b.of(params));
        let right = match &self.forward {
            Some(packed) => Right::Packed(packed),
            None => Right::Mat(self.weights(params).t()),
        };
        matmul_with(Mat::new(x, rows, input), right, MatMut::new(y, rows, out), epilogue);
    }

    /// `[out][in]`
    fn weights<'a>(&self, params: &'a [f32]) -> Mat<'a> {
        Mat::new(self.place.weights.of(params), self.place.out, self.place.input)
    }

    /// `dx = dy W`
    pub(super) fn input_gradient(&self, params: &[f32], dy: &[f32], dx: &mut [f32]) {
        let LinearPlace { out, input, .. } = self.place;
        let rows = self.rows(dy);
        let _span = product_span!(self, "input gradient", [rows, input, out]);
        let dx = MatMut::new(dx, rows, input);
        let right = match &self.backward {
            Some(packed) => Right::Packed(packed),
            None => Right::Mat(self.weights(params)),
        };
        matmul_with(Mat::new(dy, rows, out), right, dx, Epilogue::default());
    }

    /// `dW = dy^T x`, or added to what there is.
    pub(super) fn weight_gradient(&self, dy: &[f32], x: &[f32], gradient: &mut [f32], add: bool) {
        let LinearPlace { weights, out, input, .. } = self.place;
        let rows = self.rows(dy);
        let _span = product_span!(self, "weight gradient", [out, input, rows]);
        let dw = MatMut::new(weights.of_mut(gradient), out, input);
        let epilogue = Epilogue { accumulate: add, ..Epilogue::default() };
        matmul_with(Mat::new(dy, rows, out).t(), Mat::new(x, rows, input), dw, epilogue);
    }

    /// The sums of the columns of `dy`, if there are biases.
    pub(super) fn bias_gradient(&self, dy: &[f32], gradient: &mut [f32], add: bool) {
        if let Some(bias) = self.place.bias {
            let shape = [self.rows(dy), self.place.out, 0];
            let _span = open!("bias gradients", self.block, shape, Work::of_values(dy.len(), dy.len()));
            column_sums(dy, bias.of_mut(gradient), add);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::params;
    use super::super::settings::Preset;
    use super::*;

    fn config() -> Config {
        Config { dim: 20, vocab: 37, ..Preset::Tiny.settings().0.model }
    }

    #[test]
    fn products_have_the_same_bits_without_packing() {
        let config = config();
        let (layout, params) = (Layout::new(&config), params::init(&config, 1));
        let [packed, plain] = [true, false].map(|packs| {
            let mut weights = Weights::new(&config, &layout, packs);
            weights.pack(&params);
            weights
        });
        assert!(packed.bytes() > 0.0);
        assert_eq!(plain.bytes(), 0.0);
        for (packed, plain) in packed.linears.iter().zip(&plain.linears) {
            let LinearPlace { out, input, .. } = packed.place;
            for rows in [1, 7, 40] {
                let values = |n: usize| -> Vec<f32> { (0..n).map(|i| (i * 7 % 11) as f32 - 5.3).collect() };
                let (x, dy) = (values(rows * input), values(rows * out));
                let [a, b] = [packed, plain].map(|linear| {
                    let (mut y, mut dx) = (vec![f32::NAN; rows * out], vec![f32::NAN; rows * input]);
                    linear.forward(&params, &x, &mut y, Epilogue::default());
                    linear.input_gradient(&params, &dy, &mut dx);
                    [y, dx].map(|values| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
                });
                assert_eq!(a, b, "{rows} rows");
                assert!(a.iter().flatten().all(|x| f32::from_bits(*x).is_finite()));
            }
        }
    }

    #[test]
    fn large_models_pack_for_many_tokens_only() {
        let large = Config { dim: 768, heads: 12, vocab: 50_257, ..config() };
        assert!(large.parameters() >= LARGE);
        assert!(packs(&config(), 1));
        assert_eq!([1, 1535, 1536].map(|tokens| packs(&large, tokens)), [false, false, true]);
        assert!(packs(&Config { bf16: true, ..large }, 1));
    }
}
