//! Segments in a ring: which are live, which is evicted next.
//!
//! Each use of a segment has an ordinal, and a place in the ring: the ordinal modulo the number of places. Opening one
//! evicts what had its place, so the oldest goes first. A place whose segment is still open is passed over, with its
//! ordinal: a slow writer's segment stays until the ring comes round again. There are more segments than places: the
//! evicted one may still be read while a spare one is filled.
//!
//! The lock is taken once for a segment, not for a record, and never by readers.

use crate::segment::{NONE, Pin, Segment, Tail};
use crate::sync::{Arc, AtomicUsize, Mutex, Ordering, lock, yield_now};

const EMPTY: usize = usize::MAX;

/// The ring.
pub struct Ring {
    segments: Box<[Arc<Segment>]>,
    /// For each place the segment that has it.
    table: Box<[AtomicUsize]>,
    rotation: Mutex<Rotation>,
}

struct Rotation {
    next: u64,
    /// Segments without a place.
    retired: Vec<usize>,
}

/// All places have segments that are open.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl Ring {
    /// `places` live segments and `spare` others. `None` where the system has no memory for them.
    ///
    /// # Panics
    /// If either is 0.
    pub fn new(sizes: &[usize], places: usize, spare: usize) -> Option<Ring> {
        assert!(places > 0 && spare > 0, "{places} places, {spare} spare segments");
        let segment = |_| Segment::new(sizes).map(Arc::new);
        Some(Ring {
            segments: (0..places + spare).map(segment).collect::<Option<_>>()?,
            table: (0..places).map(|_| AtomicUsize::new(EMPTY)).collect(),
            rotation: Mutex::new(Rotation { next: 0, retired: (0..places + spare).rev().collect() }),
        })
    }

    /// Places.
    pub fn places(&self) -> usize {
        self.table.len()
    }

    /// Seals a writer's segment, if it has one, and opens its next one in place of the oldest. Waits for readers only
    /// where more evicted segments are being read than there are spare ones.
    ///
    /// # Errors
    /// All places are open. The old segment is sealed.
    pub fn rotate(&self, old: Option<Tail>, stride: usize) -> Result<Tail, Full> {
        let mut rotation = lock(&self.rotation);
        let sealed = old.map(|tail| Arc::clone(tail.segment()));
        let places = self.places() as u64;
        let (first, mut ordinal) = (rotation.next, rotation.next);
        while self.at(ordinal).is_some_and(|(_, segment)| segment.is_open()) {
            ordinal += 1;
            if ordinal - first == places {
                return Err(Full);
            }
        }
        rotation.next = ordinal + 1;
        if let Some(sealed) = sealed {
            sealed.link(ordinal);
        }
        Ok(self.fill(&mut rotation, ordinal, stride))
    }

    /// Opens the segment of an ordinal, of a ring that is read from files: in rising order.
    pub fn restore(&self, ordinal: u64, stride: usize) -> Tail {
        let mut rotation = lock(&self.rotation);
        rotation.next = rotation.next.max(ordinal + 1);
        self.fill(&mut rotation, ordinal, stride)
    }

    /// Goes on at this ordinal at the earliest.
    pub fn skip_to(&self, next: u64) {
        let mut rotation = lock(&self.rotation);
        rotation.next = rotation.next.max(next);
    }

    fn at(&self, ordinal: u64) -> Option<(usize, &Arc<Segment>)> {
        let index = self.table[(ordinal % self.places() as u64) as usize].load(Ordering::Acquire);
        (index != EMPTY).then(|| (index, &self.segments[index]))
    }

    fn fill(&self, rotation: &mut Rotation, ordinal: u64, stride: usize) -> Tail {
        if let Some((index, old)) = self.at(ordinal) {
            old.retire();
            rotation.retired.insert(0, index);
        }
        loop {
            // The last was retired first.
            for i in (0..rotation.retired.len()).rev() {
                let index = rotation.retired[i];
                if let Some(tail) = Segment::claim(&self.segments[index], ordinal, stride) {
                    rotation.retired.remove(i);
                    let place = (ordinal % self.places() as u64) as usize;
                    self.table[place].store(index, Ordering::Release);
                    return tail;
                }
            }
            yield_now();
        }
    }

    /// Pins the segment at a place, if there is one.
    pub fn pin_place(&self, place: usize) -> Option<Pin<'_>> {
        loop {
            let index = self.table[place].load(Ordering::Acquire);
            let pin = self.segments.get(index)?.pin()?;
            // Evicted and claimed for another place in between?
            let ordinal = pin.ordinal();
            if ordinal != NONE && ordinal % self.places() as u64 == place as u64 {
                return Some(pin);
            }
        }
    }

    /// Pins the segment of an ordinal, if it is not evicted.
    pub fn pin(&self, ordinal: u64) -> Option<Pin<'_>> {
        self.pin_place((ordinal % self.places() as u64) as usize).filter(|pin| pin.ordinal() == ordinal)
    }

    /// Runs `f` while nothing is evicted or opened.
    pub fn still<T>(&self, f: impl FnOnce(u64) -> T) -> T {
        let rotation = lock(&self.rotation);
        f(rotation.next)
    }
}
