//! Levels, and the order of the rows by them.

use super::{Network, Node, activation_index};

impl Network {
    /// Finds the levels and sorts the rows by level, then activation, then name; so that each activation of a level is
    /// one range. Where the order is right already, nothing moves.
    pub fn settle(&mut self) {
        let (first, hidden) = (self.first_row(), self.rows() - self.outputs);
        let mut level_of = vec![0_u32; self.positions()];
        let mut last = 0;
        for row in 0..hidden {
            let sources = &self.sources[self.indptr[row]..self.indptr[row + 1]];
            let level = 1 + sources.iter().map(|&s| level_of[usize::from(s)]).max().unwrap_or(0);
            level_of[first + row] = level;
            last = last.max(level);
        }
        level_of[first + hidden..].fill(last + 1);

        let key = |row: &usize| {
            let Node { id, activation } = self.nodes[*row];
            // Outputs keep the order of their classes.
            let name = if *row < hidden { id.0 } else { *row as u64 };
            (level_of[first + *row], activation_index(activation), name)
        };
        let mut order: Vec<usize> = (0..self.rows()).collect();
        if !order.is_sorted_by_key(key) {
            order.sort_by_key(key);
            self.permute(&order);
        }
        self.levels.clear();
        let mut at = 0;
        for (row, &from) in order.iter().enumerate() {
            let level = level_of[first + from];
            while at < level {
                self.levels.push(row);
                at += 1;
            }
        }
        self.levels.push(self.rows());
    }

    /// Puts row `order[i]` at `i`.
    fn permute(&mut self, order: &[usize]) {
        let first = self.first_row();
        let mut moved: Vec<u16> = (0..self.positions() as u32).map(|p| p as u16).collect();
        for (to, &from) in order.iter().enumerate() {
            moved[first + from] = (first + to) as u16;
        }
        let old = self.clone();
        let mut at = 0;
        let mut row: Vec<(u16, usize)> = Vec::new();
        for (to, &from) in order.iter().enumerate() {
            self.nodes[to] = old.nodes[from];
            row.clear();
            let slots = old.indptr[from]..old.indptr[from + 1];
            row.extend(slots.map(|slot| (moved[usize::from(old.sources[slot])], slot)));
            row.sort_unstable();
            for &(source, slot) in &row {
                self.sources[at] = source;
                self.slots.values[at] = old.slots.values[slot];
                self.slots.m[at] = old.slots.m[slot];
                self.slots.v[at] = old.slots.v[slot];
                at += 1;
            }
            self.indptr[to + 1] = at;
        }
    }
}
