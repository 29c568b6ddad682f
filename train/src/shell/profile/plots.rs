//! A profile's plots, in the look of [`crate::shell::plot`].

use std::io;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::analyse::Analysis;
use super::memory::Memory;
use super::roof::Roof;
use super::table::Row;
use super::{Kind, Record};
use crate::shell::plot::axis::Scale;
use crate::shell::plot::{COLOURS, shown};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

/// Rows of a plot at most: the others are in the tables.
const ROWS: usize = 24;
/// Pixels: of a plot's width, of a row, of the names on the left, above the rows and below them, and on the right.
const WIDTH: u32 = 900;
const ROW: i32 = 22;
const LEFT: i32 = 230;
const TOP: i32 = 46;
const BOTTOM: i32 = 50;
const RIGHT: i32 = 130;

fn svg(height: u32, draw: impl FnOnce(&Area<'_>) -> Drawn) -> io::Result<String> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
    let drawn = area.fill(&WHITE).and_then(|()| draw(&area)).and_then(|()| area.present());
    drop(area);
    drawn.map_err(|e| io::Error::other(e.to_string()))?;
    Ok(svg)
}

fn text(area: &Area<'_>, text: &str, at: (i32, i32), size: i32, h: HPos) -> Drawn {
    let style = ("sans-serif", size).into_font().color(&BLACK).pos(Pos::new(h, VPos::Center));
    area.draw(&Text::new(shown(text), at, style))
}

fn line(area: &Area<'_>, from: (i32, i32), to: (i32, i32), style: impl Into<ShapeStyle>) -> Drawn {
    area.draw(&PathElement::new(vec![from, to], style))
}

/// A horizontal axis from left to right of the rows.
struct Across {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Across {
    fn x(&self, value: f64) -> i32 {
        let at = |v: f64| if self.logarithmic { v.log10() } else { v };
        let share = (at(value) - at(self.low)) / (at(self.high) - at(self.low));
        LEFT + (share.clamp(0.0, 1.0) * f64::from(WIDTH as i32 - LEFT - RIGHT)) as i32
    }

    fn draw(&self, area: &Area<'_>, label: &str, bottom: i32) -> Drawn {
        let decades = || {
            let (low, high) = (self.low.log10().round() as i32, self.high.log10().round() as i32);
            (low..=high).map(|e| (10f64.powi(e), format!("1e{e}"))).collect::<Vec<_>>()
        };
        let linear = || {
            let scale = Scale::of([self.low, self.high].into_iter(), 8, false);
            let marks = scale.marks().into_iter().filter(|m| (self.low..=self.high).contains(m));
            marks.map(|m| (m, scale.label(m))).collect()
        };
        for (mark, name) in if self.logarithmic { decades() } else { linear() } {
            line(area, (self.x(mark), TOP), (self.x(mark), bottom), BLACK.mix(0.12))?;
            text(area, &name, (self.x(mark), bottom + 12), 13, HPos::Center)?;
        }
        let middle = (LEFT + WIDTH as i32 - RIGHT) / 2;
        text(area, label, (middle, bottom + 34), 14, HPos::Center)
    }
}

/// A bar with its name on the left, and its value in words behind it.
struct Bar {
    name: String,
    value: f64,
    words: String,
    colour: RGBColor,
}

fn bars(title: &str, label: &str, bars: &[Bar]) -> io::Result<String> {
    let bottom = TOP + ROW * bars.len().max(1) as i32;
    svg((bottom + BOTTOM) as u32, |area| {
        text(area, title, (WIDTH as i32 / 2, 20), 18, HPos::Center)?;
        let high = bars.iter().map(|bar| bar.value).filter(|v| v.is_finite()).fold(0.0, f64::max);
        let across = Across { low: 0.0, high: if high > 0.0 { high } else { 1.0 }, logarithmic: false };
        across.draw(area, label, bottom)?;
        for (bar, i) in bars.iter().zip(0..) {
            let (y, x) = (TOP + ROW * i, across.x(bar.value));
            text(area, &bar.name, (LEFT - 8, y + ROW / 2), 13, HPos::Right)?;
            area.draw(&Rectangle::new([(LEFT, y + 3), (x, y + ROW - 3)], bar.colour.filled()))?;
            text(area, &bar.words, (x + 6, y + ROW / 2), 12, HPos::Left)?;
        }
        Ok(())
    })
}

/// Self time of a step by operation, with the waiting of threads and what lies outside of operations.
pub fn time(title: &str, rows: &[Row], analysis: &Analysis) -> io::Result<String> {
    let each = 1e3 / analysis.steps.len().max(1) as f64;
    let all = 1e-9 * analysis.thread_time() as f64;
    let bar = |name: &str, seconds: f64, colour| Bar {
        name: name.to_owned(),
        value: each * seconds,
        words: format!("{:.1}%", 100.0 * seconds / all.max(1e-9)),
        colour,
    };
    let mut all: Vec<Bar> =
        rows.iter().take(ROWS).map(|row| bar(&row.operation, row.own, COLOURS[0])).collect();
    let rest: f64 = rows.iter().skip(ROWS).map(|row| row.own).sum();
    if rest > 0.0 {
        all.push(bar("other operations", rest, COLOURS[0]));
    }
    let others = super::summary::others(analysis);
    all.extend(others.map(|(name, seconds)| bar(name, seconds, COLOURS[1])));
    bars(&format!("Time of a step: {title}"), "self time of a step, all threads (ms)", &all)
}

/// Floating-point operations of a step by operation.
pub fn flops(title: &str, rows: &[Row]) -> io::Result<String> {
    let total: f64 = rows.iter().map(|row| row.work.flops).sum();
    let mut rows: Vec<&Row> = rows.iter().filter(|row| row.work.flops > 0.0).collect();
    rows.sort_by(|a, b| b.work.flops.total_cmp(&a.work.flops));
    let bar = |row: &&Row| Bar {
        name: row.operation.clone(),
        value: 1e-9 * row.work.flops,
        words: format!("{:.1}%, {:.1} GFLOP/s", 100.0 * row.work.flops / total, row.gflops().unwrap_or(0.0)),
        colour: COLOURS[2],
    };
    let all: Vec<Bar> = rows.iter().take(ROWS).map(bar).collect();
    bars(&format!("Floating-point operations: {title}"), "GFLOP of all recorded steps", &all)
}

/// How the self times of each operation's calls are distributed.
pub fn distribution(title: &str, rows: &[Row]) -> io::Result<String> {
    let rows = &rows[..rows.len().min(ROWS)];
    let bottom = TOP + ROW * rows.len().max(1) as i32;
    let us = |row: &Row, share: f64| (1e6 * row.quantile(share)).max(1e-3);
    svg((bottom + BOTTOM) as u32, |area| {
        let what = format!("Time of a call, 5 to 95% and the middle half: {title}");
        text(area, &what, (WIDTH as i32 / 2, 20), 18, HPos::Center)?;
        let low = rows.iter().map(|row| us(row, 0.05)).fold(1.0, f64::min);
        let high = rows.iter().map(|row| us(row, 0.95)).fold(10.0, f64::max);
        let decade = |v: f64| 10f64.powf(v);
        let (low, high) = (decade(low.log10().floor()), decade(high.log10().ceil()));
        let across = Across { low, high, logarithmic: true };
        across.draw(area, "self time of a call (microseconds)", bottom)?;
        for (row, i) in rows.iter().zip(0..) {
            let middle = TOP + ROW * i + ROW / 2;
            text(area, &row.operation, (LEFT - 8, middle), 13, HPos::Right)?;
            let [p5, p25, p50, p75, p95] =
                [0.05, 0.25, 0.5, 0.75, 0.95].map(|share| across.x(us(row, share)));
            line(area, (p5, middle), (p95, middle), COLOURS[0].stroke_width(2))?;
            area.draw(&Rectangle::new(
                [(p25, middle - 6), (p75.max(p25 + 2), middle + 6)],
                COLOURS[0].filled(),
            ))?;
            line(area, (p50, middle - 7), (p50, middle + 7), COLOURS[1].stroke_width(3))?;
            let words = format!("{} of {:.3} us", row.calls, 1e6 * row.quantile(0.5));
            text(area, &words, (p95 + 6, middle), 12, HPos::Left)?;
        }
        Ok(())
    })
}

/// Each operation's rate over its arithmetic intensity, under the machine's limits.
pub fn roofline(title: &str, rows: &[Row], roof: &Roof) -> io::Result<String> {
    // Calls that share the threads run as many at once.
    let rate = |row: &Row| {
        let at_once = if 2 * row.whole > row.calls { 1.0 } else { roof.threads as f64 };
        Some((row.intensity()?, 1e-9 * at_once * row.work.flops / row.own.max(1e-9)))
    };
    let points: Vec<(&Row, (f64, f64))> = rows.iter().filter_map(|row| Some((row, rate(row)?))).collect();
    let (shown_points, peak) = (&points[..points.len().min(ROWS)], 1e-9 * roof.peak);
    let decades = |values: &mut dyn Iterator<Item = f64>, least: f64, most: f64| {
        let (low, high) = values.fold((least, most), |(low, high), v| (low.min(v), high.max(v)));
        (low.max(1e-6).log10().floor(), high.log10().ceil())
    };
    let (left, right) = decades(&mut points.iter().map(|p| p.1.0), 0.1, 100.0);
    let (bottom, top) = decades(&mut points.iter().map(|p| p.1.1), 1.0, peak);
    let (x0, x1, y0, y1) = (70, WIDTH as i32 - 250, 550, TOP);
    let place = |(x, y): (f64, f64)| {
        let share =
            |v: f64, low: f64, high: f64| ((v.max(1e-12).log10() - low) / (high - low)).clamp(0.0, 1.0);
        let (across, up) = (share(x, left, right), share(y, bottom, top));
        (x0 + (across * f64::from(x1 - x0)) as i32, y0 - (up * f64::from(y0 - y1)) as i32)
    };
    svg(600, |area| {
        text(area, &format!("Roofline: {title}"), (WIDTH as i32 / 2, 20), 18, HPos::Center)?;
        for e in left as i32..=right as i32 {
            let (x, _) = place((10f64.powi(e), 1.0));
            line(area, (x, y0), (x, y1), BLACK.mix(0.12))?;
            text(area, &format!("1e{e}"), (x, y0 + 12), 13, HPos::Center)?;
        }
        for e in bottom as i32..=top as i32 {
            let (_, y) = place((1.0, 10f64.powi(e)));
            line(area, (x0, y), (x1, y), BLACK.mix(0.12))?;
            text(area, &format!("1e{e}"), (x0 - 6, y), 13, HPos::Right)?;
        }
        let (low, high) = (10f64.powf(left), 10f64.powf(right));
        for (level, i) in roof.levels.iter().zip(0..) {
            // From the left edge, or the bottom, to where the peak is reached.
            let bandwidth = 1e-9 * level.bandwidth;
            let from = low.max(10f64.powf(bottom) / bandwidth);
            let to = (peak / bandwidth).min(high);
            if from >= to {
                continue;
            }
            let colour = COLOURS[(2 + i) % COLOURS.len()];
            line(area, place((from, from * bandwidth)), place((to, to * bandwidth)), colour.stroke_width(2))?;
            let words = format!("{} {bandwidth:.0} GB/s", level.name);
            text(area, &words, (x1 + 12, 500 + 16 * i as i32), 12, HPos::Left)?;
            line(
                area,
                (x1 + 2, 500 + 16 * i as i32),
                (x1 + 10, 500 + 16 * i as i32),
                colour.stroke_width(3),
            )?;
        }
        line(area, place((low, peak)), place((high, peak)), BLACK.stroke_width(2))?;
        text(area, &format!("FMA peak {peak:.0} GFLOP/s"), (x1 + 12, 484), 12, HPos::Left)?;
        for (i, (row, at)) in shown_points.iter().enumerate() {
            let (x, y) = place(*at);
            area.draw(&Circle::new((x, y), 4, COLOURS[0].filled()))?;
            text(area, &(i + 1).to_string(), (x + 6, y - 6), 11, HPos::Left)?;
            let words = format!("{}  {}", i + 1, row.operation);
            text(area, &words, (x1 + 12, TOP + 17 * i as i32), 12, HPos::Left)?;
        }
        let words = format!("floating-point operations per byte; {} threads", roof.threads);
        text(area, &words, ((x0 + x1) / 2, y0 + 34), 14, HPos::Center)?;
        text(area, "GFLOP/s", (x0 - 6, y1 - 12), 13, HPos::Right)
    })
}

/// The trainer's buffers by kind, one above the other, and the process' memory, over the recorded steps.
pub fn memory(title: &str, memory: &Memory, samples: &[(f64, f64)], record: &Record) -> io::Result<String> {
    let spans = record.threads.first().map_or(&[][..], |thread| &thread.spans[..]);
    let steps: Vec<f64> = spans
        .iter()
        .filter(|s| s.kind == Kind::Step)
        .flat_map(|s| [s.start, s.end])
        .map(|t| 1e-6 * t as f64)
        .collect();
    let low = steps.first().copied().unwrap_or(0.0);
    let high = steps.last().copied().unwrap_or(1.0).max(low + 1e-6);
    let inside: Vec<(f64, f64)> =
        samples.iter().map(|&(s, b)| ((1e3 * s).clamp(low, high), 1e-6 * b)).collect();
    let most = inside.iter().map(|s| s.1).fold(1e-6 * memory.total(), f64::max);
    let scales = [Scale::of([low, high].into_iter(), 8, false), Scale::of([0.0, most].into_iter(), 8, false)];
    let (x0, x1, y0, y1) = (80, WIDTH as i32 - 210, 450, TOP);
    let x = |ms: f64| x0 + ((ms - low) / (high - low) * f64::from(x1 - x0)) as i32;
    let y = |mb: f64| y0 - (mb / most.max(1e-9) * f64::from(y0 - y1)) as i32;
    svg(500, |area| {
        text(area, &format!("Memory: {title}"), (WIDTH as i32 / 2, 20), 18, HPos::Center)?;
        let mut below = 0.0;
        for (i, (name, bytes)) in memory.kinds().into_iter().enumerate() {
            let above = below + 1e-6 * bytes;
            let colour = COLOURS[i % COLOURS.len()].mix(0.6);
            area.draw(&Rectangle::new([(x0, y(above)), (x1, y(below))], colour.filled()))?;
            let at = TOP + 20 * i as i32;
            area.draw(&Rectangle::new([(x1 + 14, at - 5), (x1 + 26, at + 5)], colour.filled()))?;
            text(area, &format!("{name} {:.1} MB", 1e-6 * bytes), (x1 + 32, at), 12, HPos::Left)?;
            below = above;
        }
        for step in &steps {
            line(area, (x(*step), y0), (x(*step), y1), BLACK.mix(0.25))?;
        }
        for mark in scales[0].marks().into_iter().filter(|m| (low..=high).contains(m)) {
            text(area, &scales[0].label(mark), (x(mark), y0 + 12), 13, HPos::Center)?;
        }
        for mark in scales[1].marks().into_iter().filter(|m| (0.0..=most).contains(m)) {
            line(area, (x0, y(mark)), (x1, y(mark)), BLACK.mix(0.12))?;
            text(area, &scales[1].label(mark), (x0 - 6, y(mark)), 13, HPos::Right)?;
        }
        if !inside.is_empty() {
            let path: Vec<_> = inside.iter().map(|&(ms, mb)| (x(ms), y(mb))).collect();
            area.draw(&PathElement::new(path, BLACK.stroke_width(2)))?;
            let at = TOP + 130;
            line(area, (x1 + 14, at), (x1 + 26, at), BLACK.stroke_width(2))?;
            text(area, "the process, resident", (x1 + 32, at), 12, HPos::Left)?;
        }
        text(area, "time; lines where steps begin and end (ms)", ((x0 + x1) / 2, y0 + 34), 14, HPos::Center)?;
        text(area, "MB", (x0 - 6, y1 - 14), 13, HPos::Right)
    })
}

#[cfg(test)]
mod tests {
    use super::super::analyse::tests::record;
    use super::super::roof::tests::roof;
    use super::super::table::By;
    use super::*;

    #[test]
    fn plots_have_names_units_and_no_strange_numbers() {
        let (record, roof, memory_used) =
            (record(), roof(), Memory { parameters: 5e6, activations: 2e6, ..Memory::default() });
        let analysis = Analysis::of(&record);
        let rows = analysis.table(By::Operation, Some(&roof));
        let samples = [(0.0, 8e6), (1e-4, 9e6), (f64::MAX, 9e6)];
        let all = [
            (
                time("A<B>", &rows, &analysis),
                &["A&lt;B&gt;", "nested &lt;&quot;&amp;&gt;", "chunk: product", "(ms)"][..],
            ),
            (distribution("t", &rows), &["after", "microseconds"]),
            (flops("t", &rows), &["product", "GFLOP of all recorded steps"]),
            (roofline("t", &rows, &roof), &["1  chunk: product", "FMA peak 200 GFLOP/s", "L3 60 GB/s"]),
            (memory("t", &memory_used, &samples, &record), &["parameters 5.0 MB", "the process, resident"]),
        ];
        for (svg, words) in all {
            let svg = svg.unwrap();
            for word in words {
                assert!(svg.contains(word), "{word}: {svg}");
            }
            assert!(
                svg.trim_end().ends_with("</svg>") && !svg.contains("NaN") && !svg.contains("inf"),
                "{svg}"
            );
        }
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        let (record, analysis) = (Record::default(), Analysis::default());
        for svg in [
            time("t", &[], &analysis),
            distribution("t", &[]),
            flops("t", &[]),
            roofline("t", &[], &roof()),
            memory("t", &Memory::default(), &[], &record),
        ] {
            assert!(!svg.unwrap().contains("NaN"));
        }
    }
}
