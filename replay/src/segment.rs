//! Append-only segments of bytes: the only file with `unsafe` code.
//!
//! A segment is a set of regions of fixed size. One [`Tail`] appends to it and publishes prefixes; any number of
//! [`Pin`]s read what was published. When it is old it is retired, and once no pin is left it may be claimed for new
//! records.
//!
//! # States
//! One word says who may touch the memory: `RETIRED | OPEN | number of pins`.
//!
//! | step | change of the word | order |
//! |---|---|---|
//! | [`Segment::claim`] | `RETIRED` becomes `RETIRED + OPEN`, lengths 0, then `RETIRED` is cleared | Acquire, Release |
//! | [`Segment::pin`] | one pin more, refused while `RETIRED` is set | Acquire |
//! | drop of a [`Pin`] | one pin less | Release |
//! | drop of a [`Tail`] | `OPEN` is cleared | Release |
//! | [`Segment::retire`] | `RETIRED` is set: the pins that are there stay valid | Relaxed |
//!
//! # Why this is sound
//! 1. *One writer.* A claim succeeds from exactly `RETIRED`, so while a tail lives (`OPEN`) no second one is made. A
//!    tail is neither `Clone` nor `Copy`, and its methods that write take `&mut self`.
//! 2. *No byte is written that may be read.* A tail writes at or after `lens[region]`, which is at least the published
//!    length; a pin reads below the published length. The length falls, to 0, only in a claim, when there is no pin,
//!    and no new one is let in before `RETIRED` is cleared.
//! 3. *What is read was written before.* A region's length is stored with Release after its bytes were written, and
//!    loaded with Acquire. A length that a pin sees is of this claim and not of an earlier one: the claim stores 0
//!    before it clears `RETIRED` with Release, and the pin's Acquire reads that store or a read-modify-write after it.
//! 4. *What was read is read before it is overwritten.* Each drop of a pin or a tail is a read-modify-write with
//!    Release; the later ones, and `retire`, continue its release sequence; the claim's Acquire reads the last of them.
//! 5. *Memory is initialised.* It is allocated zeroed, and freed when the segment is dropped: pins borrow the segment,
//!    a tail holds a reference count.
//!
//! Sizes are checked on each call, so no function depends on its caller. `tests/loom.rs` explores the steps in all
//! orders.

use crate::sync::{Arc, AtomicU64, AtomicUsize, Ordering};

/// No pin is let in any more.
const RETIRED: usize = 1 << (usize::BITS - 1);
/// A tail exists.
const OPEN: usize = RETIRED >> 1;
const PINS: usize = OPEN - 1;

/// No segment follows yet.
pub const NONE: u64 = u64::MAX;

/// Bytes that one tail appends to and pins read.
// Two cache lines, since CPUs fetch pairs: readers of one segment do not slow those of the next.
#[repr(align(128))]
pub struct Segment {
    state: AtomicUsize,
    /// Records published.
    rows: AtomicUsize,
    /// The number of this use of the segment, never the same twice.
    ordinal: AtomicU64,
    /// The ordinal in which the same writer goes on.
    next: AtomicU64,
    /// Of the writer: how many rows further the successor of a row is.
    stride: AtomicUsize,
    regions: Box<[Region]>,
}

struct Region {
    memory: Memory,
    /// Bytes published.
    published: AtomicUsize,
}

/// The right to append to a segment.
pub struct Tail {
    segment: Arc<Segment>,
    /// Bytes written to each region, published or not.
    lens: Box<[usize]>,
    rows: usize,
}

/// Keeps a segment from being used again.
pub struct Pin<'a> {
    segment: &'a Segment,
}

impl Segment {
    /// A segment with regions of so many bytes, which has to be claimed. `None` where the system has no memory for it.
    pub fn new(sizes: &[usize]) -> Option<Segment> {
        let region =
            |&size: &usize| Some(Region { memory: Memory::new(size)?, published: AtomicUsize::new(0) });
        Some(Segment {
            state: AtomicUsize::new(RETIRED),
            rows: AtomicUsize::new(0),
            ordinal: AtomicU64::new(NONE),
            next: AtomicU64::new(NONE),
            stride: AtomicUsize::new(1),
            regions: sizes.iter().map(region).collect::<Option<_>>()?,
        })
    }

    /// Empties the segment for its next use, if it is retired and nobody has it.
    pub fn claim(this: &Arc<Segment>, ordinal: u64, stride: usize) -> Option<Tail> {
        this.state.compare_exchange(RETIRED, RETIRED | OPEN, Ordering::Acquire, Ordering::Relaxed).ok()?;
        for region in &this.regions {
            region.published.store(0, Ordering::Relaxed);
        }
        this.rows.store(0, Ordering::Relaxed);
        this.ordinal.store(ordinal, Ordering::Relaxed);
        this.next.store(NONE, Ordering::Relaxed);
        this.stride.store(stride, Ordering::Relaxed);
        this.state.fetch_and(!RETIRED, Ordering::Release);
        Some(Tail { segment: Arc::clone(this), lens: vec![0; this.regions.len()].into(), rows: 0 })
    }

    /// Lets nobody in any more.
    pub fn retire(&self) {
        self.state.fetch_or(RETIRED, Ordering::Relaxed);
    }

    /// Whether a tail exists.
    pub fn is_open(&self) -> bool {
        self.state.load(Ordering::Relaxed) & OPEN != 0
    }

    /// Says where the writer goes on; what it published here is then complete.
    pub fn link(&self, next: u64) {
        self.next.store(next, Ordering::Release);
    }

    /// Keeps the segment as it is, if it is not retired.
    pub fn pin(&self) -> Option<Pin<'_>> {
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            if state & RETIRED != 0 {
                return None;
            }
            assert!(state & PINS < PINS, "too many pins");
            match self.state.compare_exchange_weak(state, state + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(Pin { segment: self }),
                Err(now) => state = now,
            }
        }
    }
}

impl Tail {
    /// The segment.
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// The number of this use of the segment.
    pub fn ordinal(&self) -> u64 {
        self.segment.ordinal.load(Ordering::Relaxed)
    }

    /// Records published.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes that a region still takes.
    pub fn free(&self, region: usize) -> usize {
        self.segment.regions[region].memory.len - self.lens[region]
    }

    /// The bytes of a region that were written, published or not.
    pub fn written(&self, region: usize) -> &[u8] {
        // SAFETY: 1: only this tail writes, and not while `self` is borrowed; the length is within the memory, since
        // `grow` checks it.
        unsafe { self.segment.regions[region].memory.slice(0, self.lens[region]) }
    }

    /// Appends `len` bytes to a region and returns them to be written; what they hold is not specified.
    ///
    /// # Panics
    /// If the region is too small.
    pub fn grow(&mut self, region: usize, len: usize) -> &mut [u8] {
        let (start, memory) = (self.lens[region], &self.segment.regions[region].memory);
        assert!(len <= memory.len - start, "{len} bytes: the region takes {} more", memory.len - start);
        self.lens[region] += len;
        // SAFETY: 1 and 2: the bytes are not published, and `self` is borrowed while they are written; checked above.
        unsafe { memory.slice_mut(start, len) }
    }

    /// Makes everything written so far visible, as `rows` records more.
    pub fn publish(&mut self, rows: usize) {
        for (region, &len) in self.segment.regions.iter().zip(&self.lens) {
            region.published.store(len, Ordering::Release);
        }
        self.rows += rows;
        self.segment.rows.store(self.rows, Ordering::Release);
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.segment.state.fetch_and(!OPEN, Ordering::Release);
    }
}

impl Pin<'_> {
    /// The number of this use of the segment.
    pub fn ordinal(&self) -> u64 {
        self.segment.ordinal.load(Ordering::Relaxed)
    }

    /// Rows from one to its successor.
    pub fn stride(&self) -> usize {
        self.segment.stride.load(Ordering::Relaxed)
    }

    /// Where the writer goes on, or [`NONE`]. Where there is such, [`rows`](Pin::rows) is final from then on.
    pub fn next(&self) -> u64 {
        self.segment.next.load(Ordering::Acquire)
    }

    /// Records published. A region holds at least their bytes from then on.
    pub fn rows(&self) -> usize {
        self.segment.rows.load(Ordering::Acquire)
    }

    /// Whether a tail exists.
    pub fn is_open(&self) -> bool {
        self.segment.is_open()
    }

    /// What a region has published.
    pub fn bytes(&self, region: usize) -> &[u8] {
        let Region { memory, published } = &self.segment.regions[region];
        let len = published.load(Ordering::Acquire);
        // SAFETY: 2 and 3: below the published length nothing is written while `self` lives; the length is one of a
        // tail's `lens`, within the memory.
        unsafe { memory.slice(0, len) }
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        self.segment.state.fetch_sub(1, Ordering::Release);
    }
}

/// Zeroed memory that is shared: who may read or write which part is the segment's business.
struct Memory {
    /// What was allocated.
    base: std::ptr::NonNull<u8>,
    layout: std::alloc::Layout,
    /// The first byte in use, aligned.
    start: std::ptr::NonNull<u8>,
    len: usize,
    /// Tells loom what is read and written.
    #[cfg(loom)]
    cells: Box<[loom::cell::UnsafeCell<()>]>,
}

// SAFETY: it is plain memory; all access goes through the two unsafe functions below.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// `None` where the system has none.
    fn new(len: usize) -> Option<Memory> {
        // Pages, so that large regions may have large ones; small ones take a cache line. Aligned by hand: asked for
        // with an alignment, zeroed memory is written to at once, and else a page when it is first used.
        let align = if len >= 1 << 16 { 4096 } else { 64 };
        let layout = std::alloc::Layout::from_size_align(len.checked_add(align)?, 16).ok()?;
        // SAFETY: the size is not zero.
        let base = std::ptr::NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) })?;
        let offset = base.addr().get().wrapping_neg() & (align - 1);
        Some(Memory {
            base,
            layout,
            // SAFETY: less than `align` beyond the beginning of `len + align` bytes.
            start: unsafe { base.add(offset) },
            len,
            #[cfg(loom)]
            cells: (0..len).map(|_| loom::cell::UnsafeCell::new(())).collect(),
        })
    }

    /// # Safety
    /// `start + len` is within the memory, and nobody writes there while the slice lives.
    unsafe fn slice(&self, start: usize, len: usize) -> &[u8] {
        #[cfg(loom)]
        self.cells[start..start + len].iter().for_each(|cell| cell.with(|_| ()));
        // SAFETY: the memory is initialised, `start + len` within it, and not written to, as the caller promises.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(start), len) }
    }

    /// # Safety
    /// `start + len` is within the memory, and nobody else reads or writes there while the slice lives.
    #[allow(clippy::mut_from_ref)]
    unsafe fn slice_mut(&self, start: usize, len: usize) -> &mut [u8] {
        #[cfg(loom)]
        self.cells[start..start + len].iter().for_each(|cell| cell.with_mut(|_| ()));
        // SAFETY: the memory is initialised, `start + len` within it, and the caller's alone, as it promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(start), len) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and freed once.
        unsafe { std::alloc::dealloc(self.base.as_ptr(), self.layout) }
    }
}
