//! Studies to draw.

use std::collections::BTreeMap;

use serde_json::json;

use crate::study_file::{RATE, StudyFile, StudyPoint, TIME, VERSION};

/// A study of so many kinds of GPUs under so many loads; its last point cannot exist.
pub(crate) fn study(kinds: u32, loads: u32) -> StudyFile {
    let mut points = Vec::new();
    for kind in 0..kinds {
        for load in 0..loads {
            let clients = 4_u32 << load.min(20);
            let (batch, speed) = (f64::from(clients), 1.0 + f64::from(kind % 7) / 3.0);
            let time = (5.0 + batch / 8.0) / speed + f64::from(kind);
            let figures = [(TIME, time), (RATE, 1e3 * batch / time / 8.0), ("preemptions", 0.0)];
            points.push(StudyPoint {
                point: u32::try_from(points.len()).unwrap(),
                digest: Some(format!("{kind}-{load}")),
                values: BTreeMap::from([
                    ("gpu".to_owned(), json!(format!("gpu-{kind}"))),
                    ("load.set.clients".to_owned(), json!(clients)),
                ]),
                series: format!("gpu-{kind}"),
                load: format!("clients {clients}"),
                layout: vec!["1 x TP8 DP1 EP8".to_owned()],
                gpus: Some(8),
                frontier: false,
                skipped: None,
                figures: figures.map(|(name, value)| (name.to_owned(), Some(value))).into(),
            });
        }
    }
    if let Some(last) = points.last_mut().filter(|last| last.point > 0) {
        last.figures.clear();
        (last.digest, last.gpus, last.layout) = (None, None, Vec::new());
        last.skipped = Some("memory: 348 GB of weights on every GPU".to_owned());
    }
    let mut file = StudyFile {
        version: VERSION,
        tool: "0.1.0".to_owned(),
        study: "toy".to_owned(),
        common: vec![("Model".to_owned(), "toy".to_owned())],
        keys: vec!["gpu".to_owned(), "load.set.clients".to_owned()],
        figures: [TIME, RATE, "preemptions"].map(str::to_owned).to_vec(),
        points,
        remarks: vec!["kernel costs: assumed".to_owned()],
    };
    file.mark_frontier();
    file
}

/// Studies of every shape that a figure must survive.
pub(crate) fn every_study() -> Vec<(&'static str, StudyFile)> {
    let mut hostile = study(2, 2);
    for point in &mut hostile.points {
        point.series = "<b>&\u{202e}".repeat(40);
        point.load = "]]>\u{0}".repeat(30);
    }
    let mut huge = study(1, 6);
    huge.points[0].figures.insert(RATE.to_owned(), Some(1e300));
    huge.points[1].figures.insert(TIME.to_owned(), Some(1e300));
    huge.points[2].figures.insert(TIME.to_owned(), Some(f64::MIN_POSITIVE));
    let mut equal = study(2, 3);
    for point in &mut equal.points {
        point.figures =
            BTreeMap::from([(TIME.to_owned(), Some(1.0)), (RATE.to_owned(), Some(1.0))]);
    }
    let mut shapes = vec![
        ("normal", study(3, 5)),
        ("one of everything", study(1, 1)),
        ("many series", study(40, 12)),
        ("hostile names", hostile),
        ("huge", huge),
        ("equal points", equal),
    ];
    for (_, file) in &mut shapes {
        file.mark_frontier();
    }
    shapes
}
