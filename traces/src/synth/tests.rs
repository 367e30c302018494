use moecast_profiles::ids::MoeLayer;
use moecast_profiles::registry::Named;
use proptest::prelude::*;

use super::check::{Statistic, checks};
use super::*;
use crate::RoutingTrace;
use crate::stats::drift;

fn shape(experts: u16, top_k: u16, layers: u16) -> Shape {
    Shape { model: "tiny".to_owned(), experts, top_k, layers: (0..layers).collect() }
}

fn amount(requests: u32, tokens: u32, generated: u32, batch: u32) -> Amount {
    Amount { requests, tokens, generated, batch }
}

fn make(shape: &Shape, recipe: &Recipe, amount: Amount, seed: u64) -> RoutingTrace {
    let mut builder = TraceBuilder::new(header(shape, recipe, None, Seed(seed)));
    generate(&mut builder, recipe, amount, Seed(seed), &|_| {}).unwrap();
    builder.finish("synthetic").unwrap()
}

/// Nothing has a preference and nothing remembers.
fn plain() -> Recipe {
    Recipe {
        skew: 0.0,
        domain_skew: 0.0,
        request_skew: 0.0,
        memory: 0.0,
        decode_memory: 0.0,
        affinity: 0.0,
        ..Recipe::default()
    }
}

/// (request, position, experts) of every token, in that order.
fn tokens(trace: &RoutingTrace) -> Vec<(u32, u32, Vec<u16>)> {
    let columns = trace.tokens().unwrap();
    let width = columns.experts.len() / columns.step.len();
    let mut rows: Vec<_> = (0..columns.step.len())
        .map(|row| {
            let experts = columns.experts[row * width..(row + 1) * width].to_vec();
            (columns.request[row], columns.position[row], experts)
        })
        .collect();
    rows.sort();
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Batches decide the order of tokens, never what they pick; more requests leave the ones
    /// before as they were.
    #[test]
    fn a_request_is_the_same_however_it_is_batched(
        requests in 1_u32..9, tokens_of in 1_u32..20, share in 0_u32..20, batch in 1_u32..5,
        seed in 0_u64..99,
    ) {
        let shape = shape(6, 2, 3);
        let recipe = Recipe::default();
        let generated = share.min(tokens_of);
        let one = make(&shape, &recipe, amount(requests, tokens_of, generated, 1), seed);
        let other = make(&shape, &recipe, amount(requests, tokens_of, generated, batch), seed);
        prop_assert_eq!(tokens(&one), tokens(&other));
        let more = make(&shape, &recipe, amount(requests + 3, tokens_of, generated, batch), seed);
        let kept: Vec<_> = tokens(&more).into_iter().filter(|row| row.0 < requests).collect();
        prop_assert_eq!(tokens(&one), kept);
        let steps = requests.div_ceil(batch) * (generated + u32::from(generated < tokens_of));
        prop_assert_eq!(other.steps().len(), steps as usize);
    }

    /// Extreme knobs still give every token k different experts (which the builder checks).
    #[test]
    fn every_recipe_in_range_makes_a_valid_trace(
        values in proptest::collection::vec(0.0_f64..=1.0, 9),
    ) {
        let mut recipe = Recipe::default();
        for (knob, share) in recipe::KNOBS.iter().zip(values) {
            *(knob.of)(&mut recipe) = knob.range.0 + share * (knob.range.1 - knob.range.0);
        }
        let trace = make(&shape(5, 4, 2), &recipe, amount(3, 30, 10, 2), 1);
        prop_assert_eq!(trace.token_count(), 90);
    }
}

#[test]
fn without_knobs_the_router_is_uniform() {
    let trace = make(&shape(16, 2, 2), &plain(), amount(20, 400, 0, 1), 5);
    for layer in [MoeLayer(0), MoeLayer(1)] {
        // 16 000 picks, 1 000 expected each: five deviations are 145.
        for load in trace.layer_loads(layer) {
            assert!(load.abs_diff(1000) < 145, "{load}");
        }
    }
}

/// Each knob does what it says, and more of it does more.
#[test]
fn knobs_do_what_they_say() {
    let value = |of: Statistic, change: &dyn Fn(&mut Recipe)| {
        let mut recipe = Recipe { skew: 0.5, ..plain() };
        change(&mut recipe);
        of.measure(&make(&shape(32, 4, 3), &recipe, amount(24, 160, 80, 8), 2)).unwrap()
    };
    let rises = |of: Statistic, low: f64, high: f64, least: f64| {
        assert!(high > low + least, "{}: {low} to {high}", of.name());
    };
    let rise = |of: Statistic, name: &str, ends: [f64; 2], least: f64| {
        let at = |end: f64| value(of, &|recipe: &mut Recipe| recipe.set(name, end).unwrap());
        rises(of, at(ends[0]), at(ends[1]), least);
    };
    rise(Statistic::LoadCv, "skew", [0.2, 1.0], 0.5);
    rise(Statistic::Lru(2), "memory", [0.0, 0.6], 0.1);
    rise(Statistic::PromptRepeat, "memory", [0.0, 0.6], 0.1);
    rise(Statistic::DecodeRepeat, "decode_memory", [0.0, 0.6], 0.1);
    rise(Statistic::Srp(64), "request_skew", [0.0, 1.0], 0.1);
    rise(Statistic::LayerBits, "affinity", [0.0, 0.9], 0.02);
    rise(Statistic::DomainDivergence, "domain_skew", [0.0, 1.0], 0.05);
    let near = |decay| {
        value(Statistic::PromptRepeat, &|recipe: &mut Recipe| {
            (recipe.memory, recipe.decay) = (0.6, decay);
        })
    };
    rises(Statistic::PromptRepeat, near(0.2), near(3.0), 0.1);
}

/// Memory copies picks: it changes when an expert is used, not how often.
#[test]
fn memory_leaves_popularity_alone() {
    let cv = |memory: f64| {
        let recipe = Recipe { skew: 1.0, memory, decode_memory: memory, ..plain() };
        let trace = make(&shape(32, 2, 2), &recipe, amount(400, 40, 0, 1), 3);
        Statistic::LoadCv.measure(&trace).unwrap()
    };
    let (without, with) = (cv(0.0), cv(0.6));
    assert!((without - with).abs() < 0.05, "{without} {with}");
}

#[test]
fn drift_turns_popularity_from_window_to_window() {
    let divergence = |share: f64| {
        let recipe = Recipe { skew: 1.0, drift: share, ..plain() };
        let trace = make(&shape(32, 2, 2), &recipe, amount(64, 100, 0, 1), 4);
        drift::between_windows(&trace).jensen_shannon[0][7].unwrap()
    };
    let (still, half, whole) = (divergence(0.0), divergence(0.5), divergence(1.0));
    assert!(still + 0.05 < half && half + 0.05 < whole, "{still} {half} {whole}");
}

/// The promise: every preset has its published statistics. A quarter of the default amount.
#[test]
fn presets_keep_their_promises() {
    for entry in presets::ALL {
        let preset = presets::read(entry.name()).unwrap();
        let shape = presets::shape(entry.name()).unwrap();
        if preset.published.is_empty() {
            assert!(entry.about().starts_with("assumed"), "{}", entry.name());
            continue;
        }
        let head = header(&shape, &preset.recipe, Some(entry.name()), Seed(11));
        let mut builder = TraceBuilder::new(head);
        // The imbalance is that of 32 768 tokens.
        let long = preset.published.iter().any(|it| it.of.name().starts_with("imbalance"));
        let amount = amount(if long { 64 } else { 16 }, 512, 128, 16);
        generate(&mut builder, &preset.recipe, amount, Seed(11), &|_| {}).unwrap();
        let found = checks(&builder.finish("synthetic").unwrap());
        assert_eq!(found.len(), preset.published.len());
        for check in found {
            assert_eq!(check.holds(), Some(true), "{}: {check:?}", entry.name());
        }
    }
}

#[test]
fn presets_are_alphabetical() {
    assert!(presets::ALL.is_sorted_by(|a, b| a.name < b.name));
}

#[test]
fn a_changed_preset_promises_nothing() {
    let trace = make(&shape(8, 2, 2), &Recipe::default(), amount(2, 8, 0, 1), 1);
    assert!(checks(&trace).is_empty());
}

/// A recipe that is fitted to a trace makes traces like it.
#[test]
fn a_fit_finds_its_way_back() {
    let recipe = Recipe {
        skew: 0.9,
        request_skew: 0.6,
        memory: 0.6,
        decode_memory: 0.3,
        decay: 1.8,
        domains: 2,
        domain_skew: 0.5,
        ..Recipe::default()
    };
    let trace = make(&shape(16, 2, 2), &recipe, amount(12, 128, 64, 4), 8);
    let found = fit::fit(&trace, "test", &|_| {}).unwrap();
    assert_eq!(found.recipe.domains, 2);
    assert!(found.recipe.memory > found.recipe.decode_memory + 0.1, "{:?}", found.recipe);
    for row in &found.rows {
        let fitted = row.fitted.unwrap();
        let near = (fitted - row.recorded).abs() < 0.03 + 0.1 * row.recorded.abs();
        assert!(near, "{}: {} fitted, {} recorded", row.name, fitted, row.recorded);
    }
}

#[test]
fn bad_amounts_are_refused_in_one_line() {
    let recipe = Recipe::default();
    let answer = |amount| {
        let mut builder = TraceBuilder::new(header(&shape(4, 1, 1), &recipe, None, Seed(0)));
        generate(&mut builder, &recipe, amount, Seed(0), &|_| {}).unwrap_err().to_string()
    };
    let found = answer(amount(0, 4, 0, 1));
    assert_eq!(found, "synthetic trace: requests: 0; expected 1 to 67108864");
    assert!(answer(amount(1, 0, 0, 1)).contains("tokens of a request: 0"));
    assert!(answer(amount(1, 4, 5, 1)).contains("generated tokens: 5; expected 0 to 4"));
    assert!(answer(amount(1, 4, 0, 0)).contains("requests of a batch: 0"));
    let batch = answer(amount(1 << 20, 1 << 20, 0, 1 << 20));
    assert!(batch.contains("batch: 1048576 requests of 1048576 tokens; expected 512 at most"));
    let steps = answer(amount(1 << 26, 1 << 20, 1 << 20, 1));
    assert!(steps.contains("fewer than 2^32 steps"), "{steps}");
}

/// More requests than are made at a time, in batches that do not divide it: steps go on.
#[test]
fn chunks_do_not_show() {
    let shape = shape(6, 2, 1);
    for batch in [1, 3, 64, 100, 1000] {
        let trace = make(&shape, &Recipe::default(), amount(150, 4, 2, batch), 1);
        assert_eq!(trace.request_count(), Some(150));
        assert_eq!(trace.steps().len(), 3 * 150_u32.div_ceil(batch) as usize, "{batch}");
        let tokens = |index: usize| trace.step_tokens(index);
        let first = batch.min(150);
        assert_eq!((tokens(0), tokens(1), tokens(2)), (2 * first, first, first), "{batch}");
    }
}

/// Recorded popularity keeps its shape while it drifts, and domains that take turns are all seen.
#[test]
fn recorded_popularity_drifts_and_domains_are_fitted() {
    let recipe = Recipe { domain_skew: 1.0, domains: 4, ..Recipe::default() };
    let trace = make(&shape(16, 2, 2), &recipe, amount(96, 64, 0, 4), 5);
    let fitted = fit::fit(&trace, "test", &|_| {}).unwrap().recipe;
    assert!(fitted.domain_skew > 0.3, "{fitted:?}");
    let cv = |drift: f64| {
        let recipe = Recipe { drift, domain_skew: 0.0, ..fitted.clone() };
        let last = amount(64, 64, 0, 1);
        let trace = make(&shape(16, 2, 2), &recipe, last, 6);
        let late = trace.select_rows(|row| row >= 48 * 64);
        Statistic::LoadCv.measure(&late).unwrap()
    };
    assert!((cv(1.0) / cv(0.0) - 1.0).abs() < 0.35, "{} {}", cv(1.0), cv(0.0));
}

#[test]
fn a_trace_without_tokens_cannot_be_fitted() {
    let whole = make(&shape(8, 2, 2), &Recipe::default(), amount(2, 8, 0, 1), 1);
    let none = whole.select_rows(|_| false);
    let answer = fit::fit(&none, "none", &|_| {}).unwrap_err().to_string();
    assert!(answer.starts_with("none: recording: no token"), "{answer}");
}

#[test]
fn recorded_loads_must_be_of_the_shape() {
    let recipe = Recipe {
        popularity: Popularity::Recorded,
        loads: vec![vec![1, 2, 3, 4]],
        ..Recipe::default()
    };
    let shape = shape(5, 1, 1);
    let mut builder = TraceBuilder::new(header(&shape, &recipe, None, Seed(0)));
    let answer = generate(&mut builder, &recipe, amount(1, 1, 0, 1), Seed(0), &|_| {});
    let answer = answer.unwrap_err().to_string();
    assert_eq!(answer, "recipe: knob `loads`: 1 layers x 4; expected 1 layers x 5 experts");
}

#[test]
fn skipped_picks_are_their_share_and_tokens_may_have_none() {
    let mut recipe = Recipe::default();
    recipe.set("skipped", 0.5).unwrap();
    let shape = Shape { model: "tiny".to_owned(), experts: 16, top_k: 4, layers: vec![0, 1] };
    let amount = Amount { requests: 20, tokens: 100, generated: 10, batch: 4 };
    let mut builder = TraceBuilder::new(header(&shape, &recipe, None, Seed(3)));
    generate(&mut builder, &recipe, amount, Seed(3), &|_| ()).unwrap();
    let trace = builder.finish("test").unwrap();
    // 16,000 picks, each left out with a chance of a half: four deviations are 253. A token has no
    // expert in a layer with a chance of 1 in 16: of 4,000, four deviations are 61.
    let picks = |row| (0..2).map(move |layer| (row, MoeLayer(layer)));
    let counts: Vec<usize> = (0..trace.token_count() as usize)
        .flat_map(picks)
        .map(|(row, layer)| trace.chosen(row, layer).count())
        .collect();
    assert!(counts.iter().sum::<usize>().abs_diff(8_000) < 253, "{}", counts.iter().sum::<usize>());
    assert!(counts.iter().filter(|count| **count == 0).count().abs_diff(250) < 61);
}

#[test]
fn experts_that_choose_have_equal_loads_in_every_request() {
    let mut recipe = Recipe::default();
    for knob in ["choice=expert", "skipped=0.25"] {
        recipe.set_text(knob).unwrap();
    }
    let shape = Shape { model: "tiny".to_owned(), experts: 16, top_k: 4, layers: vec![0, 1] };
    let amount = Amount { requests: 6, tokens: 128, generated: 0, batch: 2 };
    let mut builder = TraceBuilder::new(header(&shape, &recipe, None, Seed(3)));
    generate(&mut builder, &recipe, amount, Seed(3), &|_| ()).unwrap();
    let trace = builder.finish("test").unwrap();
    // 128 tokens x 4 places x 3/4 over 16 experts are 24 tokens an expert and request.
    for layer in [0, 1].map(MoeLayer) {
        assert_eq!(trace.layer_loads(layer), [6 * 24; 16]);
        let picks = |row| trace.chosen(row, layer).count();
        let counts: Vec<usize> = (0..trace.token_count() as usize).map(picks).collect();
        assert!(counts.contains(&4) && counts.iter().any(|count| *count < 3), "k varies");
    }
}
