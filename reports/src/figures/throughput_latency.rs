//! What a GPU gives against what a request waits for, over the points of a study.

use super::{Entry, Kind};
use crate::StudyFile;
use crate::draw::axes::{drawable, largest};
use crate::draw::legend::{self, Item, Look};
use crate::draw::{Axes, Label, Paint, Scene, Ticks, Width, digits};
use crate::study_file::StudyPoint;
use crate::tables::{Cell, Rows};

pub(super) const ENTRY: Entry = Entry {
    name: "throughput-latency",
    about: "output tokens per second and GPU against time per token, over the points of a study",
    caption: "Every dot is a service under a load. To the left a request gets its tokens faster, \
              upwards a GPU makes more of them; points of one colour differ in their load only. \
              Ringed points on the dashed line are the frontier: no other point is better in \
              both. Whether a point keeps a limit on the time to the first token stands in the \
              table, not here.",
    order: 30,
    kind: Kind::Study { title, rows, draw },
};

/// Series with a colour and a name of their own; what is beyond shares the grey of the rest.
const NAMED_MAX: usize = 5;

/// A point where it can be drawn.
struct Dot<'a> {
    time_ms: f64,
    rate: f64,
    point: &'a StudyPoint,
}

fn dots(file: &StudyFile) -> Vec<Dot<'_>> {
    let dot = |point| -> Option<Dot<'_>> {
        let (time_ms, rate) = StudyPoint::place(point)?;
        // A logarithm wants a time that is not absurdly small.
        Some(Dot { time_ms: drawable(time_ms)?.max(1e-9), rate: drawable(rate)?, point })
    };
    file.points.iter().filter_map(dot).collect()
}

fn title(file: &StudyFile) -> Result<String, &'static str> {
    let dots = dots(file);
    let on = |dot: &&Dot| dot.point.frontier;
    let quick = dots.iter().filter(on).min_by(|a, b| a.time_ms.total_cmp(&b.time_ms));
    let cheap = dots.iter().filter(on).max_by(|a, b| a.rate.total_cmp(&b.rate));
    let (Some(quick), Some(cheap)) = (quick, cheap) else {
        return Err("no point made an answer of two tokens or more");
    };
    let say = |dot: &Dot| {
        let (time, rate) = (digits::significant(dot.time_ms), digits::significant(dot.rate));
        format!("{rate} tokens/s a GPU at {time} ms a token")
    };
    let (quick, cheap) = (say(quick), say(cheap));
    Ok(if quick == cheap { quick } else { format!("From {quick} to {cheap}") })
}

fn rows(file: &StudyFile) -> Rows {
    let rows = dots(file).into_iter().map(|dot| {
        vec![
            Cell::Count(dot.point.point.into()),
            dot.point.series.as_str().into(),
            dot.point.load.as_str().into(),
            Cell::Number(dot.time_ms),
            Cell::Number(dot.rate),
            Cell::Count(u64::from(dot.point.frontier)),
        ]
    });
    Rows {
        columns: &[
            "point",
            "series",
            "load",
            "tpot_ms_p50",
            "output_tokens_per_second_per_gpu",
            "frontier",
        ],
        rows: rows.collect(),
    }
}

/// A series: its name, its dots in the order of the study.
struct Series<'a> {
    name: &'a str,
    dots: Vec<&'a Dot<'a>>,
    paint: Paint,
}

/// Series in the order of the study; the ones that matter most get colours.
fn series<'a>(dots: &'a [Dot<'a>]) -> Vec<Series<'a>> {
    let mut all: Vec<Series<'a>> = Vec::new();
    let mut places = std::collections::BTreeMap::new();
    for dot in dots {
        let name = dot.point.series.as_str();
        let place = *places.entry(name).or_insert(all.len());
        if place == all.len() {
            all.push(Series { name, dots: Vec::new(), paint: Paint::Series(0) });
        }
        all[place].dots.push(dot);
    }
    let mut order: Vec<usize> = (0..all.len()).collect();
    // First those with most of the frontier, then the most productive.
    order.sort_by(|&a, &b| {
        let on = |index: usize| all[index].dots.iter().filter(|dot| dot.point.frontier).count();
        let most = |index: usize| largest(all[index].dots.iter().map(|dot| dot.rate));
        on(b).cmp(&on(a)).then(most(b).total_cmp(&most(a))).then(a.cmp(&b))
    });
    let mut chosen: Vec<usize> = order.into_iter().take(NAMED_MAX).collect();
    chosen.sort_unstable();
    for (colour, index) in chosen.into_iter().enumerate() {
        all[index].paint = Paint::Series(1 + colour);
    }
    all
}

fn legend_items(series: &[Series<'_>]) -> Vec<Item> {
    let named = series.iter().filter(|it| it.paint != Paint::Series(0));
    let name = |it: &Series| if it.name.is_empty() { "all points" } else { it.name }.to_owned();
    let mut items: Vec<Item> = named.map(|it| Item::new(Look::Dot, it.paint, name(it))).collect();
    match series.len() - items.len() {
        0 => {}
        1 => {
            let last = series.iter().find(|it| it.paint == Paint::Series(0)).expect("counted");
            items.push(Item::new(Look::Dot, last.paint, name(last)));
        }
        rest => items.push(Item::new(Look::Dot, Paint::Series(0), format!("{rest} others"))),
    }
    items.push(Item::new(Look::Dashes, Paint::Ink, "frontier"));
    items
}

/// Round times between two, on a logarithmic axis: 1, 2 and 5 times a power of ten.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let all = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|factor| factor * 10_f64.powi(power)));
    let all: Vec<f64> = all.collect();
    let first = all.iter().rposition(|&tick| tick <= low * (1.0 + 1e-9)).unwrap_or(0);
    let last = all.iter().position(|&tick| tick >= high * (1.0 - 1e-9));
    let kept = &all[first..=last.unwrap_or(all.len() - 1).max(first)];
    match kept.len() {
        // Too many to label: whole powers of ten, and of those not more than there is room for.
        count if count > 10 => {
            let tens: Vec<f64> =
                kept.iter().copied().filter(|tick| tick.log10().fract().abs() < 1e-6).collect();
            let step = tens.len().div_ceil(8).max(1);
            tens.into_iter().step_by(step).collect()
        }
        _ => kept.to_vec(),
    }
}

fn tick_text(value: f64) -> String {
    if (1e-3..1e6).contains(&value) { format!("{value}") } else { format!("{value:.0e}") }
}

fn draw(file: &StudyFile, width: Width) -> Scene {
    let mut scene = Scene::new(width);
    let dots = dots(file);
    let series = series(&dots);
    let top = legend::draw(&mut scene, &legend_items(&series), 0.0) + 6.0;
    let times = || dots.iter().map(|dot| dot.time_ms);
    let (low, high) = (times().fold(f64::INFINITY, f64::min), largest(times()));
    let (low, high) = if low <= high { (low, high) } else { (1.0, 1.0) };
    let ticks = log_ticks(low, high);
    let ends = |values: &[f64]| (values[0].min(low).log10(), values[values.len() - 1].max(high));
    let (first, last) = ends(&ticks);
    let last = last.log10();
    let range = if first < last { (first, last) } else { (first - 0.5, last + 0.5) };
    let plot = Axes {
        titles: ("median time per output token, ms (log scale)", "output tokens/s per GPU"),
        x_range: range,
        x_ticks: ticks.into_iter().map(|tick| (tick.log10(), tick_text(tick))).collect(),
        y: Ticks::around(0.0, largest(dots.iter().map(|dot| dot.rate)), 5),
        y_label: Ticks::labelled,
        height: width.pick(340.0, 260.0),
    }
    .draw(&mut scene, top);
    let at = |dot: &Dot| (plot.x.at(dot.time_ms.log10()), plot.y.at(dot.rate));
    let mut frontier: Vec<&Dot> = dots.iter().filter(|dot| dot.point.frontier).collect();
    frontier.sort_by(|a, b| a.time_ms.total_cmp(&b.time_ms));
    for it in &series {
        let line: Vec<_> = it.dots.iter().map(|dot| Some(at(dot))).collect();
        if line.len() > 1 && it.paint != Paint::Series(0) {
            scene.line(line.into_iter().flatten().collect(), it.paint, 1.0);
        }
    }
    if frontier.len() > 1 {
        scene.dashed(frontier.iter().map(|dot| at(dot)).collect(), Paint::Ink);
    }
    // What has no colour of its own lies below what has.
    let (rest, named): (Vec<_>, Vec<_>) =
        series.iter().partition(|it| it.paint == Paint::Series(0));
    for it in rest.into_iter().chain(named) {
        for dot in &it.dots {
            let (x, y) = at(dot);
            if dot.point.frontier {
                scene.dot(x, y, 6.5, Paint::Ink);
                scene.dot(x, y, 5.0, Paint::Ground);
            }
            scene.dot(x, y, 3.5, it.paint);
        }
    }
    let bounds = [plot.x.pixels.0, plot.y.pixels.1, plot.x.pixels.1, plot.y.pixels.0];
    name_loads(&mut scene, &frontier.iter().map(|dot| (at(dot), *dot)).collect::<Vec<_>>(), bounds);
    scene
}

/// Says the load of points of the frontier, where there is room beside them.
fn name_loads(scene: &mut Scene, frontier: &[((f64, f64), &Dot<'_>)], bounds: [f64; 4]) {
    let mut taken: Vec<[f64; 4]> = Vec::new();
    for ((x, y), dot) in frontier {
        let label = Label::new(0.0, y - 12.0, &dot.point.load).paint(Paint::Soft).size(10.5);
        let width = label.width();
        let [left, right] = [x - 7.0 - width, x + 7.0];
        for start in [left, right] {
            let own = [start - 3.0, y - 20.0, start + width + 3.0, y - 4.0];
            let inside = own[0] >= bounds[0] && own[2] <= bounds[2] && own[1] >= bounds[1];
            let apart = |other: &[f64; 4]| {
                own[2] <= other[0] || other[2] <= own[0] || own[3] <= other[1] || other[3] <= own[1]
            };
            if inside && taken.iter().all(apart) {
                taken.push(own);
                scene.text(Label { x: start, ..label });
                break;
            }
        }
    }
}
