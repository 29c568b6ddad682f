//! The cases, a file per family.

mod adamw;
mod glue;
mod norm;
mod optim;
mod rms;
mod sparse;

use crate::Case;

/// Every kernel, and each path through one that has a loop of its own.
pub static CASES: &[Case] = &[
    adamw::PLAIN,
    adamw::L2,
    adamw::LERP,
    adamw::AMSGRAD,
    optim::SGD,
    optim::SGD_MOMENTUM,
    optim::SGD_NESTEROV,
    optim::SGD_L2,
    optim::SGD_MOMENTUM_L2,
    optim::SGD_NESTEROV_L2,
    optim::LION,
    optim::ADAFACTOR_GRAD_SQUARES,
    optim::ADAFACTOR_FACTOR,
    optim::ADAFACTOR_UNIT_SQUARES,
    optim::ADAFACTOR_APPLY,
    optim::ADAFACTOR_SQUARES,
    optim::ADAFACTOR_UNITS,
    optim::ADAFACTOR_DESCEND,
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
