//! The committed budgets: what each kernel's code is on each tier, and how far it may move.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::mix::Mix;
use super::tier::Tier;

/// The budgets' file, from the root of the repository.
pub const FILE: &str = "xtask/budgets.toml";

/// A loop's instructions may differ by this share of the budget, and by [`LOOP_SLACK`].
const LOOP_SHARE: f64 = 0.02;
const LOOP_SLACK: f64 = 2.0;
/// Instructions per element may differ by this share.
const SLOPE_SHARE: f64 = 0.005;
/// Instructions per call may differ by this share, and by [`CALL_SLACK`].
const CALL_SHARE: f64 = 0.02;
const CALL_SLACK: f64 = 8.0;
/// A function may grow by this share.
const WHOLE_SHARE: f64 = 0.02;

/// The file.
#[derive(Debug, Deserialize)]
pub struct Budgets {
    /// The compiler that the figures belong to.
    pub rustc: String,
    /// By kernel and tier.
    #[serde(flatten)]
    pub kernels: BTreeMap<String, BTreeMap<Tier, Row>>,
}

/// A kernel on a tier.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The loop that most instructions are spent in.
    #[serde(rename = "loop")]
    pub hot: Mix,
    /// The whole function.
    pub whole: Mix,
    /// Instructions executed; multiversion's loops have them only where it chooses the tier.
    pub count: Option<Count>,
    /// Whether the plain loop, compiled for the tier, is counted beside it.
    #[serde(default)]
    pub twin: bool,
}

/// Instructions executed at two sizes.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// Elements of the two calls.
    pub elements: [u64; 2],
    /// Instructions of the two calls, without the C library's.
    pub instructions: [u64; 2],
    /// How often the two calls entered the C library; by single steps only.
    pub library: [u64; 2],
}

impl Count {
    /// Instructions per element: the slope of the line through both.
    pub fn per_element(&self) -> f64 {
        let [a, b] = self.instructions;
        (b as f64 - a as f64) / (self.elements[1] as f64 - self.elements[0] as f64)
    }

    /// Instructions per call: where the line meets zero elements.
    pub fn per_call(&self) -> f64 {
        self.instructions[0] as f64 - self.per_element() * self.elements[0] as f64
    }

    /// What is wrong with `self`, measured against a budget.
    pub fn violations(&self, budget: &Count, problems: &mut Vec<String>) {
        let [less, more] = self.instructions;
        if less == 0 || more <= less || self.elements[1] <= self.elements[0] {
            problems.push(format!(
                "count: {:?} instructions were counted; nothing was measured",
                self.instructions
            ));
            return;
        }
        if self.elements != budget.elements {
            problems.push(format!(
                "count: taken at {:?} elements, the budget's at {:?}; bless it",
                self.elements, budget.elements
            ));
            return;
        }
        let (now, was) = (self.per_element(), budget.per_element());
        if (now - was).abs() > was * SLOPE_SHARE {
            problems.push(format!(
                "count: {now:.4} instructions per element, {was:.4} before{}",
                moved(now, was)
            ));
        }
        if self.library.iter().zip(budget.library).any(|(now, was)| *now > was) {
            problems.push(format!(
                "count: {:?} calls of the C library, {:?} before",
                self.library, budget.library
            ));
        }
        let (now, was) = (self.per_call(), budget.per_call());
        if (now - was).abs() > was.abs() * CALL_SHARE + CALL_SLACK {
            problems
                .push(format!("count: {now:.0} instructions per call, {was:.0} before{}", moved(now, was)));
        }
    }
}

/// Figures may fall as well as rise: what fell must be blessed too, so that the next rise is seen.
fn moved(now: f64, was: f64) -> &'static str {
    if now < was { " (fewer: bless it if the work is still done)" } else { "" }
}

/// What is wrong with a hot loop's mix against its budget. Its packed arithmetic is fixed from both sides; what should not
/// be there has a ceiling.
pub fn loop_violations(now: &Mix, was: &Mix, problems: &mut Vec<String>) {
    for ((name, now), (_, was)) in now.columns().into_iter().zip(was.columns()) {
        let wrong = match name {
            "instructions" => (now as f64 - was as f64).abs() > was as f64 * LOOP_SHARE + LOOP_SLACK,
            "packed" | "fma" | "sqrt" | "div" | "gather" => now != was,
            _ => now > was,
        };
        if wrong {
            problems.push(format!("loop: {now} {}, {was} before", what(name)));
        }
    }
}

/// What is wrong with a whole function's mix. It holds cold code and the loops beside the hot one: they may grow by little,
/// lose no packed arithmetic, and gain nothing that should not be there.
///
/// Where nothing was `counted` the code of the same compiler must be nearly the same, as no count would tell.
pub fn whole_violations(now: &Mix, was: &Mix, counted: bool, problems: &mut Vec<String>) {
    for ((name, now), (_, was)) in now.columns().into_iter().zip(was.columns()) {
        let share = if counted { WHOLE_SHARE } else { 0.0 };
        let wrong = match name {
            "instructions" => now as f64 > was as f64 * (1.0 + share) + LOOP_SLACK,
            "packed" | "fma" | "sqrt" | "gather" => now < was,
            _ => now > was,
        };
        if wrong {
            problems.push(format!("function: {now} {}, {was} before", what(name)));
        }
    }
}

/// A column's name in a sentence.
fn what(column: &str) -> &str {
    match column {
        "packed" => "packed operations",
        "fma" => "packed FMA",
        "sqrt" => "packed roots",
        "div" => "packed divisions",
        "gather" => "gathers",
        "narrow" => "packed operations below the tier's width",
        "scalar" => "scalar floating-point operations",
        "stack" => "stack accesses",
        other => other,
    }
}

impl Budgets {
    /// Reads the file.
    pub fn read(file: &Path) -> Result<Budgets> {
        let text = std::fs::read_to_string(file).with_context(|| {
            format!("cannot read {}; `cargo xtask gate --bless` writes it", file.display())
        })?;
        Budgets::parse(&text).with_context(|| file.display().to_string())
    }

    /// Reads a text.
    pub fn parse(text: &str) -> Result<Budgets> {
        Ok(toml::from_str(text)?)
    }

    /// The text of the file: a line per figure group, so that a reviewer reads the difference.
    pub fn text(&self) -> String {
        let mut out = String::from(
            "# Budgets of `cargo xtask gate`, written by `cargo xtask gate --bless`. Review each change as code.\n\
             # loop: the hot loop's instructions by kind; whole: the function's; count: instructions executed at two sizes.\n",
        );
        let _ = writeln!(out, "rustc = \"{}\"", self.rustc);
        for (kernel, tiers) in &self.kernels {
            for (tier, row) in tiers {
                let _ = writeln!(out, "\n[{kernel}.{tier}]");
                let _ = writeln!(out, "loop = {}", inline(&row.hot));
                let _ = writeln!(out, "whole = {}", inline(&row.whole));
                if row.twin {
                    let _ = writeln!(out, "twin = true");
                }
                if let Some(count) = &row.count {
                    let _ = writeln!(
                        out,
                        "count = {{ elements = {:?}, instructions = {:?}, library = {:?} }} # {:.4} per element, {:.0} per call",
                        count.elements,
                        count.instructions,
                        count.library,
                        count.per_element(),
                        count.per_call()
                    );
                }
            }
        }
        out
    }
}

fn inline(mix: &Mix) -> String {
    let columns = mix.columns().into_iter().filter(|(name, n)| *name != "estimates" || *n != 0);
    let fields: Vec<_> = columns.map(|(name, n)| format!("{name} = {n}")).collect();
    format!("{{ {} }}", fields.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOT: Mix = Mix {
        instructions: 55,
        packed: 30,
        fma: 12,
        sqrt: 2,
        div: 2,
        gather: 0,
        narrow: 0,
        scalar: 0,
        calls: 0,
        stack: 0,
        estimates: 0,
    };
    const COUNT: Count = Count { elements: [512, 1024], instructions: [1800, 3560], library: [1, 1] };

    fn row() -> Row {
        Row { hot: HOT, whole: Mix { instructions: 900, calls: 3, ..HOT }, count: Some(COUNT), twin: true }
    }

    #[test]
    fn text_and_back() {
        let kernels = BTreeMap::from([("adamw".to_owned(), BTreeMap::from([(Tier::Avx2, row())]))]);
        let text = Budgets { rustc: "1.95.0".into(), kernels }.text();
        let again = Budgets::parse(&text).unwrap();
        assert_eq!((again.rustc.as_str(), again.kernels["adamw"][&Tier::Avx2]), ("1.95.0", row()));
        assert!(text.contains("# 3.4375 per element, 40 per call"), "{text}");
    }

    #[test]
    fn an_unknown_field_or_tier_is_refused() {
        let kernels = BTreeMap::from([("adamw".to_owned(), BTreeMap::from([(Tier::Avx2, row())]))]);
        let text = Budgets { rustc: "1.95.0".into(), kernels }.text();
        assert!(Budgets::parse(&text.replace("adamw.avx2", "adamw.avx3")).is_err());
        assert!(Budgets::parse(&text.replace("fma =", "fmas =")).is_err());
    }

    fn against(now: Mix) -> Vec<String> {
        let mut problems = Vec::new();
        loop_violations(&now, &HOT, &mut problems);
        problems
    }

    #[test]
    fn loops_are_bounded_from_both_sides() {
        assert!(against(HOT).is_empty());
        assert!(against(Mix { instructions: 57, ..HOT }).is_empty());
        assert_eq!(against(Mix { instructions: 60, ..HOT }), ["loop: 60 instructions, 55 before"]);
        assert_eq!(against(Mix { instructions: 50, ..HOT }), ["loop: 50 instructions, 55 before"]);
        assert_eq!(against(Mix { fma: 11, ..HOT }), ["loop: 11 packed FMA, 12 before"]);
        assert_eq!(against(Mix { fma: 13, ..HOT }), ["loop: 13 packed FMA, 12 before"]);
        assert_eq!(against(Mix { stack: 1, ..HOT }), ["loop: 1 stack accesses, 0 before"]);
        assert_eq!(against(Mix { scalar: 1, ..HOT }), ["loop: 1 scalar floating-point operations, 0 before"]);
    }

    #[test]
    fn functions_lose_no_arithmetic_and_gain_nothing_bad() {
        let against = |now: Mix| {
            let mut problems = Vec::new();
            whole_violations(&now, &HOT, true, &mut problems);
            problems
        };
        assert!(against(Mix { instructions: 20, packed: 31, fma: 13, div: 1, ..HOT }).is_empty());
        assert_eq!(against(Mix { fma: 11, ..HOT }), ["function: 11 packed FMA, 12 before"]);
        assert_eq!(against(Mix { div: 3, ..HOT }), ["function: 3 packed divisions, 2 before"]);
        assert_eq!(against(Mix { calls: 1, instructions: 60, ..HOT }).len(), 2);
    }

    #[test]
    fn counts_are_bounded_from_both_sides() {
        let against = |instructions: [u64; 2]| {
            let mut problems = Vec::new();
            Count { instructions, ..COUNT }.violations(&COUNT, &mut problems);
            problems
        };
        assert!(against([1800, 3560]).is_empty());
        assert!(against([1804, 3566]).is_empty());
        assert_eq!(against([1800, 3600]).len(), 2); // the line turned: another slope, another start
        assert_eq!(against([1850, 3610]), ["count: 90 instructions per call, 40 before"]);
        assert!(against([1700, 3360])[0].contains("3.2422 instructions per element, 3.4375 before (fewer"));
        assert!(against([0, 0])[0].contains("nothing was measured"));
        assert!(against([1800, 1800])[0].contains("nothing was measured"));
        let mut problems = Vec::new();
        Count { library: [1, 9], ..COUNT }.violations(&COUNT, &mut problems);
        assert_eq!(problems, ["count: [1, 9] calls of the C library, [1, 1] before"]);
    }
}
