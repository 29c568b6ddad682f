//! The kernels' functions in compiled libraries: a symbol names the kernel and its tier.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use object::read::archive::ArchiveFile;
use object::{File, Object, ObjectSection, ObjectSymbol, RelocationTarget, SymbolKind};

use super::decode::{self, Arch, Insn};
use super::tier::Tier;

/// One kernel on one tier.
#[derive(Clone, Debug)]
pub struct Function {
    /// The kernel's type, `hotlanes::norm::forward::Forward`; for multiversion the loop.
    pub kernel: String,
    /// The tier that it was compiled for.
    pub tier: Tier,
    /// Its code.
    pub code: Vec<Insn>,
}

/// The kernel and tier that a demangled symbol stands for.
///
/// On x86 a kernel runs inside pulp's `vectorize`, elsewhere inside `on_scalar` and `on_neon` (`src/lanes.rs`).
/// Multiversion names a version after its loop and features; where no version fits the target there is only the
/// loop, or the public function of the same name without `_loop` that it was inlined into.
pub fn kernel_of(symbol: &str, arch: Arch) -> Option<(String, Tier)> {
    if let Some((_, rest)) = symbol.split_once("::OnTier<") {
        if !symbol.contains("::vectorize::imp") {
            return None;
        }
        let (tier, kernel) = rest.split_once(", ")?;
        let tier = match tier.rsplit("::").next()? {
            "Avx2" => Tier::Avx2,
            "Avx512" => Tier::Avx512,
            _ => return None,
        };
        return Some((kernel.strip_suffix(">>")?.to_owned(), tier));
    }
    for (prefix, tier) in
        [("hotlanes::lanes::on_scalar::<", Tier::Scalar), ("hotlanes::lanes::on_neon::<", Tier::Neon)]
    {
        if let Some(rest) = symbol.strip_prefix(prefix) {
            return Some((rest.strip_suffix('>')?.to_owned(), tier));
        }
    }
    if let Some(version) = symbol.strip_suffix("_version") {
        let (kernel, version) = version.rsplit_once("::")?;
        let tier = match version {
            v if v.contains("_avx512") => Tier::Avx512,
            v if v.contains("_avx2") => Tier::Avx2,
            v if v.ends_with("_default") => {
                if arch == Arch::Arm {
                    Tier::Neon
                } else {
                    Tier::Scalar
                }
            }
            _ => return None,
        };
        return Some((kernel.to_owned(), tier));
    }
    let name = symbol.strip_prefix("hotlanes::convert::")?;
    let kernel = if name.ends_with("_loop") { symbol.to_owned() } else { format!("{symbol}_loop") };
    (arch == Arch::Arm && !name.contains("::")).then_some((kernel, Tier::Neon))
}

/// A symbol's name as the source has it; older manglings stay as they are.
pub fn demangle(symbol: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(symbol.strip_prefix(".text.").unwrap_or(symbol)))
}

/// Every kernel's function in a Rust library.
pub fn load(library: &Path, arch: Arch) -> Result<Vec<Function>> {
    let data = std::fs::read(library).with_context(|| format!("cannot read {}", library.display()))?;
    let archive =
        ArchiveFile::parse(&*data).with_context(|| format!("{} is no library", library.display()))?;
    let mut found = Vec::new();
    for member in archive.members() {
        let member = member?;
        if !member.name().ends_with(b".o") {
            continue;
        }
        let file = File::parse(member.data(&*data)?)?;
        found.extend(functions(&file, arch)?);
    }
    Ok(found)
}

fn functions(file: &File<'_>, arch: Arch) -> Result<Vec<Function>> {
    let mut all = Vec::new();
    for symbol in file.symbols().filter(|s| s.kind() == SymbolKind::Text && s.is_definition()) {
        let name = demangle(symbol.name()?);
        let Some((kernel, tier)) = kernel_of(&name, arch) else { continue };
        let Some(index) = symbol.section_index() else { continue };
        let section = file.section_by_index(index)?;
        let (start, end) = (symbol.address(), symbol.address() + symbol.size());
        let Some(code) = section.data_range(start, end - start)? else {
            bail!("the section of {name} does not hold all of it");
        };
        let mut names = BTreeMap::new();
        for (offset, relocation) in section.relocations().filter(|(o, _)| (start..end).contains(o)) {
            if let RelocationTarget::Symbol(index) = relocation.target() {
                let target = file.symbol_by_index(index)?;
                let target = match target.section_index() {
                    Some(of) if target.kind() == SymbolKind::Section => {
                        file.section_by_index(of)?.name()?.to_owned()
                    }
                    _ => target.name()?.to_owned(),
                };
                names.insert(offset - start, demangle(&target));
            }
        }
        let code = decode::decode(arch, code, &names).with_context(|| name.clone())?;
        all.push(Function { kernel, tier, code });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_names_kernel_and_tier() {
        let v4 = "<pulp::x86::v4::V4>::vectorize::imp_fastcall::<hotlanes::lanes::OnTier<\
                  hotlanes::lanes::avx512::Avx512, hotlanes::sparse::batch::MatMul<u32>>>";
        let kernel = |k: &str, t| Some((k.to_owned(), t));
        assert_eq!(kernel_of(v4, Arch::X86), kernel("hotlanes::sparse::batch::MatMul<u32>", Tier::Avx512));
        let scalar = "hotlanes::lanes::on_scalar::<hotlanes::adamw::kernel::Run>";
        assert_eq!(kernel_of(scalar, Arch::X86), kernel("hotlanes::adamw::kernel::Run", Tier::Scalar));
        let loop_ = "hotlanes::convert::scale_loop";
        let version = |v: &str| kernel_of(&format!("{loop_}::scale_loop_{v}_version"), Arch::X86);
        assert_eq!(version("avx2_avx512bw_fma"), kernel(loop_, Tier::Avx512));
        assert_eq!(version("avx2_bmi1_fma"), kernel(loop_, Tier::Avx2));
        assert_eq!(version("default"), kernel(loop_, Tier::Scalar));
        assert_eq!(kernel_of("hotlanes::convert::scale", Arch::Arm), kernel(loop_, Tier::Neon));
        assert_eq!(kernel_of("hotlanes::convert::scale", Arch::X86), None);
        // What was not inlined into `imp` has a symbol of its own, which is no kernel's.
        let lost = "<hotlanes::lanes::OnTier<hotlanes::lanes::avx2::Avx2, K> as pulp::NullaryFnOnce>::call";
        assert_eq!(kernel_of(lost, Arch::X86), None);
        assert_eq!(kernel_of("hotlanes::convert::u8_to_f32::{closure#0}", Arch::Arm), None);
    }
}
