//! Draws what events and packets cost over the number of tunnels. usage: plot <POINTS >SVG
//!
//! A line of POINTS is `PANEL SERIES TUNNELS NS`. Both axes are logarithmic. `contrib/bench` builds it with rustc and runs it.

use std::error::Error;
use std::io;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A panel: its key in the points, what stands above it, and the unit of its vertical axis with its nanoseconds.
const PANELS: [(&str, &str, &str, f64); 2] = [
    ("event", "A tunnel up and down", "ms", 1e6),
    ("packet", "A forwarded packet", "µs", 1e3),
];

/// Series, what they are called, and their dashes: in print and to the colour-blind these tell them apart. Their colours are in [`STYLE`].
const SERIES: [(&str, &str, &str); 4] = [
    ("pluto-updown", "pluto-updown", "none"),
    ("script", "strongSwan's script", "9 4"),
    ("restore", "a bare iptables-restore", "2 4"),
    ("clear", "pluto-updown, unencrypted packets", "9 4 2 4"),
];

/// The colours on a light screen, and on a dark one.
const STYLE: &str = "\
.page{fill:#ffffff}text{fill:#222222}.grid{stroke:#dddddd}.s0{stroke:#0b6e99}.s1{stroke:#c0392b}.s2{stroke:#767676}.s3{stroke:#2e8b57}
@media (prefers-color-scheme:dark){.page{fill:#16181c}text{fill:#e6e6e6}.grid{stroke:#3a3f47}.s0{stroke:#56b4e0}.s1{stroke:#ff8a75}.s2{stroke:#a8a8a8}.s3{stroke:#6fd19c}}";

const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 40.0;
const GAP: f64 = 100.0;

struct Point {
    panel: String,
    series: String,
    tunnels: f64,
    ns: f64,
}

fn main() -> Result<()> {
    let points = io::stdin()
        .lines()
        .map(|line| read(&line?))
        .collect::<Result<Vec<_>>>()?;
    let width = LEFT + 2.0 * WIDTH + GAP + 20.0;
    let height = TOP + HEIGHT + 110.0;
    println!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" aria-labelledby="title" font-family="sans-serif" font-size="12">
<title id="title">Cost of a tunnel's up and down, and of a forwarded packet, by the number of tunnels that are up</title>
<style>{STYLE}</style>
<rect class="page" width="{width}" height="{height}"/>"#
    );
    for (index, panel) in PANELS.iter().enumerate() {
        let offset = if index == 0 { LEFT } else { LEFT + WIDTH + GAP };
        draw(panel, offset, &points);
    }
    println!("</svg>");
    Ok(())
}

fn read(line: &str) -> Result<Point> {
    let [panel, series, tunnels, ns] = line.split_whitespace().collect::<Vec<_>>()[..] else {
        return Err(format!("not a point: {line}").into());
    };
    Ok(Point {
        panel: panel.to_owned(),
        series: series.to_owned(),
        tunnels: tunnels.parse()?,
        ns: ns.parse()?,
    })
}

fn draw((key, title, unit, ns): &(&str, &str, &str, f64), offset: f64, points: &[Point]) {
    let points: Vec<_> = points.iter().filter(|point| point.panel == *key).collect();
    let most = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::MIN, f64::max).ceil();
    let least = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::MAX, f64::min).floor();
    let right = most(&mut points.iter().map(|point| point.tunnels.log10())).max(1.0);
    let top = most(&mut points.iter().map(|point| (point.ns / ns).log10()));
    let bottom = least(&mut points.iter().map(|point| (point.ns / ns).log10()));
    let x = |tunnels: f64| offset + tunnels.log10() / right * WIDTH;
    let y = |value: f64| TOP + HEIGHT - (value.log10() - bottom) / (top - bottom) * HEIGHT;
    println!(r#"<text x="{offset}" y="24" font-size="14" font-weight="bold">{title}</text>"#);
    for power in decades(0.0, right) {
        let at = x(10f64.powf(power));
        println!(r#"<line x1="{at:.1}" y1="{TOP}" x2="{at:.1}" y2="{}" class="grid"/>"#, TOP + HEIGHT);
        println!(r#"<text x="{at:.1}" y="{}" text-anchor="middle">{}</text>"#, TOP + HEIGHT + 18.0, 10f64.powf(power));
    }
    for power in decades(bottom, top) {
        let at = y(10f64.powf(power));
        println!(r#"<line x1="{offset}" y1="{at:.1}" x2="{}" y2="{at:.1}" class="grid"/>"#, offset + WIDTH);
        println!(r#"<text x="{}" y="{:.1}" text-anchor="end">{}</text>"#, offset - 6.0, at + 4.0, 10f64.powf(power));
    }
    println!(
        r#"<text x="{}" y="{}" text-anchor="middle">tunnels that are up (log scale)</text>"#,
        offset + WIDTH / 2.0,
        TOP + HEIGHT + 38.0
    );
    let (at, middle) = (offset - 48.0, TOP + HEIGHT / 2.0);
    println!(
        r#"<text x="{at}" y="{middle}" text-anchor="middle" transform="rotate(-90 {at} {middle})">time in {unit} (log scale)</text>"#
    );
    let mut row = 0.0;
    for (number, (series, name, dashes)) in SERIES.into_iter().enumerate() {
        let line: Vec<_> = points.iter().filter(|point| point.series == series).collect();
        if line.is_empty() {
            continue;
        }
        let at: Vec<_> = line.iter().map(|point| (x(point.tunnels), y(point.ns / ns))).collect();
        let path: Vec<_> = at.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let stroke = format!(r#"class="s{number}" stroke-width="2" stroke-dasharray="{dashes}""#);
        println!(r#"<polyline points="{}" fill="none" {stroke}/>"#, path.join(" "));
        for (x, y) in &at {
            println!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="2.5" fill="none" class="s{number}" stroke-width="2"/>"#);
        }
        let below = TOP + HEIGHT + 58.0 + row * 16.0;
        let (start, end, level) = (offset, offset + 40.0, below - 4.0);
        println!(r#"<line x1="{start}" y1="{level:.1}" x2="{end}" y2="{level:.1}" {stroke}/>"#);
        println!(r#"<text x="{}" y="{below:.1}">{name}</text>"#, end + 8.0);
        row += 1.0;
    }
}

fn decades(from: f64, to: f64) -> impl Iterator<Item = f64> {
    std::iter::successors(Some(from), |power| Some(power + 1.0)).take_while(move |power| *power <= to)
}
