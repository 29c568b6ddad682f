//! The machine's limits, measured with the loops of [`hotlanes::limits`], and which of them binds a kernel.

use std::hint::black_box;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hotlanes::{Tier, limits};
use hotlanes_cases::{Buf, Memory, Work};

use crate::shell::machine::Machine;
use crate::shell::peak::{fast_tiers, peak, together};

/// What a loop does with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Only reads.
    Read,
    /// Reads here and writes there.
    Copy,
    /// Reads and writes the same.
    Update,
}

impl Traffic {
    /// All there are.
    pub const ALL: [Traffic; 3] = [Traffic::Read, Traffic::Copy, Traffic::Update];

    /// What a kernel with this work does.
    fn of(work: &Work) -> Self {
        match work {
            w if w.read >= MOSTLY_READS * w.written => Traffic::Read,
            w if w.in_place => Traffic::Update,
            _ => Traffic::Copy,
        }
    }

    /// Its name in the report.
    pub fn name(self) -> &'static str {
        ["read", "copy", "update"][self as usize]
    }
}

/// How long a rate of arithmetic is measured on each tier.
const CHAIN_TIME: Duration = Duration::from_millis(150);

/// How long each level of memory is measured.
const LEVEL_TIME: Duration = Duration::from_millis(350);

/// From how many bytes read for each written on a kernel is held against the bandwidth of reading.
const MOSTLY_READS: f64 = 4.0;

/// One level of memory.
pub struct Level {
    /// `L1`, `L2`, `L3` or `DRAM`.
    pub name: &'static str,
    /// Bytes it holds: of one core for L1 and L2.
    pub capacity: usize,
    /// Bytes it was measured on, all threads together.
    pub set: usize,
    /// The best bandwidth of any tier, bytes per second, by [`Traffic`]. A copy's half of the set is its source; bytes
    /// read and bytes written both count.
    pub bandwidth: [f64; 3],
    /// Each thread's part of the set.
    buffers: Vec<Mutex<Buf>>,
    /// Into how many pieces a part is cut, one of them to a sample: what is too large to be walked at once.
    pieces: usize,
    /// The piece that is next.
    next: usize,
}

/// The limits, all threads together; each is the best that any tier reached.
pub struct Limits {
    /// The levels of memory, nearest first.
    pub levels: Vec<Level>,
    /// Floating-point operations per second in fused multiply-adds, by tier.
    pub fma: Vec<(Tier, f64)>,
    /// Correctly rounded f32 square roots per second, by tier.
    pub roots: Vec<(Tier, f64)>,
}

/// The limit that binds a kernel.
pub struct Binding {
    /// Its name, as the report prints it.
    pub name: String,
    /// The least time that it allows for one run.
    pub seconds: f64,
    /// If it is the bandwidth of DRAM: the traffic and the bytes.
    pub dram: Option<(Traffic, f64)>,
}

impl Limits {
    /// Measures them, in about three seconds.
    pub fn measure(machine: &Machine, threads: usize) -> Self {
        let tiers = fast_tiers();
        let places = places(machine, threads);
        let mut levels: Vec<Level> = places.iter().map(|place| Level::new(place, threads)).collect();
        for level in &mut levels {
            level.measure(&tiers, LEVEL_TIME);
        }
        let rates = |count, run: fn(usize) -> f32| {
            tiers.iter().map(|t| (*t, peak(*t, CHAIN_TIME, count, run))).collect()
        };
        let fma = rates(limits::FMA_FLOPS, limits::fma_chain);
        let roots = rates(limits::SQRT_ROOTS, limits::sqrt_chain);
        Limits { levels, fma, roots }
    }

    /// The last level.
    pub fn dram(&mut self) -> &mut Level {
        self.levels.last_mut().expect("there is always DRAM")
    }

    /// The nearest level that holds a set of bytes, as seen by one thread.
    fn level_of(&self, set: usize) -> usize {
        let fits = |l: &Level| set / if l.is_shared() { 1 } else { l.buffers.len() } <= l.capacity;
        self.levels.iter().position(fits).unwrap_or(self.levels.len() - 1)
    }

    /// The limit under which one run takes longest: arithmetic, roots, moving its bytes once at the bandwidth of the
    /// nearest level that holds its working set, or reading what is read over and over from the nearest that holds it.
    pub fn binding(&self, work: &Work) -> Binding {
        let at = self.level_of(work.working_set);
        let (level, traffic, bytes) = (&self.levels[at], Traffic::of(work), work.read + work.written);
        let memory = Binding {
            name: format!("{} {}", level.name, traffic.name()),
            seconds: bytes / level.bandwidth[traffic as usize],
            dram: (at + 1 == self.levels.len()).then_some((traffic, bytes)),
        };
        let fma = Binding { name: "FMA peak".into(), seconds: work.flops / best(&self.fma), dram: None };
        let roots = Binding { name: "sqrt rate".into(), seconds: work.roots / best(&self.roots), dram: None };
        let tile = &self.levels[self.level_of(work.repeated_set)];
        let repeated = Binding {
            name: format!("{} {}", tile.name, Traffic::Read.name()),
            seconds: work.repeated / tile.bandwidth[Traffic::Read as usize],
            dram: None,
        };
        [fma, roots, repeated].into_iter().fold(memory, |a, b| if b.seconds > a.seconds { b } else { a })
    }
}

fn best(rates: &[(Tier, f64)]) -> f64 {
    rates.iter().map(|r| r.1).fold(0.0, f64::max)
}

/// A level of memory to measure.
pub struct Place {
    /// `L1`, `L2`, `L3` or `DRAM`.
    pub name: &'static str,
    /// Bytes it holds: of one core for L1 and L2.
    pub capacity: usize,
    /// Bytes to measure it on, all threads together.
    set: usize,
}

impl Place {
    /// Whether the cores share it, so that more threads do not have more of it.
    pub fn is_shared(&self) -> bool {
        is_shared(self.name)
    }

    /// Its bandwidth, by [`Traffic`], measured for about `time`.
    pub fn bandwidth(&self, threads: usize, time: Duration) -> [f64; 3] {
        let mut level = Level::new(self, threads);
        level.measure(&fast_tiers(), time);
        level.bandwidth
    }
}

fn is_shared(name: &str) -> bool {
    !matches!(name, "L1" | "L2")
}

/// The levels to measure. Half of a cache is used, so that stack and neighbours do not push the data out; of a large
/// L3 at most 32 MiB, as other cores share it.
pub fn places(machine: &Machine, threads: usize) -> Vec<Place> {
    let place = |name, capacity, set| Place { name, capacity, set };
    let [l1, l2, l3] = machine.caches;
    let mut places = vec![place("L1", l1, l1 / 2 * threads), place("L2", l2, l2 / 2 * threads)];
    // A third level that the second ones fill cannot be told from them.
    let outer = (l3 / 2).min(32 << 20).max(2 * l2 * threads);
    if outer < l3 {
        places.push(place("L3", l3, outer));
    }
    let beyond = (2 * l3).clamp(256 << 20, 1 << 30);
    let beyond = machine.memory.map_or(beyond, |m| beyond.min(m / 4));
    places.push(place("DRAM", usize::MAX, beyond));
    places
}

/// A sample moves about this much, however small the set is: well above the clock's own cost.
const SAMPLE_BYTES: usize = 2 << 20;
/// And of a large set not more than this, so that several fit beside a kernel's.
const PIECE_BYTES: usize = 64 << 20;

impl Level {
    fn new(place: &Place, threads: usize) -> Self {
        let Place { name, capacity, set } = *place;
        let pieces = set.div_ceil(PIECE_BYTES);
        // Whole lines in each half of each piece.
        let part = (set / threads / pieces / 128 * 32).max(32) * pieces;
        let buffers = (0..threads).map(|i| Mutex::new(Memory::aligned().ordinary(part, i as u32))).collect();
        Level { name, capacity, set, bandwidth: [0.0; 3], buffers, pieces, next: 0 }
    }

    /// Whether the cores share it, so that more threads do not have more of it.
    fn is_shared(&self) -> bool {
        is_shared(self.name)
    }

    /// In rounds over the kinds of traffic and the tiers, each time keeping the best.
    fn measure(&mut self, tiers: &[Tier], time: Duration) {
        let until = Instant::now() + time;
        let mut rounds = 0;
        while rounds < 3 || Instant::now() < until {
            rounds += 1;
            for traffic in Traffic::ALL {
                for tier in tiers {
                    let got = self.sample(*tier, traffic);
                    let best = &mut self.bandwidth[traffic as usize];
                    *best = best.max(got);
                }
            }
        }
    }

    /// The bandwidth of one sample: of several passes over a small set, of the next piece of a large one.
    pub fn sample(&mut self, tier: Tier, traffic: Traffic) -> f64 {
        let threads = self.buffers.len();
        let piece = self.buffers[0].get_mut().expect("no thread panicked").len() / self.pieces;
        let at = self.next * piece;
        self.next = (self.next + 1) % self.pieces;
        let passes = (SAMPLE_BYTES / (4 * piece)).max(1);
        let buffers = &self.buffers;
        let seconds = together(tier, |i| {
            let mut buffer = buffers[i].lock().expect("no thread panicked");
            move || {
                let piece = &mut buffer[at..][..piece];
                for _ in 0..passes {
                    match traffic {
                        Traffic::Read => {
                            black_box(limits::read(black_box(piece)));
                        }
                        Traffic::Copy => {
                            let (src, dst) = piece.split_at_mut(piece.len() / 2);
                            limits::copy(black_box(src), black_box(dst));
                        }
                        Traffic::Update => limits::update(black_box(piece), black_box(1.0)),
                    }
                }
            }
        });
        let times = if traffic == Traffic::Update { 2 } else { 1 };
        (4 * piece * passes * threads * times) as f64 / seconds
    }
}
