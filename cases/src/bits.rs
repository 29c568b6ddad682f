//! Zeros and ones as bits.

use hotlanes::bits;
use hotlanes::naive::bits as naive;

use crate::memory::{Buf, Memory, Values, mix};
use crate::run::{Output, Run, Work, instance, pick};
use crate::sizes::{dims, label, lengths, product};
use crate::{Bits, Case, Counted, Threads, Timed};

pub(crate) const CASES: &[Case] = &[
    UNPACK_F32,
    Case {
        id: "bits_pack_f32",
        covers: &["bits::pack_f32"],
        kernel: "hotlanes::bits::kernel::Pack",
        build: pack_f32,
        ..UNPACK_F32
    },
];

const UNPACK_F32: Case = Case {
    id: "bits_unpack_f32",
    covers: &["bits::unpack_f32"],
    kernel: "hotlanes::bits::kernel::UnpackF32",
    build: unpack_f32,
    label,
    bits: Bits::At { sizes: lengths, random: &[(0, 700)] },
    threads: Threads::Never("a conversion is as fast as memory on one thread"),
    same_as: None,
    counted: Counted::At { sizes: [&[1024], &[2048]], elements: product, element: "value" },
    // The planes of a chess position, 8x8x122.
    timed: Timed::At { report: &[&[7808]], full: &[&[1 << 21]], bench: &[] },
    twin: true,
    gather: true,
    forced: true,
    scalar_stepped: true,
};

/// Random bits; value `i` does not depend on `n`.
fn random(n: usize) -> Vec<u8> {
    (0..n.div_ceil(8) as u32).map(|i| mix(i) as u8).collect()
}

fn unpack_f32(size: &[usize], m: &Memory) -> Box<dyn Run> {
    let [n] = dims(size);
    instance(
        (m.copy(&random(n)), m.output(n)),
        Work::sweep(n.div_ceil(8), 4 * n, 0.0),
        |(bits, out): &mut (Buf<u8>, Buf)| bits::unpack_f32(bits, out),
        |(bits, out), which| pick!(which, naive::bits_unpack_f32, naive::bits_unpack_f32_auto)(bits, out),
        |(_, out)| vec![Output::rows("out", out, 0.0)],
    )
}

/// Zeros and ones, or the driver's special values, of which few are either.
fn pack_f32(size: &[usize], m: &Memory) -> Box<dyn Run> {
    let [n] = dims(size);
    let planes: Vec<f32> = (0..n).map(|i| f32::from(mix((i / 8) as u32) as u8 >> (i % 8) & 1)).collect();
    let values = if m.values() == Values::Ordinary { m.copy(&planes) } else { m.input(n, 1) };
    instance(
        (values, m.output(n.div_ceil(8)), m.output(1)),
        Work::sweep(4 * n, n.div_ceil(8), 0.0),
        |(values, bits, good): &mut (Buf, Buf<u8>, Buf<u32>)| {
            good[0] = u32::from(bits::pack_f32(values, bits));
        },
        |(values, bits, good), which| {
            pick!(which, naive::bits_pack_f32, naive::bits_pack_f32_auto)(values, bits, good);
        },
        |(_, bits, good)| vec![Output::new("bits", bits, 0.0), Output::new("good", good, 0.0)],
    )
}
