//! What holds for every figure, and the rows of each.

use super::*;
use crate::draw::scene::Mark;
use crate::tables::Cell;
use crate::testing::{
    elements, every_recording, every_shape, every_study, recording, sized, small, study,
};

fn numbers(rows: &Rows, column: &str) -> Vec<f64> {
    let index = rows.columns.iter().position(|name| *name == column).expect("a column");
    let number = |row: &Vec<Cell>| match row[index] {
        Cell::Number(number) => number,
        Cell::Count(count) => count as f64,
        Cell::Text(_) => panic!("{column} holds text"),
    };
    rows.rows.iter().map(number).collect()
}

fn rows_of(name: &str, run: &RunFile) -> Rows {
    find(name).unwrap().of(Subject::Run(run, None)).unwrap().unwrap().rows()
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9 * b.abs().max(1.0)
}

#[test]
fn names_are_in_order_and_words_are_sentences() {
    assert!(ALL.windows(2).all(|pair| pair[0].name < pair[1].name));
    let mut orders: Vec<u8> = ALL.iter().map(|entry| entry.order).collect();
    orders.sort_unstable();
    orders.dedup();
    assert_eq!(orders.len(), ALL.len(), "two figures claim one place on the page");
    for entry in ALL {
        assert!(entry.caption.ends_with('.'), "{}", entry.name);
        assert!(entry.name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", entry.name);
    }
    assert!(find("step-tine").is_err_and(|error| error.to_string().contains("`step-time`")));
}

/// Every figure of every run, recording and study that has one, and what it is a figure of.
fn for_every_figure(check: impl Fn(&str, &Figure<'_>)) {
    let (runs, recordings) = (every_shape(), every_recording());
    let runs = runs.iter().map(|(shape, run)| (*shape, Subject::Run(run, None)));
    let recordings = recordings.iter().map(|(shape, file)| (*shape, Subject::Recording(file)));
    let studies = every_study();
    let studies = studies.iter().map(|(shape, file)| (*shape, Subject::Study(file)));
    for (shape, subject) in runs.chain(recordings).chain(studies) {
        for figure in ALL.iter().filter_map(|entry| entry.of(subject)?.ok()) {
            check(&format!("{} of {shape}", figure.entry.name), &figure);
        }
    }
}

#[test]
fn every_figure_has_room_for_every_run() {
    for_every_figure(|place, figure| {
        for width in Width::ALL {
            check_layout(&figure.draw(width), place);
        }
        check_layout(&figure.sheet(), &format!("sheet {place}"));
    });
}

/// Everything is on the canvas, and no text covers another.
fn check_layout(scene: &Scene, place: &str) {
    let canvas = [0.0, 0.0, scene.width, scene.height];
    let inside = |bounds: [f64; 4]| {
        bounds[0] >= canvas[0] - 1.0
            && bounds[1] >= canvas[1] - 1.0
            && bounds[2] <= canvas[2] + 1.0
            && bounds[3] <= canvas[3] + 1.0
    };
    let mut texts: Vec<(&str, [f64; 4])> = Vec::new();
    for mark in &scene.marks {
        let bounds = match mark {
            Mark::Box { at: [left, top, width, height], .. } => {
                [*left, *top, left + width, top + height]
            }
            Mark::Line { points, .. } | Mark::Area { points, .. } => {
                points.iter().fold([scene.width, scene.height, 0.0, 0.0], |it, &(x, y)| {
                    [it[0].min(x), it[1].min(y), it[2].max(x), it[3].max(y)]
                })
            }
            Mark::Dot { x, y, .. } => [*x, *y, *x, *y],
            Mark::Text(label) => {
                texts.push((&label.text, label.bounds()));
                label.bounds()
            }
        };
        assert!(inside(bounds), "{place}: {mark:?} leaves {canvas:?}");
    }
    for (index, (text, a)) in texts.iter().enumerate() {
        for (other, b) in &texts[..index] {
            let apart = a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1];
            assert!(apart, "{place}: `{text}` {a:?} covers `{other}` {b:?}");
        }
    }
}

#[test]
fn every_figure_draws_every_run() {
    for_every_figure(|place, figure| {
        let svg = figure.svg().expect(place);
        let tags = elements(&svg);
        assert_eq!(tags.first().map(String::as_str), Some("svg"), "{place}");
        assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{place}");
        for width in Width::ALL {
            let inline = figure.inline(width).expect(place);
            elements(&inline);
            assert!(!inline.contains("#0102"), "{place}: a stand-in was left");
            assert!(!inline.contains("#FFFFFF"), "{place}: a ground was drawn");
        }
        let rows = figure.rows();
        assert!(rows.rows.iter().all(|row| row.len() == rows.columns.len()), "{place}");
    });
}

#[test]
fn every_figure_is_a_png_whose_size_matches_its_svg() {
    let shapes = ["normal", "one of everything", "no candidate", "huge", "hostile names"];
    for_every_figure(|place, figure| {
        if !shapes.iter().any(|shape| place.ends_with(shape)) {
            return;
        }
        let png = figure.png().unwrap_or_else(|error| panic!("{place}: {error}"));
        let decoder = png::Decoder::new(png.as_slice());
        let mut reader = decoder.read_info().unwrap();
        let scene = figure.sheet();
        let (width, height) = (reader.info().width, reader.info().height);
        assert_eq!(f64::from(width), scene.width.ceil() * 2.0, "{place}");
        assert_eq!(f64::from(height), scene.height.ceil() * 2.0, "{place}");
        let mut pixels = vec![0; reader.output_buffer_size()];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(&pixels[..3], [255, 255, 255], "{place} is on white");
        assert!(pixels.iter().any(|&value| value < 128), "{place} shows something");
    });
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    let (run, file) = (sized(&["linear", "eplb", "plan"], 12, 16, 64), recording());
    let study = study(3, 5);
    for entry in ALL {
        let of_study = || entry.of(Subject::Study(&study));
        let figure = entry.of(Subject::Run(&run, Some(&file))).or_else(of_study);
        let figure = figure.unwrap().unwrap();
        assert_eq!(figure.svg().unwrap(), figure.svg().unwrap(), "{}", entry.name);
        assert_eq!(figure.png().unwrap(), figure.png().unwrap(), "{}", entry.name);
    }
}

#[test]
fn a_synthetic_recording_is_named_on_every_sheet() {
    let (mut run, mut file) = (small(), recording());
    run.trace.synthetic = true;
    file.synthetic = true;
    for figure in ALL.iter().filter_map(|entry| entry.of(Subject::Run(&run, Some(&file)))) {
        let figure = figure.unwrap();
        let entry = figure.entry;
        assert!(figure.svg().unwrap().contains(">synthetic recording"), "{}", entry.name);
    }
}

#[test]
fn rows_of_expert_popularity() {
    insta::assert_snapshot!(rows_of("expert-popularity", &small()).csv(), @r"
    popularity_order,lowest_share,median_share,highest_share,even
    1,0.5,0.55,0.6,0.3333333333333333
    2,0.3,0.4,0.5,0.3333333333333333
    3,0,0.05,0.1,0.3333333333333333
    ");
    // In a single layer, lowest, median and highest are its own shares, and they sum to 1.
    let rows = rows_of("expert-popularity", &sized(&["linear"], 1, 4, 37));
    for column in ["lowest_share", "median_share", "highest_share", "even"] {
        assert!(near(numbers(&rows, column).iter().sum(), 1.0), "{column}");
    }
}

#[test]
fn rows_of_imbalance_per_layer() {
    insta::assert_snapshot!(rows_of("imbalance-per-layer", &small()).csv(), @r"
    candidate,layer,max_over_mean_rank_load
    linear,3,1.8
    linear,4,1
    plan,3,1.2
    plan,4,1
    ");
    // Over the layers, the mean is the candidate's own figure; none is below perfect balance.
    let values = numbers(&rows_of("imbalance-per-layer", &small()), "max_over_mean_rank_load");
    for (pair, it) in values.chunks(2).zip(small().candidates) {
        assert!(near(pair.iter().sum::<f64>() / 2.0, it.summary.imbalance));
        assert!(pair.iter().all(|&value| value >= 1.0));
    }
}

#[test]
fn rows_of_link_bytes() {
    insta::assert_snapshot!(rows_of("link-bytes", &small()).csv(), @r"
    candidate,link,bytes_per_step
    linear,local,1000
    linear,domain,2500
    linear,network,0
    plan,local,1000
    plan,domain,2500
    plan,network,0
    ");
    // Every byte is in exactly one class.
    let bytes = numbers(&rows_of("link-bytes", &small()), "bytes_per_step");
    for (classes, it) in bytes.chunks(3).zip(small().candidates) {
        let all = it.summary.bytes_per_step;
        assert!(near(classes.iter().sum(), all.local + all.domain + all.network));
    }
}

#[test]
fn rows_of_load_heatmap() {
    insta::assert_snapshot!(rows_of("load-heatmap", &small()).csv(), @r"
    candidate,layer,rank,pairs,over_layer_mean
    linear,3,0,9,1.8
    linear,3,1,1,0.2
    linear,4,0,5,1
    linear,4,1,5,1
    plan,3,0,6,1.2
    plan,3,1,4,0.8
    plan,4,0,5,1
    plan,4,1,5,1
    ");
    // The mean over the ranks of a layer is 1, and no placement computes more pairs than another.
    let run = sized(&["linear", "plan"], 5, 16, 64);
    for layer in numbers(&rows_of("load-heatmap", &run), "over_layer_mean").chunks(16) {
        assert!(near(layer.iter().sum(), 16.0));
    }
    let pairs = numbers(&rows_of("load-heatmap", &small()), "pairs");
    assert!(near(pairs[..4].iter().sum(), pairs[4..].iter().sum()));
}

#[test]
fn rows_of_rank_utilisation() {
    insta::assert_snapshot!(rows_of("rank-utilisation", &small()).csv(), @r"
    candidate,rank,utilisation
    linear,0,0.75
    linear,1,0.5
    plan,0,0.75
    plan,1,0.5
    ");
    // Nobody computes longer than there is time.
    let shares = numbers(&rows_of("rank-utilisation", &small()), "utilisation");
    assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
}

#[test]
fn rows_of_step_time() {
    insta::assert_snapshot!(rows_of("step-time", &small()).csv(), @r"
    candidate,part,mean_us
    linear,attention,10
    linear,dense,2
    linear,dispatch,3
    linear,experts,20
    linear,combine,5
    plan,attention,10
    plan,dense,2
    plan,dispatch,2
    plan,experts,12
    plan,combine,4
    ");
    // The parts add up to the step.
    let parts = numbers(&rows_of("step-time", &small()), "mean_us");
    for (parts, it) in parts.chunks(5).zip(small().candidates) {
        assert!(near(parts.iter().sum(), it.summary.step_time_us.mean));
    }
}

#[test]
fn rows_of_throughput_latency() {
    let file = study(1, 3);
    let figure = find("throughput-latency").unwrap().of(Subject::Study(&file)).unwrap().unwrap();
    insta::assert_snapshot!(figure.rows().csv(), @r"
    point,series,load,tpot_ms_p50,output_tokens_per_second_per_gpu,frontier
    0,gpu-0,clients 4,5.5,90.9090909090909,1
    1,gpu-0,clients 8,6,166.66666666666666,1
    ");
    // The last point cannot exist. Doubled clients wait longer here and get more: all are on the
    // frontier.
    assert!(numbers(&figure.rows(), "frontier").iter().all(|&on| on == 1.0));
}
