//! Files that somebody made who knows the checksums: an error or a buffer, and never a panic.

use std::fs;
use std::path::Path;

use hotlanes_replay::store::Store;
use hotlanes_replay::{
    Buffer, Codec, Column, Config, Data, DataMut, Dtype, Method, Of, Request, Schema, Target, Unit,
};
use proptest::prelude::*;

/// A buffer whose columns have each codec.
fn saved(directory: &Path) {
    let schema = Schema::new(vec![
        Column::new("planes", Dtype::U8, &[2, 4]).codec(Codec::BitPlanes { plane: 4, constant: 1 }),
        Column::new("policy", Dtype::F32, &[9]).codec(Codec::TopK { k: 3, bf16: false }),
        Column::new("stack", Dtype::U8, &[3, 2]).codec(Codec::Frames),
        Column::new("text", Dtype::U8, &[40]).codec(Codec::Lz4),
    ]);
    let config = Config { segments: 2, priorities: Some(1.0), ..Config::new(12) };
    let buffer = Buffer::new(schema.unwrap(), config).unwrap();
    let mut policy = [0.0; 9 * 10];
    policy.iter_mut().step_by(4).for_each(|x| *x = 1.0);
    let stacks: Vec<u8> = (0..10).flat_map(|i| [i, i, i + 1, i + 1, i + 2, i + 2]).collect();
    let data = [Data::U8(&[1; 80]), Data::F32(&policy), Data::U8(&stacks), Data::U8(&[7; 400])];
    buffer.writer(1).unwrap().add(10, &data, &[]).unwrap();
    Store::create(directory, &buffer).unwrap().save(&[]).unwrap();
}

/// Computes a file's checksums again.
fn sum(bytes: &mut [u8]) {
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap());
    let head = 4 + number(bytes) as usize;
    let crc = crc32c::crc32c(&bytes[4..head - 4]);
    bytes[head - 4..head].copy_from_slice(&crc.to_le_bytes());
    let mut at = head;
    while at < bytes.len() {
        let end = at + 8 + number(&bytes[at..]) as usize;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[at..at + 4]), &bytes[at + 8..end]);
        bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        at = end;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn any_bytes_with_good_checksums_are_refused_or_read(
        which in any::<usize>(), changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4),
    ) {
        let directory = tempfile::tempdir().unwrap();
        saved(directory.path());
        let mut files: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some());
        files.sort();
        let file = &files[which % files.len()];
        let mut bytes = fs::read(file).unwrap();
        let head = 4 + u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
        let mut blocks = vec![];
        let mut at = head;
        while at < bytes.len() {
            let len = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
            blocks.extend(at + 8..at + 8 + len);
            at += 8 + len;
        }
        // The contents, and what the head says of the regions.
        blocks.extend(head - 4 - 8 * 7..head - 4);
        for (at, to) in changes {
            bytes[blocks[at % blocks.len()]] = to;
        }
        sum(&mut bytes);
        fs::write(file, bytes).unwrap();
        let Ok(store) = Store::open(directory.path()) else { return Ok(()) };
        let buffer = store.buffer();
        let _ = buffer.resume_writers();
        for method in [Method::Newest, Method::Prioritised { beta: 1.0 }] {
            let mut sampler = buffer.sampler(Request { method, replace: false, unit: Unit::Record }).unwrap();
            let (mut a, mut b, mut c, mut d) = ([0; 8], [0.0; 9], [0; 6], [0; 40]);
            let mut data = [DataMut::U8(&mut a), DataMut::F32(&mut b), DataMut::U8(&mut c), DataMut::U8(&mut d)];
            for (column, data) in data.iter_mut().enumerate() {
                let data = match data {
                    DataMut::F32(x) => DataMut::F32(x),
                    DataMut::U8(x) => DataMut::U8(x),
                    _ => unreachable!("two dtypes"),
                };
                let _ = sampler.sample_into(1, &mut [Target { column, of: Of::Drawn, data }]);
            }
        }
    }
}
