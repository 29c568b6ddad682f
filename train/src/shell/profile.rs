//! Where the time of a step goes: a [`Clock`] for each thread's scratch, which costs one comparison a part where it is
//! off, and the [`Profile`] that the clocks' times are added up to.

use std::marker::PhantomData;
use std::time::Instant;

/// One of the parts that a trainer's step is made of, in most cases an enum.
pub trait Part: Copy {
    /// How many parts there are.
    const COUNT: usize;

    /// The part's place in a profile, below [`Part::COUNT`].
    fn index(self) -> usize;

    /// Every part once, in the order in which a table lists them.
    fn all() -> impl Iterator<Item = Self>;

    /// The part's name in a table.
    fn name(self) -> &'static str;
}

/// Declares an enum of parts, each with its name in a table:
/// `parts!(enum Step { Forward = "forward", Backward = "backward and update" })`.
macro_rules! parts {
    ($(#[$of_all:meta])* $visibility:vis enum $name:ident { $($(#[$of_one:meta])* $part:ident = $text:literal),* $(,)? }) => {
        $(#[$of_all])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $visibility enum $name {
            $($(#[$of_one])* $part),*
        }

        impl $crate::shell::profile::Part for $name {
            const COUNT: usize = [$($text),*].len();

            fn index(self) -> usize {
                self as usize
            }

            fn all() -> impl Iterator<Item = Self> {
                [$($name::$part),*].into_iter()
            }

            fn name(self) -> &'static str {
                [$($text),*][self as usize]
            }
        }
    };
}
pub(crate) use parts;

/// The work of a part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Floating-point operations; 0 where they are not counted.
    pub flops: f64,
    /// Bytes read and written, each operand once; 0 where they are not counted.
    pub bytes: f64,
}

/// What was measured of one part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Span {
    /// Seconds of all its calls.
    pub seconds: f64,
    /// How often it was called.
    pub calls: u64,
    /// The work of all its calls.
    pub work: Work,
}

impl Span {
    /// 1e9 floating-point operations per second, if they are counted.
    pub fn gflops(&self) -> Option<f64> {
        (self.work.flops > 0.0).then(|| self.work.flops / self.seconds / 1e9)
    }

    fn add(&mut self, other: &Span) {
        self.seconds += other.seconds;
        self.calls += other.calls;
        self.work.flops += other.work.flops;
        self.work.bytes += other.work.bytes;
    }
}

/// The spans of all parts.
#[derive(Clone, Debug)]
pub struct Profile<P> {
    spans: Vec<Span>,
    part: PhantomData<P>,
}

impl<P: Part> Default for Profile<P> {
    fn default() -> Self {
        Profile { spans: vec![Span::default(); P::COUNT], part: PhantomData }
    }
}

impl<P: Part> Profile<P> {
    /// What was measured of a part.
    pub fn span(&self, part: P) -> Span {
        self.spans[part.index()]
    }

    /// Every part with its span, in the order of [`Part::all`].
    pub fn spans(&self) -> impl Iterator<Item = (P, Span)> {
        P::all().map(|part| (part, self.span(part)))
    }

    /// Seconds of all parts.
    pub fn seconds(&self) -> f64 {
        self.spans.iter().map(|s| s.seconds).sum()
    }

    /// Adds what another thread measured.
    pub fn add(&mut self, other: &Self) {
        self.spans.iter_mut().zip(&other.spans).for_each(|(a, b)| a.add(b));
    }

    /// Keeps, for each part, the faster of two measurements of the same work: other load on the machine seldom slows
    /// the same part every time.
    pub fn keep_fastest(&mut self, other: &Self) {
        for (a, b) in self.spans.iter_mut().zip(&other.spans) {
            if b.seconds < a.seconds {
                *a = *b;
            }
        }
    }

    /// The fastest of several measurements of the same work, part by part.
    ///
    /// # Panics
    /// If there are none.
    pub fn fastest(profiles: impl IntoIterator<Item = Self>) -> Self {
        let fastest = |mut a: Self, b: Self| {
            a.keep_fastest(&b);
            a
        };
        profiles.into_iter().reduce(fastest).expect("at least one measurement")
    }
}

/// Takes the times of parts that follow one another on one thread.
///
/// Off, as it is made, it allocates nothing, and [`Clock::lap`] is one comparison.
#[derive(Clone, Debug)]
pub struct Clock<P> {
    last: Option<Instant>,
    on: bool,
    /// Empty until it is first switched on.
    spans: Vec<Span>,
    part: PhantomData<P>,
}

impl<P> Default for Clock<P> {
    fn default() -> Self {
        Clock { last: None, on: false, spans: Vec::new(), part: PhantomData }
    }
}

impl<P: Part> Clock<P> {
    /// Switches the clock on, and sets all times to zero.
    pub fn reset(&mut self) {
        self.spans.clear();
        self.spans.resize(P::COUNT, Span::default());
        (self.last, self.on) = (None, true);
    }

    /// Switches the clock off; what it measured is kept.
    pub fn stop(&mut self) {
        (self.last, self.on) = (None, false);
    }

    /// A stretch of work begins. The time since the last [`Clock::lap`] belongs to no part.
    #[inline]
    pub fn start(&mut self) {
        if self.on {
            self.last = Some(Instant::now());
        }
    }

    /// The time since the last call belongs to this part.
    #[inline]
    pub fn lap(&mut self, part: P) {
        self.lap_with(part, Work::default);
    }

    /// [`Clock::lap`] with the work that was done; `work` is called only if the clock is on.
    #[inline]
    pub fn lap_with(&mut self, part: P, work: impl FnOnce() -> Work) {
        if let Some(last) = self.last {
            self.record(part, last, work);
        }
    }

    // Not inlined: between the kernels of a step there is a comparison, and no more.
    #[cold]
    #[inline(never)]
    fn record(&mut self, part: P, last: Instant, work: impl FnOnce() -> Work) {
        let now = Instant::now();
        let seconds = (now - last).as_secs_f64();
        self.spans[part.index()].add(&Span { seconds, calls: 1, work: work() });
        self.last = Some(now);
    }

    /// What was measured since [`Clock::reset`].
    pub fn profile(&self) -> Profile<P> {
        let mut profile = Profile::default();
        profile.spans.iter_mut().zip(&self.spans).for_each(|(to, from)| *to = *from);
        profile
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;

    parts!(
        enum Letter {
            A = "a",
            B = "b",
        }
    );

    const WORK: Work = Work { flops: 2e6, bytes: 3.0 };

    fn step(clock: &mut Clock<Letter>) {
        clock.start();
        sleep(Duration::from_millis(2));
        clock.lap(Letter::A);
        for _ in 0..2 {
            sleep(Duration::from_millis(1));
            clock.lap_with(Letter::B, || WORK);
        }
        // Between two stretches: in no part.
        sleep(Duration::from_millis(20));
        clock.start();
        clock.lap(Letter::A);
    }

    #[test]
    fn a_clock_measures_parts_and_counts_their_work() {
        let mut clock = Clock::default();
        clock.reset();
        step(&mut clock);
        let profile = clock.profile();
        let [(Letter::A, a), (Letter::B, b)] = profile.spans().collect::<Vec<_>>()[..] else {
            panic!("{profile:?}: in the order of the table")
        };
        assert_eq!([Letter::A.name(), Letter::B.name()], ["a", "b"]);
        assert!(a.seconds >= 0.002 && b.seconds >= 0.002, "{profile:?}");
        assert_eq!((a.calls, a.work, a.gflops()), (2, Work::default(), None));
        assert_eq!((b.calls, b.work), (2, Work { flops: 4e6, bytes: 6.0 }));
        assert_eq!(b.gflops(), Some(4e6 / b.seconds / 1e9));
        assert_eq!(profile.seconds(), a.seconds + b.seconds);

        // Other threads' clocks are added up; the fastest of several steps is taken part by part.
        let mut sum = profile.clone();
        sum.add(&profile);
        assert_eq!(sum.span(Letter::B).calls, 4);
        assert_eq!(sum.seconds(), 2.0 * profile.seconds());
        let fastest = Profile::fastest([sum.clone(), profile.clone(), sum]);
        assert_eq!(fastest.span(Letter::A), a);

        clock.stop();
        step(&mut clock);
        assert_eq!(clock.profile().span(Letter::A), a, "off, it keeps what it measured");
        clock.reset();
        assert_eq!(clock.profile().seconds(), 0.0);
    }

    #[test]
    fn a_clock_that_is_off_measures_nothing_and_asks_for_no_work() {
        let mut clock = Clock::<Letter>::default();
        clock.start();
        clock.lap_with(Letter::A, || unreachable!("the clock is off"));
        assert_eq!(clock.spans.capacity(), 0);
        assert_eq!(clock.profile().seconds(), 0.0);
    }
}
