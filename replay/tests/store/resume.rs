//! A loaded buffer goes on as the one that was saved.

use std::thread;

use hotlanes_replay::store::{self, Store};
use hotlanes_replay::{Buffer, Method, Writer};
use proptest::prelude::*;

use super::small::{add, all, buffer, sample};

const METHODS: [Method; 3] = [Method::Uniform, Method::Prioritised { beta: 0.7 }, Method::Newest];

/// The same steps on a buffer: draws, updates, adds by each writer; everything that is seen.
fn proceed(buffer: &Buffer, writers: &mut [Writer], seed: i32) -> Vec<Option<super::small::Sampled>> {
    let mut seen = vec![];
    for step in 0..6 {
        for method in METHODS {
            let sampled = sample(buffer, method, 9);
            if let Some((drawn, ..)) = &sampled {
                let priorities: Vec<f32> = drawn.ids.iter().map(|id| ((id + step) % 4) as f32).collect();
                buffer.update_priorities(&drawn.ids, &priorities).unwrap();
            }
            seen.push(sampled);
        }
        for (who, writer) in writers.iter_mut().enumerate() {
            add(writer, who as i32, seed + 20 * step as i32, 1 + (step as usize + who) % 3);
        }
        seen.push(all(buffer));
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn the_next_adds_and_draws_are_those_of_a_buffer_that_was_never_saved(
        capacity in 24usize..80, segments in 3usize..9, streams in prop::collection::vec(1usize..3, 1..3),
        steps in prop::collection::vec((any::<bool>(), 1usize..12), 0..12), compress in any::<bool>(),
    ) {
        let buffer = buffer(capacity, segments);
        let mut writers: Vec<_> = streams.iter().map(|&streams| buffer.writer(streams).unwrap()).collect();
        let mut newest: Vec<u64> = vec![0; writers.len()];
        let mut number = 0;
        for (who, _) in streams.iter().enumerate() {
            newest[who] = *add(&mut writers[who], who as i32, 0, 2).last().unwrap();
        }
        for (second, rounds) in steps {
            let who = usize::from(second) % writers.len();
            let ids = add(&mut writers[who], who as i32, number, rounds);
            newest[who] = *ids.last().unwrap();
            number += 40;
            let _ = sample(&buffer, METHODS[number as usize / 40 % 3], 5);
        }
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::create(directory.path(), &buffer).unwrap().compress(compress);
        let saved = store.save(b"mine").unwrap();
        prop_assert!(saved.written > 0 && saved.kept == 0);
        drop(store);
        let checked = store::verify(directory.path()).unwrap();
        prop_assert!(checked.problems.is_empty(), "{:?}", checked.problems);
        prop_assert_eq!(checked.records as usize, buffer.len());

        let store = Store::open(directory.path()).unwrap();
        prop_assert_eq!(store.extra(), b"mine");
        let mut resumed = store.buffer().resume_writers().unwrap();
        prop_assert_eq!(resumed.len(), writers.len());
        // In the order of their segments, as the resumed ones are.
        let mut order: Vec<_> = (0..writers.len()).collect();
        order.sort_by_key(|&who| newest[who]);
        let mut writers: Vec<_> = {
            let mut all: Vec<_> = writers.into_iter().map(Some).collect();
            order.iter().map(|&who| all[who].take().unwrap()).collect()
        };
        for (a, b) in writers.iter().zip(&resumed) {
            prop_assert_eq!(a.streams(), b.streams());
        }
        let want = proceed(&buffer, &mut writers, 1000);
        let got = proceed(store.buffer(), &mut resumed, 1000);
        prop_assert_eq!(want, got);
    }
}

#[test]
fn what_is_there_is_not_written_again() {
    let buffer = buffer(100, 10);
    let mut writer = buffer.writer(1).unwrap();
    add(&mut writer, 0, 0, 75);
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::create(directory.path(), &buffer).unwrap();
    let first = store.save(&[]).unwrap();
    assert_eq!((first.written, first.kept), (8, 0));
    let second = store.save(&[]).unwrap();
    assert_eq!((second.written, second.kept), (0, 8));
    add(&mut writer, 0, 75, 10);
    // The open segment has more, and a new one is begun.
    let third = store.save(&[]).unwrap();
    assert_eq!((third.written, third.kept), (2, 7));
    drop(store);
    let mut store = Store::open(directory.path()).unwrap();
    let fourth = store.save(&[]).unwrap();
    assert_eq!((fourth.written, fourth.kept), (0, 9));
    assert_eq!(all(store.buffer()), all(&buffer));
}

#[test]
fn a_directory_is_one_stores_and_is_not_written_over() {
    let (directory, buffer) = (tempfile::tempdir().unwrap(), buffer(10, 2));
    let mut store = Store::create(directory.path(), &buffer).unwrap();
    let told = Store::create(directory.path(), &buffer).err().unwrap().to_string();
    assert!(told.ends_with("LOCK: another store has this directory"), "{told}");
    store.save(&[]).unwrap();
    drop(store);
    let told = Store::create(directory.path(), &buffer).err().unwrap().to_string();
    assert!(told.contains("there is a buffer in the directory"), "{told}");
    assert!(Store::open(directory.path()).unwrap().buffer().is_empty());
    let told = Store::open(&directory.path().join("none")).err().unwrap().to_string();
    assert!(told.contains("none"), "{told}");
}

#[test]
fn writers_go_on_while_it_is_saved() {
    let buffer = buffer(2000, 20);
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::create(directory.path(), &buffer).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let (buffer, stop) = (&buffer, &done);
        let writers: Vec<_> = (0..2)
            .map(|who| {
                scope.spawn(move || {
                    let mut writer = buffer.writer(1).unwrap();
                    let mut number = 0;
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        add(&mut writer, who, number, 5);
                        number += 5;
                    }
                    number
                })
            })
            .collect();
        let mut total = (0, 0);
        for save in 0..20u8 {
            let saved = store.save(&[save]).unwrap();
            total.0 += saved.written;
            total.1 += saved.evicted;
            let checked = store::verify(directory.path()).unwrap();
            assert!(checked.problems.is_empty(), "{:?}", checked.problems);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let added: i32 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        println!("{total:?} segments written and evicted in 20 saves while {added} records were added");
    });
    drop(store);
    let store = Store::open(directory.path()).unwrap();
    let (drawn, obs, next, stacks) = all(store.buffer()).unwrap();
    for i in 0..drawn.ids.len() {
        let [who, number] = [obs[2 * i], obs[2 * i + 1]];
        assert_eq!(stacks[6 * i..][..6], [0, 0, 1, 1, 2, 2].map(|frame| (number + frame) as u8));
        if drawn.discounts[i] > 0.0 {
            assert_eq!(next[2 * i..][..2], [who, number + drawn.steps[i] as i32]);
        }
    }
}
