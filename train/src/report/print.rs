//! The report on paper: a table of at most 100 columns, or JSON lines; and the progress bar on the terminal.

use std::io::{self, Write};

use hotlanes::{TIER_ENV, Tier};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::limits::{Limits, Traffic};
use crate::shell::machine::Machine;
use crate::shell::progress::note;

/// What the columns mean.
pub const LEGEND: &str = "\
Reading the table:
  tier      naive: a plain loop, one thread, built for the binary's baseline; auto: the same loop,
            vectorised by the compiler for this CPU; the others are the kernel on that tier, with
            buffers that start a cache line (AlignedVec); vec: the tier above on plain Vecs.
  min       the least time of one run over many short samples; throughput, x naive and share
            use it. median: of the same samples. All tiers and loops are sampled in turn.
  Gparam/s  1e9 parameters updated per second.
  GB/s      1e9 bytes per second, each input read once and each output written once.
  Gconn/s   1e9 connections times examples per second; the backward's two gradients count once.
  x naive   how many times faster than the naive loop.
  limit     what bounds the kernel at this size. Of four times the longest: its arithmetic at the
            FMA peak; its square roots at the machine's rate; what a sparse kernel reads for each
            connection, at the read bandwidth of the nearest memory level that holds a tile of
            examples; its bytes, moved once, at the bandwidth of the nearest memory level that holds
            them all. That is read bandwidth if it reads at least 4 bytes for each one written, else
            update bandwidth if it works in place, else copy bandwidth; all count bytes read and
            bytes written. (Beyond L1 a copy also fetches what it overwrites; an update need not, so
            its figure is higher.)
  share     that time over min. DRAM bandwidth is taken anew, in turn with the kernel, as others on
            the machine use it too; the rest is as listed above the table. More than 100%: some
            CPUs add and divide beside their multiply-adds, or it reads from nearer.
  bits      same: every available tier gave the same bits from the same inputs, even those
            that --tier left out. DIFF: not so; the exit code is 1.
Sparse sizes are inputs x outputs @ density b batch.
Exit codes: 0 fine, 1 bits disagree or a result is wrong, 2 usage (a bad option or HOTLANES_TIER).";

/// One row. As JSON, `seconds` is the least time of one run.
#[derive(Serialize)]
pub struct Row<'a> {
    /// The kernel.
    pub kernel: &'a str,
    /// Its size.
    pub size: &'a str,
    /// The tier, `naive` or `auto`.
    pub tier: &'a str,
    /// `aligned` to cache lines, or `vec`, as plain `Vec`s are.
    pub memory: &'a str,
    /// Threads it had.
    pub threads: usize,
    /// The least time of one run.
    pub seconds: f64,
    /// The median time of one run.
    #[serde(skip)]
    pub median: f64,
    /// In `unit`.
    pub throughput: f64,
    /// The unit of throughput.
    pub unit: &'a str,
    /// How many times faster than the naive loop.
    pub vs_naive: f64,
    /// The limit that binds.
    pub limit: &'a str,
    /// The share of it that was reached.
    pub fraction_of_limit: f64,
    /// Whether all tiers gave the same bits for this kernel and size.
    pub bits_agree: bool,
}

/// Where the report goes.
pub struct Printer {
    json: bool,
    out: io::Stdout,
    bar: ProgressBar,
}

impl Printer {
    /// The table, or JSON lines. The bar shows itself only if stderr is a terminal.
    pub fn new(json: bool) -> Self {
        let bar = ProgressBar::no_length();
        let style = ProgressStyle::with_template("[{elapsed}] {bar:30} {pos}/{len} {msg}");
        bar.set_style(style.expect("a valid template"));
        bar.set_message("measuring the machine's limits");
        Printer { json, out: io::stdout(), bar }
    }

    /// Writes lines above the bar.
    fn write(&mut self, text: &str) -> io::Result<()> {
        let out = &mut self.out;
        self.bar.suspend(|| {
            out.write_all(text.as_bytes())?;
            out.flush()
        })
    }

    /// The CPU, its tiers and the one selected.
    pub fn machine(&mut self, machine: &Machine, selected: Tier, threads: usize) -> io::Result<()> {
        if threads > machine.cores {
            let cores = machine.cores;
            self.bar.suspend(|| {
                note(format_args!(
                    "hotlanes: {threads} threads, but {cores} core(s): they will wait for each other"
                ));
            });
        }
        if self.json {
            return Ok(());
        }
        let [l1, l2, l3] = machine.caches.map(size);
        let source = if machine.caches_known { "" } else { " (assumed: the system does not tell)" };
        let mut text = format!(
            "CPU       {}, {} core{} for this process\ncaches    L1 {l1}, L2 {l2}, L3 {l3}{source}\n",
            machine.cpu,
            machine.cores,
            if machine.cores == 1 { "" } else { "s" },
        );
        text += &format!("has       {}\n", join(Tier::ALL.into_iter().filter(|t| t.is_supported_by_cpu())));
        let lacks = Tier::ALL.into_iter().filter(|t| !t.is_supported_by_cpu());
        text += &format!("lacks     {}\n", join(lacks.clone().map(why_lacking)));
        text += &format!("built in  {}\n", join(Tier::ALL.into_iter().filter(|t| t.is_compiled())));
        text += &format!("selected  {selected}: {}\n", why_selected(selected));
        text += &format!(
            "threads   {threads} for kernels and limits{}; the naive loops always use 1\n\n",
            if threads == 1 { " (--threads N for more)" } else { "" },
        );
        self.write(&text)
    }

    /// The measured limits.
    pub fn limits(&mut self, limits: &Limits, threads: usize) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        let plural = if threads == 1 { "thread" } else { "threads" };
        let mut text =
            format!("This machine's limits, measured, {threads} {plural}, the best of any tier:\n");
        for l in &limits.levels {
            text += &format!(
                "  {:9} read {:6.1}   copy {:6.1}   update {:6.1} GB/s, bytes read + written; on {}\n",
                l.name,
                l.bandwidth[Traffic::Read as usize] / 1e9,
                l.bandwidth[Traffic::Copy as usize] / 1e9,
                l.bandwidth[Traffic::Update as usize] / 1e9,
                size(l.set)
            );
        }
        let by_tier = |rates: &[(Tier, f64)]| join(rates.iter().map(|(t, r)| format!("{t} {:.1}", r / 1e9)));
        text += &format!("  FMA peak  {} GFLOP/s (an FMA is 2)\n", by_tier(&limits.fma));
        text += &format!("  sqrt rate {} G f32 roots/s\n\n", by_tier(&limits.roots));
        self.write(&text)
    }

    /// The head of the table.
    pub fn begin(&mut self, cases: usize) -> io::Result<()> {
        self.bar.set_length(cases as u64);
        if self.json {
            return Ok(());
        }
        self.write(&format!(
            "{:13} {:18} {:6} {:>7} {:>7} {:>13} {:>6} {:11} {:>5} {}\n",
            "kernel", "size", "tier", "min", "median", "throughput", "xnaive", "limit", "share", "bits"
        ))
    }

    /// Says what is being measured, on the bar.
    pub fn working_on(&mut self, kernel: &str, size: &str) {
        self.bar.set_message(format!("{kernel} {size}"));
    }

    /// The rows of one kernel and size.
    pub fn rows(&mut self, rows: &[Row<'_>]) -> io::Result<()> {
        let mut text = String::new();
        for r in rows {
            if self.json {
                text += &serde_json::to_string(r)?;
            } else {
                text += &format!(
                    "{:13} {:18} {:6} {:>7} {:>7} {:>13} {:>6} {:11} {:>4.0}% {}",
                    r.kernel,
                    r.size,
                    if r.memory == "vec" { "  vec" } else { r.tier },
                    time(r.seconds),
                    time(r.median),
                    format!("{} {}", digits(r.throughput), r.unit),
                    format!("{}x", digits(r.vs_naive)),
                    r.limit,
                    100.0 * r.fraction_of_limit,
                    if r.bits_agree { "same" } else { "DIFF" },
                );
            }
            text.push('\n');
        }
        self.write(&text)?;
        self.bar.inc(1);
        Ok(())
    }

    /// What is left to say.
    pub fn end(&mut self, skipped: usize, all_agree: bool) -> io::Result<()> {
        self.bar.finish_and_clear();
        if skipped > 0 {
            note(format_args!(
                "hotlanes: out of time, {skipped} sizes were left out; --full has no limit of time"
            ));
        }
        if self.json {
            return Ok(());
        }
        let verdict =
            if all_agree { "All tiers agree on every bit." } else { "SOME BITS DISAGREE, see stderr." };
        self.write(&format!("\n{verdict} The columns are explained by: hotlanes --help\n"))
    }
}

fn why_selected(selected: Tier) -> String {
    match std::env::var(TIER_ENV) {
        Ok(name) if !name.is_empty() => format!("{TIER_ENV} says so"),
        _ => {
            let best = Tier::available().next_back() == Some(selected);
            let more =
                if best { "the best that is both built in and had by this CPU" } else { "the default" };
            format!("{more} ({TIER_ENV} overrides)")
        }
    }
}

fn why_lacking(tier: Tier) -> String {
    let foreign = match tier {
        Tier::Avx2 | Tier::Avx512 => cfg!(not(target_arch = "x86_64")),
        Tier::Neon => cfg!(not(target_arch = "aarch64")),
        Tier::Scalar => false,
    };
    if foreign { format!("{tier} (another architecture)") } else { format!("{tier}") }
}

fn join<T: ToString>(items: impl Iterator<Item = T>) -> String {
    let all: Vec<String> = items.map(|i| i.to_string()).collect();
    if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
}

/// Bytes, in the largest unit that leaves a whole number.
fn size(bytes: usize) -> String {
    match bytes {
        0 => "none".to_owned(),
        b if b % (1 << 20) == 0 => format!("{} MiB", b >> 20),
        b => format!("{} KiB", b >> 10),
    }
}

/// Three digits.
fn digits(x: f64) -> String {
    match x {
        x if x < 9.995 => format!("{x:.2}"),
        x if x < 99.95 => format!("{x:.1}"),
        x => format!("{x:.0}"),
    }
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s < 999.5e-9 => format!("{} ns", digits(s * 1e9)),
        s if s < 999.5e-6 => format!("{} us", digits(s * 1e6)),
        s if s < 0.9995 => format!("{} ms", digits(s * 1e3)),
        s => format!("{} s", digits(s)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        assert_eq!(time(1.234e-6), "1.23 us");
        assert_eq!(time(9.996e-6), "10.0 us");
        assert_eq!(time(0.9999e-6), "1.00 us");
        assert_eq!(time(0.0321), "32.1 ms");
        assert_eq!(time(12.0), "12.0 s");
        assert_eq!(size(480 << 20), "480 MiB");
        assert_eq!(size(48 << 10), "48 KiB");
    }

    #[test]
    fn json_has_the_promised_fields() {
        let row = Row {
            kernel: "k",
            size: "1",
            tier: "avx2",
            memory: "aligned",
            threads: 1,
            seconds: 1.0,
            median: 2.0,
            throughput: 1.0,
            unit: "GB/s",
            vs_naive: 1.0,
            limit: "L1 copy",
            fraction_of_limit: 0.5,
            bits_agree: true,
        };
        let expected = concat!(
            r#"{"kernel":"k","size":"1","tier":"avx2","memory":"aligned","threads":1,"seconds":1.0,"throughput":1.0,"unit":"GB/s","#,
            r#""vs_naive":1.0,"limit":"L1 copy","fraction_of_limit":0.5,"bits_agree":true}"#
        );
        assert_eq!(serde_json::to_string(&row).unwrap(), expected);
    }
}
