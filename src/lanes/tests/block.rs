//! Blocks of a matrix: each value is one side's, and none beyond the rows is anyone's.

use super::super::{Block, extent};
use super::Rng;

/// Adds one to each value of the block, cut at random until a part has nothing to cut.
fn visit(rng: &mut Rng, mut block: Block<'_>, cuts: usize) {
    let (rows, cols) = (block.rows(), block.cols());
    if cuts == 0 {
        for i in 0..rows {
            let row = block.row(i);
            assert_eq!(row.len(), cols);
            for x in row {
                *x += 1.0;
            }
        }
        return;
    }
    // Also at either end, where one side is empty.
    let (a, b) = if rng.below(2) == 0 {
        let at = rng.below(rows + 1);
        let (a, b) = block.split_rows(at);
        assert_eq!([a.rows(), b.rows(), a.cols(), b.cols()], [at, rows - at, cols, cols]);
        (a, b)
    } else {
        let at = rng.below(cols + 1);
        let (a, b) = block.split_cols(at);
        assert_eq!([a.rows(), b.rows(), a.cols(), b.cols()], [rows, rows, at, cols - at]);
        (a, b)
    };
    visit(rng, a, cuts - 1);
    visit(rng, b, cuts - 1);
}

#[test]
fn cuts_cover_each_value_once() {
    let mut rng = Rng::new(1);
    for (rows, cols, stride) in
        [(1, 1, 1), (5, 3, 3), (4, 7, 9), (1, 6, 2), (0, 3, 3), (6, 1, 40), (17, 16, 16)]
    {
        for _ in 0..if cfg!(miri) { 2 } else { 20 } {
            let end = extent(rows, cols, stride).unwrap();
            let mut data = vec![0.0; end + 3];
            visit(&mut rng, Block::new(&mut data, rows, cols, stride), 4);
            for (i, x) in data.iter().enumerate() {
                let inside = i < end && (rows == 1 || i % stride < cols);
                assert_eq!(*x, inside as u8 as f32, "value {i} of {rows} x {cols}, {stride} apart");
            }
        }
    }
}

#[test]
fn sides_may_be_on_different_threads() {
    let mut data = vec![0.0; 6 * 8];
    let (left, right) = Block::new(&mut data, 6, 7, 8).split_cols(3);
    let (above, below) = left.split_rows(2);
    std::thread::scope(|scope| {
        for (value, mut block) in [above, below, right].into_iter().enumerate() {
            scope.spawn(move || {
                for i in 0..block.rows() {
                    block.row(i).fill(1.0 + value as f32);
                }
            });
        }
    });
    for (i, x) in data.iter().enumerate() {
        let want = match (i / 8, i % 8) {
            (_, 7) => 0.0,
            (_, 3..) => 3.0,
            (0..2, _) => 1.0,
            _ => 2.0,
        };
        assert_eq!(*x, want, "value {i}");
    }
}

#[test]
fn a_reborrow_is_the_same_block() {
    let mut data = [0.0; 5];
    let mut block = Block::new(&mut data, 2, 2, 3);
    block.reborrow().row(1)[0] = 1.0;
    block.row(1)[1] = 2.0;
    let (_, mut last) = block.reborrow().split_rows(1);
    last.row(0)[1] += 1.0;
    assert_eq!(block.row(1), [1.0, 3.0]);
    assert_eq!(data, [0.0, 0.0, 0.0, 1.0, 3.0]);
}

/// Of no rows or no columns there may be any number, any distance apart, in no memory at all.
#[test]
fn blocks_of_nothing() {
    for (rows, cols, stride) in
        [(0, 0, 0), (0, 5, 5), (0, usize::MAX, usize::MAX), (5, 0, 0), (5, 0, 7), (usize::MAX, 0, usize::MAX)]
    {
        let mut block = Block::new(&mut [], rows, cols, stride);
        for i in [0, 1, 4, rows / 2, rows.saturating_sub(1)] {
            if i < rows {
                assert!(block.row(i).is_empty(), "row {i} of {rows}");
            }
        }
        let (above, mut below) = block.reborrow().split_rows(rows / 2);
        assert_eq!(above.rows() + below.rows(), rows);
        if rows > 0 {
            assert!(below.row(below.rows() - 1).is_empty());
        }
        let (left, right) = block.split_cols(cols / 2);
        assert_eq!(left.cols() + right.cols(), cols);
    }
}

#[test]
#[should_panic(expected = "3 rows and 4 columns, 3 apart, does not fit 100 values")]
fn rows_that_overlap() {
    Block::new(&mut [0.0; 100], 3, 4, 3);
}

#[test]
#[should_panic(expected = "3 rows and 4 columns, 5 apart, does not fit 13 values")]
fn rows_beyond_the_data() {
    Block::new(&mut [0.0; 13], 3, 4, 5);
}

#[test]
#[should_panic(expected = "does not fit 4 values")]
fn rows_beyond_a_usize() {
    // Wrapped around, the last row would be the first.
    Block::new(&mut [0.0; 4], 3, 4, usize::MAX / 2 + 1);
}

#[test]
#[should_panic(expected = "row 2 of 2")]
fn a_row_too_far() {
    Block::new(&mut [0.0; 12], 3, 4, 4).split_rows(2).0.row(2);
}

#[test]
#[should_panic(expected = "4 of 3 rows")]
fn a_cut_below_the_rows() {
    Block::new(&mut [0.0; 12], 3, 4, 4).split_rows(4);
}

#[test]
#[should_panic(expected = "5 of 4 columns")]
fn a_cut_beyond_the_columns() {
    Block::new(&mut [0.0; 12], 3, 4, 4).split_cols(5);
}

#[test]
fn extents() {
    for (shape, want) in [
        ((3, 4, 5), Some(14)),
        ((1, 4, 0), Some(4)),
        ((0, 4, 5), Some(0)),
        ((3, 0, 5), Some(0)),
        ((2, 1, usize::MAX), None),
        ((usize::MAX, 1, 2), None),
        ((2, 1, usize::MAX - 1), Some(usize::MAX)),
    ] {
        assert_eq!(extent(shape.0, shape.1, shape.2), want, "{shape:?}");
    }
}
