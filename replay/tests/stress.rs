//! Writers and readers at once: records that carry their own checksum, none of which is ever seen torn, unwritten or of
//! another record than its id says.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use hotlanes_replay::{
    Buffer, Codec, Column, Config, Data, DataMut, Dtype, Eviction, Method, Of, Request, Returns, Schema,
    Step, Target, Unit,
};

const WORDS: usize = 12;

fn mix(x: u32) -> u32 {
    let x = (x ^ x >> 16).wrapping_mul(0x7FEB_352D);
    let x = (x ^ x >> 15).wrapping_mul(0x846C_A68B);
    x ^ x >> 16
}

/// A record's words: who wrote it, its number, and what follows from both.
fn words(writer: u32, number: u32) -> [i32; WORDS] {
    let mut words = [0; WORDS];
    (words[0], words[1]) = (writer as i32, number as i32);
    for i in 2..WORDS {
        words[i] = mix(words[i - 1] as u32 ^ (words[i - 2] as u32).rotate_left(9)) as i32;
    }
    words
}

fn check(record: &[i32], small: &[u8]) {
    let want = words(record[0] as u32, record[1] as u32);
    assert_eq!(record, want, "torn");
    assert_eq!(small, small_of(&want), "columns of different records");
}

/// The same through a codec whose records differ in size.
fn small_of(words: &[i32; WORDS]) -> [u8; 20] {
    let mut small = [0; 20];
    small[..(words[2] & 15) as usize].fill(words[3] as u8);
    small
}

fn run(eviction: Eviction, samples: usize) {
    let columns = vec![
        Column::new("words", Dtype::I32, &[WORDS]),
        Column::new("small", Dtype::U8, &[20]).codec(Codec::Lz4),
        Column::new("reward", Dtype::F32, &[]),
    ];
    let config = Config { segments: 16, eviction, priorities: Some(0.6), ..Config::new(CAPACITY) };
    let buffer = Buffer::new(Schema::new(columns).unwrap(), config).unwrap();
    let (left, done) = (AtomicUsize::new(samples), AtomicBool::new(false));
    let writers = if eviction == Eviction::Record { 1 } else { 2 };
    thread::scope(|scope| {
        let writing: Vec<_> = (0..writers)
            .map(|writer| {
                let (buffer, done) = (&buffer, &done);
                scope.spawn(move || {
                    let mut handle = buffer.writer(1).unwrap();
                    let mut number = 0u32;
                    while !done.load(Ordering::Relaxed) {
                        let count = 1 + number as usize % (CAPACITY / 16);
                        let all: Vec<_> = (0..count).map(|i| words(writer, number + i as u32)).collect();
                        let small: Vec<u8> = all.iter().flat_map(small_of).collect();
                        let steps: Vec<_> = (0..count)
                            .map(|i| {
                                if (number as usize + i) % 50 == 49 {
                                    Step::Terminated
                                } else {
                                    Step::Continues
                                }
                            })
                            .collect();
                        let rewards = vec![1.0; count];
                        let data = [Data::I32(all.as_flattened()), Data::U8(&small), Data::F32(&rewards)];
                        handle.add(count, &data, &steps).unwrap();
                        number += count as u32;
                    }
                    number
                })
            })
            .collect();
        let reading: Vec<_> = [Method::Uniform, Method::Prioritised { beta: 0.4 }, Method::Newest]
            .into_iter()
            .map(|method| {
                let (buffer, left) = (&buffer, &left);
                scope.spawn(move || {
                    let unit = Unit::Returns(Returns { n: 3, gamma: 1.0, reward: 2 });
                    let mut sampler = buffer.sampler(Request { method, replace: true, unit }).unwrap();
                    let (mut records, mut next) = (vec![0; COUNT * WORDS], vec![0; COUNT * WORDS]);
                    let mut small = vec![0; COUNT * 20];
                    while left.load(Ordering::Relaxed) > 0 {
                        let mut targets = [
                            Target { column: 0, of: Of::Drawn, data: DataMut::I32(&mut records) },
                            Target { column: 1, of: Of::Drawn, data: DataMut::U8(&mut small) },
                            Target { column: 0, of: Of::Next, data: DataMut::I32(&mut next) },
                        ];
                        // Nothing is there yet.
                        let Ok(drawn) = sampler.sample_into(COUNT, &mut targets) else { continue };
                        for i in 0..COUNT {
                            let (record, next) =
                                (&records[i * WORDS..][..WORDS], &next[i * WORDS..][..WORDS]);
                            check(record, &small[i * 20..][..20]);
                            if drawn.discounts[i] > 0.0 {
                                // The record that many steps on, of the same episode.
                                let number = record[1] as u32 + drawn.steps[i];
                                assert_eq!(next, words(record[0] as u32, number), "another successor");
                                assert_eq!(number / 50, record[1] as u32 / 50, "another episode");
                            } else {
                                assert_eq!(record[1] as u32 % 50 + drawn.steps[i], 50);
                            }
                        }
                        if let Method::Prioritised { .. } = method {
                            let ids = drawn.ids.clone();
                            let priorities: Vec<f32> = ids.iter().map(|id| (id % 5) as f32).collect();
                            buffer.update_priorities(&ids, &priorities).unwrap();
                        }
                        let _ = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                            Some(n.saturating_sub(COUNT))
                        });
                    }
                })
            })
            .collect();
        reading.into_iter().for_each(|reader| reader.join().unwrap());
        done.store(true, Ordering::Relaxed);
        let added: u32 = writing.into_iter().map(|writer| writer.join().unwrap()).sum();
        println!("{eviction:?}: {samples} samples while {added} records were added");
        assert!(added as usize > CAPACITY, "the ring turned");
    });
}

/// Records of the buffer, of a draw, and of all draws.
const CAPACITY: usize = if cfg!(miri) { 48 } else { 1000 };
const COUNT: usize = if cfg!(miri) { 6 } else { 128 };
const SAMPLES: usize = if cfg!(miri) { 120 } else { 500_000 };

#[test]
fn no_sample_is_torn_while_segments_are_evicted() {
    run(Eviction::Segment, SAMPLES);
}

#[test]
fn no_sample_is_torn_while_records_are_evicted() {
    run(Eviction::Record, SAMPLES);
}

#[test]
#[ignore = "minutes"]
fn no_sample_of_many_is_torn() {
    run(Eviction::Segment, 90_000_000);
    run(Eviction::Record, 10_000_000);
}
