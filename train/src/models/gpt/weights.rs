//! The weights as products read them: packed once after each step, in both orientations.

use hotlanes::bf16;
use hotlanes::matmul::{Epilogue, Mat, MatMut, Packed, matmul_with};
use hotlanes::reduce::column_sums;
use rayon::prelude::*;

use super::config::Config;
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
    /// `[in][out]`, for the output.
    forward: Packed,
    /// `[out][in]`, for the input's gradient.
    backward: Packed,
    /// Rounded, if they are to be bf16; else nothing.
    rounded: Vec<u16>,
}

/// All linear layers.
pub(super) struct Weights {
    /// Of each block: queries, keys and values; attention's output; the perceptron's two. Then the head.
    linears: Vec<Linear>,
}

impl Weights {
    pub(super) fn new(config: &Config, layout: &Layout) -> Self {
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
            forward: Packed::new(place.input, place.out),
            backward: Packed::new(place.out, place.input),
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
        let packed = |packed: &Packed| (packed.rows() * packed.cols() * size_of::<f32>()) as f64;
        let linear = |l: &Linear| packed(&l.forward) + packed(&l.backward) + bytes(&l.rounded);
        self.linears.iter().map(linear).sum()
    }

    pub(super) fn head(&self) -> &Linear {
        self.linears.last().expect("there is a head")
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
        matmul_with(Mat::new(x, rows, input), &self.forward, MatMut::new(y, rows, out), epilogue);
    }

    /// `dx = dy W`
    pub(super) fn input_gradient(&self, dy: &[f32], dx: &mut [f32]) {
        let LinearPlace { out, input, .. } = self.place;
        let rows = self.rows(dy);
        let _span = product_span!(self, "input gradient", [rows, input, out]);
        let dx = MatMut::new(dx, rows, input);
        matmul_with(Mat::new(dy, rows, out), &self.backward, dx, Epilogue::default());
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
