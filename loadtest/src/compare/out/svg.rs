//! Plots as SVG: lines over an axis that may be logarithmic, and bars in groups. No scripts, no fonts of its own.

use std::fmt::Write;

use super::digits;
use crate::compare::Spread;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 46.0;
/// Told apart by people who see colours differently as well: Okabe and Ito's palette.
const COLOURS: [&str; 8] = [
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#666666", "#b8a900",
];

/// One line of a plot.
#[derive(Debug, Clone)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// (x, y), by x.
    pub points: Vec<(f64, f64)>,
}

/// A plot of lines.
#[derive(Debug, Clone)]
pub struct Lines {
    /// What x is.
    pub x: String,
    /// What y is.
    pub y: String,
    /// Whether x is on a logarithmic axis.
    pub log_x: bool,
    /// Whether y is on a logarithmic axis; else it begins at 0.
    pub log_y: bool,
    /// Marks of the x axis that have names of their own.
    pub ticks: Vec<(f64, String)>,
    /// The lines.
    pub series: Vec<Series>,
}

/// A plot of bars, one group for each name.
#[derive(Debug, Clone)]
pub struct Bars {
    /// What y is.
    pub y: String,
    /// Names in the legend.
    pub series: Vec<String>,
    /// A name, and for each of the series a median with its spread.
    pub groups: Vec<(String, Vec<Option<Spread>>)>,
}

/// From values to places on one axis.
#[derive(Debug, Clone, Copy)]
struct Axis {
    log: bool,
    low: f64,
    high: f64,
    begin: f64,
    end: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, log: bool, begin: f64, end: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite() && (!log || *value > 0.0)) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        if log && high < low * 2.0 {
            (low, high) = (low / 1.5, high * 1.5);
        } else if !log && high <= low {
            high = low + 1.0;
        }
        Self {
            log,
            low,
            high,
            begin,
            end,
        }
    }

    fn at(&self, value: f64) -> f64 {
        let place = |value: f64| {
            if self.log {
                value.max(f64::MIN_POSITIVE).log10()
            } else {
                value
            }
        };
        let share = (place(value) - place(self.low)) / (place(self.high) - place(self.low));
        self.begin + share * (self.end - self.begin)
    }

    /// Round values within the axis: 1, 2 and 5 times powers of ten.
    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let decades = (self.high / self.low).log10();
            let factors: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
            let first = self.low.log10().floor();
            let powers = (0..=20).map(|power| 10f64.powf(first + f64::from(power)));
            let all = powers.flat_map(|power| factors.iter().map(move |factor| power * factor));
            return all
                .filter(|tick| *tick >= self.low * 0.999 && *tick <= self.high * 1.001)
                .collect();
        }
        let rough = (self.high - self.low) / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|factor| factor * power)
            .find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let first = (self.low / step).ceil();
        (0..=10)
            .map(|index| (first + f64::from(index)) * step)
            .filter(|tick| *tick <= self.high * 1.001)
            .collect()
    }
}

impl Lines {
    /// The plot.
    pub fn svg(&self) -> String {
        let points = || {
            self.series
                .iter()
                .flat_map(|series| series.points.iter().copied())
        };
        let x = Axis::new(points().map(|(x, _)| x), self.log_x, LEFT, WIDTH - RIGHT);
        let zero = (!self.log_y).then_some(0.0);
        let y = Axis::new(
            points().map(|(_, y)| y).chain(zero),
            self.log_y,
            HEIGHT - BOTTOM,
            TOP,
        );
        let mut out = open();
        grid(&mut out, y, &self.y);
        let ticks = if self.ticks.is_empty() {
            x.ticks().into_iter().map(|tick| (tick, short(tick))).collect()
        } else {
            self.ticks.clone()
        };
        for (tick, name) in ticks.iter().filter(|(tick, _)| *tick >= x.low && *tick <= x.high) {
            let (at, bottom) = (x.at(*tick), HEIGHT - BOTTOM);
            let _ = write!(out, r##"<path d="M{at:.1} {bottom}v4" stroke="#888"/>"##);
            text(&mut out, at, bottom + 16.0, "middle", name);
        }
        text(
            &mut out,
            f64::midpoint(LEFT, WIDTH),
            HEIGHT - BOTTOM + 34.0,
            "middle",
            &self.x,
        );
        for (index, series) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let drawn = series
                .points
                .iter()
                .filter(|(px, py)| (!self.log_x || *px > 0.0) && (!self.log_y || *py > 0.0));
            let places: Vec<_> = drawn.map(|(px, py)| (x.at(*px), y.at(*py))).collect();
            let path: Vec<_> = places.iter().map(|(px, py)| format!("{px:.1},{py:.1}")).collect();
            let path = path.join(" ");
            let _ = write!(
                out,
                r#"<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>"#
            );
            if places.len() <= 20 {
                for (px, py) in places {
                    let _ = write!(
                        out,
                        r#"<circle cx="{px:.1}" cy="{py:.1}" r="3" fill="{colour}"/>"#
                    );
                }
            }
        }
        out.push_str("</svg>");
        out + &legend(self.series.iter().map(|series| series.name.as_str()))
    }
}

impl Bars {
    /// The plot.
    pub fn svg(&self) -> String {
        let all = self
            .groups
            .iter()
            .flat_map(|(_, bars)| bars.iter().flatten().map(|bar| bar.max));
        let y = Axis::new(all.chain([0.0]), false, HEIGHT - BOTTOM, TOP);
        let mut out = open();
        grid(&mut out, y, &self.y);
        let count = u32::try_from(self.groups.len().max(1)).map_or(1.0, f64::from);
        let slots = u32::try_from(self.series.len().max(1)).map_or(1.0, f64::from);
        let group = (WIDTH - LEFT - RIGHT) / count;
        let width = group * 0.8 / slots;
        let mut left = LEFT;
        for (row, (name, bars)) in self.groups.iter().enumerate() {
            let mut at = left + group * 0.1;
            for (index, bar) in bars.iter().enumerate() {
                if let Some(bar) = bar {
                    self::bar(&mut out, y, (at, width), *bar, COLOURS[index % COLOURS.len()]);
                }
                at += width;
            }
            // Two rows of names, so that they don't touch.
            let lower = if row % 2 == 1 && self.groups.len() > 6 {
                14.0
            } else {
                0.0
            };
            text(
                &mut out,
                left + group / 2.0,
                HEIGHT - BOTTOM + 16.0 + lower,
                "middle",
                name,
            );
            left += group;
        }
        out.push_str("</svg>");
        out + &legend(self.series.iter().map(String::as_str))
    }
}

fn bar(out: &mut String, y: Axis, (at, width): (f64, f64), bar: Spread, colour: &str) {
    let (top, bottom) = (y.at(bar.median), y.at(0.0));
    let (high, low, middle) = (y.at(bar.max), y.at(bar.min), at + width / 2.0);
    let (wide, tall, value) = ((width - 1.0).max(1.0), bottom - top, digits(bar.median));
    let _ = write!(
        out,
        r##"<rect x="{at:.1}" y="{top:.1}" width="{wide:.1}" height="{tall:.1}" fill="{colour}"><title>{value}</title></rect><path d="M{middle:.1} {high:.1}V{low:.1}" stroke="#222"/>"##
    );
}

fn open() -> String {
    format!(
        r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" font-family="sans-serif" font-size="11">"#
    )
}

fn grid(out: &mut String, y: Axis, name: &str) {
    for tick in y.ticks() {
        let (at, right) = (y.at(tick), WIDTH - RIGHT);
        let _ = write!(out, r##"<path d="M{LEFT} {at:.1}H{right}" stroke="#ddd"/>"##);
        text(out, LEFT - 6.0, at + 4.0, "end", &short(tick));
    }
    let middle = f64::midpoint(TOP, HEIGHT - BOTTOM);
    let name = escaped(name);
    let _ = write!(
        out,
        r#"<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{name}</text>"#
    );
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, value: &str) {
    let value = escaped(value);
    let _ = write!(
        out,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{value}</text>"#
    );
}

fn legend<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut out = String::from("<p class=legend>");
    for (index, name) in names.enumerate() {
        let (colour, name) = (COLOURS[index % COLOURS.len()], escaped(name));
        let _ = write!(out, r#"<span><i style="background:{colour}"></i>{name}</span> "#);
    }
    out + "</p>"
}

/// 1500 as 1.5 k.
fn short(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        large if large >= 1e9 => (value / 1e9, " G"),
        large if large >= 1e6 => (value / 1e6, " M"),
        large if large >= 1e3 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let rounded = (scaled * 100.0).round() / 100.0;
    format!("{rounded}{unit}")
}

/// Safe inside of HTML and SVG.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
