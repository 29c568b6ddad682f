//! What a stretch of machine code consists of.

use serde::{Deserialize, Serialize};

use super::decode::{Arithmetic, Flow, Insn, Kind};

/// Instructions by kind. Packed arithmetic counts where it has the tier's full width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mix {
    /// All instructions.
    pub instructions: u32,
    /// Packed floating-point arithmetic of the tier's width: the sum of the next three and the plain rest.
    pub packed: u32,
    /// Packed fused multiply-adds.
    pub fma: u32,
    /// Packed square roots.
    pub sqrt: u32,
    /// Packed divisions.
    pub div: u32,
    /// Gathers.
    pub gather: u32,
    /// Packed floating-point arithmetic below the tier's width.
    pub narrow: u32,
    /// Floating-point arithmetic in one lane.
    pub scalar: u32,
    /// Calls, that at the end among them.
    pub calls: u32,
    /// Accesses relative to the stack pointer: spills, and buffers on the stack.
    pub stack: u32,
    /// Estimates of reciprocals and roots.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub estimates: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Mix {
    /// The mix of some instructions, for a tier whose registers have `width` bits.
    pub fn of<'a>(code: impl IntoIterator<Item = &'a Insn>, width: u32) -> Mix {
        let mut mix = Mix::default();
        for insn in code {
            mix.instructions += 1;
            mix.stack += insn.stack as u32;
            mix.calls += matches!(insn.flow, Flow::Call(_) | Flow::TailCall(_)) as u32;
            match insn.kind {
                Kind::Other | Kind::Prefetch => {}
                Kind::Scalar(what) => {
                    mix.scalar += 1;
                    mix.estimates += (what == Arithmetic::Estimate) as u32;
                }
                Kind::Packed(what, bits) if bits >= width => {
                    mix.packed += 1;
                    match what {
                        Arithmetic::Plain => {}
                        Arithmetic::Fma => mix.fma += 1,
                        Arithmetic::Div => mix.div += 1,
                        Arithmetic::Sqrt => mix.sqrt += 1,
                        Arithmetic::Estimate => mix.estimates += 1,
                    }
                }
                Kind::Packed(what, _) => {
                    mix.narrow += 1;
                    mix.estimates += (what == Arithmetic::Estimate) as u32;
                }
                Kind::Gather(_) => mix.gather += 1,
            }
        }
        mix
    }

    /// The columns, by name.
    pub fn columns(&self) -> [(&'static str, u32); 11] {
        [
            ("instructions", self.instructions),
            ("packed", self.packed),
            ("fma", self.fma),
            ("sqrt", self.sqrt),
            ("div", self.div),
            ("gather", self.gather),
            ("narrow", self.narrow),
            ("scalar", self.scalar),
            ("calls", self.calls),
            ("stack", self.stack),
            ("estimates", self.estimates),
        ]
    }

    /// How far apart two mixes are: the loop that a budget means is the nearest.
    pub fn distance(&self, other: &Mix) -> u32 {
        self.columns().into_iter().zip(other.columns()).map(|((_, a), (_, b))| a.abs_diff(b)).sum()
    }
}
