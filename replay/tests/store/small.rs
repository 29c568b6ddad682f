//! A small buffer with a column of each kind of storage, and everything that can be drawn from it.

use hotlanes_replay::{
    Buffer, Codec, Column, Config, Data, DataMut, Drawn, Dtype, Method, Of, Request, Returns, Schema, Step,
    Target, Unit, Writer,
};

pub const REWARD: usize = 1;
const STACK: usize = 6;

pub fn buffer(capacity: usize, segments: usize) -> Buffer {
    let schema = Schema::new(vec![
        Column::new("obs", Dtype::I32, &[2]),
        Column::new("reward", Dtype::F32, &[]),
        Column::new("stack", Dtype::U8, &[3, 2]).codec(Codec::Frames),
    ]);
    let config = Config { segments, priorities: Some(0.5), seed: 3, ..Config::new(capacity) };
    Buffer::new(schema.unwrap(), config).unwrap()
}

/// Adds rounds of records that follow from their number.
pub fn add(writer: &mut Writer, who: i32, first: i32, rounds: usize) -> Vec<u64> {
    let records = rounds * writer.streams();
    let number = |i: usize| first + i as i32;
    let obs: Vec<i32> = (0..records).flat_map(|i| [who, number(i)]).collect();
    let rewards: Vec<f32> = (0..records).map(|i| number(i) as f32).collect();
    let streams = writer.streams() as i32;
    let stacks: Vec<u8> = (0..records)
        .flat_map(|i| (0..3).flat_map(move |frame| [(number(i) + frame * streams) as u8; 2]))
        .collect();
    let steps: Vec<Step> =
        (0..records).map(|i| if number(i) % 7 == 6 { Step::Terminated } else { Step::Continues }).collect();
    writer.add(records, &[Data::I32(&obs), Data::F32(&rewards), Data::U8(&stacks)], &steps).unwrap();
    writer.ids().collect()
}

/// What a draw gave: its picks, observations, the observations after them, stacks.
pub type Sampled = (Drawn, Vec<i32>, Vec<i32>, Vec<u8>);

/// One draw.
pub fn sample(buffer: &Buffer, method: Method, count: usize) -> Option<Sampled> {
    let unit = Unit::Returns(Returns { n: 3, gamma: 0.9, reward: REWARD });
    let mut sampler = buffer.sampler(Request { method, replace: method != Method::Newest, unit }).unwrap();
    let (mut obs, mut next, mut stacks) = (vec![0; 2 * count], vec![0; 2 * count], vec![0; STACK * count]);
    let mut targets = [
        Target { column: 0, of: Of::Drawn, data: DataMut::I32(&mut obs) },
        Target { column: 0, of: Of::Next, data: DataMut::I32(&mut next) },
        Target { column: 2, of: Of::Drawn, data: DataMut::U8(&mut stacks) },
    ];
    let drawn = sampler.sample_into(count, &mut targets).ok()?.clone();
    Some((drawn, obs, next, stacks))
}

/// Everything that can be drawn, in order: two buffers with the same records are equal in it.
pub fn all(buffer: &Buffer) -> Option<Sampled> {
    (1..=buffer.len()).rev().find_map(|count| sample(buffer, Method::Newest, count))
}
