//! Rows for columns.

use super::*;

struct Turn<'a>(&'a [Chunk; LANES]);

impl Kernel for Turn<'_> {
    type Output = [Chunk; LANES];
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> [Chunk; LANES] {
        let mut v = [l.splat(0.0); LANES];
        for i in 0..LANES {
            v[i] = l.load(&self.0[i]);
        }
        l.transpose(&mut v);
        let mut out = [[0.0; LANES]; LANES];
        for i in 0..LANES {
            l.store(&mut out[i], v[i]);
        }
        out
    }
}

#[test]
fn rows_become_columns() {
    let rows: [Chunk; LANES] = std::array::from_fn(|i| std::array::from_fn(|j| (i * LANES + j) as f32));
    on_each_tier(
        || Turn(&rows),
        |tier, out| {
            for i in 0..LANES {
                for j in 0..LANES {
                    assert_eq!(out[i][j], rows[j][i], "{tier}: row {i}, column {j}");
                }
            }
        },
    );
}
