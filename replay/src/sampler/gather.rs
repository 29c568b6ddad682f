//! Copies of records to the caller.

use rayon::prelude::*;

use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::schema::Schema;
use crate::snapshot::{At, Snapshot};

/// Bytes from which a column is copied by several threads: a thread copies so many in some tenths of a millisecond, which is
/// many times what handing them out costs.
const PARALLEL: usize = 4 << 20;

/// Bytes from which records are copied in the order in which they lie: below, all pages are in the TLB anyway.
const SORTED: usize = 1 << 20;

/// Copies a column of the sources, one after another; zeros where there is none. Which thread copies what changes nothing.
pub(super) fn column(
    schema: &Schema,
    snapshot: &Snapshot<'_>,
    column: usize,
    sources: &[Option<At>],
    out: &mut [u8],
) -> Result<()> {
    let size = schema.columns()[column].record_bytes();
    let threads = rayon::current_num_threads();
    if out.len() < PARALLEL || threads == 1 || sources.len() == 1 {
        return chunk(schema, snapshot, column, sources, out);
    }
    let share = sources.len().div_ceil(threads);
    let chunks = sources.par_chunks(share).zip(out.par_chunks_mut(share * size));
    chunks.map(|(sources, out)| chunk(schema, snapshot, column, sources, out)).reduce(|| Ok(()), Result::and)
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
