//! Copies of records to the caller.

use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::schema::Schema;
use crate::snapshot::{At, Snapshot};

/// Bytes from which a column is copied by several threads: a thread is made in some 20 us, and copies so many in 400.
const PARALLEL: usize = 4 << 20;

/// Bytes of a thread at least.
const SHARE: usize = 2 << 20;

/// Bytes from which records are copied in the order in which they lie: below, all pages are in the TLB anyway.
const SORTED: usize = 1 << 20;

/// Copies a column of the sources, one after another; zeros where there is none. Which thread copies what changes
/// nothing.
pub(super) fn column(
    schema: &Schema,
    snapshot: &Snapshot<'_>,
    column: usize,
    sources: &[Option<At>],
    out: &mut [u8],
) -> Result<()> {
    let size = schema.columns()[column].record_bytes();
    let threads = if out.len() < PARALLEL { 1 } else { rayon::current_num_threads().min(out.len() / SHARE) };
    if threads < 2 {
        return chunk(schema, snapshot, column, sources, out);
    }
    // Threads of their own: one of rayon's that waits may take up other work, such as a writer's, which would wait for
    // the pins that this one has.
    let share = sources.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let mut shares = sources.chunks(share).zip(out.chunks_mut(share * size));
        let first = shares.next();
        let others: Vec<_> = shares
            .map(|(sources, out)| scope.spawn(move || chunk(schema, snapshot, column, sources, out)))
            .collect();
        let first = first.map_or(Ok(()), |(sources, out)| chunk(schema, snapshot, column, sources, out));
        others
            .into_iter()
            .fold(first, |result, other| result.and(other.join().expect("a copy does not panic")))
    })
}

fn chunk(
    schema: &Schema,
    snapshot: &Snapshot<'_>,
    column: usize,
    sources: &[Option<At>],
    out: &mut [u8],
) -> Result<()> {
    let size = schema.columns()[column].record_bytes();
    if out.len() < SORTED || size >= SORTED {
        return sources
            .iter()
            .zip(out.chunks_exact_mut(size))
            .try_for_each(|(&at, out)| one(schema, snapshot, column, at, out));
    }
    let mut order: Vec<u32> = (0..sources.len() as u32).collect();
    order.sort_unstable_by_key(|&i| sources[i as usize]);
    order.into_iter().try_for_each(|i| {
        one(schema, snapshot, column, sources[i as usize], &mut out[i as usize * size..][..size])
    })
}

#[inline]
fn one(
    schema: &Schema,
    snapshot: &Snapshot<'_>,
    column: usize,
    at: Option<At>,
    out: &mut [u8],
) -> Result<()> {
    let Some(at) = at else {
        out.fill(0);
        return Ok(());
    };
    let this = &schema.columns()[column];
    if this.codec == Codec::Raw {
        out.copy_from_slice(snapshot.stored(column, at));
        return Ok(());
    }
    let stored = |back| snapshot.stored_before(column, at, back);
    this.codec
        .decode(this, stored, out)
        .map_err(|_| Error::Stored { column: this.name.clone(), id: snapshot.id(at) })
}
