//! The rows of every figure of a recording, and which figures a recording has.

use super::*;
use crate::tables::Cell;
use crate::testing::{counted, recording};

fn rows_of(name: &str, file: &StatsFile) -> Rows {
    find(name).unwrap().of(Subject::Recording(file)).unwrap().unwrap().rows()
}

fn numbers(rows: &Rows, column: &str) -> Vec<f64> {
    let index = rows.columns.iter().position(|name| *name == column).expect("a column");
    let number = |row: &Vec<Cell>| match row[index] {
        Cell::Number(number) => number,
        Cell::Count(count) => count as f64,
        Cell::Text(_) => panic!("{column} holds text"),
    };
    rows.rows.iter().map(number).collect()
}

fn title(name: &str, file: &StatsFile) -> std::result::Result<String, &'static str> {
    find(name).unwrap().of(Subject::Recording(file)).unwrap().map(|figure| figure.title)
}

#[test]
fn a_recording_that_only_counted_has_loads_and_says_what_is_missing() {
    let file = counted();
    let of = |entry: &'static Entry| entry.of(Subject::Recording(&file));
    let shown: Vec<&str> = ALL
        .iter()
        .filter(|entry| of(entry).is_some_and(|figure| figure.is_ok()))
        .map(|entry| entry.name)
        .collect();
    assert_eq!(shown, ["load-against-chance"]);
    for entry in ALL {
        if let Some(Err(reason)) = of(entry) {
            assert!(reason.starts_with(|c: char| c.is_lowercase()), "{reason}");
            assert!(!reason.ends_with('.'), "{reason}");
        }
    }
}

#[test]
fn titles_are_sentences_that_fit_on_a_sheet() {
    let file = recording();
    for entry in ALL {
        if let Some(Ok(figure)) = entry.of(Subject::Recording(&file)) {
            assert!(figure.title.chars().count() <= 90, "{}", figure.title);
            assert!(!figure.title.contains("n/a"), "{}", figure.title);
        }
    }
}

#[test]
fn rows_of_load_against_chance() {
    let (file, rows) = (recording(), rows_of("load-against-chance", &recording()));
    assert_eq!(numbers(&rows, "layer"), [3.0, 4.0]);
    assert_eq!(numbers(&rows, "pairs"), [80.0, 80.0]);
    let found = numbers(&rows, "max_over_mean");
    assert_eq!(found.iter().sum::<f64>() / 2.0, file.stats.max_over_mean);
    // An even load has 1; what is picked at random has a little more.
    assert!(numbers(&rows, "null_max_over_mean").iter().all(|&null| null > 1.0 && null < 1.5));
}

#[test]
fn rows_of_srp() {
    let rows = rows_of("srp", &recording());
    // A request of 40 tokens has no stretch of 64.
    assert_eq!(numbers(&rows, "segment_tokens"), [4.0, 16.0]);
    let (model, low, high) = ("srp", "lowest_layer", "highest_layer");
    for index in 0..2 {
        let at = |column| numbers(&rows, column)[index];
        assert!(at(low) <= at(model) && at(model) <= at(high));
    }
}

#[test]
fn rows_of_cache_hit_rate() {
    let rows = rows_of("cache-hit-rate", &recording());
    let (rates, chance) = (numbers(&rows, "hit_rate"), numbers(&rows, "null_hit_rate"));
    // Three policies and two segments at three sizes. Top-2 of four experts: half, all, all.
    assert_eq!(rates.len(), 3 * 5);
    assert_eq!([chance[0], chance[5], chance[10]], [0.5, 1.0, 1.0]);
    // At every size, nothing hits more than Belady.
    for same in rates.chunks(5) {
        assert!(same.iter().all(|&rate| rate <= same[2]), "{same:?}");
    }
    assert_eq!(&rates[5..], [1.0; 10], "the cache holds every expert");
}

#[test]
fn rows_of_reuse_distance() {
    let (file, rows) = (recording(), rows_of("reuse-distance", &recording()));
    assert_eq!(numbers(&rows, "distance_from"), [0.0, 1.0, 2.0]);
    assert_eq!(numbers(&rows, "distance_to"), [0.0, 1.0, 3.0]);
    assert!((numbers(&rows, "share").iter().sum::<f64>() - 1.0).abs() < 1e-12);
    // Every pick is a reuse or the first of its expert.
    let first = file.stats.reuse.unwrap().first as f64;
    assert_eq!(numbers(&rows, "reuses").iter().sum::<f64>() + first, 160.0);
}

#[test]
fn rows_of_coactivation() {
    let rows = rows_of("coactivation", &recording());
    // A token picks two neighbours of four: lift 3 (k - 1) / k (E - 1) by chance, 2/3.
    assert!(numbers(&rows, "null_lift").iter().all(|&null| (null - 2.0 / 3.0).abs() < 1e-12));
    assert!(numbers(&rows, "tokens").iter().all(|&tokens| tokens >= 5.0));
    let lifts = numbers(&rows, "lift");
    assert!(lifts[0] >= lifts[1], "the strongest comes first: {lifts:?}");
}

#[test]
fn rows_of_layer_transition() {
    let rows = rows_of("layer-transition", &recording());
    assert_eq!((numbers(&rows, "layer"), numbers(&rows, "next_layer")), (vec![3.0], vec![4.0]));
    assert!((0.0..=2.0).contains(&numbers(&rows, "bits")[0]), "of four experts, two bits at most");
}

#[test]
fn rows_of_drift_and_domain_drift() {
    let file = recording();
    // Every two of eight windows; every two of two domains.
    for (name, pairs) in [("drift", 28), ("domain-drift", 1)] {
        let rows = rows_of(name, &file);
        assert_eq!(rows.rows.len(), pairs);
        assert!(numbers(&rows, "cosine").iter().all(|cosine| (0.0..=1.0 + 1e-12).contains(cosine)));
    }
}

#[test]
fn rows_of_active_experts() {
    let rows = rows_of("active-experts", &recording());
    assert_eq!(numbers(&rows, "batch_tokens"), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]);
    for column in ["consecutive", "random", "uniform"] {
        let woken = numbers(&rows, column);
        assert_eq!(woken[0], 2.0, "one token wakes its two experts");
        assert!(woken.windows(2).all(|pair| pair[0] <= pair[1]) && woken[5] <= 4.0, "{woken:?}");
    }
}

#[test]
fn rows_of_published_check() {
    insta::assert_snapshot!(rows_of("published-check", &recording()).csv(), @r#"
    name,published,found,difference,tolerance,within,source
    SRP at 4,0.6,0.62,0.020000000000000018,0.05,yes,"a paper, table 2"
    LRU at 2,0.6,0.5,-0.09999999999999998,0.05,no,"a paper, table 2"
    "#);
    let sentence = title("published-check", &recording()).unwrap();
    assert_eq!(sentence, "1 of 2 published values are met within tolerance");
    let none = StatsFile { checks: Vec::new(), ..recording() };
    assert!(title("published-check", &none).is_err());
}
