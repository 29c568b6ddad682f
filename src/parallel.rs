//! Work is cut by its shape into pieces of a fixed size; which thread takes a piece changes nothing.

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
        return halve(work, piece);
    }
    let _ = (threshold, piece);
    work.run();
}

#[cfg(feature = "rayon")]
fn halve<W: Work>(work: W, piece: usize) {
    if work.size() <= piece {
        return work.run();
    }
    match work.split() {
        Ok((a, b)) => {
            rayon::join(|| halve(a, piece), || halve(b, piece));
        }
        Err(whole) => whole.run(),
    }
}
