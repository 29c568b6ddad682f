//! The loops of a function, found from its control flow.
//!
//! A loop is a strongly connected part of the flow; loops inside it are those that are left without the jumps to where it
//! is entered (after Steensgaard, "Sequentializing program dependence graphs for irreducible programs"). Natural loops would
//! not do: LLVM lets a loop be entered in its middle where that saves a jump.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;

use super::decode::{Flow, Insn};

/// A loop, as indices into the function's instructions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loop {
    /// Its own instructions: those in no loop inside it. In the order of the code.
    pub own: Vec<usize>,
}

/// A straight stretch of code and where it leads.
struct Block {
    first: usize,
    end: usize,
    next: Vec<usize>,
}

/// The loops of a function, in the order of their first instruction.
pub fn find(code: &[Insn]) -> Vec<Loop> {
    if code.is_empty() {
        return Vec::new();
    }
    let blocks = blocks(code);
    let mut flow = DiGraphMap::<usize, ()>::new();
    for (b, block) in blocks.iter().enumerate() {
        flow.add_node(b);
        for &next in &block.next {
            flow.add_edge(b, next, ());
        }
    }
    let mut loops = Vec::new();
    inside(&flow, &blocks, &mut loops);
    loops.sort_by_key(|l| l.own[0]);
    loops
}

/// Adds the loops of a part of the flow; returns the blocks that are in any.
fn inside(flow: &DiGraphMap<usize, ()>, blocks: &[Block], loops: &mut Vec<Loop>) -> BTreeSet<usize> {
    let mut all = BTreeSet::new();
    for part in tarjan_scc(flow) {
        let body: BTreeSet<usize> = part.into_iter().collect();
        let edges = || flow.all_edges().filter(|(a, b, ())| body.contains(a) && body.contains(b));
        if edges().next().is_none() {
            continue; // a block that does not lead back to itself
        }
        let mut entries: BTreeSet<usize> = flow
            .all_edges()
            .filter(|(a, b, ())| !body.contains(a) && body.contains(b))
            .map(|(_, b, ())| b)
            .collect();
        if entries.is_empty() {
            // Entered from where the flow is not known, such as a jump table, or by the caller.
            entries.extend(body.first());
        }
        // Where there are several, one may be that of a loop inside: the loop's own is the one without whose jumps most
        // still turns in circles.
        let without = |entry: usize| DiGraphMap::from_edges(edges().filter(|(_, b, ())| *b != entry));
        let inner = entries.iter().map(|entry| without(*entry)).max_by_key(turning).unwrap_or_default();
        let nested = inside(&inner, blocks, loops);
        let own: Vec<_> = body.difference(&nested).flat_map(|&b| blocks[b].first..blocks[b].end).collect();
        loops.push(Loop { own });
        all.extend(body);
    }
    all
}

/// How many blocks lead back to themselves.
fn turning(flow: &DiGraphMap<usize, ()>) -> usize {
    let own = |b: &usize| flow.contains_edge(*b, *b);
    tarjan_scc(flow).iter().filter(|part| part.len() > 1 || part.iter().any(own)).map(Vec::len).sum()
}

fn blocks(code: &[Insn]) -> Vec<Block> {
    let at: BTreeMap<u64, usize> = code.iter().enumerate().map(|(n, i)| (i.offset, n)).collect();
    let mut leaders = BTreeSet::from([0]);
    for (n, insn) in code.iter().enumerate() {
        match &insn.flow {
            Flow::Jump(to) | Flow::Branch(to) => {
                leaders.extend(at.get(to).copied());
                leaders.insert(n + 1);
            }
            Flow::Leave | Flow::TailCall(_) => {
                leaders.insert(n + 1);
            }
            Flow::Next | Flow::Call(_) => {}
        }
    }
    let starts: Vec<_> = leaders.into_iter().filter(|n| *n < code.len()).collect();
    let block_at = |n: usize| starts.binary_search(&n).ok();
    let ends = starts[1..].iter().copied().chain([code.len()]);
    let blocks = starts.iter().zip(ends).map(|(&first, end)| {
        let last = &code[end - 1];
        let jump = match &last.flow {
            Flow::Jump(to) | Flow::Branch(to) => at.get(to).and_then(|n| block_at(*n)),
            _ => None,
        };
        let on = match &last.flow {
            Flow::Jump(_) | Flow::Leave | Flow::TailCall(_) => None,
            _ => block_at(end),
        };
        Block { first, end, next: jump.into_iter().chain(on).collect() }
    });
    blocks.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::decode::Kind;

    /// A function of one-byte instructions.
    fn code(flows: &[Flow]) -> Vec<Insn> {
        let insn = |(n, flow): (usize, &Flow)| Insn {
            offset: n as u64,
            text: String::new(),
            flow: flow.clone(),
            symbol: None,
            kind: Kind::Other,
            stack: false,
            widest: 0,
        };
        flows.iter().enumerate().map(insn).collect()
    }

    #[test]
    fn straight_code_has_none() {
        assert_eq!(find(&code(&[Flow::Next, Flow::Branch(3), Flow::Next, Flow::Leave])), []);
    }

    #[test]
    fn one_loop_without_its_surroundings() {
        // 0; 1 2 3 -> 1; 4
        let loops = find(&code(&[Flow::Next, Flow::Next, Flow::Next, Flow::Branch(1), Flow::Leave]));
        assert_eq!(loops, [Loop { own: vec![1, 2, 3] }]);
    }

    #[test]
    fn a_nested_loop_belongs_to_itself() {
        // 1 [2 3 -> 2] 4 -> 1
        let flows = [Flow::Next, Flow::Next, Flow::Next, Flow::Branch(2), Flow::Branch(1), Flow::Leave];
        let loops = find(&code(&flows));
        assert_eq!(loops, [Loop { own: vec![1, 4] }, Loop { own: vec![2, 3] }]);
    }

    #[test]
    fn what_leaves_and_does_not_return_is_outside() {
        // 0 branch to 3 (panic); 1; 2 -> 0; 3 leave
        let loops = find(&code(&[Flow::Branch(3), Flow::Next, Flow::Branch(0), Flow::Leave]));
        assert_eq!(loops, [Loop { own: vec![0, 1, 2] }]);
    }

    #[test]
    fn a_block_placed_after_the_return_still_belongs_to_the_loop() {
        // 0 -> 3 sometimes; 1 -> 0; 2 leave; 3 -> 1
        let loops = find(&code(&[Flow::Branch(3), Flow::Branch(0), Flow::Leave, Flow::Jump(1)]));
        assert_eq!(loops, [Loop { own: vec![0, 1, 3] }]);
    }

    #[test]
    fn a_loop_that_is_entered_in_its_middle_is_one() {
        // 0 branch to 2; 1; 2; 3 -> 1; 4
        let loops = find(&code(&[Flow::Branch(2), Flow::Next, Flow::Next, Flow::Branch(1), Flow::Leave]));
        assert_eq!(loops, [Loop { own: vec![1, 2, 3] }]);
    }

    #[test]
    fn a_loop_inside_is_found_though_the_outer_one_is_entered_there_too() {
        // 0 branch to 2; 1 [2 3 -> 2] 4 -> 1; 5
        let flows = [Flow::Branch(2), Flow::Next, Flow::Next, Flow::Branch(2), Flow::Branch(1), Flow::Leave];
        let loops = find(&code(&flows));
        assert_eq!(loops, [Loop { own: vec![1, 4] }, Loop { own: vec![2, 3] }]);
    }

    #[test]
    fn a_loop_behind_a_jump_table_is_found() {
        let loops = find(&code(&[Flow::Leave, Flow::Next, Flow::Branch(1), Flow::Leave]));
        assert_eq!(loops, [Loop { own: vec![1, 2] }]);
    }
}
