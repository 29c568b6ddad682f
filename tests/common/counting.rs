//! The system's allocator, counting its calls: one thread's, and all threads'.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

#[global_allocator]
static COUNTING: Counting = Counting;

struct Counting;

static ALL: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    // Without a destructor and initialised at compile time: looking at it does not allocate.
    static HERE: Cell<usize> = const { Cell::new(0) };
}

/// How often this thread goes to the allocator during `f`.
#[allow(dead_code, reason = "each test uses one of the two")]
pub fn calls_here(f: impl FnOnce()) -> usize {
    let before = HERE.get();
    f();
    HERE.get() - before
}

/// How often all threads together go to the allocator during `f`.
#[allow(dead_code, reason = "each test uses one of the two")]
pub fn calls_everywhere(f: impl FnOnce()) -> usize {
    let before = ALL.load(Ordering::Relaxed);
    f();
    ALL.load(Ordering::Relaxed) - before
}

fn count() {
    ALL.fetch_add(1, Ordering::Relaxed);
    // A thread that is ending has no count of its own any more.
    let _ = HERE.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: each call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, new_size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count();
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}
