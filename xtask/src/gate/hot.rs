//! Which loop of a kernel is the hot one: where it was counted, the one that most instructions ran in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

use super::count::Run;
use super::decode::{Arch, Arithmetic, Kind, kind_of};
use super::loops::{self, Loop};
use super::mix::Mix;
use super::symbols::{Function, demangle, kernel_of};
use super::tier::Tier;

/// A linked program, for what its addresses mean.
pub struct Program {
    arch: Arch,
    /// Kernels by their first address: length, kernels, tier. Where two come to the same machine code, LLVM keeps one
    /// copy under both names.
    kernels: BTreeMap<u64, (u64, Vec<String>, Tier)>,
    /// The library's functions and the probe's markers, without its plain loops: first address and length.
    library: Vec<(u64, u64)>,
    /// Code by its first address.
    text: BTreeMap<u64, Vec<u8>>,
}

impl Program {
    /// Reads its symbols and code.
    pub fn read(file: &Path, arch: Arch) -> Result<Program> {
        let data = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let object = object::File::parse(&*data)?;
        let mut kernels = BTreeMap::<u64, (u64, Vec<String>, Tier)>::new();
        let mut library = Vec::new();
        for symbol in object.symbols().filter(|s| s.kind() == SymbolKind::Text && s.size() > 0) {
            let name = demangle(symbol.name()?);
            if name.contains("hotlanes::")
                && !name.contains("hotlanes_probe::")
                && !name.contains("hotlanes_cases::")
                && !name.starts_with("hotlanes::naive::")
                || matches!(name.as_str(), "hotlanes_probe::measured" | "hotlanes_probe::finished")
            {
                library.push((symbol.address(), symbol.size()));
            }
            if let Some((kernel, tier)) = kernel_of(&name, arch) {
                let (_, names, _) =
                    kernels.entry(symbol.address()).or_insert((symbol.size(), Vec::new(), tier));
                names.push(kernel);
            }
        }
        let mut text = BTreeMap::new();
        for section in object.sections().filter(|s| s.kind() == object::SectionKind::Text) {
            text.insert(section.address(), section.data()?.to_vec());
        }
        Ok(Program { arch, kernels, library, text })
    }

    /// The architecture that it was built for.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// Where the library's functions lie.
    pub fn library(&self) -> &[(u64, u64)] {
        &self.library
    }

    /// How often each instruction of a kernel's function was executed, by its offset.
    fn offsets(&self, run: &Run, kernel: &str) -> BTreeMap<u64, u64> {
        let mut counts = BTreeMap::new();
        for (pc, n) in &run.pcs {
            if let Some((start, (len, names, tier))) = self.kernels.range(..=pc).next_back()
                && pc - start < *len
                && *tier == run.tier
                && names.iter().any(|name| name == kernel)
            {
                *counts.entry(pc - start).or_default() += n;
            }
        }
        counts
    }

    /// Instructions executed, with each division and root as one instruction a lane, and without prefetches. A rough
    /// weight, to put a short loop that divides on a scale with a long one that does not.
    pub fn weighted(&self, run: &Run) -> u64 {
        let weight = |pc: u64, n: u64| {
            let code = self.text.range(..=pc).next_back();
            let code = code.and_then(|(start, code)| code.get((pc - start) as usize..)).unwrap_or(&[]);
            match kind_of(self.arch, code) {
                Kind::Packed(Arithmetic::Div | Arithmetic::Sqrt, bits) => n * (bits / 32).max(1) as u64,
                Kind::Prefetch => 0,
                _ => n,
            }
        };
        run.pcs.iter().map(|(pc, n)| weight(*pc, *n)).sum()
    }
}

/// A function's hot loop.
#[derive(Clone, Debug)]
pub struct Hot {
    /// Its instructions, as indices into the function's.
    pub own: Vec<usize>,
    /// What they are.
    pub mix: Mix,
    /// Its share of the function's instructions that were executed, if that was counted.
    pub share: Option<f64>,
}

/// The loop that a counted run spent most instructions in. A function without one is a loop of its own. Nothing where the
/// function was not executed, or where the program's is not the library's.
pub fn counted(function: &Function, program: &Program, run: &Run) -> Option<Hot> {
    let counts = program.offsets(run, &function.kernel);
    let total: u64 = counts.values().sum();
    let starts: BTreeSet<u64> = function.code.iter().map(|i| i.offset).collect();
    if counts.keys().any(|offset| !starts.contains(offset)) {
        return None;
    }
    let executed = |l: &Loop| l.own.iter().filter_map(|i| counts.get(&function.code[*i].offset)).sum::<u64>();
    let hot = candidates(function).into_iter().max_by_key(executed)?;
    (total > 0).then(|| {
        let share = executed(&hot) as f64 / total as f64;
        Hot { mix: mix(function, &hot.own), own: hot.own, share: Some(share) }
    })
}

/// The loop with most packed arithmetic, where nothing is ever counted and no budget says which it was.
pub fn busiest(function: &Function) -> Option<Hot> {
    let hot = candidates(function).into_iter().max_by_key(|l| mix(function, &l.own).packed)?;
    Some(Hot { mix: mix(function, &hot.own), own: hot.own, share: None })
}

/// The loop nearest to a budget, where nothing was counted.
pub fn nearest(function: &Function, budget: &Mix) -> Option<Hot> {
    let hot = candidates(function).into_iter().min_by_key(|l| mix(function, &l.own).distance(budget))?;
    Some(Hot { mix: mix(function, &hot.own), own: hot.own, share: None })
}

fn candidates(function: &Function) -> Vec<Loop> {
    let mut loops = loops::find(&function.code);
    if loops.is_empty() {
        loops.push(Loop { own: (0..function.code.len()).collect() });
    }
    loops
}

fn mix(function: &Function, own: &[usize]) -> Mix {
    Mix::of(own.iter().map(|i| &function.code[*i]), function.tier.width())
}
