//! Regions of bytes as blocks with checksums.
//!
//! A file is the length of its head (4 bytes), the head, and the blocks of each region: 4 bytes for the stored length,
//! the CRC-32C of these and the stored bytes, and the bytes. Fewer than the block has stored are an LZ4 block.

use std::io::{self, Read, Write};

use super::format::Told;

/// Bytes of a block: some of them fit the L2 cache, and a damaged one costs little else.
const BLOCK: usize = 1 << 18;

/// Blocks that are compressed at once.
const AT_ONCE: usize = 16;

const MOST_HEAD: usize = 1 << 24;

/// Writes a file; returns its length.
pub(super) fn write(out: &mut dyn Write, head: &[u8], regions: &[&[u8]], compress: bool) -> io::Result<u64> {
    out.write_all(&(head.len() as u32).to_le_bytes())?;
    out.write_all(head)?;
    let mut len = 4 + head.len() as u64;
    for region in regions {
        for blocks in region.chunks(BLOCK * AT_ONCE) {
            let packed = if compress { pack(blocks) } else { Vec::new() };
            for (i, block) in blocks.chunks(BLOCK).enumerate() {
                let bytes = packed.get(i).and_then(Option::as_deref).unwrap_or(block);
                out.write_all(&(bytes.len() as u32).to_le_bytes())?;
                out.write_all(&checksum(bytes).to_le_bytes())?;
                out.write_all(bytes)?;
                len += 8 + bytes.len() as u64;
            }
        }
    }
    Ok(len)
}

/// Each block as an LZ4 block, where that saves a tenth. On threads of their own: one of rayon's that waits may take up
/// a writer's work, which would wait for the pin that this one has.
fn pack(blocks: &[u8]) -> Vec<Option<Vec<u8>>> {
    let pack = |blocks: &[u8]| -> Vec<_> {
        let pack = |block: &[u8]| {
            let packed = lz4_flex::block::compress(block);
            (packed.len() < block.len() - block.len() / 10).then_some(packed)
        };
        blocks.chunks(BLOCK).map(pack).collect()
    };
    let share = blocks.len().div_ceil(BLOCK).div_ceil(rayon::current_num_threads()) * BLOCK;
    if blocks.len() <= share {
        return pack(blocks);
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = blocks.chunks(share).map(|blocks| scope.spawn(move || pack(blocks))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("compression does not panic")).collect()
    })
}

fn checksum(stored: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&(stored.len() as u32).to_le_bytes()), stored)
}

/// Reads the head of a file.
pub(super) fn read_head(file: &mut dyn Read) -> Told<Vec<u8>> {
    let mut len = [0; 4];
    file.read_exact(&mut len).map_err(|e| format!("its head: {e}"))?;
    let len = u32::from_le_bytes(len) as usize;
    if len > MOST_HEAD {
        return Err(format!("its head has {len} bytes: must be at most {MOST_HEAD}"));
    }
    let mut head = vec![0; len];
    file.read_exact(&mut head).map_err(|e| format!("its head: {e}"))?;
    Ok(head)
}

/// Reads a region, and checks it.
pub(super) fn read(file: &mut dyn Read, region: usize, out: &mut [u8]) -> Told<()> {
    let mut stored = Vec::new();
    for (number, block) in out.chunks_mut(BLOCK).enumerate() {
        let told = |what: &str| format!("region {region}, block {number}: {what}");
        let cut = |e: io::Error| told(&e.to_string());
        let mut head = [0; 8];
        file.read_exact(&mut head).map_err(cut)?;
        let (len, crc) = head.split_at(4);
        let number = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let (len, crc) = (number(len) as usize, number(crc));
        if len > block.len() {
            return Err(told("its length is damaged"));
        }
        if len == block.len() {
            file.read_exact(block).map_err(cut)?;
            if checksum(block) != crc {
                return Err(told("its checksum differs"));
            }
            continue;
        }
        stored.resize(len, 0);
        file.read_exact(&mut stored).map_err(cut)?;
        if checksum(&stored) != crc {
            return Err(told("its checksum differs"));
        }
        if lz4_flex::block::decompress_into(&stored, block).ok() != Some(block.len()) {
            return Err(told("it cannot be decompressed"));
        }
    }
    Ok(())
}
