//! What is kept of every point: the columns of study.csv.

use std::collections::BTreeMap;

use moecast_sim::serving::file::SloFile;
use moecast_sim::serving::record::{Distribution, ServingSummary};

/// A number of a summary, where it has one.
type Figure = (&'static str, fn(&ServingSummary) -> Option<f64>);

/// A time of a summary.
type Time = (&'static str, fn(&ServingSummary) -> &Distribution);

/// A number of a time.
type OfTime = (&'static str, fn(&Distribution) -> f64);

/// Times, each by its mean and its percentiles.
const TIMES: [Time; 5] = [
    ("ttft_ms", |it| &it.ttft_ms),
    ("tpot_ms", |it| &it.tpot_ms),
    ("itl_ms", |it| &it.itl_ms),
    ("end_to_end_ms", |it| &it.end_to_end_ms),
    ("queue_ms", |it| &it.queue_ms),
];

/// What is asked of every time.
const OF_TIMES: [OfTime; 4] =
    [("mean", |it| it.mean), ("p50", |it| it.p50), ("p90", |it| it.p90), ("p99", |it| it.p99)];

/// Everything else.
const FIGURES: &[Figure] = &[
    ("output_tokens_per_second", |it| Some(it.output_tokens_per_second)),
    ("output_tokens_per_second_per_gpu", |it| Some(it.output_tokens_per_second_per_gpu)),
    ("total_tokens_per_second_per_gpu", |it| Some(it.total_tokens_per_second_per_gpu)),
    ("requests_per_second", |it| Some(it.requests_per_second)),
    ("goodput_requests_per_second", |it| Some(it.goodput_requests_per_second)),
    ("goodput_share", |it| Some(it.goodput_share)),
    ("running_mean", |it| Some(it.running_mean)),
    ("waiting_mean", |it| Some(it.waiting_mean)),
    ("kv_use_mean", |it| Some(it.kv_use_mean)),
    ("kv_use_max", |it| Some(it.kv_use_max)),
    ("preemptions", |it| Some(count(it.preemptions))),
    ("cached_tokens", |it| Some(count(it.cached_tokens))),
    ("imbalance_mean", |it| Some(it.imbalance_mean).filter(|&mean| mean > 0.0)),
    ("power_w_per_gpu_mean", |it| Some(it.power_w_per_gpu_mean)),
    ("energy_j_per_output_token", |it| it.energy_j_per_output_token),
    ("cost_per_million_output_tokens", |it| it.cost_per_million_output_tokens),
    ("requests", |it| Some(count(it.requests))),
    ("duration_s", |it| Some(it.duration_s)),
];

/// Figures that mean nothing where no SLO was asked for.
const OF_SLO: [&str; 2] = ["goodput_requests_per_second", "goodput_share"];

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn count(value: u64) -> f64 {
    value as f64
}

/// Names of all figures, in the order of the columns.
pub(super) fn names() -> Vec<String> {
    let times = TIMES
        .iter()
        .flat_map(|(time, _)| OF_TIMES.iter().map(move |(figure, _)| format!("{time}_{figure}")));
    times.chain(FIGURES.iter().map(|(name, _)| (*name).to_owned())).collect()
}

/// The figures of `summary`, which was made under `slo`.
pub(super) fn of(summary: &ServingSummary, slo: SloFile) -> BTreeMap<String, Option<f64>> {
    let mut figures = BTreeMap::new();
    for (time, of) in TIMES {
        let times = of(summary);
        for (figure, of) in OF_TIMES {
            let value = (times.count > 0).then(|| of(times));
            figures.insert(format!("{time}_{figure}"), value);
        }
    }
    let asked = slo != SloFile::default();
    for (name, of) in FIGURES {
        let value = of(summary).filter(|_| asked || !OF_SLO.contains(name));
        figures.insert((*name).to_owned(), value);
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_a_column_and_no_two_share_one() {
        let mut names = names();
        let figures = of(&ServingSummary::default(), SloFile::default());
        assert_eq!(names.len(), figures.len());
        assert!(names.iter().all(|name| figures.contains_key(name)));
        assert_eq!(figures["goodput_share"], None, "no SLO was asked for");
        assert_eq!(figures["tpot_ms_p50"], None, "no request was served");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), figures.len());
    }
}
