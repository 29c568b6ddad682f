//! Net 1: each kernel against its formula in f64, with the bound that its documentation states.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/product.rs"]
mod product;
#[path = "../common/structure.rs"]
mod structure;

// Every file beside this one.
automod::dir!("tests/oracle");
