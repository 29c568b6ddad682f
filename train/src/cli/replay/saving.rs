//! Saving and loading.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hotlanes_replay::store::Store;
use hotlanes_replay::{Buffer, Data, Error};

use super::bench::{Row, Versus, median};
use super::earlier::{COLUMNS, Earlier, RECORD};

const ROUNDS: usize = 3;
/// Adds whose 99th percentile is told, in each round.
const ADDS: usize = 4096;
/// A writer that adds when its environment has taken a step, not all the time.
const PAUSE: Duration = Duration::from_micros(20);

/// A directory that is removed.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn rows(directory: &Path, buffer: &Buffer, mut earlier: Earlier) -> Result<[Row; 5], Error> {
    let here = directory.join(format!("hotlanes-replay-bench-{}", std::process::id()));
    let io = |source| Error::Io { path: here.clone(), source };
    fs::create_dir_all(&here).map_err(io)?;
    let here = Temporary(here.clone());
    let (plain, in_place, saved) = (here.0.join("plain"), here.0.join("in-place"), here.0.join("saved"));
    let io = |source| Error::Io { path: here.0.clone(), source };
    let bytes = (buffer.len() * RECORD) as f64;
    let mut copy: Vec<u8> = vec![1; buffer.len() * RECORD];
    // For each, the seconds of saving and loading: a plain copy of as many bytes, the earlier design, this one.
    let mut times: [[Vec<f64>; 3]; 2] = Default::default();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut file = File::create(&plain).map_err(io)?;
        file.write_all(&copy).and_then(|()| file.sync_all()).map_err(io)?;
        times[0][0].push(start.elapsed().as_secs_f64());

        let start = Instant::now();
        earlier.save(&in_place).map_err(io)?;
        File::open(&in_place).and_then(|file| file.sync_all()).map_err(io)?;
        times[0][1].push(start.elapsed().as_secs_f64());

        let _ = fs::remove_dir_all(&saved);
        let start = Instant::now();
        Store::create(&saved, buffer)?.save(&[])?;
        times[0][2].push(start.elapsed().as_secs_f64());

        let start = Instant::now();
        // As a buffer that is loaded, into memory that is new.
        copy = Vec::new();
        File::open(&plain).and_then(|mut file| file.read_to_end(&mut copy)).map_err(io)?;
        times[1][0].push(start.elapsed().as_secs_f64());

        let start = Instant::now();
        earlier.load(&in_place).map_err(io)?;
        times[1][1].push(start.elapsed().as_secs_f64());

        let start = Instant::now();
        drop(Store::open(&saved)?);
        times[1][2].push(start.elapsed().as_secs_f64());
    }
    let row = |name, against, asked, [ours, other]: [&Vec<f64>; 2]| {
        let speed = |seconds: &Vec<f64>| median(seconds.iter().map(|s| bytes / s / 1e6).collect());
        let ratio = median(ours.iter().zip(other).map(|(a, b)| b / a).collect());
        let versus = Versus { name, against, unit: "MB/s", asked, work: 0.0 };
        versus.row([speed(ours), speed(other), ratio])
    };
    let [[plain_save, earlier_save, save], [plain_load, earlier_load, load]] = &times;
    let writer = writer(&saved, buffer)?;
    Ok([
        row("save, fsynced", "a plain file, fsynced", Some(0.85), [save, plain_save]),
        row("save, fsynced", "earlier, fsynced", None, [save, earlier_save]),
        row("load", "a plain file", Some(0.85), [load, plain_load]),
        row("load", "earlier", None, [load, earlier_load]),
        writer,
    ])
}

/// The 99th percentile of a writer's adds while the buffer is saved again and again, against that without.
fn writer(directory: &Path, buffer: &Buffer) -> Result<Row, Error> {
    let versus = Versus {
        name: "add one, 99th percentile, during a save",
        against: "no save",
        unit: "us",
        asked: Some(0.5),
        work: 0.0,
    };
    let values = COLUMNS.map(|n| vec![1.0; n]);
    let data = values.each_ref().map(|column| Data::F32(column));
    let mut writer = buffer.writer(1)?;
    let (mut alone, mut saving) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        alone.push(percentile(&mut || writer.add(1, &data, &[]).map(drop), &|| true)?);
        // A directory of its own: all of it is written.
        let _ = fs::remove_dir_all(directory);
        let mut store = Store::create(directory, buffer)?;
        let (busy, done) = (AtomicBool::new(false), AtomicBool::new(false));
        let times = thread::scope(|scope| {
            let saves = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    busy.store(true, Ordering::Relaxed);
                    store.save(&[])?;
                    busy.store(false, Ordering::Relaxed);
                }
                Ok(())
            });
            let saving = || busy.load(Ordering::Relaxed) || saves.is_finished();
            let times = percentile(&mut || writer.add(1, &data, &[]).map(drop), &saving);
            done.store(true, Ordering::Relaxed);
            saves.join().expect("a save does not panic").and(times)
        });
        saving.push(times?);
    }
    let ratio = median(alone.iter().zip(&saving).map(|(alone, saving)| alone / saving).collect());
    Ok(versus.row([median(saving), median(alone), ratio]))
}

/// Microseconds that 99 of a hundred calls stay below, of those that began while `counts`.
fn percentile(f: &mut impl FnMut() -> Result<(), Error>, counts: &impl Fn() -> bool) -> Result<f64, Error> {
    let mut times = Vec::with_capacity(ADDS);
    while times.len() < ADDS {
        let counted = counts();
        let start = Instant::now();
        f()?;
        let time = start.elapsed();
        if counted {
            times.push(time.as_secs_f64() * 1e6);
        }
        // Without giving the core away, which would time the scheduler.
        let start = Instant::now();
        while start.elapsed() < PAUSE {
            std::hint::spin_loop();
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[ADDS * 99 / 100])
}
