//! Many slices times one factor, in place.

use crate::elementwise::Elementwise;
use crate::lanes::{Kernel, LANES, Lanes};
use crate::parallel::Work;
use crate::tier::Active;

/// Some slices, or a part of one.
pub(super) enum Part<'a, 'g> {
    Many(&'a mut [&'g mut [f32]]),
    One(&'a mut [f32]),
}

/// Their scaling.
pub(super) struct Scale<'a, 'g> {
    pub(super) active: Active,
    pub(super) factor: f32,
    pub(super) grads: Part<'a, 'g>,
}

impl Work for Scale<'_, '_> {
    fn size(&self) -> usize {
        match &self.grads {
            Part::Many(slices) => slices.iter().map(|s| s.len()).sum(),
            Part::One(slice) => slice.len(),
        }
    }

    fn split(self) -> Result<(Self, Self), Self> {
        let Scale { active, factor, grads } = self;
        let part = |grads| Scale { active, factor, grads };
        match grads {
            Part::Many([one]) => part(Part::One(one)).split(),
            Part::Many(slices) => {
                let (a, b) = slices.split_at_mut(slices.len() / 2);
                Ok((part(Part::Many(a)), part(Part::Many(b))))
            }
            Part::One(slice) => {
                let middle = (slice.len() / 2).next_multiple_of(LANES).min(slice.len());
                let (a, b) = slice.split_at_mut(middle);
                Ok((part(Part::One(a)), part(Part::One(b))))
            }
        }
    }

    fn run(self) {
        let (many, one): (&mut [&mut [f32]], _) = match self.grads {
            Part::Many(slices) => (slices, None),
            Part::One(x) => (&mut [], Some(x)),
        };
        // The norm has read the last ones last, so the caches hold them still.
        for x in many.iter_mut().rev().map(|x| &mut **x).chain(one) {
            Work::run(ScaleOne { active: self.active, x, factor: self.factor });
        }
    }
}

/// One slice.
struct ScaleOne<'a> {
    active: Active,
    x: &'a mut [f32],
    factor: f32,
}

impl Elementwise for ScaleOne<'_> {
    fn active(&self) -> Active {
        self.active
    }

    fn written(&self) -> &[f32] {
        self.x
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (a, b) = self.x.split_at_mut(at);
        (ScaleOne { x: a, ..self }, ScaleOne { x: b, ..self })
    }
}

impl Kernel for ScaleOne<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let factor = l.splat(self.factor);
        let (vectors, rest) = self.x.as_chunks_mut::<LANES>();
        let (groups, single) = vectors.as_chunks_mut::<4>();
        for g in groups {
            for v in g {
                l.store(v, l.mul(l.load(v), factor));
            }
        }
        for v in single {
            l.store(v, l.mul(l.load(v), factor));
        }
        if !rest.is_empty() {
            let v = l.mul(l.load_part(rest, factor), factor);
            l.store_part(rest, v);
        }
    }
}
