//! What was measured against the budgets, and against the rules that need none.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::budget::{Budgets, Count, Row, loop_violations, whole_violations};
use super::decode::{Flow, Insn};
use super::hot::Hot;
use super::mix::Mix;
use super::symbols::Function;
use super::tier::Tier;

/// A kernel on a tier, as it is now.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Its machine code, if there is any.
    pub function: Option<Function>,
    /// Its hot loop: counted, or the nearest to the budget.
    pub hot: Option<Hot>,
    /// Instructions executed.
    pub count: Option<Count>,
    /// Whether the plain loop was counted beside it.
    pub twin: bool,
    /// The same with divisions and roots weighed, and that of the plain loop compiled for the tier.
    pub weighted: Option<(Count, Count)>,
    /// Instructions executed on narrower tiers of the same architecture, with their names.
    pub narrower: Vec<(String, Count)>,
    /// Whether the CPU alone chooses the tier.
    pub unforced: bool,
    /// Why it was not counted.
    pub skipped: Option<String>,
}

impl Measured {
    /// What a budget would say of it.
    pub fn row(&self) -> Option<Row> {
        let (function, hot) = (self.function.as_ref()?, self.hot.as_ref()?);
        Some(Row { hot: hot.mix, whole: whole(function), count: self.count, twin: self.twin })
    }
}

/// A whole function's mix.
pub fn whole(function: &Function) -> Mix {
    Mix::of(&function.code, function.tier.width())
}

/// What was measured, by kernel and tier.
pub type Table = BTreeMap<(String, Tier), Measured>;

/// A line of the report.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The kernel.
    pub kernel: String,
    /// The tier.
    pub tier: Tier,
    /// Its hot loop.
    #[serde(rename = "loop")]
    pub hot: Option<Mix>,
    /// The share of the function's executed instructions in that loop.
    pub share: Option<f64>,
    /// Instructions per element and per call.
    pub count: Option<(f64, f64)>,
    /// Why it was not counted.
    pub skipped: Option<String>,
    /// What is wrong with it.
    pub problems: Vec<String>,
}

/// Checks every kernel on every tier. A kernel without a row fails, and so does a row without a kernel.
pub fn check(table: &Table, budgets: &Budgets) -> Vec<Line> {
    let mut lines = Vec::new();
    for ((kernel, tier), now) in table {
        let mut problems = Vec::new();
        let row = budgets.kernels.get(kernel).and_then(|tiers| tiers.get(tier));
        against_row(now, row, &mut problems);
        rules(*tier, now, &mut problems);
        lines.push(Line {
            kernel: kernel.clone(),
            tier: *tier,
            hot: now.hot.as_ref().map(|h| h.mix),
            share: now.hot.as_ref().and_then(|h| h.share),
            count: now.count.map(|c| (c.per_element(), c.per_call())),
            skipped: now.skipped.clone(),
            problems,
        });
    }
    for (kernel, tiers) in &budgets.kernels {
        for tier in tiers.keys().filter(|t| !table.contains_key(&(kernel.clone(), **t))) {
            let problems = vec!["a budget without a kernel: bless it away if the kernel is gone".to_owned()];
            let (hot, share, count, skipped) = (None, None, None, None);
            lines.push(Line { kernel: kernel.clone(), tier: *tier, hot, share, count, skipped, problems });
        }
    }
    lines
}

fn against_row(now: &Measured, row: Option<&Row>, problems: &mut Vec<String>) {
    if row.is_none() {
        problems.push("no budget: bring one with `cargo xtask gate --bless`".to_owned());
    }
    let Some(function) = &now.function else {
        problems.push("no symbol: the kernel was not compiled for the tier, or was inlined away".to_owned());
        return;
    };
    let Some(hot) = &now.hot else {
        problems
            .push("its function was not executed, or the program holds another than the library".to_owned());
        return;
    };
    let Some(row) = row else { return };
    let all = whole(function);
    loop_violations(&hot.mix, &row.hot, problems);
    whole_violations(&all, &row.whole, now.count.is_some(), problems);
    if row.twin && now.count.is_some() && !now.twin {
        problems.push("the plain loop that it was compared with is gone from its case".to_owned());
    }
    if hot.mix.calls > row.hot.calls {
        problems.push(format!("loop: it calls {}", callees(function, hot.own.iter().copied())));
    }
    if all.calls > row.whole.calls {
        problems.push(format!("function: it calls {}", callees(function, 0..function.code.len())));
    }
    match (&now.count, &row.count) {
        (Some(count), Some(budget)) => count.violations(budget, problems),
        // Another CPU: multiversion chooses another tier there.
        (Some(_), None) if now.unforced => {}
        (Some(_), None) => problems.push("count: no budget for it: bless it".to_owned()),
        (None, Some(_)) if now.skipped.is_none() => problems.push("count: it was not counted".to_owned()),
        (None, _) => {}
    }
}

/// The names of what some instructions call, each with how often.
fn callees(function: &Function, own: impl Iterator<Item = usize>) -> String {
    let mut names = BTreeMap::<&str, u32>::new();
    for i in own {
        let name = match &function.code[i].flow {
            Flow::Call(name) => Some(name.as_deref()),
            Flow::TailCall(name) => Some(Some(name.as_str())),
            _ => None,
        };
        if let Some(name) = name {
            *names.entry(name.unwrap_or("a function without a name here")).or_default() += 1;
        }
    }
    names.iter().map(|(name, n)| format!("{name} ({n})")).collect::<Vec<_>>().join(", ")
}

/// The name of a mathematical function of the C library, if that is what an instruction calls, or loads the address of.
fn libm(insn: &Insn) -> Option<&str> {
    let name = insn.symbol.as_deref()?;
    let stem = name.strip_suffix('f').unwrap_or(name);
    let names =
        ["fma", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "pow", "tanh", "sin", "cos", "erf"];
    names.contains(&stem).then_some(name)
}

/// Whether it is a masked store of AVX or AVX2: the compiler makes one of a store of what was selected from there.
fn is_masked_store(insn: &Insn) -> bool {
    let Some((name, operands)) = insn.text.split_once(' ') else { return false };
    let is_masked = name.starts_with("vmaskmov") || name.starts_with("vpmaskmov");
    is_masked && operands.split(',').next().is_some_and(|to| to.contains('['))
}

/// Instructions per element that the rules forgive: four for sixteen lanes, the loop's own and its row's, of which a compiler
/// that unrolls has fewer. A lost vectorization costs one an element and more.
const OVERHEAD: f64 = 0.25;

/// What must hold whatever the budgets say.
fn rules(tier: Tier, now: &Measured, problems: &mut Vec<String>) {
    if let Some(function) = &now.function {
        let estimates = whole(function).estimates;
        if estimates > 0 {
            problems.push(format!(
                "rule: {estimates} estimates of a reciprocal or root: their bits differ between CPUs"
            ));
        }
        for name in function.code.iter().filter_map(libm).collect::<BTreeSet<_>>() {
            problems
                .push(format!("rule: it calls {name} of the C library, whose bits differ between systems"));
        }
        if let Some(insn) = function.code.iter().find(|i| is_masked_store(i)) {
            problems.push(format!("rule: `{}` takes twelve cycles on CPUs of AMD up to Zen 4", insn.text));
        }
        let wide = function.code.iter().find(|i| i.widest > tier.width());
        if let (Tier::Scalar, Some(insn)) = (tier, wide) {
            problems.push(format!("rule: the scalar tier uses {} bits: `{}`", insn.widest, insn.text));
        }
    }
    // An instruction computes one vector of elements at most.
    let least = 32.0 / f64::from(tier.width());
    if tier != Tier::Scalar
        && let Some(count) = now.count.filter(|c| c.per_element() < least)
    {
        problems.push(format!(
            "rule: {:.4} instructions per element, fewer than the {least:.4} of one for each vector: the compiler has \
             left work out",
            count.per_element()
        ));
    }
    for (narrower, other) in &now.narrower {
        if let Some(count) = now.count.filter(|c| c.per_element() > other.per_element() + OVERHEAD) {
            problems.push(format!(
                "rule: {:.3} instructions per element, more than the {:.3} of {narrower} and {OVERHEAD} for the loop",
                count.per_element(),
                other.per_element()
            ));
        }
    }
    if let Some((ours, twin)) = now.weighted
        && ours.per_element() > twin.per_element() + OVERHEAD
    {
        problems.push(format!(
            "rule: {:.3} instructions per element, a lane's division or root counting as one; the compiler's own \
             vectorization of the plain loop needs {:.3}, and {OVERHEAD} are allowed for",
            ours.per_element(),
            twin.per_element()
        ));
    }
}

/// What the sources hold that no case covers: each kernel and each multiversion loop must have one.
pub fn uncovered<'a>(sources: &BTreeSet<String>, covered: impl Iterator<Item = &'a str>) -> Vec<String> {
    let bare = |name: &str| name.split('<').next().unwrap_or_default().to_owned();
    let covered: BTreeSet<String> = covered.map(bare).collect();
    sources.difference(&covered).cloned().collect()
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
