//! Predictions by a trained model: of one row without an allocation, or of many side by side.

use hotlanes::activation::Activation;
use hotlanes::softmax::softmax_in_place;

use super::engine::Model;
use super::layout::Layout;
use super::settings::LossKind;
use super::state::{Described, Trained};
use hotlanes::AlignedVec;

/// Rows that are predicted side by side: their values stay in the L2 cache.
pub const TILE: usize = 512;

/// A model that predicts.
///
/// A row is given as the table has it: for each of the schema's columns a number or the index of a category
/// ([`Schema`](crate::data::table::Schema)). What comes out is, in the data's units, the number; or the probability of
/// each class.
pub struct Predictor {
    model: Described,
    layout: Layout,
    params: AlignedVec,
    expanded: Vec<f64>,
    /// Rows that wait, and how many there are.
    x: AlignedVec,
    rows: usize,
    rooms: [AlignedVec; 2],
    out: Vec<f32>,
    values: Vec<f64>,
}

impl Predictor {
    /// Allocates all that predictions need.
    pub fn new(trained: Trained) -> Self {
        let Trained { model, params, .. } = trained;
        let layout = model.layout();
        let features = layout.inputs();
        let mut x = AlignedVec::default();
        x.resize_for_overwrite(TILE * features);
        let mut rooms = [AlignedVec::default(), AlignedVec::default()];
        rooms.iter_mut().for_each(|room| room.resize_for_overwrite(TILE * layout.widest()));
        let width = model.schema.outputs();
        Predictor {
            expanded: vec![0.0; features],
            x,
            rows: 0,
            rooms,
            out: vec![0.0; TILE * layout.outputs()],
            values: vec![0.0; TILE * width],
            layout,
            params,
            model,
        }
    }

    /// What the model is.
    pub fn model(&self) -> &Described {
        &self.model
    }

    /// Values of a prediction: 1, or a probability for each class.
    pub fn width(&self) -> usize {
        self.model.schema.outputs()
    }

    /// Predicts one row. Allocates nothing.
    ///
    /// # Panics
    /// If the row has not as many values as the schema has columns.
    pub fn predict_row(&mut self, row: &[f64]) -> &[f64] {
        self.rows = 0;
        self.push(row);
        self.flush()
    }

    /// Adds a row to those that [`Predictor::flush`] predicts. Gives whether there is room for more.
    ///
    /// # Panics
    /// If the row has not as many values as the schema has columns, or there was no room.
    pub fn push(&mut self, row: &[f64]) -> bool {
        let features = self.layout.inputs();
        self.model.schema.expand(row, &mut self.expanded);
        self.model.standardizer.apply(&self.expanded, &mut self.x[self.rows * features..][..features]);
        self.rows += 1;
        self.rows < TILE
    }

    /// Predictions of the rows that wait, one after the other. A row's bits do not depend on its neighbours.
    pub fn flush(&mut self) -> &[f64] {
        let rows = std::mem::take(&mut self.rows);
        let (features, outputs, width) = (self.layout.inputs(), self.layout.outputs(), self.width());
        let activation = self.model.activation.kernel();
        let model = Model { layout: &self.layout, params: &self.params, activation };
        let out = &mut self.out[..rows * outputs];
        model.outputs(&self.x[..rows * features], rows, &mut self.rooms, out);
        let values = &mut self.values[..rows * width];
        match (&self.model.target, self.model.loss) {
            (Some(scale), _) => values.iter_mut().zip(out).for_each(|(v, y)| *v = scale.undo(*y)),
            (None, LossKind::Bce) => {
                Activation::Sigmoid.forward_in_place(out);
                for (pair, &p) in values.chunks_exact_mut(2).zip(&*out) {
                    (pair[0], pair[1]) = (1.0 - f64::from(p), p.into());
                }
            }
            (None, _) => {
                softmax_in_place(out, outputs);
                values.iter_mut().zip(out).for_each(|(v, p)| *v = f64::from(*p));
            }
        }
        values
    }

    /// The name of the likeliest class, or `None` of a number.
    pub fn class(&self, probabilities: &[f64]) -> Option<&str> {
        let classes = self.model.schema.classes()?;
        let most =
            (1..probabilities.len()).fold(0, |b, i| if probabilities[i] > probabilities[b] { i } else { b });
        Some(&classes[most])
    }
}
