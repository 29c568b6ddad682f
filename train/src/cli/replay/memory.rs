//! Adding and sampling.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hotlanes_replay::{
    Buffer, Column, Config, Data, DataMut, Dtype, Error, Method, Of, Request, Sampler, Schema, Target, Unit,
    Writer,
};

use super::bench::{Row, Versus, median};
use super::earlier::{COLUMNS, Earlier, EarlierTree, RECORD};
use crate::rng::Rng;

const BATCH: usize = 256;
const GB: f64 = 1e9;
/// Bytes of a small record, and records of a batch of them.
const SMALL: usize = 64;
const MANY: usize = 4096;
/// Entries of the prioritised buffer.
const ENTRIES: usize = 1_000_000;

type Measured = (Vec<Row>, Buffer, Earlier);

/// The rows, and two buffers of records to be saved.
pub(super) fn rows(records: usize, time: Duration) -> Result<Measured, Error> {
    let buffer = Buffer::new(schema()?, Config { episodes: false, ..Config::new(records) })?;
    let mut earlier = Earlier::new(records);
    let mut rng = Rng::new(1, 0, 0, 0);
    let batch = COLUMNS.map(|n| (0..n * BATCH).map(|_| rng.unit()).collect::<Vec<f32>>());
    let mut writer = buffer.writer(1)?;
    // All pages are touched before anything is timed.
    for _ in 0..2 * records / BATCH + 1 {
        add(&mut writer, &batch);
        earlier.add_batch(&batch, BATCH);
    }
    let mut rows =
        vec![adds(&mut writer, &batch, &mut earlier, time), copies(&mut writer, &batch, &mut earlier, time)];
    rows.push(singles(&mut writer, &batch, time));
    drop(writer);
    rows.push(two_writers(&buffer, &batch, time)?);
    rows.extend(samples(&buffer, &earlier, &batch, time)?);
    rows.push(small(time)?);
    rows.push(prioritised(time)?);
    let versus =
        Versus { name: "memory over the records", against: "records", unit: "GB", asked: None, work: 0.0 };
    let (all, plain) = (buffer.bytes() as f64 / GB, (records * RECORD) as f64 / GB);
    rows.push(versus.row([all, plain, plain / all]));
    Ok((rows, buffer, earlier))
}

fn schema() -> Result<Schema, Error> {
    let names = ["planes", "policy", "value"];
    Schema::new(names.into_iter().zip(COLUMNS).map(|(name, n)| Column::new(name, Dtype::F32, &[n])).collect())
}

fn data(batch: &[Vec<f32>; 3]) -> [Data<'_>; 3] {
    batch.each_ref().map(|column| Data::F32(column))
}

fn add(writer: &mut Writer, batch: &[Vec<f32>; 3]) {
    writer.add(BATCH, &data(batch), &[]).expect("as the schema says");
}

fn adds(writer: &mut Writer, batch: &[Vec<f32>; 3], earlier: &mut Earlier, time: Duration) -> Row {
    let versus = Versus {
        name: "add, batches of 256, 49,924 bytes",
        against: "earlier",
        unit: "records/s",
        asked: None,
        work: BATCH as f64,
    };
    versus.run(time, || add(writer, batch), || earlier.add_batch(batch, BATCH))
}

/// Adds against copies of the same batch to memory of the same size.
fn copies(writer: &mut Writer, batch: &[Vec<f32>; 3], earlier: &mut Earlier, time: Duration) -> Row {
    let versus = Versus {
        name: "add, batches of 256, 49,924 bytes",
        against: "memcpy",
        unit: "GB/s",
        asked: Some(0.85),
        work: (BATCH * RECORD) as f64 / GB,
    };
    let planes = &batch[0];
    let bytes = BATCH * RECORD / 4;
    let source: Vec<f32> = planes.iter().cycle().take(bytes).copied().collect();
    let mut place = 0;
    let to = &mut earlier.columns[0];
    versus.run(
        time,
        || add(writer, batch),
        || {
            place = if place + 2 * bytes > to.len() { 0 } else { place + bytes };
            to[place..][..bytes].copy_from_slice(&source);
        },
    )
}

fn singles(writer: &mut Writer, batch: &[Vec<f32>; 3], time: Duration) -> Row {
    let writer = std::cell::RefCell::new(writer);
    let versus = Versus {
        name: "add one at a time, 49,924 bytes",
        against: "batches of 256",
        unit: "records/s",
        asked: Some(0.95),
        work: BATCH as f64,
    };
    let one_at_a_time = || {
        for i in 0..BATCH {
            let record = [0, 1, 2].map(|c| Data::F32(&batch[c][i * COLUMNS[c]..][..COLUMNS[c]]));
            writer.borrow_mut().add(1, &record, &[]).expect("as the schema says");
        }
    };
    versus.run(time, one_at_a_time, || add(&mut writer.borrow_mut(), batch))
}

/// Batches a second of so many writers, each with a thread.
fn writers(buffer: &Buffer, batch: &[Vec<f32>; 3], count: usize, time: Duration) -> Result<f64, Error> {
    let writers = (0..count).map(|_| buffer.writer(1)).collect::<Result<Vec<_>, _>>()?;
    let start = Instant::now();
    let batches: u32 = thread::scope(|scope| {
        let work = |mut writer: Writer| {
            let mut batches = 0;
            while start.elapsed() < time {
                add(&mut writer, batch);
                batches += 1;
            }
            batches
        };
        let threads: Vec<_> = writers.into_iter().map(|writer| scope.spawn(move || work(writer))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it does not panic")).sum()
    });
    Ok(f64::from(batches) * BATCH as f64 / start.elapsed().as_secs_f64())
}

fn two_writers(buffer: &Buffer, batch: &[Vec<f32>; 3], time: Duration) -> Result<Row, Error> {
    let versus =
        Versus { name: "two writers", against: "one writer", unit: "records/s", asked: Some(1.6), work: 0.0 };
    let (mut two, mut one, mut ratios) = (vec![], vec![], vec![]);
    for _ in 0..5 {
        let pair = [writers(buffer, batch, 2, time / 10)?, writers(buffer, batch, 1, time / 10)?];
        two.push(pair[0]);
        one.push(pair[1]);
        ratios.push(pair[0] / pair[1]);
    }
    Ok(versus.row([median(two), median(one), median(ratios)]))
}

/// A batch that is sampled again and again into the same memory.
struct Batch {
    sampler: Sampler,
    columns: [Vec<f32>; 3],
}

impl Batch {
    fn new(buffer: &Buffer) -> Result<Batch, Error> {
        let request = Request { method: Method::Uniform, replace: true, unit: Unit::Record };
        Ok(Batch { sampler: buffer.sampler(request)?, columns: COLUMNS.map(|n| vec![0.0; n * BATCH]) })
    }

    fn sample(&mut self) {
        let mut column = 0;
        let mut targets = self.columns.each_mut().map(|values| {
            column += 1;
            Target { column: column - 1, of: Of::Drawn, data: DataMut::F32(values) }
        });
        self.sampler.sample_into(BATCH, &mut targets).expect("there are records");
    }
}

fn samples(
    buffer: &Buffer,
    earlier: &Earlier,
    batch: &[Vec<f32>; 3],
    time: Duration,
) -> Result<[Row; 3], Error> {
    let mut rng = Rng::new(2, 0, 0, 0);
    let mut indices = || (0..BATCH).map(|_| rng.below(earlier.size)).collect::<Vec<_>>();
    let mut ours = Batch::new(buffer)?;
    let versus = |against, asked| Versus {
        name: "sample 256 of 49,924 bytes",
        against,
        unit: "batches/s",
        asked: Some(asked),
        work: 1.0,
    };
    let first = versus("earlier", 5.0).run(
        time,
        || ours.sample(),
        || {
            std::hint::black_box(earlier.sample(&indices()));
        },
    );
    // On one thread, as the copies; while a writer runs, which takes a core of its own, too.
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    let mut out = COLUMNS.map(|n| vec![0.0; n * BATCH]);
    let mut gather = || {
        let indices = indices();
        for ((out, column), n) in out.iter_mut().zip(&earlier.columns).zip(COLUMNS) {
            for (row, &index) in out.chunks_exact_mut(n).zip(&indices) {
                row.copy_from_slice(&column[index * n..][..n]);
            }
        }
        std::hint::black_box(&mut out);
    };
    let second = Versus { name: "the same on one thread", ..versus("gathering copies, one pass", 0.7) };
    let second = one.install(|| second.run(time, || ours.sample(), &mut gather));
    // The same while a writer adds as fast as it can, against the same without.
    let mut alone = Batch::new(buffer)?;
    let writing = AtomicBool::new(false);
    let done = AtomicBool::new(false);
    let mut writer = buffer.writer(1)?;
    let third = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if writing.load(Ordering::Relaxed) {
                    add(&mut writer, batch);
                } else {
                    thread::sleep(Duration::from_micros(50));
                }
            }
        });
        let versus = Versus { name: "the same while a writer runs", ..versus("no writer", 0.8) };
        let run = || {
            versus.run(
                time,
                || {
                    writing.store(true, Ordering::Relaxed);
                    ours.sample();
                },
                || {
                    writing.store(false, Ordering::Relaxed);
                    alone.sample();
                },
            )
        };
        let row = one.install(run);
        done.store(true, Ordering::Relaxed);
        row
    });
    Ok([first, second, third])
}

fn small(time: Duration) -> Result<Row, Error> {
    let schema = Schema::new(vec![Column::new("x", Dtype::F32, &[SMALL / 4])])?;
    let buffer = Buffer::new(schema, Config { episodes: false, ..Config::new(1 << 20) })?;
    let mut writer = buffer.writer(1)?;
    let batch = vec![1.0; MANY * SMALL / 4];
    let mut plain = vec![0.0; (1 << 20) * SMALL / 4];
    let mut place = 0;
    let mut add = || {
        writer.add(MANY, &[Data::F32(&batch)], &[]).expect("as the schema says");
    };
    (0..2 << 20 >> 12).for_each(|_| add());
    let versus = Versus {
        name: "add, batches of 4096, 64 bytes",
        against: "memcpy (20 M records/s are asked)",
        unit: "records/s",
        asked: None,
        work: MANY as f64,
    };
    Ok(versus.run(time, add, || {
        place = (place + batch.len()) % plain.len();
        plain[place..][..batch.len()].copy_from_slice(&batch);
    }))
}

fn prioritised(time: Duration) -> Result<Row, Error> {
    let schema = Schema::new(vec![Column::new("x", Dtype::F32, &[])])?;
    let config = Config { episodes: false, priorities: Some(1.0), ..Config::new(ENTRIES) };
    let buffer = Buffer::new(schema, config)?;
    let values = vec![0.0; ENTRIES];
    buffer.writer(1)?.add(ENTRIES, &[Data::F32(&values)], &[])?;
    let request = Request { method: Method::Prioritised { beta: 0.4 }, replace: true, unit: Unit::Record };
    let mut sampler = buffer.sampler(request)?;
    let earlier = EarlierTree::new(ENTRIES);
    let (mut rng, mut other) = (Rng::new(3, 0, 0, 0), Rng::new(4, 0, 0, 0));
    let mut ids = Vec::new();
    let versus = Versus {
        name: "prioritised: sample 256, update 256",
        against: "earlier (40 us are asked)",
        unit: "per second",
        asked: None,
        work: 1.0,
    };
    Ok(versus.run(
        time,
        || {
            ids.clone_from(&sampler.sample_into(BATCH, &mut []).expect("there are records").ids);
            let priorities: [f32; BATCH] = std::array::from_fn(|_| rng.unit());
            buffer.update_priorities(&ids, &priorities).expect("good priorities");
        },
        || {
            let leaves: [usize; BATCH] = std::array::from_fn(|_| earlier.find(other.unit()));
            leaves.into_iter().for_each(|leaf| earlier.update(leaf, other.unit()));
        },
    ))
}
