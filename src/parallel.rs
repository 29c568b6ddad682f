//! Work is cut by its shape into pieces; where it is cut and which thread takes a piece changes nothing.

use std::ops::Range;

pub(crate) mod recorder;

use recorder::Tag;

/// Work that can be cut in two without changing what any part of it computes.
// Without rayon nothing is cut, and nothing asks for sizes.
#[cfg_attr(not(feature = "rayon"), allow(dead_code))]
pub(crate) trait Work: Send + Sized {
    /// How much there is, in the unit of the thresholds that [`run`] is given.
    fn size(&self) -> usize;
    /// Cuts near the middle; `Err` gives the work back where it cannot be cut.
    fn split(self) -> Result<(Self, Self), Self>;
    /// Does all of it on this thread.
    fn run(self);
}

/// Runs `work`: at once if it is smaller than `threshold` or there is one thread, else in pieces of about `piece`
/// on rayon's current pool. A caller inside `ThreadPool::install` gets that pool.
#[inline]
pub(crate) fn run<W: Work>(work: W, threshold: usize, piece: usize) {
    #[cfg(feature = "rayon")]
    if work.size() >= threshold && rayon::current_num_threads() > 1 {
        return halve(work, piece, Tag::new());
    }
    let _ = (threshold, piece);
    one(work, Tag::new());
}

/// The same with pieces that are as large as evens out: some for each thread, since each costs something to begin.
pub(crate) struct Shares {
    /// Pieces for a thread.
    pub(crate) per_thread: usize,
    /// The size of a piece, at least and at most.
    pub(crate) least: usize,
    pub(crate) most: usize,
}

impl Shares {
    /// Runs `work`, cut so if it is no smaller than `threshold` and there is more than one thread.
    #[inline]
    pub(crate) fn run<W: Work>(self, work: W, threshold: usize) {
        #[cfg(feature = "rayon")]
        if work.size() >= threshold && rayon::current_num_threads() > 1 {
            // Halves are not quite of one size: those that are a little larger stay whole.
            let share = work.size() / (self.per_thread * rayon::current_num_threads()) / 4 * 5;
            return halve(work, share.clamp(self.least, self.most), Tag::new());
        }
        let _ = (threshold, self.per_thread, self.least, self.most);
        one(work, Tag::new());
    }
}

#[cfg(feature = "rayon")]
fn halve<W: Work>(work: W, piece: usize, tag: Tag) {
    if work.size() <= piece {
        return one(work, tag);
    }
    match work.split() {
        Ok((a, b)) => {
            let (tag_a, tag_b) = tag.halves();
            rayon::join(|| halve(a, piece, tag_a), || halve(b, piece, tag_b));
        }
        Err(whole) => one(whole, tag),
    }
}

/// One piece.
#[inline(always)]
fn one<W: Work>(work: W, tag: Tag) {
    tag.begins(|| work.size());
    work.run();
    tag.ends();
}

/// Results of the indices of `range` (at least one), combined by a fixed tree: halves of the range, down to one index.
/// With `spread` the halves of what has more than `piece` of `size` may run on two threads.
pub(crate) fn reduce<T: Send>(
    range: Range<usize>,
    spread: bool,
    piece: usize,
    size: &(impl Fn(Range<usize>) -> usize + Sync),
    leaf: &(impl Fn(usize) -> T + Sync),
    join: &(impl Fn(T, T) -> T + Sync),
) -> T {
    reduce_part(range, spread, piece, size, leaf, join, Tag::new())
}

// Without rayon everything is one piece, and nothing asks for sizes.
#[cfg_attr(not(feature = "rayon"), allow(unused_variables, clippy::only_used_in_recursion))]
fn reduce_part<T: Send>(
    range: Range<usize>,
    spread: bool,
    piece: usize,
    size: &(impl Fn(Range<usize>) -> usize + Sync),
    leaf: &(impl Fn(usize) -> T + Sync),
    join: &(impl Fn(T, T) -> T + Sync),
    tag: Tag,
) -> T {
    let Range { start, end } = range;
    if end - start == 1 {
        tag.begins(|| size(start..end));
        let result = leaf(start);
        tag.ends();
        return result;
    }
    let middle = start + (end - start) / 2;
    #[cfg(feature = "rayon")]
    if spread && rayon::current_num_threads() > 1 && size(start..end) > piece {
        let (tag_a, tag_b) = tag.halves();
        let (a, b) = rayon::join(
            || reduce_part(start..middle, spread, piece, size, leaf, join, tag_a),
            || reduce_part(middle..end, spread, piece, size, leaf, join, tag_b),
        );
        return join(a, b);
    }
    // What is too small to be cut once is too small in its halves.
    let a = reduce_part(start..middle, false, piece, size, leaf, join, tag.clone());
    join(a, reduce_part(middle..end, false, piece, size, leaf, join, tag))
}
