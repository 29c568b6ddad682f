//! Net 1: each kernel against its formula in f64, with the bound that its documentation states.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/product.rs"]
mod product;
#[path = "../common/structure.rs"]
mod structure;

mod activation;
mod adafactor;
mod adamw;
mod adamw_errors;
mod attention;
mod attention_errors;
mod attention_golden;
mod bf16;
mod clip;
mod cross_entropy;
mod dropout;
mod embedding;
mod golden;
mod golden_loss;
mod linear_loss;
mod loss_errors;
mod matmul;
mod matmul_errors;
mod matmul_golden;
mod muon;
mod norm;
mod norm_errors;
mod optim;
mod optim_golden;
mod reduce;
mod rms;
mod rms_errors;
mod settings;
mod shapes;
mod softmax;
mod sparse;
mod sparse_errors;
mod sparse_masked;
