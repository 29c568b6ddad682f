//! Instructions as the gate sees them: where control goes, and what kind of arithmetic it is.

mod arm;
mod x86;

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// The architectures that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arch {
    /// x86-64
    X86,
    /// AArch64, little endian
    Arm,
}

/// Where control goes after an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flow {
    /// To the next instruction.
    Next,
    /// To an offset in the same function.
    Jump(u64),
    /// To an offset, or to the next instruction.
    Branch(u64),
    /// Into a function and back; its name where the object file has one.
    Call(Option<String>),
    /// Into a function that returns to the caller.
    TailCall(String),
    /// Out of the function: a return, a trap, a jump through a table, or a call that does not come back.
    Leave,
}

/// What kind of work an instruction does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Integers, addresses, moves, shuffles, logic.
    #[default]
    Other,
    /// Floating-point arithmetic in one lane.
    Scalar(Arithmetic),
    /// Floating-point arithmetic in registers of so many bits.
    Packed(Arithmetic, u32),
    /// Loads by a vector of indices, into registers of so many bits.
    Gather(u32),
    /// Asks a cache for memory, and computes nothing.
    Prefetch,
}

/// Which arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// Addition, subtraction, multiplication, minimum, maximum, rounding, comparison, conversion.
    Plain,
    /// Multiplication and addition with one rounding.
    Fma,
    /// Division.
    Div,
    /// Square root.
    Sqrt,
    /// An estimate of a reciprocal or of its root: forbidden, its bits differ between CPUs.
    Estimate,
}

/// One instruction.
#[derive(Clone, Debug)]
pub struct Insn {
    /// From the start of its function.
    pub offset: u64,
    /// Its text, in Intel's syntax on x86.
    pub text: String,
    /// Where control goes.
    pub flow: Flow,
    /// The symbol that the linker fills in, such as a function's address that is kept in a register.
    pub symbol: Option<String>,
    /// What kind of work it does.
    pub kind: Kind,
    /// Whether it reads or writes memory relative to the stack pointer.
    pub stack: bool,
    /// The widest vector register that it names, in bits; 0 if none.
    pub widest: u32,
}

/// Decodes a function. `relocations` are the names that the linker will fill in, by offset.
pub fn decode(arch: Arch, code: &[u8], relocations: &BTreeMap<u64, String>) -> Result<Vec<Insn>> {
    match arch {
        Arch::X86 => x86::decode(code, relocations),
        Arch::Arm => arm::decode(code, relocations),
    }
}

/// Whether a function never returns, so that what follows its call is not reached from there.
fn diverges(name: Option<&str>) -> bool {
    let Some(name) = name else { return false };
    let ends = ["::unwrap_failed", "::expect_failed", "::slice_index_fail", "::len_mismatch_fail"];
    name.starts_with("core::panicking::")
        || name.starts_with("alloc::alloc::handle_alloc_error")
        || name.starts_with("core::slice::copy_from_slice_impl::len_mismatch_fail")
        || matches!(name, "_Unwind_Resume" | "abort")
        || ends.iter().any(|end| name.ends_with(end))
}

/// The flow of a jump to another function.
fn tail_call(name: String) -> Flow {
    if diverges(Some(&name)) { Flow::Leave } else { Flow::TailCall(name) }
}

/// The flow of a call, or the end if it does not come back.
fn call(name: Option<String>) -> Flow {
    if diverges(name.as_deref()) { Flow::Leave } else { Flow::Call(name) }
}

/// An offset in a function of `len` bytes, or an error: code that was not understood must not pass.
fn target(offset: u64, to: i64, len: usize, text: &str) -> Result<u64> {
    if to < 0 || to >= len as i64 {
        bail!("`{text}` at {offset:#x} jumps out of its function of {len:#x} bytes");
    }
    Ok(to as u64)
}

/// What kind of work the first instruction of `code` does; [`Kind::Other`] where it is none.
pub fn kind_of(arch: Arch, code: &[u8]) -> Kind {
    match arch {
        Arch::X86 => x86::kind_of(code),
        Arch::Arm => arm::kind_of(code),
    }
}
