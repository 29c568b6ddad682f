//! The cases, a file per family.

mod adamw;
mod bf16;
mod dropout;
mod embedding;
mod glue;
mod norm;
mod reduce;
mod rms;
mod sparse;

use crate::Case;

/// Every kernel, and each path through one that has a loop of its own.
pub static CASES: &[Case] = &[
    adamw::PLAIN,
    adamw::L2,
    adamw::LERP,
    adamw::AMSGRAD,
    adamw::SCALED,
    norm::FORWARD,
    norm::FORWARD_SMALL,
    norm::BACKWARD,
    norm::BACKWARD_SMALL,
    norm::BACKWARD_CHUNKS,
    norm::ADD_CHUNKS,
    rms::FORWARD,
    rms::FORWARD_SMALL,
    rms::BACKWARD,
    rms::BACKWARD_SMALL,
    rms::FORWARD_ADD,
    rms::BACKWARD_ADD,
    rms::LAYERNORM_FORWARD_ADD,
    rms::LAYERNORM_BACKWARD_ADD,
    reduce::SUM,
    reduce::NORM,
    reduce::DOT,
    reduce::MEAN_VAR,
    reduce::MAX,
    reduce::AGGREGATE,
    reduce::AGGREGATE_TILES,
    reduce::CLIP_SCALE,
    sparse::MATVEC,
    sparse::MATVEC_LOADS,
    sparse::MATVEC_U16,
    sparse::MATVEC_U16_LOADS,
    sparse::EXAMPLE_BWD,
    sparse::EXAMPLE_BWD_LOADS,
    sparse::EXAMPLE_BWD_SGD,
    sparse::EXAMPLE_BWD_U16,
    sparse::MATMUL,
    sparse::MATMUL_U16,
    sparse::BWD,
    sparse::BWD_DX,
    sparse::BWD_DVALUES,
    sparse::BWD_SGD,
    sparse::BWD_SGD_LOADS,
    glue::U8_TO_F32,
    glue::SCALE,
    glue::READ,
    glue::COPY,
    glue::UPDATE,
    glue::FMA_CHAIN,
    glue::SQRT_CHAIN,
    embedding::FORWARD,
    embedding::FORWARD_POSITIONS,
    embedding::BACKWARD,
    embedding::BACKWARD_SAME,
    dropout::APPLY,
    bf16::NARROW,
    bf16::WIDEN,
    bf16::SPLIT,
    bf16::JOIN,
    bf16::ADAMW_COPY,
    bf16::ADAMW_COPY_F32,
    bf16::ADAMW_SPLIT,
    bf16::ADAMW_SPLIT_F32,
];
