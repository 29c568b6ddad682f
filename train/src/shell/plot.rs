//! Line plots as SVG: no fonts of the system and no C library are needed.

use plotters::prelude::*;

/// One line of a plot.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend.
    pub name: &'static str,
    /// Points; those that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// Pixels of a plot.
const SIZE: (u32, u32) = (900, 520);

/// Where the names of the lines stand: where the lines are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Legend {
    /// For lines that go up.
    LowerRight,
    /// For lines that go down.
    UpperRight,
}

/// Draws lines over a common axis.
///
/// # Panics
/// If the drawing library refuses, which it does for no numbers that a run can have.
pub fn svg(title: &str, x: &str, y: &str, series: &[Series], legend: Legend) -> String {
    draw(title, x, y, series, legend).expect("lines are drawn into memory")
}

type DrawError = Box<dyn std::error::Error + Send + Sync>;

fn draw(title: &str, x: &str, y: &str, series: &[Series], legend: Legend) -> Result<String, DrawError> {
    let finite = |p: &&(f64, f64)| p.0.is_finite() && p.1.is_finite();
    let points: Vec<(f64, f64)> = series.iter().flat_map(|s| &s.points).filter(finite).copied().collect();
    let (xs, ys) = (range(points.iter().map(|p| p.0)), range(points.iter().map(|p| p.1)));
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(xs, ys)?;
        chart.configure_mesh().x_desc(x).y_desc(y).light_line_style(WHITE).draw()?;
        for (i, line) in series.iter().enumerate() {
            let colour = Palette99::pick(i).stroke_width(2);
            let drawn = line.points.iter().filter(finite).copied();
            chart
                .draw_series(LineSeries::new(drawn, colour))?
                .label(line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
        }
        let background = WHITE.mix(0.8);
        chart
            .configure_series_labels()
            .position(match legend {
                Legend::LowerRight => SeriesLabelPosition::LowerRight,
                Legend::UpperRight => SeriesLabelPosition::UpperRight,
            })
            .border_style(BLACK)
            .background_style(background)
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}

/// From least to most, with a little room, and never empty.
fn range(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return 0.0..1.0;
    }
    let room = if high > low { 0.03 * (high - low) } else { 0.5 };
    low - room..high + room
}
