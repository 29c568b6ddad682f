//! The concurrent core under loom: the orders in which its threads can meet, with the memory model of C++11. With one
//! reader all of them; with two, and in rings, those with few preemptions.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p hotlanes-replay --release --test loom`
#![cfg(loom)]

use hotlanes_replay::ring::Ring;
use hotlanes_replay::segment::{Pin, Segment, Tail};
use loom::sync::Arc;
use loom::thread;

/// A record: two bytes in two regions, whose sum is 100 and whose parts tell which record it is.
fn append(tail: &mut Tail, record: u8) {
    tail.grow(0, 1)[0] = record;
    tail.grow(1, 1)[0] = 100 - record;
}

/// All records that a pin shows, none of them torn.
fn read(pin: &Pin<'_>) -> Vec<u8> {
    let rows = pin.rows();
    let (a, b) = (pin.bytes(0), pin.bytes(1));
    assert!(a.len() >= rows && b.len() >= rows);
    (0..rows).for_each(|i| assert_eq!(a[i] + b[i], 100, "torn"));
    a[..rows].to_vec()
}

fn check(preemptions: Option<usize>, f: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemptions;
    let runs = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&runs);
    model.check(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        f();
    });
    println!("{} executions", runs.load(std::sync::atomic::Ordering::Relaxed));
}

/// One reader in all orders; two in those with few preemptions, since all of them take hours.
#[test]
fn published_records_are_whole() {
    published(None, 1);
    published(Some(2), 2);
}

fn published(preemptions: Option<usize>, readers: usize) {
    check(preemptions, move || {
        let segment = Arc::new(Segment::new(&[3, 3]).unwrap());
        let mut tail = Segment::claim(&segment, 0, 1).unwrap();
        let readers: Vec<_> = (0..readers)
            .map(|_| {
                let segment = Arc::clone(&segment);
                thread::spawn(move || {
                    let pin = segment.pin().unwrap();
                    let seen = read(&pin);
                    assert!([&[][..], &[1, 2], &[1, 2, 3]].contains(&&seen[..]), "{seen:?}");
                    // A prefix only grows.
                    assert!(read(&pin).starts_with(&seen));
                })
            })
            .collect();
        append(&mut tail, 1);
        append(&mut tail, 2);
        tail.publish(2);
        append(&mut tail, 3);
        tail.publish(1);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn a_pinned_segment_is_not_overwritten() {
    pinned(None, 1);
    pinned(Some(2), 2);
}

fn pinned(preemptions: Option<usize>, readers: usize) {
    check(preemptions, move || {
        let segment = Arc::new(Segment::new(&[1, 1]).unwrap());
        let mut tail = Segment::claim(&segment, 0, 1).unwrap();
        append(&mut tail, 1);
        tail.publish(1);
        drop(tail);
        let readers: Vec<_> = (0..readers)
            .map(|_| {
                let segment = Arc::clone(&segment);
                thread::spawn(move || {
                    let Some(pin) = segment.pin() else { return };
                    let seen = read(&pin);
                    match pin.ordinal() {
                        0 => assert_eq!(seen, [1]),
                        _ => assert!(seen.is_empty() || seen == [2], "{seen:?}"),
                    }
                    assert!(read(&pin).starts_with(&seen));
                })
            })
            .collect();
        segment.retire();
        if let Some(mut tail) = Segment::claim(&segment, 1, 1) {
            append(&mut tail, 2);
            tail.publish(1);
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn one_of_two_claims_succeeds() {
    check(None, || {
        let segment = Arc::new(Segment::new(&[1, 1]).unwrap());
        let claims: Vec<_> = (1..=2)
            .map(|record| {
                let segment = Arc::clone(&segment);
                thread::spawn(move || {
                    let tail = Segment::claim(&segment, record.into(), 1);
                    tail.map(|mut tail| {
                        append(&mut tail, record);
                        tail.publish(1);
                        tail
                    })
                })
            })
            .collect();
        let tails: Vec<_> = claims.into_iter().filter_map(|claim| claim.join().unwrap()).collect();
        assert_eq!(tails.len(), 1);
        let pin = segment.pin().unwrap();
        assert_eq!(read(&pin), [pin.ordinal() as u8]);
    });
}

/// Another thread's writes are done before the memory is written again.
#[test]
fn a_tail_that_was_dropped_writes_no_more() {
    check(None, || {
        let segment = Arc::new(Segment::new(&[1, 1]).unwrap());
        let mut tail = Segment::claim(&segment, 0, 1).unwrap();
        let writer = thread::spawn(move || {
            append(&mut tail, 1);
            tail.publish(1);
        });
        segment.retire();
        if let Some(mut tail) = Segment::claim(&segment, 1, 1) {
            append(&mut tail, 2);
            tail.publish(1);
            assert_eq!(read(&segment.pin().unwrap()), [2]);
        }
        writer.join().unwrap();
    });
}

/// A ring of two places and one spare segment of one record: a writer goes round while a reader samples.
#[test]
fn samples_while_the_ring_turns() {
    check(Some(2), || {
        let ring = Arc::new(Ring::new(&[1, 1], 2, 1).unwrap());
        let reader = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                let pins: Vec<_> = (0..2).filter_map(|place| ring.pin_place(place)).collect();
                let ordinals: Vec<_> = pins.iter().map(Pin::ordinal).collect();
                // No segment twice, which was evicted and filled again between the two.
                assert!(ordinals.len() < 2 || ordinals[0] % 2 != ordinals[1] % 2, "{ordinals:?}");
                for pin in &pins {
                    let seen = read(pin);
                    assert!(
                        seen.is_empty() || seen == [pin.ordinal() as u8],
                        "{seen:?} in {}",
                        pin.ordinal()
                    );
                }
                let next = pins.first().map(|pin| (pin.next(), pin.ordinal()));
                if let Some((next, ordinal)) = next {
                    assert!(next == u64::MAX || next == ordinal + 1);
                }
            })
        };
        let mut tail = None;
        for record in 0..4 {
            let mut open = ring.rotate(tail.take(), 1).unwrap();
            append(&mut open, record);
            open.publish(1);
            tail = Some(open);
        }
        reader.join().unwrap();
        assert!(ring.pin(0).is_none() && ring.pin(1).is_none(), "evicted");
        assert_eq!(read(&ring.pin(2).unwrap()), [2]);
        assert_eq!(read(&ring.pin(3).unwrap()), [3]);
    });
}

/// Two writers in a ring of three places: no record is lost that is not the oldest, and an open segment is passed over.
#[test]
fn two_writers_share_the_ring() {
    check(Some(2), || {
        let ring = Arc::new(Ring::new(&[1, 1], 3, 1).unwrap());
        let writers: Vec<_> = (0..2u8)
            .map(|writer| {
                let ring = Arc::clone(&ring);
                thread::spawn(move || {
                    let mut tail = ring.rotate(None, 1).unwrap();
                    append(&mut tail, 10 * writer);
                    tail.publish(1);
                    let mut tail = ring.rotate(Some(tail), 1).unwrap();
                    append(&mut tail, 10 * writer + 1);
                    tail.publish(1);
                    tail
                })
            })
            .collect();
        let tails: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        let pins: Vec<_> = (0..3).filter_map(|place| ring.pin_place(place)).collect();
        let seen: Vec<u8> = pins.iter().flat_map(read).collect();
        assert_eq!(pins.len(), 3);
        assert!(seen.contains(&1) && seen.contains(&11), "{seen:?}");
        drop(tails);
    });
}
