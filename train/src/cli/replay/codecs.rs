//! Codecs: records that are added are encoded, those that are sampled decoded.

use std::time::Duration;

use hotlanes_replay::{
    Buffer, Codec, Column, Config, Data, DataMut, Dtype, Error, Method, Of, Request, Sampler, Schema, Target,
    Unit,
};

use super::bench::{Row, Versus};
use crate::rng::Rng;

/// Records of a batch, and of the buffer.
const BATCH: usize = 256;
const CAPACITY: usize = 2048;
/// Planes of a position of chess, of which the last eight are each of one value, and the moves, of which some have a
/// value.
const PLANES: usize = 122;
const CONSTANT: usize = 8;
const SQUARES: usize = 64;
const MOVES: usize = 4672;
const PLAYED: usize = 32;
/// A stack of frames, 4 x 84 x 84 bytes.
const FRAMES: usize = 4;
const FRAME: usize = 84 * 84;

/// A codec with a batch of records.
struct Measured<T> {
    /// Of its adds, and of its samples.
    names: [&'static str; 2],
    column: Column,
    records: Vec<T>,
    data: for<'a> fn(&'a [T]) -> Data<'a>,
    data_mut: for<'a> fn(&'a mut [T]) -> DataMut<'a>,
}

pub(super) fn rows(time: Duration) -> Result<Vec<Row>, Error> {
    let mut rng = Rng::new(5, 0, 0, 0);
    let mut rows = Vec::new();
    let planes = (0..BATCH * PLANES * SQUARES).map(|i| {
        let plane = i / SQUARES % PLANES;
        if plane < PLANES - CONSTANT { rng.below(2) as f32 } else { (i / SQUARES % 50) as f32 }
    });
    let codec = Codec::BitPlanes { plane: SQUARES, constant: CONSTANT };
    rows.extend(floats(
        ["add 256 by bit planes, 31,232 bytes", "sample 256 by bit planes"],
        planes.collect(),
        codec,
        time,
    )?);
    let mut moves = vec![0.0; BATCH * MOVES];
    for record in moves.chunks_exact_mut(MOVES) {
        (0..PLAYED).for_each(|_| record[rng.below(MOVES)] = 0.5 + rng.unit());
    }
    let names = [
        ["add 256 by top-k, 18,688 bytes", "sample 256 by top-k"],
        ["add 256 by top-k with bf16", "sample 256 by top-k with bf16"],
    ];
    for (bf16, names) in [false, true].into_iter().zip(names) {
        if bf16 {
            // So that samples are what was added.
            moves.iter_mut().for_each(|x| *x = f32::from_bits(x.to_bits() & 0xFFFF_0000));
        }
        rows.extend(floats(names, moves.clone(), Codec::TopK { k: 4 * PLAYED, bf16 }, time)?);
    }
    let all: Vec<u8> = (0..(BATCH + FRAMES) * FRAME).map(|_| rng.below(256) as u8).collect();
    let records = (0..BATCH).flat_map(|i| &all[i * FRAME..][..FRAMES * FRAME]).copied().collect();
    let frames = Measured {
        names: ["add 256 by frames, 28,224 bytes", "sample 256 by frames"],
        column: Column::new("x", Dtype::U8, &[FRAMES, FRAME]).codec(Codec::Frames),
        records,
        data: |x| Data::U8(x),
        data_mut: |x| DataMut::U8(x),
    };
    rows.extend(frames.rows(time)?);
    Ok(rows)
}

fn floats(
    names: [&'static str; 2],
    records: Vec<f32>,
    codec: Codec,
    time: Duration,
) -> Result<[Row; 2], Error> {
    let column = Column::new("x", Dtype::F32, &[records.len() / BATCH]).codec(codec);
    Measured { names, column, records, data: |x| Data::F32(x), data_mut: |x| DataMut::F32(x) }.rows(time)
}

impl<T: Copy + Default + PartialEq> Measured<T> {
    /// Adds and samples, each against a copy of the same bytes.
    fn rows(self, time: Duration) -> Result<[Row; 2], Error> {
        let Measured { names, column, records, data, data_mut } = self;
        let config = Config { episodes: false, ..Config::new(CAPACITY) };
        let buffer = Buffer::new(Schema::new(vec![column])?, config)?;
        let mut writer = buffer.writer(1)?;
        let mut add = || {
            writer.add(BATCH, &[data(&records)], &[]).expect("as the codec asks");
        };
        (0..2 * CAPACITY / BATCH).for_each(|_| add());
        let mut copy = vec![T::default(); records.len()];
        let versus = |name| Versus {
            name,
            against: "memcpy",
            unit: "GB/s",
            asked: None,
            work: size_of_val(&records[..]) as f64 / 1e9,
        };
        let adds = versus(names[0]).run(time, &mut add, || {
            copy.copy_from_slice(&records);
            std::hint::black_box(&mut copy);
        });
        let mut out = vec![T::default(); records.len()];
        let sample = |sampler: &mut Sampler, out: &mut [T]| {
            let target = Target { column: 0, of: Of::Drawn, data: data_mut(out) };
            sampler.sample_into(BATCH, &mut [target]).expect("there are records");
        };
        // What is timed is checked: the newest records, the last one first.
        let request = Request { method: Method::Newest, replace: true, unit: Unit::Record };
        sample(&mut buffer.sampler(request)?, &mut out);
        let size = records.len() / BATCH;
        let same = out.chunks_exact(size).rev().eq(records.chunks_exact(size));
        assert!(same, "{}: samples are not what was added", names[1]);
        let mut sampler = buffer.sampler(Request { method: Method::Uniform, ..request })?;
        let samples = versus(names[1]).run(
            time,
            || sample(&mut sampler, &mut out),
            || {
                copy.copy_from_slice(&records);
                std::hint::black_box(&mut copy);
            },
        );
        Ok([adds, samples])
    }
}
