//! Work is cut by its shape into pieces; where it is cut and which thread takes a piece changes nothing.

use std::ops::Range;

#[cfg(feature = "rayon")]
mod outside;
pub(crate) mod recorder;

#[cfg(feature = "rayon")]
use outside::Caller;
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

/// Where work of `n` items is cut that come in whole units: after the units nearest to half, at least one.
pub(crate) fn middle(n: usize, unit: usize) -> usize {
    ((n / 2 + unit / 2) / unit).max(1) * unit
}

#[test]
fn work_is_cut_near_its_middle() {
    for (n, unit, at) in [
        (300, 48, 144),
        (204, 24, 96),
        (100, 24, 48),
        (257, 128, 128),
        (384, 128, 256),
        (17, 16, 16),
        (3, 1, 1),
    ] {
        assert_eq!(middle(n, unit), at, "{n} by {unit}");
    }
}

/// Runs `work`: at once if it is smaller than `threshold` or there is one thread, else in pieces of about `piece`
/// on rayon's current pool. A caller inside `ThreadPool::install` gets that pool; any other has the threshold of
/// [`crate::tuning::OUTSIDE`].
#[inline]
pub(crate) fn run<W: Work>(work: W, threshold: usize, piece: usize) {
    #[cfg(feature = "rayon")]
    if work.size() >= threshold
        && let Some(caller) = Caller::of(work.size(), threshold * crate::tuning::OUTSIDE)
    {
        return halve(work, piece, caller, Tag::new());
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
    /// As [`crate::tuning::OUTSIDE`], which is for what takes some 15 us on one thread at its threshold.
    #[cfg_attr(not(feature = "rayon"), allow(dead_code))]
    pub(crate) outside: usize,
}

impl Shares {
    /// Runs `work`, cut so if it is no smaller than `threshold` and there is more than one thread.
    #[inline]
    pub(crate) fn run<W: Work>(self, work: W, threshold: usize) {
        #[cfg(feature = "rayon")]
        if work.size() >= threshold
            && let Some(caller) = Caller::of(work.size(), threshold * self.outside)
        {
            // Halves are not quite of one size: those that are a little larger stay whole.
            let share = work.size() / (self.per_thread * rayon::current_num_threads()) / 4 * 5;
            return halve(work, share.clamp(self.least, self.most), caller, Tag::new());
        }
        let _ = (threshold, self.per_thread, self.least, self.most);
        one(work, Tag::new());
    }
}

#[cfg(feature = "rayon")]
fn halve<W: Work>(work: W, piece: usize, caller: Caller, tag: Tag) {
    let piece = caller.piece(piece);
    if work.size() <= piece {
        return one(work, tag);
    }
    match work.split() {
        Ok((a, b)) => {
            let (tag_a, tag_b) = tag.halves();
            caller.join(|| halve(a, piece, caller, tag_a), || halve(b, piece, Caller::Inside, tag_b));
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

/// A whole that [`reduce`] halves, at a place that its shape alone decides, down to single parts.
pub(crate) trait Halve: Send + Sized {
    /// `Err` gives a single part back.
    fn halve(self) -> Result<(Self, Self), Self>;
}

impl Halve for Range<usize> {
    #[inline(always)]
    fn halve(self) -> Result<(Self, Self), Self> {
        if self.end - self.start == 1 {
            return Err(self);
        }
        let middle = self.start + (self.end - self.start) / 2;
        Ok((self.start..middle, middle..self.end))
    }
}

/// Results of the single parts of `whole` (the indices of a range, at least one), combined by a fixed tree: that of its
/// halves. From a `threshold` on, the halves of what has more than `piece` of `size` may run on two threads.
pub(crate) fn reduce<P: Halve, T: Send>(
    whole: P,
    threshold: usize,
    piece: usize,
    size: &(impl Fn(&P) -> usize + Sync),
    leaf: &(impl Fn(P) -> T + Sync),
    join: &(impl Fn(T, T) -> T + Sync),
) -> T {
    let spread = Spread::of(size(&whole), threshold, piece);
    reduce_part(whole, spread, size, leaf, join, Tag::new())
}

/// Whether and how a reduction is spread over threads.
#[derive(Clone, Copy)]
struct Spread {
    #[cfg(feature = "rayon")]
    over: Option<(Caller, usize)>,
}

impl Spread {
    const NOT: Spread = Spread {
        #[cfg(feature = "rayon")]
        over: None,
    };

    #[cfg(feature = "rayon")]
    fn of(size: usize, threshold: usize, piece: usize) -> Spread {
        let outside = threshold.saturating_mul(crate::tuning::OUTSIDE);
        let caller = if size >= threshold { Caller::of(size, outside) } else { None };
        Spread { over: caller.map(|caller| (caller, caller.piece(piece))) }
    }

    #[cfg(not(feature = "rayon"))]
    fn of(_: usize, _: usize, _: usize) -> Spread {
        Spread::NOT
    }
}

// Without rayon everything is one piece, and nothing asks for sizes.
#[cfg_attr(not(feature = "rayon"), allow(unused_variables, clippy::only_used_in_recursion))]
fn reduce_part<P: Halve, T: Send>(
    part: P,
    spread: Spread,
    size: &(impl Fn(&P) -> usize + Sync),
    leaf: &(impl Fn(P) -> T + Sync),
    join: &(impl Fn(T, T) -> T + Sync),
    tag: Tag,
) -> T {
    let (a, b) = match part.halve() {
        Ok(halves) => halves,
        Err(part) => {
            tag.begins(|| size(&part));
            let result = leaf(part);
            tag.ends();
            return result;
        }
    };
    #[cfg(feature = "rayon")]
    if let Some((caller, piece)) = spread.over
        && size(&a) + size(&b) > piece
    {
        let (tag_a, tag_b) = tag.halves();
        let others = Spread { over: Some((Caller::Inside, piece)) };
        let (a, b) = caller.join(
            || reduce_part(a, spread, size, leaf, join, tag_a),
            || reduce_part(b, others, size, leaf, join, tag_b),
        );
        return join(a, b);
    }
    // What is too small to be cut once is too small in its halves.
    let a = reduce_part(a, Spread::NOT, size, leaf, join, tag.clone());
    join(a, reduce_part(b, Spread::NOT, size, leaf, join, tag))
}
