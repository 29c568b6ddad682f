//! Thread pools for the net that shows that their size changes nothing.

use rayon::ThreadPoolBuilder;

/// Runs `f` inside pools of 1, 2, 3 and 8 threads.
pub fn on_pools(mut f: impl FnMut(usize) + Send) {
    for threads in [1, 2, 3, 8] {
        ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| f(threads));
    }
}
