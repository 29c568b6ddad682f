//! Loads and stores, whole and partial, that touch what they are given and nothing else.

use super::*;

/// How a vector comes in and goes out again.
enum Copy<'a> {
    Whole(&'a Chunk, &'a mut Chunk),
    Part(&'a [f32], f32, &'a mut Chunk),
    End(&'a [f32], f32, &'a mut Chunk),
    PartOut(&'a Chunk, &'a mut [f32]),
    EndOut(&'a Chunk, &'a mut [f32]),
}

impl Kernel for Copy<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        match self {
            Copy::Whole(from, to) => l.store(to, l.load(from)),
            Copy::Part(from, fill, to) => l.store(to, l.load_part(from, l.splat(fill))),
            Copy::End(from, fill, to) => l.store(to, l.load_end(from, l.splat(fill))),
            Copy::PartOut(from, to) => l.store_part(to, l.load(from)),
            Copy::EndOut(from, to) => l.store_end(to, l.load(from)),
        }
    }
}

fn run(tier: Tier, copy: Copy<'_>) {
    with_tier(tier, || dispatch(active(), copy)).expect("an available tier");
}

/// A NaN that nothing else makes.
const GUARD: f32 = f32::from_bits(0x7FC5_A5A5);

/// Sixteen values at `at`, bit patterns that show a mixed-up lane; NaN elsewhere.
fn guarded(at: usize, n: usize) -> Vec<f32> {
    let mut v = vec![GUARD; 16 + 16 + LANES + 16];
    for i in 0..n {
        v[at + i] = (i + 1) as f32;
    }
    v
}

fn bits(v: &[f32]) -> Vec<u32> {
    v.iter().map(|x| x.to_bits()).collect()
}

/// From the start of a vector; Miri, which sees every access anyway, takes some of them.
fn offsets() -> impl Iterator<Item = usize> {
    (0..=16).step_by(if cfg!(miri) { 5 } else { 1 })
}

#[test]
fn load_and_store_at_every_offset() {
    for tier in Tier::available() {
        for at in offsets() {
            let (from, mut to) = (guarded(at, LANES), guarded(0, 0));
            let source = from[at..].first_chunk().unwrap();
            run(tier, Copy::Whole(source, to[at..].first_chunk_mut().unwrap()));
            assert_eq!(bits(&from), bits(&to), "{tier}, offset {at}");
        }
    }
}

#[test]
fn partial_load_takes_the_rest_from_the_fill() {
    for tier in Tier::available() {
        for (n, at) in (0..=LANES).flat_map(|n| offsets().map(move |at| (n, at))) {
            let from = guarded(at, n);
            for fill in [0.0, -0.0, -7.5, f32::INFINITY] {
                let mut out = [GUARD; LANES];
                run(tier, Copy::Part(&from[at..at + n], fill, &mut out));
                let want: Vec<f32> = (0..LANES).map(|i| if i < n { (i + 1) as f32 } else { fill }).collect();
                assert_eq!(bits(&out), bits(&want), "{tier}, {n} lanes at offset {at}");
            }
        }
    }
}

#[test]
fn end_load_takes_the_rest_from_the_fill() {
    for tier in Tier::available() {
        for (n, at) in (0..=LANES).flat_map(|n| offsets().map(move |at| (n, at))) {
            let from = guarded(at, n);
            for fill in [0.0, -0.0, -7.5, f32::INFINITY] {
                let mut out = [GUARD; LANES];
                run(tier, Copy::End(&from[at..at + n], fill, &mut out));
                let own = |i| i + n + 1 - LANES;
                let want: Vec<f32> =
                    (0..LANES).map(|i| if i + n < LANES { fill } else { own(i) as f32 }).collect();
                assert_eq!(bits(&out), bits(&want), "{tier}, {n} lanes at offset {at}");
            }
        }
    }
}

/// How many elements lie before a line.
struct BeforeLine<'a>(&'a [f32]);

impl Kernel for BeforeLine<'_> {
    type Output = usize;
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> usize {
        l.before_line(self.0)
    }
}

#[test]
fn before_line_is_the_next_boundary_or_none() {
    let memory = crate::AlignedVec::zeros(3 * LANES);
    for tier in Tier::available() {
        for at in offsets() {
            let n =
                with_tier(tier, || dispatch(active(), BeforeLine(&memory[at..]))).expect("an available tier");
            let told = matches!(tier, Tier::Avx2 | Tier::Avx512);
            assert_eq!(n, if told { (LANES - at % LANES) % LANES } else { 0 }, "{tier} at offset {at}");
        }
    }
}

#[test]
fn partial_store_leaves_the_rest_alone() {
    let from: Chunk = std::array::from_fn(|i| (i + 1) as f32);
    for tier in Tier::available() {
        for (n, at) in (0..=LANES).flat_map(|n| offsets().map(move |at| (n, at))) {
            let mut to = guarded(0, 0);
            run(tier, Copy::PartOut(&from, &mut to[at..at + n]));
            assert_eq!(bits(&to), bits(&guarded(at, n)), "{tier}, {n} lanes at offset {at}");
        }
    }
}

#[test]
fn end_store_leaves_the_rest_alone() {
    for tier in Tier::available() {
        for (n, at) in (0..=LANES).flat_map(|n| offsets().map(move |at| (n, at))) {
            // The last `n` are those of a guarded vector, the others must not be seen.
            let from: Chunk =
                std::array::from_fn(|i| if i + n < LANES { 99.0 } else { (i + n + 1 - LANES) as f32 });
            let mut to = guarded(0, 0);
            run(tier, Copy::EndOut(&from, &mut to[at..at + n]));
            assert_eq!(bits(&to), bits(&guarded(at, n)), "{tier}, {n} lanes at offset {at}");
        }
    }
}

/// A page with an inaccessible one on either side: an access that strays beyond a slice at its edge is a crash.
#[cfg(all(target_os = "linux", not(miri)))]
struct LonelyPage {
    base: *mut u8,
    size: usize,
}

#[cfg(all(target_os = "linux", not(miri)))]
impl LonelyPage {
    fn new() -> Self {
        unsafe extern "C" {
            safe fn sysconf(name: i32) -> i64;
            fn mmap(at: *mut u8, len: usize, prot: i32, flags: i32, fd: i32, offset: i64) -> *mut u8;
            fn mprotect(at: *mut u8, len: usize, prot: i32) -> i32;
        }
        const SC_PAGESIZE: i32 = 30;
        const READ_WRITE: i32 = 1 | 2;
        const PRIVATE_ANONYMOUS: i32 = 0x02 | 0x20;
        let size = usize::try_from(sysconf(SC_PAGESIZE)).expect("a page size");
        // SAFETY: a new anonymous mapping of three pages without access, of which the middle one gets it. It stays
        // for the rest of the process.
        unsafe {
            let all = mmap(std::ptr::null_mut(), 3 * size, 0, PRIVATE_ANONYMOUS, -1, 0);
            assert!(all as isize != -1, "mmap failed");
            assert_eq!(mprotect(all.add(size), size, READ_WRITE), 0, "mprotect failed");
            LonelyPage { base: all.add(size), size }
        }
    }

    /// The page's first or last `n` values.
    fn edge(&mut self, n: usize, last: bool) -> &mut [f32] {
        let start = if last { self.size - n * size_of::<f32>() } else { 0 };
        // SAFETY: the range lies in the page, which is zeroed, ours, writable and aligned, and borrowed with `self`.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(start).cast(), n) }
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
#[test]
fn partial_access_at_the_edge_of_memory() {
    let source: Chunk = std::array::from_fn(|i| (i + 1) as f32);
    let mut page = LonelyPage::new();
    for tier in Tier::available() {
        for (n, last) in (0..=LANES).flat_map(|n| [(n, false), (n, true)]) {
            page.edge(n, last).fill(0.0);
            run(tier, Copy::PartOut(&source, page.edge(n, last)));
            assert_eq!(page.edge(n, last), &source[..n], "{tier}, store of {n}");
            page.edge(n, last).fill(0.0);
            run(tier, Copy::EndOut(&source, page.edge(n, last)));
            assert_eq!(page.edge(n, last), &source[LANES - n..], "{tier}, end store of {n}");
            run(tier, Copy::PartOut(&source, page.edge(n, last)));
            let mut out = [GUARD; LANES];
            run(tier, Copy::Part(page.edge(n, last), 0.0, &mut out));
            assert_eq!(out[..n], source[..n], "{tier}, load of {n}");
            assert_eq!(out[n..], [0.0; LANES][n..], "{tier}, load of {n}");
            run(tier, Copy::End(page.edge(n, last), 0.0, &mut out));
            assert_eq!(out[LANES - n..], source[..n], "{tier}, end load of {n}");
            assert_eq!(out[..LANES - n], [0.0; LANES][n..], "{tier}, end load of {n}");
        }
    }
}
