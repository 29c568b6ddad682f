//! Line plots as SVG, the same look for every trainer: no fonts of the system and no C library are needed.

use std::io;

use plotters::prelude::*;

use axis::Scale;

pub(super) mod axis;

/// A plot of lines over a common axis.
#[derive(Clone, Copy, Debug)]
pub struct Plot<'a> {
    /// The title: what is shown, of which model, on which data.
    pub title: &'a str,
    /// The horizontal axis.
    pub x: Axis<'a>,
    /// The vertical axis.
    pub y: Axis<'a>,
    /// Where the lines' names stand.
    pub legend: Legend,
    /// The lines. More than seven share colours.
    pub series: &'a [Series],
}

/// An axis.
#[derive(Clone, Copy, Debug)]
pub struct Axis<'a> {
    /// What it measures, with the unit.
    pub label: &'a str,
    /// Whether its values are whole numbers, such as steps; its marks are too, then.
    pub whole: bool,
}

impl<'a> Axis<'a> {
    /// An axis of counts.
    pub fn whole(label: &'a str) -> Self {
        Axis { label, whole: true }
    }

    /// An axis of real numbers.
    pub fn real(label: &'a str) -> Self {
        Axis { label, whole: false }
    }
}

/// A line.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend. A line without points is not in it.
    pub name: &'static str,
    /// Points by ascending x; those that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// The corner of the legend: the one that the lines leave free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Legend {
    /// For lines that go up.
    LowerRight,
    /// For lines that go down.
    UpperRight,
}

/// Pixels of a plot.
const SIZE: (u32, u32) = (900, 520);
/// Up to this many points of a line have a marker each.
const FEW: usize = 30;
/// A line of more points than this is thinned out: about two for each column of pixels.
const MANY: usize = 1600;
/// Characters of a title that fit.
const TITLE: usize = 88;

/// Told apart by colour-blind readers, and visible on white (Okabe and Ito, "Color Universal Design", 2008; without
/// yellow).
pub(super) const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

impl Plot<'_> {
    /// The plot as the text of an SVG file.
    ///
    /// # Errors
    /// It cannot be drawn.
    pub fn svg(&self) -> io::Result<String> {
        let mut svg = String::new();
        let drawn = self.draw(SVGBackend::with_string(&mut svg, SIZE).into_drawing_area());
        drawn.map_err(|e| io::Error::other(e.to_string()))?;
        Ok(svg)
    }

    fn draw(
        &self,
        area: DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    ) -> Result<(), DrawingAreaErrorKind<io::Error>> {
        let lines: Vec<_> = self.series.iter().map(drawable).collect();
        let points = || lines.iter().flatten();
        let x = Scale::of(points().map(|p| p.0), 10, self.x.whole);
        let y = Scale::of(points().map(|p| p.1), 8, self.y.whole);
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(shown(self.title), ("sans-serif", 20))
            .margin(12)
            .margin_right(28)
            .x_label_area_size(44)
            .y_label_area_size(32 + 7 * y.longest_label() as u32)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .x_desc(shown(self.x.label))
            .y_desc(shown(self.y.label))
            .x_label_formatter(&|value| x.label(*value))
            .y_label_formatter(&|value| y.label(*value))
            .bold_line_style(BLACK.mix(0.12))
            .axis_style(BLACK.mix(0.6))
            .label_style(("sans-serif", 13))
            .draw()?;
        for (i, (line, points)) in self.series.iter().zip(&lines).enumerate() {
            if points.is_empty() {
                continue;
            }
            let colour = COLOURS[i % COLOURS.len()];
            // Markers of lines that coincide are seen as rings.
            let radius = (5 - i as i32).max(3);
            let marked = points.len() <= FEW;
            chart
                .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
                .label(line.name)
                .legend(move |(x, y)| {
                    let line = PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2));
                    let radius = if marked { radius } else { 0 };
                    EmptyElement::at((0, 0)) + line + Circle::new((x + 10, y), radius, colour.filled())
                });
            if marked {
                chart.draw_series(points.iter().map(|&at| Circle::new(at, radius, colour.filled())))?;
            }
        }
        chart
            .configure_series_labels()
            .position(match self.legend {
                Legend::LowerRight => SeriesLabelPosition::LowerRight,
                Legend::UpperRight => SeriesLabelPosition::UpperRight,
            })
            .margin(12)
            .legend_area_size(30)
            .label_font(("sans-serif", 13))
            .border_style(BLACK.mix(0.4))
            .background_style(WHITE.mix(0.85))
            .draw()?;
        area.present()
    }
}

/// The points that can be drawn: of very many, the lowest and the highest of each group of neighbours.
fn drawable(series: &Series) -> Vec<(f64, f64)> {
    let usual = |v: f64| v.abs() <= axis::LARGEST;
    let points: Vec<_> = series.points.iter().copied().filter(|p| usual(p.0) && usual(p.1)).collect();
    if points.len() <= MANY {
        return points;
    }
    let group = points.len().div_ceil(MANY / 2);
    let ends = |group: &[(f64, f64)]| {
        let by = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let (low, high) = (group.iter().min_by(by), group.iter().max_by(by));
        let (low, high) = (*low.expect("not empty"), *high.expect("not empty"));
        if low.0 <= high.0 { [low, high] } else { [high, low] }
    };
    let (first, last) = (points[0], points[points.len() - 1]);
    let mut thinned: Vec<_> = points.chunks(group).flat_map(ends).collect();
    thinned[0] = first;
    thinned.push(last);
    thinned
}

/// The text as XML can hold it, cut where it would not fit.
pub(super) fn shown(text: &str) -> String {
    let valid = |c: char| if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') { ' ' } else { c };
    let text: String = text.chars().map(valid).collect();
    match text.char_indices().nth(TITLE) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn svg(title: &str, series: &[Series]) -> String {
        let (x, y) = (Axis::whole("step"), Axis::real("loss (nats per token)"));
        Plot { title, x, y, legend: Legend::UpperRight, series }.svg().unwrap()
    }

    fn count(svg: &str, what: &str) -> usize {
        svg.matches(what).count()
    }

    #[test]
    fn title_units_and_lines_are_there_and_strange_points_are_not() {
        let strange = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX];
        let points = [(1.0, 0.5), (3.0, 0.9)].into_iter().chain(strange.map(|y| (2.0, y))).collect();
        let empty = Series { name: "validation", points: vec![] };
        let drawn = svg("Loss of A<B> & \"C\"\u{1}", &[Series { name: "training", points }, empty]);
        for text in ["Loss of A&lt;B&gt; &amp; &quot;C&quot; ", "step", "loss (nats per token)", "training"] {
            assert!(drawn.contains(&format!(">\n{text}\n<")), "{text}: {drawn}");
        }
        assert!(!drawn.contains("validation") && !drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
        // Two points, and the legend.
        assert_eq!(count(&drawn, "<circle"), 3);
        assert!(svg("Nothing yet", &[]).contains("Nothing yet"));
        assert!(svg(&"x".repeat(500), &[]).contains(&format!("{}…", "x".repeat(TITLE))));
    }

    #[test]
    fn few_points_have_markers_and_many_are_thinned_to_the_extremes() {
        let line = |n: usize, y: fn(usize) -> f64| Series {
            name: "training",
            points: (0..n).map(|i| (i as f64, y(i))).collect(),
        };
        let down = |i: usize| 1.0 / (1.0 + i as f64);
        assert_eq!(count(&svg("", &[line(FEW, down)]), "<circle"), FEW + 1);
        assert_eq!(count(&svg("", &[line(FEW + 1, down)]), "<circle"), 1);

        let spike = |i: usize| if i == 54_321 { 7.0 } else { (i % 2) as f64 };
        let thinned = drawable(&line(100_000, spike));
        assert!(thinned.len() <= MANY + 1 && thinned.is_sorted_by(|a, b| a.0 <= b.0));
        assert!(thinned.contains(&(54_321.0, 7.0)), "a spike is seen");
        assert_eq!([thinned[0].0, thinned[thinned.len() - 1].0], [0.0, 99_999.0]);
        assert!(svg("", &[line(100_000, spike)]).len() < 100_000);
    }

    #[test]
    fn any_values_are_drawn() {
        let values = [0.0, -1.0, 1.0, 1e-320, 1e-300, 1e-12, 1e8, 1e8 + 1.0, 1e300, -1e300, f64::MAX];
        for a in values {
            for b in values {
                for whole in [false, true] {
                    let axis = Axis { label: "", whole };
                    let series = [Series { name: "a", points: vec![(a, b), (b, a), (a, a)] }];
                    let plot =
                        Plot { title: "", x: axis, y: axis, legend: Legend::LowerRight, series: &series };
                    let svg = plot.svg().unwrap();
                    assert!(!svg.contains("NaN") && svg.len() < 20_000, "{a} {b} {whole}: {svg}");
                }
            }
        }
    }
}
