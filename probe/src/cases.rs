//! The cases, a file per family.

mod adamw;
mod glue;
mod matmul;
mod norm;
mod sparse;

use crate::Case;

/// Every kernel, and each path through one that has a loop of its own.
pub static CASES: &[Case] = &[
    adamw::PLAIN,
    adamw::L2,
    adamw::LERP,
    adamw::AMSGRAD,
    matmul::DIRECT,
    matmul::LEFT_PACKED,
    matmul::RIGHT_PACKED,
    matmul::PACK,
    matmul::PACK_TRANSPOSED,
    norm::FORWARD,
    norm::FORWARD_SMALL,
    norm::BACKWARD,
    norm::BACKWARD_SMALL,
    norm::BACKWARD_CHUNKS,
    norm::ADD_CHUNKS,
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
];
