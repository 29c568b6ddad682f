//! Values that are not +0.

use hotlanes::naive::nonzero as naive;
use hotlanes::nonzero;

use crate::memory::{Buf, Memory, Values, mix, uniform};
use crate::run::{Output, Run, Work, instance, pick};
use crate::sizes::{dims, label, lengths, product};
use crate::{Bits, Case, Counted, Threads, Timed};

pub(crate) const CASES: &[Case] = &[Case {
    id: "nonzero_find",
    covers: &["nonzero::find"],
    kernel: "hotlanes::nonzero::kernel::Find",
    build: find,
    label,
    bits: Bits::At { sizes: lengths, random: &[(0, 700)] },
    threads: Threads::Never("a sweep of at most 65,536 values is as fast as memory on one thread"),
    same_as: None,
    counted: Counted::At { sizes: [&[1024], &[2048]], elements: product, element: "value" },
    // The moves of chess, of which a position has some thirty.
    timed: Timed::At { report: &[&[4672]], full: &[&[1 << 16]], bench: &[] },
    twin: true,
    gather: true,
    forced: true,
    scalar_stepped: true,
}];

/// One in 128 is not +0, or what the driver's special values have.
fn find(size: &[usize], m: &Memory) -> Box<dyn Run> {
    let [n] = dims(size);
    let few: Vec<f32> = (0..n as u32)
        .map(|i| if mix(i).is_multiple_of(128) { uniform(mix(i ^ 0x5A5A)) } else { 0.0 })
        .collect();
    let values = if m.values() == Values::Ordinary { m.copy(&few) } else { m.input(n, 1) };
    // Not enough for the special values.
    let places = n.div_ceil(3);
    instance(
        (values, m.output(places), m.output(places), m.output(1)),
        Work::sweep(4 * n, 0, 0.0),
        |(values, indices, found, count): &mut (Buf, Buf<u16>, Buf, Buf<u32>)| {
            count[0] = nonzero::find(values, indices, found) as u32;
        },
        |(values, indices, found, count), which| {
            pick!(which, naive::nonzero_find, naive::nonzero_find_auto)(values, indices, found, count);
        },
        |(_, indices, found, count)| {
            vec![
                Output::new("indices", indices, 0.0),
                Output::new("found", found, 0.0),
                Output::new("count", count, 0.0),
            ]
        },
    )
}
