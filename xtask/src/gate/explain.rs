//! The hot loop's disassembly.

use anyhow::{Result, bail};

use super::check::Table;
use super::decode::{Arithmetic, Kind};

/// Prints the hot loop of a kernel on each tier.
pub fn explain(table: &Table, kernel: &str) -> Result<()> {
    let rows: Vec<_> = table.iter().filter(|((name, _), _)| name == kernel).collect();
    if rows.is_empty() {
        let mut names: Vec<_> = table.keys().map(|(name, _)| name.as_str()).collect();
        names.dedup();
        bail!("no kernel {kernel:?}: there are {}", names.join(", "));
    }
    for ((_, tier), measured) in rows {
        let (Some(function), Some(hot)) = (&measured.function, &measured.hot) else {
            println!("{kernel} on {tier}: no symbol, or it was not executed\n");
            continue;
        };
        println!("{kernel} on {tier}: {}", function.kernel);
        match (hot.share, &measured.skipped) {
            (Some(share), _) => println!("the loop that {:.0}% of its instructions ran in", share * 100.0),
            (None, why) => {
                println!("the loop nearest to the budget ({})", why.as_deref().unwrap_or("not counted"))
            }
        }
        let columns = hot.mix.columns().into_iter().filter(|(_, n)| *n > 0);
        println!("{}", columns.map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", "));
        if let Some(count) = &measured.count {
            println!("{:.4} instructions per element, {:.0} per call", count.per_element(), count.per_call());
        }
        let mut before = None;
        for &i in &hot.own {
            let insn = &function.code[i];
            if before.is_some_and(|b| b + 1 != i) {
                println!("          ...");
            }
            before = Some(i);
            let kind = match insn.kind {
                Kind::Other => "",
                Kind::Prefetch => "ahead",
                Kind::Scalar(_) => "scalar",
                Kind::Packed(_, bits) if bits < tier.width() => "narrow",
                Kind::Packed(Arithmetic::Plain, _) => "packed",
                Kind::Packed(Arithmetic::Fma, _) => "fma",
                Kind::Packed(Arithmetic::Div, _) => "div",
                Kind::Packed(Arithmetic::Sqrt, _) => "sqrt",
                Kind::Packed(Arithmetic::Estimate, _) => "estimate",
                Kind::Gather(_) => "gather",
            };
            let stack = if insn.stack { "stack" } else { "" };
            println!("  {:>6x}  {kind:<8} {stack:<5}  {}", insn.offset, insn.text);
        }
        println!();
    }
    Ok(())
}
