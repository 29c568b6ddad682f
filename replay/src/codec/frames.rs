//! Stacks of frames, of which a stack that continues the one before it stores only what is new.

use super::Broken;

/// A byte that counts the frames, and the newest so many, oldest first.
pub(super) fn encode(record: &[u8], frames: usize, before: Option<&[u8]>, out: &mut Vec<u8>) {
    let frame = record.len() / frames;
    let continues = |new: &usize| {
        before.is_some_and(|before| before[new * frame..] == record[..record.len() - new * frame])
    };
    // A stack has at least its newest frame: then a walk back always ends at one that has all.
    let new = (1..frames).find(continues).unwrap_or(frames);
    out.push(new as u8);
    out.extend_from_slice(&record[record.len() - new * frame..]);
}

pub(super) fn decode<'a>(
    frames: usize,
    stored: impl Fn(usize) -> Option<&'a [u8]>,
    out: &mut [u8],
) -> Result<(), Broken> {
    let frame = out.len() / frames;
    let mut missing = frames;
    let mut back = 0;
    while missing > 0 {
        let (&count, mut newest) = stored(back).and_then(<[u8]>::split_first).ok_or(Broken)?;
        if count == 0 || newest.len() != usize::from(count) * frame {
            return Err(Broken);
        }
        // The newest of its frames that are still missing.
        if usize::from(count) > missing {
            newest = &newest[(usize::from(count) - missing) * frame..];
        }
        let taken = newest.len() / frame;
        out[(missing - taken) * frame..missing * frame].copy_from_slice(newest);
        missing -= taken;
        back += 1;
    }
    Ok(())
}
